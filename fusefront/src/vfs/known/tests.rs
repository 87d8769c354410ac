use proptest::prelude::*;
use wire::{
    ByteLen, Timestamp,
    cursor::{Reader, Writer},
};

use super::*;

fn attr(inode: u64) -> Attr {
    let time = Timestamp::default();
    Attr {
        id: file(inode),
        kind: FileKind::Regular,
        perm: 0o644,
        links: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        block_bytes: 4096,
        size: ByteLen(1),
        blocks: 0,
        atime: time,
        mtime: time,
        ctime: time,
        settled: true,
    }
}

fn file(inode: u64) -> FileId {
    FileId { fs: 1, inode, birth: 3 }
}

fn folder(inode: u64) -> Folder {
    (ShareId(0), file(inode))
}

fn own(inode: u64) -> Attr {
    Attr { kind: FileKind::Directory, ..attr(inode) }
}

fn page(start: u64, numbers: &[u64], end: bool) -> Page {
    let entry = |&number: &u64| Entry {
        name: Name::new(format!("n{number}").as_bytes()).unwrap(),
        cookie: number,
        kind: None,
        attr: Some(attr(100 + number)),
    };
    Page { start, entries: numbers.iter().map(entry).collect(), end }
}

fn listed(known: &mut LastKnown, folder: Folder) -> Option<Vec<String>> {
    let (_, page) = known.listing(folder)?;
    page.check().unwrap();
    Some(page.entries.iter().map(|entry| entry.name.to_string()).collect())
}

/// Through a snapshot.
fn reread(known: &LastKnown) -> LastKnown {
    let (mut bytes, mut parts) = (Vec::new(), known.parts());
    loop {
        let mut out = Writer::new();
        let more = known.write(&mut parts, &mut out);
        bytes.extend(out.into_bytes());
        if !more {
            break;
        }
    }
    let mut again = LastKnown::new(known.bytes_max);
    let mut reader = Reader::new(&bytes);
    again.read(&mut reader).unwrap();
    reader.finish().unwrap();
    again
}

#[test]
fn names_are_known_until_the_host_says_that_they_are_gone() {
    let mut known = LastKnown::new(KNOWN_BYTES_MAX);
    known.note(folder(2), b"a", attr(7));
    assert_eq!(known.find(folder(2), b"a"), Some(attr(7)));
    assert_eq!(known.find(folder(3), b"a"), None, "another directory");
    assert_eq!(known.find((ShareId(1), file(2)), b"a"), None, "through another share");
    known.renew(folder(2), b"a", attr(8));
    assert_eq!(known.find(folder(2), b"a"), Some(attr(7)), "another file");
    known.note(folder(2), b"a", attr(8));
    assert_eq!(known.find(folder(2), b"a"), Some(attr(8)));
    known.forget(folder(2), b"a");
    assert_eq!(known.find(folder(2), b"a"), None);
}

#[test]
fn only_a_pass_that_came_to_its_end_is_a_listing() {
    let mut known = LastKnown::new(KNOWN_BYTES_MAX);
    known.note(folder(2), b"gone", attr(7));
    known.note_page(folder(2), own(2), &page(0, &[1, 2], false));
    assert_eq!(listed(&mut known, folder(2)), None);
    known.note_page(folder(2), own(2), &page(9, &[10], true));
    assert_eq!(listed(&mut known, folder(2)), None, "a page was left out");
    known.note_page(folder(2), own(2), &page(2, &[3], true));
    // The host told of the page's names all the same.
    assert_eq!(listed(&mut known, folder(2)).unwrap(), ["n1", "n10", "n2", "n3"]);
    known.forget(folder(2), b"n10");
    assert_eq!(known.find(folder(2), b"gone"), None, "the pass did not meet it");
    known.note(folder(2), b"new", attr(8));
    known.forget(folder(2), b"n2");
    assert_eq!(listed(&mut known, folder(2)).unwrap(), ["n1", "n3", "new"]);
    let again = &mut reread(&known);
    assert_eq!(listed(again, folder(2)).unwrap(), ["n1", "n3", "new"]);
    again.note_page(folder(2), own(2), &page(0, &[1], true));
    assert_eq!(listed(again, folder(2)).unwrap(), ["n1"], "marks of another life count for nothing");
}

#[test]
fn marks_of_many_passes_do_not_meet() {
    let mut known = LastKnown::new(KNOWN_BYTES_MAX);
    known.note_page(folder(2), own(2), &page(0, &[1, 2], false));
    for _ in 0..600 {
        known.note_page(folder(2), own(2), &page(0, &[1], false));
    }
    known.note_page(folder(2), own(2), &page(1, &[3], true));
    assert_eq!(listed(&mut known, folder(2)).unwrap(), ["n1", "n3"]);
}

#[test]
fn what_is_beside_the_attributes_is_of_one_file() {
    let mut known = LastKnown::new(KNOWN_BYTES_MAX);
    let place = (folder(2), &b"a"[..]);
    known.note_extra(place, file(7), Extra::Link, b"to");
    assert_eq!(known.extra(place, file(7), Extra::Link), None, "of an unknown file");
    known.note(folder(2), b"a", attr(7));
    known.note_extra(place, file(7), Extra::Link, b"to");
    assert_eq!(known.extra(place, file(7), Extra::Link), Some(&b"to"[..]));
    assert_eq!(known.extra(place, file(8), Extra::Link), None);
    assert_eq!(reread(&known).extra(place, file(7), Extra::Link), Some(&b"to"[..]));
    known.note(folder(2), b"a", attr(8));
    assert_eq!(known.extra(place, file(8), Extra::Link), None, "another file has the name");
}

#[test]
fn the_folder_used_longest_ago_goes_first() {
    let mut known = LastKnown::new(64 << 10);
    for inode in 2..400 {
        for number in 0..10 {
            known.note(folder(inode), format!("n{number}").as_bytes(), attr(number));
            assert!(known.bytes <= 64 << 10);
        }
        known.note(folder(1), b"kept", attr(9));
    }
    assert!(known.find(folder(399), b"n9").is_some());
    assert!(known.find(folder(1), b"kept").is_some(), "it is used all the time");
    assert!(known.find(folder(2), b"n0").is_none());
    assert_eq!(known.folders.len(), known.by_use.len());
    let half = LastKnown { bytes_max: 32 << 10, ..reread(&known) };
    let half = reread(&half);
    assert!(half.bytes <= 32 << 10 && half.find(folder(399), b"n9").is_some());
    assert!(half.names() < known.names());
}

#[test]
fn a_folder_too_large_to_keep_is_not_listed() {
    let mut known = LastKnown::new(16 << 10);
    let numbers: Vec<u64> = (1..500).collect();
    known.note_page(folder(2), own(2), &page(0, &numbers, true));
    assert_eq!(listed(&mut known, folder(2)), None);
    assert!(known.bytes <= 16 << 10);
    known.note_page(folder(2), own(2), &page(0, &[1, 2], true));
    assert_eq!(listed(&mut known, folder(2)).unwrap(), ["n1", "n2"]);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let mut known = LastKnown::new(1 << 20);
        if known.read(&mut Reader::new(&bytes)).is_err() {
            prop_assert_eq!(known.names(), 0);
        }
    }
}

#[test]
fn folders_above_stay_for_as_long_as_one_below_does() {
    let mut known = LastKnown::new(64 << 10);
    known.note(folder(1), b"top", own(2));
    for below in 10..200 {
        known.note(folder(2), format!("d{below}").as_bytes(), own(below));
        for number in 0..8 {
            known.note(folder(below), format!("n{number}").as_bytes(), attr(1000 + number));
        }
    }
    assert!(known.find(folder(10), b"n0").is_none(), "there was no room for all");
    assert!(known.find(folder(199), b"n7").is_some());
    assert!(known.find(folder(2), b"d199").is_some());
    assert_eq!(known.find(folder(1), b"top").map(|attr| attr.id), Some(file(2)));
}
