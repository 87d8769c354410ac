//! The kernel's side of a mount: operations on what earlier answers brought, and what must hold of each result.

use std::{future::Future, sync::Arc, time::Duration};

use engine::cache::L1;
use fusefront::{
    error::VfsError,
    read::{ReadConfig, ReadPath},
    readahead::Limits,
    stats::Stats,
    vfs::{
        By, KernelCache, Vfs, VfsParts, attr::NodeAttr, dir::offset_of, handle::HandleId, inode::NodeId,
        leases::Doubt, listing::Listed, open::KernelPages, shares::MountRoot,
    },
};
use tokio::{
    runtime::Handle,
    time::{self, Instant},
};
use transport::Client;
use uring::Pool;
use wire::{Extent, FileKind, Timestamp, limits};

use super::host::pattern;
use crate::input::Input;

/// What a mount's operation may take, by the paused clock.
const PATIENCE: Duration = Duration::from_secs(2);
/// Nodes and handles held at once: more of them find nothing new.
const HELD_MAX: usize = 12;
/// Pages of one listing in a row: a hostile one never ends, and the kernel's caller decides how long it goes on.
const PAGES_MAX: usize = 3;

/// What is never told anything.
struct Deaf;

impl KernelCache for Deaf {
    fn drop_attr(&self, _: NodeId) {}

    fn store(&self, _: NodeId, _: &[u8]) -> bool {
        false
    }

    fn doubt(&self, _: Doubt) {}

    fn doubt_everything(&self, _: Vec<Doubt>) {}

    fn has_epochs(&self) -> bool {
        true
    }
}

/// What is mounted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Root {
    Share,
    Folder,
}

/// A node as the kernel holds it: its number, what it is, and how often it was found.
#[derive(Clone, Copy)]
struct Known {
    node: NodeId,
    kind: FileKind,
}

/// What the kernel holds of a mount.
pub(super) struct Kernel {
    vfs: Vfs,
    nodes: Vec<Known>,
    files: Vec<HandleId>,
    dirs: Vec<(HandleId, u64)>,
}

impl Kernel {
    /// A mount of one share, or of all of them as folders.
    pub(super) fn new(client: Client, pool: Pool, host_key: [u8; 32], root: Root) -> Kernel {
        let (lane, l1, stats) = (Handle::current(), L1::new(pool), Arc::new(Stats::default()));
        let memory = l1.capacity_bytes() as u64;
        let config =
            ReadConfig { host_key, ahead_deadline: PATIENCE, limits: Limits::for_memory(memory), l2: None };
        let reads = ReadPath::new(client.clone(), l1, lane.clone(), config, stats.clone());
        let root = match root {
            Root::Share => MountRoot::Share(client.welcome().shares[0].clone()),
            Root::Folder => MountRoot::Folder { uid: 0, gid: 0, made: Timestamp::default() },
        };
        let vfs = Vfs::new(VfsParts { client, lane, root, reads, stats });
        vfs.attach_kernel(Box::new(Deaf));
        let root = Known { node: NodeId::ROOT, kind: FileKind::Directory };
        Kernel { vfs, nodes: vec![root], files: Vec::new(), dirs: Vec::new() }
    }

    /// Runs the operations, then gives everything back: a mount that is asked for nothing holds nothing.
    pub(super) async fn run(mut self, mut input: Input<'_>) {
        while !input.is_empty() {
            self.step(&mut input).await;
        }
        for handle in self.files.drain(..) {
            self.vfs.release(handle);
        }
        for (handle, _) in self.dirs.drain(..) {
            self.vfs.releasedir(handle);
        }
        for known in self.nodes.drain(1..) {
            self.vfs.forget(known.node, 1);
        }
        let held = self.vfs.held();
        assert_eq!(
            (held.nodes, held.open_files, held.open_dirs),
            (1, 0, 0),
            "what the kernel gave back is kept"
        );
    }

    async fn step(&mut self, input: &mut Input<'_>) {
        match input.u8() % 16 {
            0..=2 => self.lookup(input).await,
            3 => self.forget(input),
            4 => self.attr(input).await,
            5 => self.readlink(input).await,
            6 | 7 => self.open(input).await,
            8 | 9 => self.read(input).await,
            10 => self.close(input),
            11 => self.opendir(input).await,
            12 => self.list(input).await,
            13 => self.xattr(input).await,
            14 => {
                let Some(node) = self.pick(input, |_| true) else { return };
                self.vfs.statfs(node);
                let deadline = Instant::now() + PATIENCE;
                let _ = in_time(self.vfs.refresh_statfs(deadline)).await;
            }
            _ => time::sleep(Duration::from_millis(u64::from(input.u8()) * 8)).await,
        }
    }

    /// One of the nodes that are this, if there is one; the root is the first directory.
    fn pick(&self, input: &mut Input<'_>, of: impl Fn(FileKind) -> bool) -> Option<NodeId> {
        let fitting: Vec<NodeId> =
            self.nodes.iter().filter(|known| of(known.kind)).map(|known| known.node).collect();
        let at = usize::from(input.u8()).checked_rem(fitting.len())?;
        Some(fitting[at])
    }

    /// Keeps one lookup of a node, or gives it back at once.
    fn keep(&mut self, node: NodeId, kind: FileKind) {
        if self.nodes.len() < HELD_MAX {
            self.nodes.push(Known { node, kind });
        } else {
            self.vfs.forget(node, 1);
        }
    }

    async fn lookup(&mut self, input: &mut Input<'_>) {
        let Some(parent) = self.pick(input, |kind| kind == FileKind::Directory) else { return };
        let few = [b'a' + input.u8() % 8];
        let name = if few == [b'h'] { input.short() } else { &few };
        let found = in_time(self.vfs.lookup(parent, name, Instant::now() + PATIENCE)).await;
        if let Ok(found) = found {
            check(&found);
            self.keep(found.node, found.attr.kind);
        }
    }

    fn forget(&mut self, input: &mut Input<'_>) {
        let at = usize::from(input.u8()) % self.nodes.len();
        if at > 0 {
            let known = self.nodes.swap_remove(at);
            self.vfs.forget(known.node, 1);
        }
    }

    async fn attr(&mut self, input: &mut Input<'_>) {
        let Some(node) = self.pick(input, |_| true) else { return };
        let by = if input.u8().is_multiple_of(2) { By::Name } else { By::File };
        if let Some((cached, _)) = self.vfs.attr_cached(node) {
            check(&cached);
        }
        if let Ok(attr) = in_time(self.vfs.attr(node, by, Instant::now() + PATIENCE)).await {
            check(&attr);
            assert_eq!(attr.node, node);
        }
    }

    async fn readlink(&mut self, input: &mut Input<'_>) {
        let Some(node) = self.pick(input, |kind| kind == FileKind::Symlink) else { return };
        if let Ok(text) = in_time(self.vfs.readlink(node, Instant::now() + PATIENCE)).await {
            assert!(!text.is_empty() && text.len() <= limits::TARGET_BYTES_MAX && !text.contains(&0));
        }
    }

    async fn open(&mut self, input: &mut Input<'_>) {
        let Some(node) = self.pick(input, |kind| kind == FileKind::Regular) else { return };
        let opened = self.vfs.open(node, KernelPages::Used, Instant::now() + PATIENCE);
        let Ok(opened) = in_time(opened).await else { return };
        if self.files.len() < HELD_MAX {
            self.files.push(opened.handle);
        } else {
            self.vfs.release(opened.handle);
        }
    }

    async fn read(&mut self, input: &mut Input<'_>) {
        let Some(at) = usize::from(input.u8()).checked_rem(self.files.len()) else { return };
        let handle = self.files[at];
        // The kernel's offsets are signed, and its requests at most a MiB.
        let start = input.sized().min(i64::MAX.unsigned_abs());
        let len = (input.sized() % limits::READ_BYTES_MAX + 1).min(i64::MAX.unsigned_abs() - start);
        let extent = Extent::new(start, len);
        let served = match self.vfs.read_cached(handle, extent) {
            Ok(Some(served)) => served,
            Ok(None) => match in_time(self.vfs.read(handle, extent, Instant::now() + PATIENCE)).await {
                Ok(served) => served,
                Err(_) => return,
            },
            Err(_) => return,
        };
        assert!(served.len() as u64 <= len, "{} bytes to a read of {extent}", served.len());
        let bytes = served.iter().zip(start..);
        assert!(bytes.into_iter().all(|(byte, at)| *byte == pattern(at)), "wrong bytes of {extent}");
    }

    fn close(&mut self, input: &mut Input<'_>) {
        let choice = input.u8();
        if let Some(at) =
            usize::from(choice >> 1).checked_rem(self.files.len()).filter(|_| choice.is_multiple_of(2))
        {
            self.vfs.release(self.files.swap_remove(at));
        } else if let Some(at) = usize::from(choice >> 1).checked_rem(self.dirs.len()) {
            self.vfs.releasedir(self.dirs.swap_remove(at).0);
        }
    }

    async fn opendir(&mut self, input: &mut Input<'_>) {
        let Some(node) = self.pick(input, |kind| kind == FileKind::Directory) else { return };
        let Ok(handle) = in_time(self.vfs.opendir(node, Instant::now() + PATIENCE)).await else { return };
        if self.dirs.len() < HELD_MAX {
            self.dirs.push((handle, 0));
        } else {
            self.vfs.releasedir(handle);
        }
    }

    /// Goes on in a listing, or anywhere in it, and finds each entry.
    async fn list(&mut self, input: &mut Input<'_>) {
        let Some(at) = usize::from(input.u8()).checked_rem(self.dirs.len()) else { return };
        let (handle, mut offset) = self.dirs[at];
        if input.u8().is_multiple_of(4) {
            offset = input.sized();
        }
        let _ = self.vfs.dots(handle);
        for _ in 0..PAGES_MAX {
            let cursor = match self.vfs.listing_cached(handle, offset) {
                Ok(Some(cursor)) => cursor,
                Ok(None) => {
                    match in_time(self.vfs.listing(handle, offset, Instant::now() + PATIENCE)).await {
                        Ok(cursor) => cursor,
                        Err(_) => break,
                    }
                }
                Err(_) => break,
            };
            let entries = &cursor.page.entries[cursor.index..];
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                let bytes = entry.name.as_bytes();
                assert!(bytes != b"." && bytes != b".." && !bytes.contains(&b'/') && !bytes.contains(&0));
                self.vfs.list_plain(handle, entry);
                if let Ok(listed) = self.vfs.list(handle, entry) {
                    let kind = match &listed {
                        Listed::Known(attr) => {
                            check(attr);
                            attr.attr.kind
                        }
                        Listed::Unknown { kind, .. } => *kind,
                    };
                    self.keep(listed.node(), kind);
                }
                offset = offset_of(entry.cookie);
            }
            self.dirs[at].1 = offset;
        }
    }

    async fn xattr(&mut self, input: &mut Input<'_>) {
        let Some(node) = self.pick(input, |_| true) else { return };
        let deadline = Instant::now() + PATIENCE;
        let value = match input.u8() % 2 {
            0 => in_time(self.vfs.xattr(node, input.short(), deadline)).await,
            _ => in_time(self.vfs.xattr_names(node, deadline)).await,
        };
        if let Ok(value) = value {
            assert!(value.len() <= limits::XATTR_BYTES_MAX);
        }
    }
}

/// Waits for every slot to come home: what was on its way when the mount went ends by its deadline.
pub(super) async fn come_home(pool: &Pool) {
    let deadline = Instant::now() + 2 * PATIENCE;
    while pool.stats().lent_bytes > 0 {
        assert!(Instant::now() < deadline, "a slot did not come home: {:?}", pool.stats());
        time::sleep(Duration::from_millis(100)).await;
    }
}

/// An operation that must not outlive its deadline.
async fn in_time<T>(work: impl Future<Output = Result<T, VfsError>>) -> Result<T, VfsError> {
    time::timeout(PATIENCE + Duration::from_millis(100), work)
        .await
        .expect("an operation outlives its deadline")
}

/// What the kernel takes without a look of its own.
fn check(attr: &NodeAttr) {
    assert!(attr.node.0 != 0, "FUSE has no node 0");
    assert!(i64::try_from(attr.attr.size.0).is_ok() && attr.attr.perm <= 0o7777);
}
