mod model;

use super::{prune::PruneStep, *};
use crate::read::content::tests::{content, version};

const SHARE: ShareId = ShareId(4);

fn file(inode: u64) -> FileId {
    FileId { fs: 7, inode, birth: inode * 1000 }
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn table() -> NodeTable {
    NodeTable::of_share(SHARE, file(2))
}

fn found(id: FileId, kind: FileKind) -> Found {
    Found { id: Some(id), kind }
}

fn look_up(table: &mut NodeTable, parent: NodeId, text: &str, inode: u64) -> NodeRef {
    table.look_up(parent, &name(text), found(file(inode), FileKind::Directory)).unwrap()
}

/// What the indexes hold.
fn files(table: &NodeTable) -> usize {
    table.by_number.len() + table.by_file.len()
}

fn path(table: &NodeTable, node: NodeId) -> String {
    table.place(node).unwrap().0.path.to_string()
}

#[test]
fn a_node_is_numbered_as_on_the_host() {
    let mut table = table();
    assert_eq!(look_up(&mut table, NodeId::ROOT, "a", 77).node, NodeId(77));
    assert_eq!(table.inode(SHARE, &file(77)), Some(77));
    assert_eq!(table.inode(SHARE, &file(78)), Some(78), "one not looked up yet");
}

#[test]
fn a_taken_or_reserved_number_gets_one_of_the_upper_half() {
    let mut table = table();
    look_up(&mut table, NodeId::ROOT, "a", 77);
    let twin = FileId { fs: 8, ..file(77) };
    let found = table.look_up(NodeId::ROOT, &name("b"), found(twin, FileKind::Regular)).unwrap();
    assert!(found.node.0 >= SYNTHETIC_FIRST);
    assert_eq!(table.inode(SHARE, &twin), Some(found.node.0));
    for inode in [0, 1, SYNTHETIC_FIRST + 5, u64::MAX] {
        let found = table
            .look_up(
                NodeId::ROOT,
                &name(&inode.to_string()),
                Found { id: Some(FileId { fs: 9, inode, birth: 1 }), kind: FileKind::Regular },
            )
            .unwrap();
        assert!(found.node.0 > SYNTHETIC_FIRST, "{inode}");
    }
}

#[test]
fn a_node_lives_until_its_last_lookup_is_given_back() {
    let mut table = table();
    let a = look_up(&mut table, NodeId::ROOT, "a", 77);
    assert_eq!(look_up(&mut table, NodeId::ROOT, "a", 77), a);
    table.forget(a.node, 1);
    assert_eq!(table.count(), 2);
    table.forget(a.node, 1);
    assert_eq!(table.count(), 1);
    assert_eq!(table.file(a.node), Err(VfsError::Stale));
}

#[test]
fn a_number_used_again_gets_a_new_generation() {
    let mut table = table();
    let first = look_up(&mut table, NodeId::ROOT, "a", 77);
    table.forget(first.node, 1);
    let second = look_up(&mut table, NodeId::ROOT, "a", 77);
    assert_eq!(first.node, second.node);
    assert_ne!(first.generation, second.generation);
}

#[test]
fn the_root_is_never_forgotten() {
    let mut table = table();
    table.forget(NodeId::ROOT, u64::MAX);
    table.unpin(NodeId::ROOT);
    assert_eq!(path(&table, NodeId::ROOT), "/");
}

#[test]
fn a_parent_stays_for_its_children_and_goes_with_the_last() {
    let mut table = table();
    let a = look_up(&mut table, NodeId::ROOT, "a", 10).node;
    let b = look_up(&mut table, a, "b", 11).node;
    let c = look_up(&mut table, b, "c", 12).node;
    table.forget(a, 1);
    table.forget(b, 1);
    assert_eq!(path(&table, c), "/a/b/c");
    table.forget(c, 1);
    assert_eq!(table.count(), 1);
}

#[test]
fn an_open_handle_keeps_a_forgotten_node() {
    let mut table = table();
    let a = look_up(&mut table, NodeId::ROOT, "a", 10).node;
    table.pin(a).unwrap();
    table.forget(a, 1);
    assert_eq!(path(&table, a), "/a");
    table.unpin(a);
    assert_eq!(table.count(), 1);
}

#[test]
fn a_renamed_directory_takes_its_children_along() {
    let mut table = table();
    let a = look_up(&mut table, NodeId::ROOT, "a", 10).node;
    let x = look_up(&mut table, a, "x", 11).node;
    look_up(&mut table, NodeId::ROOT, "z", 10);
    assert_eq!(path(&table, x), "/z/x");
}

#[test]
fn two_names_of_one_file_are_one_node_at_the_latest() {
    let mut table = table();
    let dir = look_up(&mut table, NodeId::ROOT, "d", 10).node;
    let first = table.look_up(dir, &name("one"), found(file(20), FileKind::Regular)).unwrap();
    let second = table.look_up(NodeId::ROOT, &name("two"), found(file(20), FileKind::Regular)).unwrap();
    assert_eq!(first, second);
    assert_eq!(path(&table, first.node), "/two");
    table.forget(dir, 1);
    table.forget(first.node, 2);
    assert_eq!(table.count(), 1, "the link's old directory is not kept");
}

#[test]
fn a_directory_found_below_itself_is_refused() {
    let mut table = table();
    let a = look_up(&mut table, NodeId::ROOT, "a", 10).node;
    let b = look_up(&mut table, a, "b", 11).node;
    let loops = table.look_up(b, &name("a"), found(file(10), FileKind::Directory));
    assert_eq!(loops, Err(VfsError::Stale));
    table.forget(b, 1);
    table.forget(a, 1);
    assert_eq!(table.count(), 1);
}

#[test]
fn a_lookup_below_a_forgotten_parent_is_stale() {
    let mut table = table();
    let found = table.look_up(NodeId(99), &name("a"), found(file(10), FileKind::Regular));
    assert_eq!(found, Err(VfsError::Stale));
}

#[test]
fn names_the_host_could_not_look_at_are_new_nodes() {
    let mut table = table();
    let first = table.look_up(NodeId::ROOT, &name("a"), Found { id: None, kind: FileKind::Regular }).unwrap();
    let second =
        table.look_up(NodeId::ROOT, &name("a"), Found { id: None, kind: FileKind::Regular }).unwrap();
    assert_ne!(first.node, second.node);
    assert!(first.node.0 >= SYNTHETIC_FIRST);
    assert_eq!(table.file(first.node), Ok((None, FileKind::Regular)));
    table.forget(first.node, 1);
    table.forget(second.node, 1);
    assert_eq!(table.count(), 1);
}

#[test]
fn the_kernels_pages_are_kept_only_for_the_same_settled_version() {
    let mut table = table();
    let node = table.look_up(NodeId::ROOT, &name("a"), found(file(10), FileKind::Regular)).unwrap().node;
    assert_eq!(table.open_pages(node, version(1), true), Ok(Pages::Drop), "there are none yet");
    let mut held = content(version(1), true);
    table.hold(node, &held);
    assert_eq!(table.open_pages(node, version(1), true), Ok(Pages::Keep));
    assert_eq!(table.open_pages(node, version(1), false), Ok(Pages::Drop), "not settled");
    assert_eq!(table.open_pages(node, version(2), true), Ok(Pages::Replaced));
    held = content(version(2), false);
    table.hold(node, &held);
    assert_eq!(table.open_pages(node, version(2), true), Ok(Pages::Drop), "pages of an unsettled open");
    held.suspect();
    held.settle_on(version(3), true);
    assert_eq!(table.open_pages(node, version(3), true), Ok(Pages::Keep), "the contents moved on");
    held.condemn();
    assert_eq!(table.open_pages(node, version(3), true), Ok(Pages::Replaced), "and are stale");
    held = content(version(4), true);
    table.hold(node, &held);
    let other = held.clone();
    table.let_go(node, &held);
    assert!(table.content(node).is_some(), "somebody else holds them");
    drop(other);
    table.let_go(node, &held);
    assert!(table.content(node).is_none());
    drop(held);
    assert_eq!(table.open_pages(node, version(4), true), Ok(Pages::Keep), "forgotten, but the version tells");
}

#[test]
fn paths_are_bounded() {
    let mut table = table();
    let mut at = NodeId::ROOT;
    let long = "n".repeat(255);
    let mut inode = 10;
    let outcome = loop {
        at = look_up(&mut table, at, &long, inode).node;
        inode += 1;
        match table.place(at).map(|(place, _)| place.path) {
            Ok(path) => assert!(path.as_bytes().len() <= limits::PATH_BYTES_MAX),
            Err(error) => break error,
        }
    };
    assert_eq!(outcome, VfsError::TooLong);
    assert_eq!(inode, 10 + 17, "sixteen components of 255 bytes fit");
}

#[test]
fn a_version_told_before_is_known() {
    let mut table = table();
    let node = look_up(&mut table, NodeId::ROOT, "a", 10).node;
    assert!(table.tell(node, &version(1)), "nothing was told before");
    assert!(!table.tell(node, &version(1)));
    assert!(table.tell(node, &version(2)));
    assert!(!table.tell(NodeId(99), &version(2)), "a node that is gone");
}

#[test]
fn a_file_of_another_kind_is_another_file() {
    let mut table = table();
    let first = table.look_up(NodeId::ROOT, &name("a"), found(file(10), FileKind::Regular)).unwrap();
    let second = table.look_up(NodeId::ROOT, &name("a"), found(file(10), FileKind::Directory)).unwrap();
    assert_ne!(first.node, second.node);
    assert_eq!(table.inode(SHARE, &file(10)), Some(second.node.0));
    let below = table.look_up(first.node, &name("b"), found(file(11), FileKind::Regular));
    assert_eq!(below, Err(VfsError::Stale), "nothing is below a file");
    table.forget(first.node, 1);
    assert_eq!(table.inode(SHARE, &file(10)), Some(second.node.0));
    table.forget(second.node, 1);
    assert_eq!((table.count(), files(&table)), (1, 0));
}

#[test]
fn shares_below_the_root_keep_their_files_apart() {
    let mut table = NodeTable::of_folder();
    let share = |table: &mut NodeTable, id, text: &str, inode| {
        table.look_up_share(ShareId(id), &name(text), file(inode)).unwrap().node
    };
    assert_eq!(table.place(NodeId::ROOT), Err(VfsError::Stale), "no share");
    let root = table.look_up(NodeId::ROOT, &name("a"), found(file(9), FileKind::Directory));
    assert_eq!(root, Err(VfsError::Stale), "only shares are in it");
    let (a, b) = (share(&mut table, 1, "a", 20), share(&mut table, 2, "b", 20));
    assert!(a.0 == 20 && b.0 >= SYNTHETIC_FIRST);
    assert_eq!(share(&mut table, 1, "a", 20), a);
    let (x, y) = (look_up(&mut table, a, "x", 30).node, look_up(&mut table, b, "y", 30).node);
    assert_ne!(x, y);
    let place = |table: &NodeTable, node| {
        let (place, name) = table.place(node).unwrap();
        (place.share.0, place.path.to_string(), name.unwrap().to_string())
    };
    assert_eq!(place(&table, x), (1, "/x".to_owned(), "a".to_owned()));
    assert_eq!(place(&table, y), (2, "/y".to_owned(), "b".to_owned()));
    assert_eq!(place(&table, b), (2, "/".to_owned(), "b".to_owned()));
    assert!(table.is_share_root(a) && !table.is_share_root(x) && !table.is_share_root(NodeId::ROOT));
    let again = share(&mut table, 1, "a", 21);
    assert_ne!(again, a, "the share is another folder now");
    assert_eq!(table.share_root_inode(ShareId(1), &name("a"), &file(21)), Some(21));
    for (node, lookups) in [(x, 1), (y, 1), (a, 2), (b, 1), (again, 1)] {
        table.forget(node, lookups);
    }
    assert_eq!((table.count(), files(&table), table.share_roots.len()), (1, 0, 0));
}

/// Directories of ten files each, numbered from 1000 and 10,000.
fn directories(table: &mut NodeTable, count: u64) {
    for dir in 0..count {
        let node = look_up(table, NodeId::ROOT, &format!("d{dir}"), 1000 + dir).node;
        for at in 0..10 {
            let id = file(10_000 + dir * 10 + at);
            table.look_up(node, &name(&format!("f{at}")), found(id, FileKind::Regular)).unwrap();
        }
    }
}

/// What a whole round of the search names.
fn round(table: &mut NodeTable) -> Vec<String> {
    let steps = table.prune_steps();
    let named = (0..steps).flat_map(|_| table.prune_candidates(usize::MAX).named);
    named.map(|(_, name)| name.to_string()).collect()
}

#[test]
fn directories_that_nobody_looks_into_can_go() {
    let mut table = table();
    directories(&mut table, 5);
    assert_eq!(round(&mut table), [""; 0], "all are fresh");
    let deep = look_up(&mut table, NodeId(1003), "deep", 2000).node;
    let deepest = look_up(&mut table, deep, "deepest", 2001).node;
    assert_eq!(round(&mut table), ["d0", "d1", "d2", "d4"], "one is above another that was looked into");
    table.keep(deepest);
    let next = round(&mut table);
    assert_eq!(next, [""; 0], "those named have a round's time, and one has an open file below");
    assert_eq!(table.parent(deep), Ok(NodeId(1003)));
    assert_eq!(round(&mut table), ["d0", "d1", "d2", "d3", "d4", "deep"]);
}

#[test]
fn no_more_is_named_than_has_to_go() {
    let mut table = table();
    directories(&mut table, 100);
    assert_eq!(round(&mut table), [""; 0]);
    let PruneStep { named, below } = table.prune_candidates(25);
    assert_eq!((named.len(), below), (3, 30), "ten nodes are below each");
    assert!(named.iter().all(|(parent, _)| *parent == NodeId::ROOT));
    let next = table.prune_candidates(10).named;
    assert!(next.len() == 1 && !named.contains(&next[0]), "the search goes on where it was");
}

#[test]
fn roots_of_shares_and_empty_directories_stay() {
    let mut table = NodeTable::of_folder();
    let share = table.look_up_share(ShareId(1), &name("a"), file(20)).unwrap().node;
    let dir = look_up(&mut table, share, "dir", 30).node;
    look_up(&mut table, dir, "empty", 31);
    round(&mut table);
    assert_eq!(round(&mut table), ["dir"]);
}
