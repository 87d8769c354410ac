//! Files that change on the host between an open and the first read of it.

use wire::{Change, Changes};

use super::*;

#[test]
fn a_handle_that_was_given_nothing_reads_the_file_as_it_is() {
    let rig = Rig::new();
    for (was, is) in [(100, 400_000), (400_000, 400_000)] {
        rig.write("a", &vec![b'1'; was]);
        let node = rig.lookup(NodeId::ROOT, "a").unwrap().node;
        let handle = rig.open(node).unwrap().handle;
        rig.write("a", &vec![b'2'; is]);
        let expected = vec![b'2'; is.min(4096)];
        assert_eq!(rig.read(handle, 0, 4096).unwrap(), expected[..], "of {was} bytes, then {is}");
        rig.vfs.release(handle);
    }
}

#[test]
fn a_handle_whose_file_was_cut_short_is_stale_and_never_shows_less_than_the_kernel_knows_of() {
    let rig = Rig::new();
    rig.write("a", &[b'1'; 6000]);
    let node = rig.lookup(NodeId::ROOT, "a").unwrap().node;
    let first = rig.open(node).unwrap().handle;
    rig.write("a", &[b'1'; 3000]);
    // The kernel would fill up with zeros what is missing in an answer.
    assert_eq!(rig.read(first, 0, 8192), Err(VfsError::Stale));
    let second = rig.open(node).unwrap().handle;
    assert_eq!(rig.read(second, 0, 8192).unwrap(), [b'1'; 3000][..]);
    assert_eq!(rig.read(first, 0, 8192), Err(VfsError::Stale), "for good");
}

#[test]
fn a_file_that_grew_and_was_cut_short_since_its_open_is_stale_too() {
    let rig = Rig::new();
    rig.write("a", b"");
    let node = rig.lookup(NodeId::ROOT, "a").unwrap().node;
    let handle = rig.open(node).unwrap().handle;
    rig.write("a", &[b'1'; 6000]);
    let until = deadline();
    while rig.lookup(NodeId::ROOT, "a").unwrap().attr.size.0 != 6000 {
        assert!(Instant::now() < until, "the kernel is told of the new length"); // clock: the bound of a real wait
    }
    rig.write("a", &[b'1'; 3000]);
    assert_eq!(rig.read(handle, 0, 8192), Err(VfsError::Stale));
}

#[test]
fn what_a_closed_handle_was_given_does_not_bind_one_whose_open_dropped_the_pages() {
    let rig = Rig::new();
    // Of a version that does not tell every change, the next open drops the pages, if it comes before that is settled.
    let until = deadline();
    let second = loop {
        rig.write("a", b"first");
        let node = rig.lookup(NodeId::ROOT, "a").unwrap().node;
        let first = rig.open(node).unwrap().handle;
        let is_settled = rig.vfs.file(first).unwrap().reader.content().is_settled();
        assert_eq!(rig.read(first, 0, 100).unwrap(), b"first"[..]);
        rig.vfs.release(first);
        let second = rig.open(node).unwrap();
        if !is_settled && !second.keep_pages {
            break second;
        }
        rig.vfs.release(second.handle);
        assert!(Instant::now() < until, "each version is settled at once"); // clock: the bound of a real wait
    };
    rig.write("a", b"other");
    // As an answer about it would: memory has the bytes of before.
    rig.vfs.file(second.handle).unwrap().reader.content().suspect();
    assert_eq!(rig.read(second.handle, 0, 100).unwrap(), b"other"[..]);
}

#[test]
fn while_another_handle_is_open_what_it_was_given_binds_all() {
    let rig = Rig::new();
    rig.write("a", b"first");
    let node = rig.lookup(NodeId::ROOT, "a").unwrap().node;
    let first = rig.open(node).unwrap().handle;
    assert_eq!(rig.read(first, 0, 100).unwrap(), b"first"[..]);
    let second = rig.open(node).unwrap().handle;
    rig.write("a", b"other, longer");
    rig.vfs.file(second).unwrap().reader.content().suspect();
    // They share the kernel's pages.
    assert_eq!(rig.read(second, 0, 100), Err(VfsError::Stale));
    assert_eq!(rig.read(first, 0, 100), Err(VfsError::Stale));
}

#[test]
fn an_open_of_what_changed_lately_asks_the_host_in_spite_of_a_lease() {
    let rig = Rig::new();
    rig.write("a", b"first");
    rig.write("b", b"other");
    let node = rig.lookup(NodeId::ROOT, "a").unwrap().node;
    let other = rig.lookup(NodeId::ROOT, "b").unwrap().node;
    let from_memory = |node| {
        let opened = rig.vfs.open_cached(node, open::KernelPages::Used);
        opened.map(|(opened, _)| rig.vfs.release(opened.handle)).is_some()
    };
    let until = deadline();
    while !from_memory(node) || !from_memory(other) {
        for name in ["a", "b"] {
            let found = rig.lookup(NodeId::ROOT, name).unwrap().node;
            rig.vfs.forget(found, 1);
        }
        // A change that the test made is pushed once, and holds opens up for a while.
        rig.vfs.0.state.lock().folders.forget_changes(NodeId::ROOT);
        assert!(Instant::now() < until, "no open comes from memory"); // clock: the bound of a real wait
    }
    let change = Change { name: Name::new(b"a").unwrap(), what: Changes::CONTENT, linked: None };
    rig.vfs.0.state.lock().folders.note_changes(NodeId::ROOT, &[change], Instant::now()); // clock: when it came
    assert!(!from_memory(node));
    assert!(from_memory(other));
}

#[test]
fn no_open_keeps_pages_that_another_one_has_just_told_the_kernel_to_drop() {
    let rig = Rig::new();
    rig.write("a", b"first");
    rig.settle("a");
    let node = rig.lookup(NodeId::ROOT, "a").unwrap().node;
    let first = rig.open(node).unwrap();
    assert!(!first.keep_pages, "there may be any");
    let second = rig.open(node).unwrap();
    assert!(!second.keep_pages, "the answer to it may come before that to the first");
    // The kernel reads by the first: it has the answer, and dropped what there was.
    assert_eq!(rig.read(first.handle, 0, 100).unwrap(), b"first"[..]);
    rig.vfs.release(second.handle);
    assert!(rig.open(node).unwrap().keep_pages);
}
