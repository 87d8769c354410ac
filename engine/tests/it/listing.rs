//! Listings: complete, without repetition, whatever the names.

use std::{collections::BTreeSet, ffi::OsStr, fs, os::unix::ffi::OsStrExt};

use wire::{Entry, ErrorCode, FileKind, Listing, limits::LISTING_BYTES_MAX};

use crate::rig::{Peer, Rig, path};

/// Every entry, page by page; `between` is called after each page.
fn walk(peer: &Peer, at: &str, bytes_max: u32, mut between: impl FnMut()) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut cookie = 0;
    loop {
        let Listing { entries: page, end, .. } = peer.list(at, cookie, bytes_max).unwrap();
        cookie = page.last().map_or(cookie, |entry| entry.cookie);
        assert!(end || !page.is_empty(), "a page without an entry would never end");
        entries.extend(page);
        if end {
            return entries;
        }
        between();
    }
}

fn names(entries: &[Entry]) -> BTreeSet<Vec<u8>> {
    let names: BTreeSet<_> = entries.iter().map(|entry| entry.name.as_bytes().to_vec()).collect();
    assert_eq!(names.len(), entries.len(), "an entry came twice");
    names
}

#[test]
fn a_directory_of_20_000_entries_lists_completely() {
    let rig = Rig::new(|dir| {
        fs::create_dir(dir.join("big")).unwrap();
        for n in 0..20_000 {
            fs::File::create(dir.join(format!("big/entry-{n:05}"))).unwrap();
        }
    });
    let entries = walk(&rig.peer, "big", LISTING_BYTES_MAX, || {});
    let expected: BTreeSet<_> = (0..20_000).map(|n| format!("entry-{n:05}").into_bytes()).collect();
    assert_eq!(names(&entries), expected);
    assert!(entries.iter().all(|entry| entry.kind == Some(FileKind::Regular)));
    for entry in entries.iter().step_by(4_999) {
        let at = format!("big/{}", entry.name);
        assert_eq!(entry.attr.map(|attr| attr.id), Some(rig.peer.stat(&at).id));
    }
    // A tiny page carries one entry at least.
    assert_eq!(rig.peer.list("big", 0, 1).unwrap().entries.len(), 1);
    rig.end();
}

#[test]
fn entries_that_stay_are_listed_once_while_others_come_and_go() {
    let rig = Rig::new(|dir| {
        for n in 0..2_000 {
            fs::File::create(dir.join(format!("stays-{n}"))).unwrap();
            fs::File::create(dir.join(format!("goes-{n}"))).unwrap();
        }
    });
    let mut round = 0;
    let entries = walk(&rig.peer, "", 16 * 1024, || {
        for n in round * 20..(round + 1) * 20 {
            // Past the last one there is nothing left to remove.
            let _ = fs::remove_file(rig.dir.path().join(format!("goes-{n}")));
            fs::File::create(rig.dir.path().join(format!("comes-{n}"))).unwrap();
        }
        round += 1;
    });
    let listed: Vec<_> =
        entries.iter().filter(|entry| entry.name.as_bytes().starts_with(b"stays-")).cloned().collect();
    assert_eq!(names(&listed).len(), 2_000);
    rig.end();
}

#[test]
fn names_are_bytes() {
    let odd: [&[u8]; 4] = [b"not utf-8 \xff\xfe", b"two\nlines", b" ", b"back\\slash"];
    let rig = Rig::new(|dir| {
        for name in odd {
            fs::write(dir.join(OsStr::from_bytes(name)), name).unwrap();
        }
    });
    let entries = walk(&rig.peer, "", LISTING_BYTES_MAX, || {});
    assert_eq!(names(&entries), odd.iter().map(|name| name.to_vec()).collect());
    for entry in &entries {
        let (name, attr) = (entry.name.as_bytes(), entry.attr.unwrap());
        let whole = wire::Extent::new(0, attr.size.0);
        let read = rig.peer.read_version(&path(name), (Some(attr.id), attr.version()), whole);
        assert_eq!(read.unwrap(), name);
    }
    rig.end();
}

#[test]
fn what_cannot_be_listed_is_said() {
    let rig = Rig::new(|dir| {
        fs::write(dir.join("f"), b"x").unwrap();
        fs::create_dir(dir.join("empty")).unwrap();
    });
    assert_eq!(rig.peer.list("f", 0, 1000).unwrap_err(), ErrorCode::NotDirectory);
    assert_eq!(rig.peer.list("absent", 0, 1000).unwrap_err(), ErrorCode::NotFound);
    assert_eq!(rig.peer.list("", u64::MAX, 1000).unwrap_err(), ErrorCode::Invalid);
    let empty = rig.peer.list("empty", 0, 1000).unwrap();
    assert!(empty.end && empty.entries.is_empty());
    assert_eq!(empty.dir.id, rig.peer.stat("empty").id);
    rig.end();
}
