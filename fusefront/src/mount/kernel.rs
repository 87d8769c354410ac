//! The kernel's caches of a mount: what it must not answer from its memory any more.
//!
//! A notification about a name waits in the kernel for the lock of its folder, which a look-up of ours holds while it is
//! answered: hence a thread of its own that nobody waits for.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::OwnedFd,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use fuser::{INodeNo, Notifier};
use parking_lot::Mutex;
use wire::Name;

use crate::vfs::{KernelCache, inode::NodeId, leases::Doubt};

/// Notifications that may wait: beyond them the kernel is told to ask for everything again.
const WAITING_MAX: usize = 8192;

/// Nodes whose attributes are doubted beside the queue: as many leases as there may be, and as many open files again.
const BESIDE_MAX: usize = 65_536;

/// `FUSE_NOTIFY_INC_EPOCH` of fuse.h: the kernel takes no name that it was told before for granted. Linux 6.16 and newer.
const INC_EPOCH: [u8; 16] = [16, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// What the kernel can be told to forget; each may wait for it.
trait Caches: Send + Sync + 'static {
    fn drop_attr(&self, node: NodeId);
    fn drop_listing(&self, dir: NodeId);
    fn drop_name(&self, dir: NodeId, name: &Name);
    fn store(&self, node: NodeId, contents: &[u8]) -> io::Result<()>;
    /// Doubts every name; waits for nobody: the kernel counts, and looks at the count when it finds a name.
    fn increase_epoch(&self) -> io::Result<()>;
}

/// The way to the kernel's caches.
pub(super) struct Kernel(Told<Session>);

/// The kernel of one mount, through its session.
struct Session {
    notifier: Notifier,
    device: File,
}

/// Caches, and what they are to be told by the thread.
struct Told<C> {
    caches: Arc<C>,
    has_epochs: bool,
    queue: SyncSender<Doubt>,
    beside: Arc<Beside>,
}

/// What is to be doubted beside the queue.
#[derive(Default)]
struct Beside(Mutex<Wanted>);

#[derive(Default)]
struct Wanted {
    doubts: Vec<Doubt>,
    in_use: bool,
}

impl Kernel {
    /// Starts the thread, which ends with this. `in_use` tells whose attributes somebody may look at past their names.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(
        notifier: Notifier,
        device: OwnedFd,
        in_use: impl Fn() -> Vec<NodeId> + Send + 'static,
    ) -> io::Result<Kernel> {
        Told::start(Session { notifier, device: File::from(device) }, in_use).map(Kernel)
    }
}

impl<C: Caches> Told<C> {
    fn start(caches: C, in_use: impl Fn() -> Vec<NodeId> + Send + 'static) -> io::Result<Told<C>> {
        let caches = Arc::new(caches);
        let has_epochs = caches.increase_epoch().is_ok();
        if !has_epochs {
            tracing::info!("this kernel has no epochs: names are taken for granted for 5 s at most");
        }
        let (queue, doubts) = sync_channel(WAITING_MAX);
        let beside = Arc::new(Beside::default());
        let teller = Teller { caches: caches.clone(), beside: beside.clone() };
        thread::Builder::new()
            .name("wormhole-kernel".to_owned())
            .spawn(move || teller.run(&doubts, in_use))?;
        Ok(Told { caches, has_epochs, queue, beside })
    }

    fn send(&self, doubt: Doubt) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(doubt) {
            self.everything(Vec::new());
        }
    }

    fn everything(&self, doubts: Vec<Doubt>) {
        if let Err(error) = self.caches.increase_epoch() {
            tracing::debug!(%error, "names told before are taken for granted for up to 5 s");
        }
        let mut wanted = self.beside.0.lock();
        let room = BESIDE_MAX.saturating_sub(wanted.doubts.len());
        wanted.doubts.extend(doubts.into_iter().take(room));
        wanted.in_use = true;
    }

    fn everything_soon(&self, doubts: Vec<Doubt>) {
        self.everything(doubts);
        // Wakes the thread; a full queue is awake.
        let _ = self.queue.try_send(Doubt::Attr(NodeId::ROOT));
    }
}

impl KernelCache for Kernel {
    fn drop_attr(&self, node: NodeId) {
        self.0.caches.drop_attr(node);
    }

    fn store(&self, node: NodeId, contents: &[u8]) -> bool {
        let stored = self.0.caches.store(node, contents);
        if let Err(error) = &stored {
            // It reads the file then as any other.
            tracing::debug!(%error, "the kernel took no pages");
        }
        stored.is_ok()
    }

    fn doubt(&self, doubt: Doubt) {
        self.0.send(doubt);
    }

    fn doubt_everything(&self, doubts: Vec<Doubt>) {
        self.0.everything_soon(doubts);
    }

    fn has_epochs(&self) -> bool {
        self.0.has_epochs
    }
}

impl Caches for Session {
    fn drop_attr(&self, node: NodeId) {
        // A negative offset leaves the pages alone, so the kernel waits for nothing. It may have forgotten the node just
        // now; any other failure leaves the attributes to run out by themselves.
        if let Err(error) = self.notifier.inval_inode(INodeNo(node.0), -1, 0) {
            tracing::debug!(%error, "the kernel kept its attributes");
        }
    }

    fn drop_listing(&self, dir: NodeId) {
        // All of its pages and its attributes; nothing holds a page of a directory while it waits for an answer.
        if let Err(error) = self.notifier.inval_inode(INodeNo(dir.0), 0, 0) {
            tracing::debug!(%error, "the kernel kept a listing");
        }
    }

    fn drop_name(&self, dir: NodeId, name: &Name) {
        // It may have forgotten the name just now; any other failure leaves it to run out by itself.
        if let Err(error) = self.notifier.inval_entry(INodeNo(dir.0), name.as_ref()) {
            tracing::debug!(%error, "the kernel kept a name");
        }
    }

    fn store(&self, node: NodeId, contents: &[u8]) -> io::Result<()> {
        self.notifier.store(INodeNo(node.0), 0, contents)
    }

    fn increase_epoch(&self) -> io::Result<()> {
        let mut device = &self.device;
        // One write is one message.
        device.write(&INC_EPOCH).map(|_| ())
    }
}

/// The thread.
struct Teller<C> {
    caches: Arc<C>,
    beside: Arc<Beside>,
}

impl<C: Caches> Teller<C> {
    fn run(&self, doubts: &Receiver<Doubt>, in_use: impl Fn() -> Vec<NodeId>) {
        while let Ok(doubt) = doubts.recv() {
            self.tell(&doubt);
            let wanted = std::mem::take(&mut *self.beside.0.lock());
            if wanted.in_use {
                for node in in_use() {
                    self.caches.drop_attr(node);
                }
            }
            for doubt in &wanted.doubts {
                self.tell(doubt);
            }
        }
    }

    fn tell(&self, doubt: &Doubt) {
        match doubt {
            Doubt::Attr(node) => self.caches.drop_attr(*node),
            Doubt::Listing(dir) => self.caches.drop_listing(*dir),
            Doubt::Name(dir, name) => self.caches.drop_name(*dir, name),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc::{Sender, channel},
        time::Duration,
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const OPEN: NodeId = NodeId(4242);

    #[derive(Debug, PartialEq, Eq)]
    enum Event {
        Attr(NodeId),
        Listing(NodeId),
        Name(NodeId, Name),
        Epoch,
    }

    /// A kernel that waits at each name until the test lets it go on, as for the lock of a folder.
    struct Slow {
        events: Sender<Event>,
        go_on: Mutex<Receiver<()>>,
        has_epochs: bool,
    }

    impl Slow {
        fn note(&self, event: Event) {
            // The test may have ended.
            let _ = self.events.send(event);
        }
    }

    impl Caches for Slow {
        fn drop_attr(&self, node: NodeId) {
            self.note(Event::Attr(node));
        }

        fn drop_listing(&self, dir: NodeId) {
            self.note(Event::Listing(dir));
        }

        fn drop_name(&self, dir: NodeId, name: &Name) {
            self.note(Event::Name(dir, name.clone()));
            // A test that ended lets it go.
            let _ = self.go_on.lock().recv_timeout(PATIENCE);
        }

        fn store(&self, _: NodeId, _: &[u8]) -> io::Result<()> {
            Ok(())
        }

        fn increase_epoch(&self) -> io::Result<()> {
            if !self.has_epochs {
                return Err(io::Error::from(io::ErrorKind::InvalidInput));
            }
            self.note(Event::Epoch);
            Ok(())
        }
    }

    fn kernel(has_epochs: bool) -> (Told<Slow>, Receiver<Event>, Sender<()>) {
        let ((events, seen), (go, go_on)) = (channel(), channel());
        let slow = Slow { events, go_on: Mutex::new(go_on), has_epochs };
        (Told::start(slow, || vec![OPEN]).unwrap(), seen, go)
    }

    fn next(seen: &Receiver<Event>) -> Event {
        seen.recv_timeout(PATIENCE).expect("the thread goes on")
    }

    fn name() -> Name {
        Name::new(b"held").unwrap()
    }

    #[test]
    fn doubts_beyond_the_queue_are_one_about_everything() {
        let (kernel, seen, go) = kernel(true);
        assert_eq!(next(&seen), Event::Epoch, "whether it has them is tried");
        let held = Doubt::Name(NodeId(7), name());
        kernel.send(held.clone());
        assert_eq!(next(&seen), Event::Name(NodeId(7), name()), "and there it waits");
        for node in 0..WAITING_MAX as u64 {
            kernel.send(Doubt::Listing(NodeId(node)));
        }
        assert!(seen.try_recv().is_err(), "all of it fits");
        // Nobody waits here, and nothing is lost.
        kernel.send(held);
        assert_eq!(next(&seen), Event::Epoch);
        go.send(()).unwrap();
        assert_eq!(
            next(&seen),
            Event::Attr(OPEN),
            "attributes are not names: those in use are doubted one by one"
        );
        for node in 0..WAITING_MAX as u64 {
            assert_eq!(next(&seen), Event::Listing(NodeId(node)));
        }
        drop(kernel);
        assert!(seen.recv_timeout(PATIENCE).is_err(), "the thread ends with it, and told of nothing twice");
    }

    #[test]
    fn everything_is_doubted_while_the_thread_waits_and_within_bounds() {
        let (kernel, seen, go) = kernel(true);
        assert_eq!(next(&seen), Event::Epoch);
        kernel.send(Doubt::Name(NodeId(7), name()));
        assert_eq!(next(&seen), Event::Name(NodeId(7), name()));
        let dirs = 0..2 * BESIDE_MAX as u64;
        kernel.everything_soon(dirs.map(|dir| Doubt::Listing(NodeId(dir))).collect());
        assert_eq!(next(&seen), Event::Epoch, "at once: no name is taken for granted from here on");
        assert_eq!(kernel.beside.0.lock().doubts.len(), BESIDE_MAX);
        go.send(()).unwrap();
        assert_eq!(next(&seen), Event::Attr(OPEN));
        for dir in 0..BESIDE_MAX as u64 {
            assert_eq!(next(&seen), Event::Listing(NodeId(dir)));
        }
    }

    #[test]
    fn a_kernel_without_epochs_is_known_and_takes_attributes_all_the_same() {
        let (kernel, seen, _go) = kernel(false);
        assert!(!kernel.has_epochs, "names then live for 5 s at most");
        kernel.everything_soon(Vec::new());
        assert_eq!(next(&seen), Event::Attr(NodeId::ROOT), "what woke it");
        assert_eq!(next(&seen), Event::Attr(OPEN));
    }
}
