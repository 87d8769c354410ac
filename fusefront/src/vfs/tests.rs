//! The vfs against a real host over loopback; FUSE has no part in it.

use std::{
    fs,
    future::Future,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

use engine::{
    cache::L1,
    config::{HostConfig, ShareConfig},
    host::Host,
};
use transport::{ClientConfig, Lane};
use uring::{Pool, PoolConfig};
use wire::{Entry, Extent, listing::Statfs, message::ShareInfo};

use super::{
    dir::{AFTER_DOT_DOT, offset_of},
    handle::HandleId,
    listing::Listed,
    *,
};
use crate::{read::ReadConfig, readahead::Limits};

const PATIENCE: Duration = Duration::from_secs(20);

/// A host of a folder and the vfs on it.
struct Rig {
    vfs: Vfs,
    pool: Pool,
    l1: L1,
    dropped: mpsc::Receiver<NodeId>,
    door: Arc<Mutex<Option<Door>>>,
    lane: Lane,
    host: Option<Host>,
    config: HostConfig,
    folder: tempfile::TempDir,
    _state: tempfile::TempDir,
}

/// Tells the test what the kernel would be told.
struct Notes {
    dropped: mpsc::Sender<NodeId>,
    door: Arc<Mutex<Option<Door>>>,
}

/// Where a thread that gives the kernel pages waits until the test lets it go on.
struct Door {
    met: mpsc::Sender<NodeId>,
    opens: mpsc::Receiver<()>,
}

impl KernelCache for Notes {
    fn drop_attr(&self, node: NodeId) {
        self.dropped.send(node).unwrap();
    }

    fn store(&self, node: NodeId, _: &[u8]) -> bool {
        let Some(door) = self.door.lock().take() else { return false };
        door.met.send(node).unwrap();
        door.opens.recv_timeout(PATIENCE).is_ok()
    }

    fn doubt(&self, _: Doubt) {}

    fn doubt_everything(&self, _: Vec<Doubt>) {}

    fn has_epochs(&self) -> bool {
        true
    }
}

fn deadline() -> Instant {
    Instant::now() + PATIENCE // clock: the bound of a real wait
}

fn wait<T: Send + 'static>(lane: &Lane, work: impl Future<Output = T> + Send + 'static) -> T {
    let (send, receive) = mpsc::channel();
    lane.handle().spawn(async move { send.send(work.await) });
    receive.recv_timeout(PATIENCE).expect("the work ends within the deadline")
}

impl Rig {
    /// One share, of the folder itself.
    fn new() -> Rig {
        Rig::of(&[("share", "")], |shares| MountRoot::Share(shares[0].clone()))
    }

    /// Shares by their names, each of a folder in the rig's.
    fn of(shares: &[(&str, &str)], root: impl FnOnce(&[ShareInfo]) -> MountRoot) -> Rig {
        let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut config = HostConfig::new(share_configs(folder.path(), shares), state.path().join("state"));
        config.listen = vec!["127.0.0.1:0".parse().unwrap()];
        let host = Host::start(config.clone()).unwrap();
        // Where it is found again when it starts again.
        config.listen = host.local_addrs().to_vec();
        let lane = Lane::start("vfs-test").unwrap();
        let ticket = host.ticket();
        let host_key = ticket.host_key;
        let client = wait(&lane, Client::connect(ticket, ClientConfig::default())).unwrap();
        let pool = Pool::new(PoolConfig::with_capacity(32 << 20)).unwrap();
        let (l1, stats) = (L1::new(pool.clone()), Arc::new(Stats::default()));
        let limits = Limits { window_bytes_min: 1 << 20, window_bytes_max: 4 << 20 };
        let read_config = ReadConfig { host_key, ahead_deadline: PATIENCE, limits, l2: None };
        let reads = ReadPath::new(client.clone(), l1.clone(), lane.handle(), read_config, stats.clone());
        let root = root(&client.welcome().shares);
        let vfs = Vfs::new(VfsParts { client, lane: lane.handle(), root, reads, stats });
        let (notes, dropped) = mpsc::channel();
        let door = Arc::<Mutex<Option<Door>>>::default();
        vfs.attach_kernel(Box::new(Notes { dropped: notes, door: door.clone() }));
        Rig { vfs, pool, l1, dropped, door, lane, host: Some(host), config, folder, _state: state }
    }

    /// Starts the host again, with these shares.
    fn restart_host(&mut self, shares: &[(&str, &str)]) {
        self.host.take().unwrap().stop().unwrap();
        self.config.shares = share_configs(self.folder.path(), shares);
        self.host = Some(Host::start(self.config.clone()).unwrap());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn run<T, F>(&self, work: impl FnOnce(Vfs) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        wait(&self.lane, work(self.vfs.clone()))
    }

    fn lookup(&self, parent: NodeId, name: &str) -> Result<NodeAttr, VfsError> {
        let name = name.as_bytes().to_owned();
        self.run(|vfs| async move { vfs.lookup(parent, &name, deadline()).await })
    }

    fn open(&self, node: NodeId) -> Result<open::Opened, VfsError> {
        self.run(|vfs| async move { vfs.open(node, open::KernelPages::Used, deadline()).await })
    }

    fn read(&self, handle: HandleId, start: u64, len: u64) -> Result<Bytes, VfsError> {
        let extent = Extent::new(start, len);
        match self.vfs.read_cached(handle, extent)? {
            Some(served) => Ok(served.bytes().clone()),
            None => self.run(|vfs| async move {
                vfs.read(handle, extent, deadline()).await.map(|served| served.bytes().clone())
            }),
        }
    }

    fn opendir(&self, node: NodeId) -> HandleId {
        self.run(|vfs| async move { vfs.opendir(node, deadline()).await }).unwrap()
    }

    fn cursor(&self, dir: HandleId, offset: u64) -> dir::Cursor {
        match self.vfs.listing_cached(dir, offset).unwrap() {
            Some(cursor) => cursor,
            None => self.run(|vfs| async move { vfs.listing(dir, offset, deadline()).await }).unwrap(),
        }
    }

    /// All names from `offset` on, with the offset after each, `step` entries a call.
    fn names(&self, dir: HandleId, mut offset: u64, step: usize) -> Vec<(String, u64)> {
        let mut names = Vec::new();
        loop {
            let cursor = self.cursor(dir, offset);
            let before = names.len();
            for entry in cursor.page.entries.iter().skip(cursor.index).take(step) {
                offset = offset_of(entry.cookie);
                names.push((entry.name.to_string(), offset));
            }
            if names.len() == before {
                return names;
            }
        }
    }

    /// Sets the file's times far enough back that the host takes its version for settled.
    fn settle(&self, name: &str) {
        // ctime cannot be set back, so the test waits for the host to say it, as a mount would see it.
        let until = deadline();
        loop {
            let found = self.lookup(NodeId::ROOT, name).unwrap();
            self.vfs.forget(found.node, 1);
            if found.attr.settled {
                return;
            }
            assert!(Instant::now() < until, "{name} never settles"); // clock: the bound of a real wait
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(host) = self.host.take() {
            let stopped = host.stop();
            assert!(std::thread::panicking() || stopped.is_ok(), "{stopped:?}");
        }
    }
}

fn share_configs(folder: &Path, shares: &[(&str, &str)]) -> Vec<ShareConfig> {
    let config = |&(name, path): &(&str, &str)| {
        fs::create_dir_all(folder.join(path)).unwrap();
        ShareConfig::new(Name::new(name.as_bytes()).unwrap(), folder.join(path))
    };
    shares.iter().map(config).collect()
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

#[test]
fn a_lookup_finds_what_the_host_has_under_its_own_number() {
    let rig = Rig::new();
    rig.write("a", b"hello");
    let found = rig.lookup(NodeId::ROOT, "a").unwrap();
    assert_eq!(found.node.0, inode(&rig.path("a")));
    assert_eq!(found.attr.size.0, 5);
    // Once the lease is there that the look-up asked for, what was told before it does not count.
    let cached = rig.vfs.attr_cached(found.node).map(|(known, _)| known.attr);
    assert!(cached.is_none_or(|known| known == found.attr), "{cached:?}");
    let told = rig.run(move |vfs| async move { vfs.attr(found.node, By::Name, deadline()).await }).unwrap();
    assert_eq!((told.node, told.attr), (found.node, found.attr));
    let root = rig.run(|vfs| async move { vfs.attr(NodeId::ROOT, By::Name, deadline()).await }).unwrap();
    assert_eq!((root.node, root.inode), (NodeId::ROOT, inode(rig.folder.path())));
}

#[test]
fn names_that_no_host_can_have_are_refused_here() {
    let rig = Rig::new();
    assert_eq!(rig.lookup(NodeId::ROOT, &"n".repeat(256)), Err(VfsError::TooLong));
    for name in ["..", ".", "a/b", ""] {
        assert_eq!(rig.lookup(NodeId::ROOT, name), Err(VfsError::NoSuchName), "{name:?}");
    }
    let absent = rig.lookup(NodeId::ROOT, "absent").unwrap_err();
    assert!(matches!(absent, VfsError::Host { code: ErrorCode::NotFound, .. }), "{absent:?}");
    assert_eq!(rig.vfs.held().nodes, 1);
}

#[test]
fn hard_links_are_one_node_and_forgotten_nodes_leave() {
    let rig = Rig::new();
    rig.write("a", b"x");
    fs::hard_link(rig.path("a"), rig.path("b")).unwrap();
    let (a, b) = (rig.lookup(NodeId::ROOT, "a").unwrap(), rig.lookup(NodeId::ROOT, "b").unwrap());
    assert_eq!((a.node, a.generation), (b.node, b.generation));
    assert_eq!(a.attr.links, 2);
    rig.vfs.forget(a.node, 1);
    assert_eq!(rig.vfs.held().nodes, 2);
    rig.vfs.forget(a.node, 1);
    assert_eq!(rig.vfs.held().nodes, 1);
}

#[test]
fn a_file_reads_back_cut_at_its_end() {
    let rig = Rig::new();
    let bytes: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    rig.write("a", &bytes);
    let node = rig.lookup(NodeId::ROOT, "a").unwrap().node;
    let handle = rig.open(node).unwrap().handle;
    assert_eq!(rig.read(handle, 0, 131_072).unwrap(), bytes[..131_072]);
    assert_eq!(rig.read(handle, 131_072, 1 << 20).unwrap(), bytes[131_072..]);
    assert_eq!(rig.read(handle, 299_999, 10).unwrap(), bytes[299_999..]);
    assert_eq!(rig.read(handle, 300_000, 10).unwrap(), b""[..]);
    assert_eq!(rig.vfs.stats().read_bytes.get(), 300_001);
    rig.vfs.release(handle);
    assert_eq!(rig.read(handle, 0, 1), Err(VfsError::BadHandle));
    assert_eq!(rig.read(HandleId(0), 0, 1), Err(VfsError::BadHandle));
    assert_eq!(rig.vfs.held().open_files, 0);
}

#[test]
fn opening_what_is_no_file_or_gone_says_so() {
    let rig = Rig::new();
    fs::create_dir(rig.path("d")).unwrap();
    rig.write("a", b"x");
    let dir = rig.lookup(NodeId::ROOT, "d").unwrap().node;
    assert_eq!(rig.open(dir).unwrap_err(), VfsError::IsDirectory);
    let file = rig.lookup(NodeId::ROOT, "a").unwrap().node;
    let listing = rig.run(|vfs| async move { vfs.opendir(file, deadline()).await });
    assert_eq!(listing, Err(VfsError::NotDirectory));
    fs::remove_file(rig.path("a")).unwrap();
    assert_eq!(rig.open(file).unwrap_err(), VfsError::Stale);
    rig.write("a", b"another");
    assert_eq!(rig.open(file).unwrap_err(), VfsError::Stale, "another file has its name");
    assert_eq!(rig.open(NodeId(4242)).unwrap_err(), VfsError::Stale);
}

#[test]
fn pages_are_kept_for_an_unchanged_file_and_dropped_for_a_rewritten_one() {
    let rig = Rig::new();
    rig.write("a", b"first");
    rig.settle("a");
    let node = rig.lookup(NodeId::ROOT, "a").unwrap().node;
    let first = rig.open(node).unwrap();
    assert!(!first.keep_pages, "the kernel has none");
    assert_eq!(rig.read(first.handle, 0, 100).unwrap(), b"first"[..]);
    assert!(rig.open(node).unwrap().keep_pages);
    assert!(rig.dropped.try_recv().is_err(), "the attributes told before still hold");

    rig.write("a", b"second, longer");
    let second = rig.open(node).unwrap();
    assert!(!second.keep_pages);
    assert_eq!(rig.dropped.try_recv(), Ok(node), "or the kernel would cut the read at the old size");
    assert_eq!(rig.read(second.handle, 0, 100).unwrap(), b"second, longer"[..]);
    assert_eq!(rig.read(first.handle, 0, 100), Err(VfsError::Stale));
}

#[test]
fn an_open_handle_never_mixes_versions() {
    let rig = Rig::new();
    rig.write("a", &[b'1'; 400_000]);
    let node = rig.lookup(NodeId::ROOT, "a").unwrap().node;
    let handle = rig.open(node).unwrap().handle;
    assert_eq!(rig.read(handle, 0, 4096).unwrap(), [b'1'; 4096][..]);
    rig.write("a", &[b'2'; 400_001]);
    assert_eq!(rig.read(handle, 262_144, 4096), Err(VfsError::Stale), "not in memory yet");
    assert_eq!(rig.read(handle, 0, 4096), Err(VfsError::Stale), "and from then on nothing is served");
}

#[test]
fn what_the_host_says_later_makes_older_handles_stale_and_not_the_other_way_round() {
    let rig = Rig::new();
    rig.write("a", b"first");
    let before = rig.lookup(NodeId::ROOT, "a").unwrap();
    let old = rig.open(before.node).unwrap().handle;
    assert_eq!(rig.read(old, 0, 100).unwrap(), b"first"[..]);
    rig.write("a", b"second, longer");
    let new = rig.open(before.node).unwrap().handle;
    // An answer of before, late.
    rig.vfs.0.state.lock().learn(before.node, before.attr);
    assert_eq!(rig.read(new, 0, 100).unwrap(), b"second, longer"[..]);
    assert_eq!(rig.read(old, 0, 100), Err(VfsError::Stale));
    rig.write("a", b"third");
    rig.lookup(NodeId::ROOT, "a").unwrap();
    assert!(rig.vfs.read_cached(new, Extent::new(0, 100)).unwrap().is_none(), "though memory has it");
    assert_eq!(rig.read(new, 0, 100), Err(VfsError::Stale));
}

#[test]
fn a_renamed_file_is_found_again_and_its_handle_reads_on() {
    let rig = Rig::new();
    fs::create_dir(rig.path("d")).unwrap();
    rig.write("d/a", b"content");
    let dir = rig.lookup(NodeId::ROOT, "d").unwrap().node;
    let file = rig.lookup(dir, "a").unwrap().node;
    fs::rename(rig.path("d"), rig.path("e")).unwrap();
    assert_eq!(rig.open(file).unwrap_err(), VfsError::Stale, "its path leads nowhere");
    assert_eq!(rig.lookup(NodeId::ROOT, "e").unwrap().node, dir);
    let handle = rig.open(file).unwrap().handle;
    assert_eq!(rig.read(handle, 0, 100).unwrap(), b"content"[..]);
}

#[test]
fn an_open_file_without_a_name_is_told_of_by_its_handle_alone() {
    let rig = Rig::new();
    rig.write("a", b"content");
    let node = rig.lookup(NodeId::ROOT, "a").unwrap().node;
    let handle = rig.open(node).unwrap().handle;
    assert_eq!(rig.read(handle, 0, 100).unwrap(), b"content"[..]);
    rig.write("b", b"another");
    fs::rename(rig.path("b"), rig.path("a")).unwrap();
    assert_eq!(rig.open(node).unwrap_err(), VfsError::Stale);
    let named = rig.run(move |vfs| async move { vfs.attr(node, By::Name, deadline()).await });
    assert_eq!(named, Err(VfsError::Stale));
    let held = rig.run(move |vfs| async move { vfs.attr(node, By::File, deadline()).await }).unwrap();
    assert_eq!((held.attr.size.0, held.attr.links), (7, 0));
}

#[test]
fn a_large_directory_lists_completely_in_any_steps() {
    let rig = Rig::new();
    let mut expected: Vec<String> = (0..3000).map(|i| format!("file-{i:05}")).collect();
    for name in &expected {
        rig.write(name, b"");
    }
    let dir = rig.opendir(NodeId::ROOT);
    let listed = rig.names(dir, 0, usize::MAX);
    let mut names: Vec<String> = listed.iter().map(|(name, _)| name.clone()).collect();
    names.sort();
    expected.sort();
    assert_eq!(names, expected);
    assert_eq!(rig.names(dir, 0, 7), listed, "rewound, in small steps");
    let (_, middle) = listed[1234];
    assert_eq!(rig.names(dir, middle, 100), listed[1235..], "seekdir");
    rig.vfs.releasedir(dir);
    assert_eq!(rig.vfs.held().open_dirs, 0);
}

#[test]
fn a_rewound_directory_shows_what_was_added() {
    let rig = Rig::new();
    rig.write("a", b"");
    let dir = rig.opendir(NodeId::ROOT);
    assert_eq!(rig.names(dir, 0, 100).len(), 1);
    rig.write("b", b"");
    let until = deadline();
    // As soon as the host pushed it.
    while rig.names(dir, 0, 100).len() < 2 {
        assert!(Instant::now() < until, "the new name never showed"); // clock: the bound of a real wait
        std::thread::yield_now();
    }
}

#[test]
fn listed_entries_count_as_looked_up() {
    let rig = Rig::new();
    rig.write("a", b"x");
    let dir = rig.opendir(NodeId::ROOT);
    let cursor = rig.cursor(dir, AFTER_DOT_DOT);
    let entry = cursor.page.entries[0].clone();
    let Listed::Known(known) = rig.vfs.list(dir, &entry).unwrap() else { panic!("the host looked") };
    assert_eq!(known.node.0, inode(&rig.path("a")));
    assert_eq!(rig.vfs.list_plain(dir, &entry), (known.node.0, FileKind::Regular));
    rig.vfs.forget(known.node, 1);

    let unknown = Entry { attr: None, ..entry };
    let Listed::Unknown { node, kind, .. } = rig.vfs.list(dir, &unknown).unwrap() else {
        panic!("no attributes")
    };
    assert_eq!(kind, FileKind::Regular);
    let attr = rig.run(move |vfs| async move { vfs.attr(node, By::Name, deadline()).await }).unwrap();
    assert_eq!(attr.attr.size.0, 1, "asked for by name alone");
    assert_ne!(rig.vfs.list_plain(dir, &unknown).0, 0, "zero would hide it");
    rig.vfs.forget(node, 1);
    assert_eq!(rig.vfs.held().nodes, 1);
    let root = inode(rig.folder.path());
    let dots = rig.vfs.dots(dir).unwrap();
    assert_eq!((dots.dot, dots.dot_dot), (root, root));
}

#[test]
fn links_and_attributes_come_from_the_host() {
    let rig = Rig::new();
    symlink("../some/where", rig.path("link")).unwrap();
    rig.write("a", b"x");
    let link = rig.lookup(NodeId::ROOT, "link").unwrap().node;
    let text = rig.run(|vfs| async move { vfs.readlink(link, deadline()).await });
    assert_eq!(text.unwrap(), b"../some/where"[..]);
    let file = rig.lookup(NodeId::ROOT, "a").unwrap().node;
    let missing = rig.run(|vfs| async move { vfs.xattr(file, b"user.none", deadline()).await }).unwrap_err();
    assert!(
        matches!(missing, VfsError::Host { code: ErrorCode::NoAttribute | ErrorCode::NotSupported, .. }),
        "{missing:?}"
    );
    rig.run(|vfs| async move { vfs.refresh_statfs(deadline()).await }).unwrap();
    assert!(rig.vfs.statfs(NodeId::ROOT).blocks > 0);
}

#[test]
fn without_a_host_the_root_is_still_shown_and_the_rest_fails_in_time() {
    let mut rig = Rig::new();
    rig.write("a", b"x");
    let node = rig.lookup(NodeId::ROOT, "a").unwrap().node;
    rig.host.take().unwrap().stop().unwrap();
    let root = rig.run(|vfs| async move { vfs.attr(NodeId::ROOT, By::Name, deadline()).await }).unwrap();
    assert_eq!(root.inode, inode(rig.folder.path()));
    let soon = Instant::now() + Duration::from_millis(300); // clock: the deadline under test
    let gone =
        rig.run(move |vfs| async move { vfs.open(node, open::KernelPages::Used, soon).await }).unwrap_err();
    assert!(matches!(gone, VfsError::Lost { .. } | VfsError::Deadline), "{gone:?}");
}

#[test]
fn at_the_end_every_slot_is_home() {
    let rig = Rig::new();
    rig.write("a", &[7; 2_000_000]);
    let node = rig.lookup(NodeId::ROOT, "a").unwrap().node;
    let handle = rig.open(node).unwrap().handle;
    let mut at = 0;
    while at < 2_000_000 {
        at += rig.read(handle, at, 131_072).unwrap().len() as u64;
    }
    rig.vfs.release(handle);
    let (pool, l1, vfs) = (rig.pool.clone(), rig.l1.clone(), rig.vfs.clone());
    drop(rig);
    drop(vfs);
    l1.shrink(0);
    assert_eq!(pool.stats().lent_bytes, 0);
}

mod first_read;
mod kernel;
mod moves;
mod prune;
mod several;
