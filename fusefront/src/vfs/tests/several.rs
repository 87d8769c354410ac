//! A mount of several shares: each is a folder of the root.

use wire::Timestamp;

use super::*;

const MADE: Timestamp = Timestamp { secs: 1_700_000_000, nanos: 5 };

/// Shares of folders in one folder, mounted as folders.
fn rig(shares: &[(&str, &str)]) -> Rig {
    Rig::of(shares, |_| MountRoot::Folder { uid: 7, gid: 8, made: MADE })
}

fn attr(rig: &Rig, node: NodeId) -> Result<NodeAttr, VfsError> {
    rig.run(move |vfs| async move { vfs.attr(node, By::Name, deadline()).await })
}

fn listed(rig: &Rig) -> Vec<String> {
    let dir = rig.opendir(NodeId::ROOT);
    let names = rig.names(dir, 0, 1).into_iter().map(|(name, _)| name).collect();
    rig.vfs.releasedir(dir);
    names
}

fn whole(rig: &Rig, node: NodeId) -> Bytes {
    let handle = rig.open(node).unwrap().handle;
    let bytes = rig.read(handle, 0, 1 << 20).unwrap();
    rig.vfs.release(handle);
    bytes
}

#[test]
fn the_root_is_a_folder_of_the_mount_with_one_for_each_share() {
    let rig = rig(&[("films", "a"), ("stills", "b")]);
    rig.write("a/one", b"1");
    rig.write("b/two", b"22");
    let root = attr(&rig, NodeId::ROOT).unwrap();
    assert_eq!((root.inode, root.attr.perm, root.attr.links), (1, 0o555, 4));
    assert_eq!((root.attr.uid, root.attr.gid, root.attr.mtime), (7, 8, MADE));
    assert_eq!(listed(&rig), ["films", "stills"]);
    let films = rig.lookup(NodeId::ROOT, "films").unwrap();
    assert_eq!(films.inode, inode(&rig.path("a")));
    assert_eq!(films.attr.links, 2);
    assert_eq!(rig.lookup(NodeId::ROOT, "films").unwrap().node, films.node);
    let one = rig.lookup(films.node, "one").unwrap();
    assert_eq!(whole(&rig, one.node), b"1"[..]);
    assert!(rig.lookup(films.node, "two").is_err(), "of the other share");
    let stills = rig.lookup(NodeId::ROOT, "stills").unwrap();
    assert_eq!(whole(&rig, rig.lookup(stills.node, "two").unwrap().node), b"22"[..]);
    assert_eq!(rig.lookup(NodeId::ROOT, "absent"), Err(VfsError::NoSuchName));
    assert_eq!(rig.open(NodeId::ROOT).unwrap_err(), VfsError::IsDirectory);
    assert_eq!(rig.open(films.node).unwrap_err(), VfsError::IsDirectory);
    let value = rig.run(|vfs| async move { vfs.xattr(NodeId::ROOT, b"user.a", deadline()).await });
    assert_eq!(value, Err(xattr::absent()));
    let names = rig.run(|vfs| async move { vfs.xattr_names(NodeId::ROOT, deadline()).await });
    assert_eq!(names, Ok(Bytes::new()));
}

#[test]
fn a_listing_counts_shares_as_looked_up_and_goes_on_where_it_was() {
    let rig = rig(&[("films", "a"), ("stills", "b"), ("tapes", "c")]);
    let dir = rig.opendir(NodeId::ROOT);
    let cursor = rig.cursor(dir, 0);
    let names: Vec<_> = cursor.page.entries.iter().map(|entry| entry.name.to_string()).collect();
    assert_eq!(names, ["films", "stills", "tapes"]);
    let entry = cursor.page.entries[1].clone();
    assert_eq!(rig.vfs.list_plain(dir, &entry), (inode(&rig.path("b")), FileKind::Directory));
    let Listed::Known(known) = rig.vfs.list(dir, &entry).unwrap() else { panic!("the host looked") };
    let found = rig.lookup(NodeId::ROOT, "stills").unwrap();
    assert_eq!((known.node, known.inode, known.attr.id), (found.node, found.inode, found.attr.id));
    assert_eq!(rig.vfs.list_plain(dir, &entry).0, known.inode);
    rig.vfs.forget(known.node, 2);
    assert_eq!(rig.vfs.held().nodes, 1);
    let dots = rig.vfs.dots(dir).unwrap();
    assert_eq!((dots.dot, dots.dot_dot), (1, 1));
    let rest = rig.names(dir, offset_of(entry.cookie), 1);
    assert_eq!(rest.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["tapes"]);
    rig.vfs.releasedir(dir);
    let films = rig.lookup(NodeId::ROOT, "films").unwrap();
    let dir = rig.opendir(films.node);
    assert_eq!(rig.vfs.dots(dir).unwrap(), listing::Dots { dot: films.inode, dot_dot: 1 });
    rig.vfs.releasedir(dir);
}

#[test]
fn a_folder_that_two_shares_hold_is_a_node_in_each() {
    let rig = rig(&[("all", ""), ("again", ""), ("part", "sub")]);
    rig.write("sub/file", b"bytes");
    let share = |name| rig.lookup(NodeId::ROOT, name).unwrap().node;
    let (all, again, part) = (share("all"), share("again"), share("part"));
    let inside = |parent| rig.lookup(parent, "sub").unwrap();
    let (first, second) = (inside(all), inside(again));
    assert_eq!(first.attr.id.inode, second.attr.id.inode);
    let files: Vec<_> =
        [first.node, second.node, part].map(|dir| rig.lookup(dir, "file").unwrap()).into_iter().collect();
    let mut numbers: Vec<_> = files
        .iter()
        .chain([&first, &second])
        .map(|found| found.inode)
        .chain([all.0, again.0, part.0])
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 8, "each has a number of its own");
    for file in &files {
        assert_eq!(whole(&rig, file.node), b"bytes"[..]);
    }
    // What happens under one does not move the others.
    fs::rename(rig.path("sub/file"), rig.path("sub/moved")).unwrap();
    let moved = rig.lookup(second.node, "moved").unwrap();
    assert_eq!(moved.node, files[1].node);
    assert_eq!(attr(&rig, files[1].node).unwrap().node, moved.node);
    assert_eq!(attr(&rig, files[0].node), Err(VfsError::Stale), "its name leads nowhere now");
    assert_eq!(whole(&rig, moved.node), b"bytes"[..]);
    for (node, lookups) in
        [(all, 1), (again, 1), (part, 1), (first.node, 1), (second.node, 1), (moved.node, 2)]
    {
        rig.vfs.forget(node, lookups);
    }
    for file in [&files[0], &files[2]] {
        rig.vfs.forget(file.node, 1);
    }
    assert_eq!(rig.vfs.held().nodes, 1);
}

/// Until the mount has a session with the host as it is now.
fn reconnected(rig: &Rig, before: u64) {
    let until = deadline();
    while rig.vfs.0.client.stats().reconnects == before {
        assert!(Instant::now() < until, "the session comes back"); // clock: the bound of a real wait
        std::thread::yield_now();
    }
}

#[test]
fn shares_come_and_go_with_the_host() {
    let mut rig = rig(&[("films", "a"), ("stills", "b")]);
    rig.write("a/one", b"1");
    rig.write("b/two", b"22");
    let films = rig.lookup(NodeId::ROOT, "films").unwrap().node;
    let stills = rig.lookup(NodeId::ROOT, "stills").unwrap().node;
    let one = rig.lookup(films, "one").unwrap().node;
    let two = rig.lookup(stills, "two").unwrap().node;
    let handle = rig.open(one).unwrap().handle;
    rig.restart_host(&[("tapes", "c"), ("stills", "b")]);
    reconnected(&rig, 0);
    let mut names = listed(&rig);
    names.sort();
    assert_eq!(names, ["stills", "tapes"]);
    assert_eq!(rig.lookup(NodeId::ROOT, "films"), Err(VfsError::NoSuchName), "as the host said");
    assert_eq!(attr(&rig, films), Err(VfsError::Stale));
    assert_eq!(attr(&rig, one), Err(VfsError::Stale));
    assert_eq!(rig.lookup(films, "one"), Err(VfsError::Stale));
    assert_eq!(rig.read(handle, 0, 1), Err(VfsError::Stale));
    assert_eq!(whole(&rig, two), b"22"[..], "the other share goes on, under another number on the host");
    assert!(rig.lookup(NodeId::ROOT, "tapes").is_ok());
    assert_eq!(attr(&rig, NodeId::ROOT).unwrap().attr.links, 4);
    rig.restart_host(&[("stills", "b"), ("films", "c")]);
    reconnected(&rig, 1);
    assert_ne!(rig.lookup(NodeId::ROOT, "films").unwrap().node, films, "the name leads to another folder");
    assert_eq!(attr(&rig, films), Err(VfsError::Stale));
    rig.vfs.release(handle);
}

#[test]
fn without_a_host_the_root_and_the_shares_are_still_shown() {
    let mut rig = rig(&[("films", "a"), ("stills", "b")]);
    rig.run(|vfs| async move { vfs.refresh_statfs(deadline()).await }).unwrap();
    let films = rig.lookup(NodeId::ROOT, "films").unwrap();
    rig.host.take().unwrap().stop().unwrap();
    assert_eq!(attr(&rig, NodeId::ROOT).unwrap().attr.links, 4);
    assert_eq!(listed(&rig), ["films", "stills"]);
    assert_eq!(rig.lookup(NodeId::ROOT, "films").unwrap().node, films.node);
    assert_eq!(attr(&rig, films.node).unwrap().inode, films.inode);
    assert_eq!(rig.lookup(NodeId::ROOT, "absent"), Err(VfsError::NoSuchName));
    let (root, share) = (rig.vfs.statfs(NodeId::ROOT), rig.vfs.statfs(films.node));
    assert!(root.blocks > 0 && share.blocks > 0);
    let bytes = |of: Statfs| of.blocks * u64::from(of.block_bytes);
    assert_eq!(bytes(root), bytes(share), "both shares are on one file system");
    let soon = Instant::now() + Duration::from_millis(300); // clock: the deadline under test
    let gone = rig.run(move |vfs| async move { vfs.lookup(films.node, b"a", soon).await }).unwrap_err();
    assert!(matches!(gone, VfsError::Lost { .. } | VfsError::Deadline), "{gone:?}");
}
