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

use crate::vfs::{KernelCache, inode::NodeId, leases::Doubt};

/// Notifications that may wait: beyond them the kernel is told to ask for everything again.
const WAITING_MAX: usize = 8192;

/// Nodes whose attributes are doubted beside the queue: as many leases as there may be, and as many open files again.
const BESIDE_MAX: usize = 65_536;

/// `FUSE_NOTIFY_INC_EPOCH` of fuse.h: the kernel takes no name that it was told before for granted. Linux 6.16 and newer.
const INC_EPOCH: [u8; 16] = [16, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The way to the kernel's caches.
pub(super) struct Kernel {
    notifier: Notifier,
    device: File,
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
        let device = File::from(device);
        let has_epochs = increase_epoch(&device).is_ok();
        if !has_epochs {
            tracing::info!("this kernel has no epochs: names are taken for granted for 5 s at most");
        }
        let (queue, doubts) = sync_channel(WAITING_MAX);
        let beside = Arc::new(Beside::default());
        let teller = Teller { notifier: notifier.clone(), beside: beside.clone() };
        thread::Builder::new()
            .name("wormhole-kernel".to_owned())
            .spawn(move || teller.run(&doubts, in_use))?;
        Ok(Kernel { notifier, device, has_epochs, queue, beside })
    }

    fn send(&self, doubt: Doubt) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(doubt) {
            self.everything(Vec::new());
        }
    }

    fn everything(&self, doubts: Vec<Doubt>) {
        // Waits for nobody: the kernel counts, and looks at the count when it finds a name.
        if let Err(error) = increase_epoch(&self.device) {
            tracing::debug!(%error, "names told before are taken for granted for up to 5 s");
        }
        let mut wanted = self.beside.0.lock();
        let room = BESIDE_MAX.saturating_sub(wanted.doubts.len());
        wanted.doubts.extend(doubts.into_iter().take(room));
        wanted.in_use = true;
    }
}

impl KernelCache for Kernel {
    fn drop_attr(&self, node: NodeId) {
        drop_attr(&self.notifier, node);
    }

    fn store(&self, node: NodeId, contents: &[u8]) -> bool {
        let stored = self.notifier.store(INodeNo(node.0), 0, contents);
        if let Err(error) = &stored {
            // It reads the file then as any other.
            tracing::debug!(%error, "the kernel took no pages");
        }
        stored.is_ok()
    }

    fn doubt(&self, doubt: Doubt) {
        self.send(doubt);
    }

    fn doubt_everything(&self, doubts: Vec<Doubt>) {
        self.everything(doubts);
        // Wakes the thread; a full queue is awake.
        let _ = self.queue.try_send(Doubt::Attr(NodeId::ROOT));
    }

    fn has_epochs(&self) -> bool {
        self.has_epochs
    }
}

/// The thread.
struct Teller {
    notifier: Notifier,
    beside: Arc<Beside>,
}

impl Teller {
    fn run(&self, doubts: &Receiver<Doubt>, in_use: impl Fn() -> Vec<NodeId>) {
        while let Ok(doubt) = doubts.recv() {
            self.tell(doubt);
            let wanted = std::mem::take(&mut *self.beside.0.lock());
            if wanted.in_use {
                for node in in_use() {
                    drop_attr(&self.notifier, node);
                }
            }
            for doubt in wanted.doubts {
                self.tell(doubt);
            }
        }
    }

    fn tell(&self, doubt: Doubt) {
        match doubt {
            Doubt::Attr(node) => drop_attr(&self.notifier, node),
            Doubt::Name(dir, name) => {
                // It may have forgotten the name just now; any other failure leaves it to run out by itself.
                if let Err(error) = self.notifier.inval_entry(INodeNo(dir.0), name.as_ref()) {
                    tracing::debug!(%error, "the kernel kept a name");
                }
            }
        }
    }
}

fn increase_epoch(device: &File) -> io::Result<()> {
    let mut device = device;
    // One write is one message.
    device.write(&INC_EPOCH).map(|_| ())
}

fn drop_attr(notifier: &Notifier, node: NodeId) {
    // A negative offset leaves the pages alone, so the kernel waits for nothing. It may have forgotten the node just now;
    // any other failure leaves the attributes to run out by themselves.
    if let Err(error) = notifier.inval_inode(INodeNo(node.0), -1, 0) {
        tracing::debug!(%error, "the kernel kept its attributes");
    }
}
