//! Answer by answer, without the kernel.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use engine::cache::L1;
use tokio::time::Instant;
use transport::{Answer, Client, ClientConfig, Lane};
use uring::{Pool, PoolConfig};
use wire::{Attr, ByteLen, Entry, Extent, FileId, FileKind, Reply, Request, Timestamp, listing::Statfs};
use wormhole_fusefront::{
    error::VfsError,
    read::{ReadConfig, ReadPath},
    readahead::Limits,
    stats::Stats,
    vfs::{
        By, Vfs, VfsParts,
        attr::NodeAttr,
        dir::{Cursor, offset_of},
        handle::HandleId,
        inode::NodeId,
        open::KernelPages,
        shares::{MountRoot, usable},
        walk::{Step, Walk, WalkError},
    },
};

use super::host::{Host, absent, attr, dir, entry, file, name, page, path, share, usual};
use crate::rig::PATIENCE;

/// The deadline of what a host never answers.
const SOON: Duration = Duration::from_millis(300);

fn deadline() -> Instant {
    Instant::now() + PATIENCE // clock: the bound of a real wait
}

struct Rig {
    vfs: Vfs,
    pool: Pool,
    l1: L1,
    lane: Lane,
    host: Host,
}

impl Rig {
    fn new(script: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static) -> Rig {
        Rig::of(Host::new(script), |shares| MountRoot::Share(shares[0].clone()))
    }

    fn of(host: Host, root: impl FnOnce(&[wire::message::ShareInfo]) -> MountRoot) -> Rig {
        let (lane, ticket) = (Lane::start("hostile-vfs").unwrap(), host.ticket());
        let host_key = ticket.host_key;
        let client = super::wait(&lane, Client::connect(ticket, ClientConfig::default())).unwrap();
        let pool = Pool::new(PoolConfig::with_capacity(16 << 20)).unwrap();
        let (l1, stats) = (L1::new(pool.clone()), Arc::new(Stats::default()));
        let limits = Limits { window_bytes_min: 1 << 20, window_bytes_max: 4 << 20 };
        let config = ReadConfig { host_key, ahead_deadline: SOON, limits, l2: None };
        let reads = ReadPath::new(client.clone(), l1.clone(), lane.handle(), config, stats.clone());
        let root = root(&usable(&client.welcome()));
        let vfs = Vfs::new(VfsParts { client, lane: lane.handle(), root, reads, stats });
        Rig { vfs, pool, l1, lane, host }
    }

    fn run<T, F>(&self, work: impl FnOnce(Vfs) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        super::wait(&self.lane, work(self.vfs.clone()))
    }

    fn lookup(&self, parent: NodeId, text: &str) -> Result<NodeAttr, VfsError> {
        let text = text.as_bytes().to_owned();
        self.run(|vfs| async move { vfs.lookup(parent, &text, deadline()).await })
    }

    fn attr(&self, node: NodeId) -> Result<NodeAttr, VfsError> {
        self.run(move |vfs| async move { vfs.attr(node, By::Name, deadline()).await })
    }

    fn opendir(&self, node: NodeId) -> Result<HandleId, VfsError> {
        self.run(move |vfs| async move { vfs.opendir(node, deadline()).await })
    }

    fn listing(&self, dir: HandleId, offset: u64) -> Result<Cursor, VfsError> {
        match self.vfs.listing_cached(dir, offset)? {
            Some(cursor) => Ok(cursor),
            None => self.run(move |vfs| async move { vfs.listing(dir, offset, deadline()).await }),
        }
    }

    /// How many entries a program sees until the listing ends, or fails.
    fn listed(&self, dir: HandleId) -> Result<u64, (u64, VfsError)> {
        let (mut count, mut offset) = (0, 0);
        loop {
            let cursor = self.listing(dir, offset).map_err(|error| (count, error))?;
            let entries = &cursor.page.entries[cursor.index..];
            let Some(last) = entries.last() else { return Ok(count) };
            (count, offset) = (count + entries.len() as u64, offset_of(last.cookie));
            assert!(count < 1_000_000, "no end");
        }
    }

    fn read(&self, node: NodeId, at: u64) -> Result<Bytes, VfsError> {
        let opened =
            self.run(move |vfs| async move { vfs.open(node, KernelPages::Used, deadline()).await })?;
        let (handle, extent) = (opened.handle, Extent::new(at, 4096));
        let soon = Instant::now() + SOON; // clock: the deadline under test
        let bytes = self.run(move |vfs| async move {
            vfs.read(handle, extent, soon).await.map(|served| served.bytes().clone())
        });
        self.vfs.release(handle);
        bytes
    }

    /// Nothing is held at the end.
    fn end(self, forgotten: &[(NodeId, u64)]) {
        for &(node, lookups) in forgotten {
            self.vfs.forget(node, lookups);
        }
        let held = self.vfs.held();
        assert_eq!((held.nodes, held.open_files, held.open_dirs), (1, 0, 0));
        let until = deadline();
        loop {
            self.l1.shrink(0);
            if self.pool.stats().lent_bytes == 0 {
                return;
            }
            assert!(Instant::now() < until, "every slot comes home"); // clock: the bound of a real wait
            std::thread::yield_now();
        }
    }
}

fn is_protocol<T: std::fmt::Debug>(outcome: Result<T, VfsError>) {
    let error = outcome.expect_err("the host broke the protocol");
    assert!(matches!(error, VfsError::Protocol { .. }), "{error:?}");
}

#[test]
fn an_answer_to_another_question_is_an_error() {
    let rig = Rig::new(|request| match request {
        Request::Stat(target) if target.path.as_bytes() == b"good" => attr(file(5, 10)),
        _ => Some(Reply::Link(Bytes::from_static(b"text")).into()),
    });
    is_protocol(rig.lookup(NodeId::ROOT, "odd"));
    let good = rig.lookup(NodeId::ROOT, "good").unwrap().node;
    is_protocol(rig.read(good, 0));
    is_protocol(rig.run(move |vfs| async move { vfs.xattr(good, b"user.a", deadline()).await }));
    is_protocol(rig.run(|vfs| async move { vfs.refresh_statfs(deadline()).await }));
    let root = rig.opendir(NodeId::ROOT).unwrap();
    is_protocol(rig.listing(root, 0));
    rig.vfs.releasedir(root);
    rig.end(&[(good, 1)]);
}

#[test]
fn a_file_that_turns_into_another_kind_is_another_file() {
    let turn = AtomicU64::new(0);
    let rig = Rig::new(move |request| match request {
        Request::Stat(_) if turn.fetch_add(1, Relaxed).is_multiple_of(2) => attr(file(5, 10)),
        Request::Stat(_) => attr(dir(5)),
        _ => absent(),
    });
    let first = rig.lookup(NodeId::ROOT, "a").unwrap();
    assert_eq!(rig.attr(first.node), Err(VfsError::Stale), "a directory by now");
    assert_eq!(rig.lookup(NodeId::ROOT, "a").unwrap().node, first.node);
    let second = rig.lookup(NodeId::ROOT, "a").unwrap();
    assert_ne!(first.node, second.node);
    assert_eq!(second.attr.kind, FileKind::Directory);
    rig.end(&[(first.node, 2), (second.node, 1)]);
}

#[test]
fn a_folder_below_itself_is_refused_and_a_root_below_itself_has_an_end() {
    let rig = Rig::new(|request| match request {
        Request::Stat(target) => {
            let depth = target.path.as_bytes().split(|&byte| byte == b'/').count() as u64;
            match path(request).rsplit('/').next() {
                Some("same") => attr(dir(7)),
                Some("root") => attr(dir(2)),
                _ => attr(dir(100 + depth)),
            }
        }
        Request::List { .. } => {
            page(dir(7), vec![entry("same", 1, dir(7)), entry("other", 2, file(8, 1))], true)
        }
        _ => absent(),
    });
    let same = rig.lookup(NodeId::ROOT, "same").unwrap().node;
    assert_eq!(rig.lookup(same, "same"), Err(VfsError::Stale));
    let below = rig.lookup(same, "x").unwrap().node;
    assert_eq!(rig.lookup(below, "same"), Err(VfsError::Stale));
    let listed = rig.opendir(same).unwrap();
    let cursor = rig.listing(listed, 0).unwrap();
    assert_eq!(rig.vfs.list(listed, &cursor.page.entries[0]), Err(VfsError::Stale));
    rig.vfs.releasedir(listed);
    let root = rig.lookup(NodeId::ROOT, "root").unwrap().node;
    assert_ne!(root, NodeId::ROOT);
    assert_eq!(rig.lookup(root, "root"), Err(VfsError::Stale));
    rig.end(&[(below, 1), (same, 1), (root, 1)]);
}

#[test]
fn a_tree_without_bottom_ends_with_the_longest_path() {
    let rig = Rig::new(|request| match request {
        Request::Stat(target) => attr(dir(100 + target.path.as_bytes().len() as u64)),
        _ => absent(),
    });
    let (mut at, mut nodes) = (NodeId::ROOT, Vec::new());
    let error = loop {
        match rig.lookup(at, &"d".repeat(200)) {
            Ok(found) => at = found.node,
            Err(error) => break error,
        }
        nodes.push((at, 1));
    };
    assert_eq!((error, nodes.len()), (VfsError::TooLong, 20));
    rig.end(&nodes);
}

#[test]
fn one_identity_for_every_file_is_one_file() {
    let rig = Rig::new(|request| match request {
        Request::Stat(_) => attr(file(5, 4)),
        Request::Read { version, extent, .. } => {
            let bytes = Bytes::from(vec![b'x'; usize::try_from(extent.len.0).unwrap()]);
            let len = u32::try_from(extent.len.0).unwrap();
            Some(Answer { reply: Reply::Data { version: *version, len }, data: bytes })
        }
        _ => absent(),
    });
    let node = rig.lookup(NodeId::ROOT, "n0").unwrap().node;
    for number in 1..50 {
        assert_eq!(rig.lookup(NodeId::ROOT, &format!("n{number}")).unwrap().node, node);
    }
    assert_eq!(rig.read(node, 0).unwrap(), b"xxxx"[..]);
    assert_eq!(rig.attr(NodeId::ROOT), Err(VfsError::Stale), "the root is no file");
    rig.end(&[(node, 50)]);
}

#[test]
fn a_listing_that_leads_nowhere_is_an_error() {
    type Pages = fn(u64) -> (Vec<Entry>, bool);
    let cases: [(&str, Pages); 4] = [
        ("no entries and no end", |_| (Vec::new(), false)),
        ("two entries at one place", |_| (vec![entry("a", 5, file(5, 1)), entry("b", 5, file(6, 1))], false)),
        ("back to the start", |_| (vec![entry("a", 0, file(5, 1))], false)),
        ("the same page again", |at| (vec![entry("a", at, file(5, 1))], false)),
    ];
    for (what, pages) in cases {
        let rig = Rig::new(move |request| match request {
            Request::List { cookie, .. } => {
                let (entries, end) = pages(*cookie);
                page(dir(2), entries, end)
            }
            _ => usual(request),
        });
        let root = rig.opendir(NodeId::ROOT).unwrap();
        let outcome = rig.listed(root);
        assert!(matches!(outcome, Err((0, VfsError::Protocol { .. }))), "{what}: {outcome:?}");
        rig.vfs.releasedir(root);
        assert!(rig.host.asked() < 20, "{what}: asked {} times", rig.host.asked());
        rig.end(&[]);
    }
}

#[test]
fn a_listing_that_goes_round_is_stopped() {
    // 0 -> 1 -> 2 -> ... -> 9 -> 3 -> ...
    let rig = Rig::new(|request| match request {
        Request::List { cookie, .. } => {
            let next = if *cookie == 9 { 3 } else { cookie + 1 };
            page(dir(2), vec![entry(&format!("n{next}"), next, file(10 + next, 1))], false)
        }
        _ => usual(request),
    });
    let root = rig.opendir(NodeId::ROOT).unwrap();
    let outcome = rig.listed(root);
    assert!(matches!(outcome, Err((7..60, VfsError::Protocol { .. }))), "{outcome:?}");
    rig.vfs.releasedir(root);
    rig.end(&[]);
}

#[test]
fn a_walk_of_a_listing_that_goes_round_is_stopped() {
    // 0 -> 1 -> 2 -> 1 -> ...
    let rig = Rig::new(|request| match request {
        Request::List { cookie, .. } => {
            let next = if *cookie == 2 { 1 } else { cookie + 1 };
            page(dir(2), vec![entry(&format!("n{next}"), next, file(10 + next, 1))], false)
        }
        _ => usual(request),
    });
    let (files, problems) = rig.run(|vfs| async move {
        let mut walk = Walk::new(&vfs, b"", PATIENCE);
        let (mut files, mut problems) = (0, Vec::new());
        while let Some(step) = walk.next().await.unwrap() {
            match step {
                Step::File(_) => files += 1,
                Step::Problem { error, .. } => problems.push(error),
            }
        }
        (files, problems)
    });
    assert!(files < 20, "{files} files");
    assert!(matches!(problems[..], [WalkError::Vfs(VfsError::Protocol { .. })]), "{problems:?}");
    rig.end(&[]);
}

#[test]
fn an_entry_that_says_nothing_of_itself_is_an_error() {
    let rig = Rig::new(|request| match request {
        Request::List { .. } => {
            page(dir(2), vec![Entry { name: name("a"), cookie: 1, kind: None, attr: None }], true)
        }
        _ => usual(request),
    });
    let root = rig.opendir(NodeId::ROOT).unwrap();
    let cursor = rig.listing(root, 0).unwrap();
    is_protocol(rig.vfs.list(root, &cursor.page.entries[0]));
    rig.vfs.releasedir(root);
    rig.end(&[]);
}

#[test]
fn a_listing_of_another_directory_is_stale() {
    for other in [file(5, 0), dir(6)] {
        let rig = Rig::new(move |request| match request {
            Request::Stat(target) if !target.path.is_root() => attr(dir(5)),
            Request::List { .. } => page(other, Vec::new(), true),
            _ => usual(request),
        });
        let node = rig.lookup(NodeId::ROOT, "d").unwrap().node;
        assert_eq!(rig.opendir(node), Err(VfsError::Stale));
        rig.end(&[(node, 1)]);
    }
}

/// A read of a file of this size, of which the host says this.
fn read_of(
    size: u64,
    at: u64,
    answer: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static,
) -> Result<Bytes, VfsError> {
    let rig = Rig::new(move |request| match request {
        Request::Stat(target) if !target.path.is_root() => attr(file(5, size)),
        Request::Read { .. } => answer(request),
        _ => usual(request),
    });
    let node = rig.lookup(NodeId::ROOT, "f").unwrap().node;
    // A copy: the bytes themselves are a slot.
    let outcome = rig.read(node, at).map(|bytes| Bytes::copy_from_slice(&bytes));
    rig.end(&[(node, 1)]);
    outcome
}

fn data(version: wire::Version, bytes: usize) -> Option<Answer> {
    let len = u32::try_from(bytes).unwrap();
    Some(Answer { reply: Reply::Data { version, len }, data: vec![0; bytes].into() })
}

#[test]
fn data_of_another_length_or_version_is_an_error() {
    let Request::Read { version, .. } = (Request::Read {
        target: wire::message::Target { share: wire::ShareId(1), path: wire::SharePath::root(), id: None },
        version: file(5, 100).version(),
        extent: Extent::new(0, 1),
    }) else {
        unreachable!()
    };
    is_protocol(read_of(100, 0, move |_| data(version, 99)));
    is_protocol(read_of(100, 0, move |_| data(version, 101)));
    is_protocol(read_of(100, 0, move |_| data(version, 1 << 20)));
    is_protocol(read_of(100, 0, |_| data(file(5, 101).version(), 100)));
    is_protocol(read_of(100, 0, |_| attr(file(5, 100))));
    assert_eq!(read_of(100, 100, |_| absent()), Ok(Bytes::new()), "the end, as the host said");
}

#[test]
fn a_read_that_is_never_answered_ends_with_its_deadline() {
    assert_eq!(read_of(100, 0, |_| None), Err(VfsError::Deadline));
}

#[test]
fn a_version_that_never_stays_ends_with_the_deadline() {
    let turn = AtomicU64::new(0);
    let rig = Rig::new(move |request| match request {
        Request::Stat(target) if !target.path.is_root() => {
            let size = ByteLen(100 + turn.fetch_add(1, Relaxed) % 7);
            attr(Attr { size, ..file(5, 0) })
        }
        Request::Read { .. } => Some(wire::ErrorCode::Stale.into()),
        _ => usual(request),
    });
    let node = rig.lookup(NodeId::ROOT, "f").unwrap().node;
    let outcome = rig.read(node, 0);
    assert!(matches!(outcome, Err(VfsError::Deadline | VfsError::Stale)), "{outcome:?}");
    assert!(rig.host.asked() < 2_000, "asked {} times", rig.host.asked());
    rig.end(&[(node, 1)]);
}

#[test]
fn a_file_at_the_end_of_all_offsets_can_be_read_there() {
    let size = i64::MAX.unsigned_abs();
    let outcome = read_of(size, size - 10, |request| match request {
        Request::Read { version, extent, .. } => data(*version, usize::try_from(extent.len.0).unwrap()),
        _ => None,
    });
    assert_eq!(outcome.unwrap(), [0; 10][..]);
    // A size that no kernel can have never gets past the decoder.
    let rig = Rig::new(|request| match request {
        Request::Stat(target) if !target.path.is_root() => attr(file(5, u64::MAX)),
        _ => usual(request),
    });
    is_protocol(rig.lookup(NodeId::ROOT, "f"));
    rig.end(&[]);
}

#[test]
fn texts_and_values_are_bounded() {
    let rig = Rig::new(|request| match request {
        Request::Stat(target) if !target.path.is_root() => {
            attr(Attr { kind: FileKind::Symlink, ..file(5, 9) })
        }
        Request::Readlink(_) => Some(
            Reply::Link(match path(request).as_str() {
                "nul" => Bytes::from_static(b"a\0b"),
                "empty" => Bytes::new(),
                "page" => vec![b'x'; 4096].into(),
                "longer" => vec![b'x'; 5000].into(),
                _ => vec![b'x'; 4095].into(),
            })
            .into(),
        ),
        Request::GetXattr { .. } => Some(Reply::Value(vec![0; 65_537].into()).into()),
        Request::ListXattr(_) => Some(Reply::Value(Bytes::from_static(b"user.a")).into()),
        _ => usual(request),
    });
    let node = rig.lookup(NodeId::ROOT, "long").unwrap().node;
    let link = |text: &str| {
        assert_eq!(rig.lookup(NodeId::ROOT, text).unwrap().node, node);
        rig.run(move |vfs| async move { vfs.readlink(node, deadline()).await })
    };
    assert_eq!(link("long").unwrap().len(), 4095);
    assert_eq!(link("page"), Err(VfsError::TooLong));
    for text in ["nul", "empty", "longer"] {
        is_protocol(link(text));
    }
    is_protocol(rig.run(move |vfs| async move { vfs.xattr(node, b"user.a", deadline()).await }));
    is_protocol(rig.run(move |vfs| async move { vfs.xattr_names(node, deadline()).await }));
    rig.end(&[(node, 6)]);
}

#[test]
fn odd_attributes_are_taken_as_they_are() {
    let odd = Attr {
        links: 0,
        uid: u32::MAX,
        gid: u32::MAX,
        rdev: u32::MAX,
        block_bytes: u32::MAX,
        blocks: u64::MAX,
        atime: Timestamp { secs: i64::MIN, nanos: 0 },
        mtime: Timestamp { secs: i64::MAX, nanos: 999_999_999 },
        ctime: Timestamp { secs: i64::MIN, nanos: 1 },
        id: FileId { fs: u64::MAX, inode: u64::MAX, birth: u64::MAX },
        ..file(5, i64::MAX.unsigned_abs())
    };
    let rig = Rig::new(move |request| match request {
        Request::Stat(target) if !target.path.is_root() => attr(odd),
        Request::Statfs(_) => {
            Some(Reply::Statfs(Statfs { blocks_free: u64::MAX, files_free: 7, ..Statfs::default() }).into())
        }
        _ => usual(request),
    });
    let found = rig.lookup(NodeId::ROOT, "f").unwrap();
    assert_eq!(found.attr, odd);
    assert!(found.inode >= 1 << 63, "no number of the kernel's own: {}", found.inode);
    rig.run(|vfs| async move { vfs.refresh_statfs(deadline()).await }).unwrap();
    let state = rig.vfs.statfs(NodeId::ROOT);
    assert_eq!((state.block_bytes, state.blocks_free, state.files_free), (512, 0, 0));
    rig.end(&[(found.node, 1)]);
}

#[test]
fn shares_that_are_no_folders_or_share_a_name_are_left_out() {
    let shares = vec![
        share(1, "a", dir(2)),
        share(2, "a", dir(3)),
        share(1, "b", dir(4)),
        share(5, "file", file(5, 1)),
        share(6, "turns", dir(6)),
    ];
    let host = Host::of_shares(shares, |request| match request {
        Request::Stat(target) if target.share.0 == 6 => attr(file(6, 1)),
        _ => usual(request),
    });
    let made = Timestamp::default();
    let rig = Rig::of(host, |_| MountRoot::Folder { uid: 0, gid: 0, made });
    let root = rig.opendir(NodeId::ROOT).unwrap();
    let cursor = rig.listing(root, 0).unwrap();
    let names: Vec<_> = cursor.page.entries.iter().map(|entry| entry.name.to_string()).collect();
    assert_eq!(names, ["a", "turns"]);
    rig.vfs.releasedir(root);
    let a = rig.lookup(NodeId::ROOT, "a").unwrap();
    assert_eq!(a.attr.id.inode, 2);
    is_protocol(rig.lookup(NodeId::ROOT, "turns"));
    assert_eq!(rig.lookup(NodeId::ROOT, "file"), Err(VfsError::NoSuchName));
    rig.end(&[(a.node, 1)]);
}
