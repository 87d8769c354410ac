//! Files: bytes, versions, kinds, attributes.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink},
    sync::mpsc,
    thread,
};

use wire::{
    ByteLen, CHUNK_BYTES, Class, ErrorCode, Extent, FileKind, Reply, Request, Version, chunk::ContentHash,
    fingerprint::Fingerprint,
};

use crate::rig::{Peer, Rig, code, path, pattern};

#[test]
fn files_of_every_edge_length_read_equal() {
    const CHUNK: usize = 128 * 1024;
    assert_eq!(CHUNK as u64, CHUNK_BYTES);
    let lengths = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, (1 << 20) + 1, (5 << 20) + 12_345];
    let rig = Rig::new(|dir| {
        for len in lengths {
            fs::write(dir.join(len.to_string()), pattern(len, len as u64)).unwrap();
        }
    });
    for len in lengths {
        let read = rig.peer.read_all(&len.to_string()).unwrap();
        assert!(read == pattern(len, len as u64), "{len} bytes");
    }
    // Odd extents, so that each slot class is used.
    let (len, bytes) = (lengths[6], pattern(lengths[6], lengths[6] as u64));
    let attr = rig.peer.stat(&len.to_string());
    for (start, len) in [(1, 4096), (4095, 4097), (77_777, 16_384), (1 << 20, 131_073), (5 << 20, 12_345)] {
        let read = rig.peer.read("5255225", &attr, Extent::new(start as u64, len as u64)).unwrap();
        assert!(read == bytes[start..start + len], "{len} bytes at {start}");
    }
    let beyond = rig.peer.read("5255225", &attr, Extent::new(len as u64 - 1, 2));
    assert_eq!(beyond, Err(ErrorCode::Invalid));
    rig.end();
}

#[test]
fn a_rewritten_file_is_stale_and_then_new() {
    let rig = Rig::new(|dir| fs::write(dir.join("f"), b"first").unwrap());
    let old = rig.peer.stat("f");
    assert_eq!(rig.peer.read("f", &old, Extent::new(0, 5)).unwrap(), b"first");
    fs::write(rig.dir.path().join("f"), b"second").unwrap();
    assert_eq!(rig.peer.read("f", &old, Extent::new(0, 5)), Err(ErrorCode::Stale));
    let new = rig.peer.stat("f");
    assert_eq!(new.id, old.id);
    assert_eq!(rig.peer.read("f", &new, Extent::new(0, 6)).unwrap(), b"second");
    // Shorter than the version says.
    OpenOptions::new().write(true).open(rig.dir.path().join("f")).unwrap().set_len(2).unwrap();
    assert_eq!(rig.peer.read("f", &new, Extent::new(0, 6)), Err(ErrorCode::Stale));
    rig.end();
}

#[test]
fn a_file_rewritten_during_reads_is_one_version_or_an_error() {
    const LEN: usize = 1 << 20;
    const ROUNDS: usize = 10;
    let rig = Rig::new(|dir| fs::write(dir.join("f"), vec![0; LEN]).unwrap());
    let file = OpenOptions::new().write(true).open(rig.dir.path().join("f")).unwrap();
    let (go_on, asked) = mpsc::sync_channel::<()>(0);
    let writer = thread::spawn(move || {
        for round in (1u8..).zip(asked.iter()).map(|(round, ())| round) {
            // In two halves, so that a mixture would show.
            file.write_all_at(&vec![round; LEN / 2], 0).unwrap();
            file.write_all_at(&vec![round; LEN / 2], (LEN / 2) as u64).unwrap();
        }
    });
    for _ in 0..ROUNDS {
        let settled = loop {
            let attr = rig.peer.stat("f");
            if attr.settled {
                break attr;
            }
        };
        let read = || rig.peer.read("f", &settled, Extent::new(0, LEN as u64));
        let before = read().unwrap();
        assert!(before.iter().all(|&b| b == before[0]));
        go_on.send(()).unwrap();
        // The writer is at it: each answer is the old bytes, all of them, until it is none any more.
        let end = loop {
            match read() {
                Ok(bytes) => assert!(bytes == before, "a mixture of two versions"),
                Err(error) => break error,
            }
        };
        assert_eq!(end, ErrorCode::Stale);
    }
    drop(go_on);
    writer.join().unwrap();
    rig.end();
}

#[test]
fn a_file_replaced_by_rename_is_another_file_and_the_open_one_stays() {
    let rig = Rig::new(|dir| fs::write(dir.join("f"), b"old bytes").unwrap());
    let old = rig.peer.stat("f");
    assert_eq!(rig.peer.read("f", &old, Extent::new(0, 9)).unwrap(), b"old bytes");
    fs::write(rig.dir.path().join("new"), b"new bytes").unwrap();
    fs::rename(rig.dir.path().join("new"), rig.dir.path().join("f")).unwrap();
    let new = rig.peer.stat("f");
    assert_ne!(new.id, old.id);
    assert_eq!(rig.peer.read("f", &new, Extent::new(0, 9)).unwrap(), b"new bytes");
    // The rename took a name from the old file, which moved its ctime: the same file in another version.
    assert_eq!(rig.peer.read("f", &old, Extent::new(0, 9)), Err(ErrorCode::Stale));
    let kept = rig.peer.try_stat("f", Some(old.id)).unwrap();
    assert_eq!((kept.id, kept.links), (old.id, 0));
    assert_eq!(rig.peer.read("f", &kept, Extent::new(0, 9)).unwrap(), b"old bytes");
    fs::remove_file(rig.dir.path().join("f")).unwrap();
    assert_eq!(rig.peer.try_stat("f", None), Err(ErrorCode::NotFound));
    assert_eq!(rig.peer.try_stat("f", Some(old.id)).unwrap().id, old.id);
    // A file that nobody has open is found by its path alone.
    fs::write(rig.dir.path().join("g"), b"x").unwrap();
    let shut = rig.peer.stat("g");
    fs::remove_file(rig.dir.path().join("g")).unwrap();
    assert_eq!(rig.peer.try_stat("g", Some(shut.id)), Err(ErrorCode::NotFound));
    fs::write(rig.dir.path().join("h"), b"x").unwrap();
    assert_eq!(rig.peer.try_stat("h", Some(old.id)).unwrap().id, old.id);
    assert_eq!(rig.peer.try_stat("h", Some(shut.id)), Err(ErrorCode::Stale));
    rig.end();
}

#[test]
fn a_symlink_in_the_path_is_refused_and_at_its_end_is_read() {
    let rig = Rig::new(|dir| {
        fs::create_dir(dir.join("sub")).unwrap();
        fs::write(dir.join("sub/f"), b"x").unwrap();
        symlink("sub", dir.join("in")).unwrap();
        symlink("/etc", dir.join("out")).unwrap();
    });
    assert_eq!(rig.peer.try_stat("in/f", None), Err(ErrorCode::Loop));
    assert_eq!(rig.peer.try_stat("out/passwd", None), Err(ErrorCode::Loop));
    assert_eq!(rig.peer.try_stat("sub/f/x", None), Err(ErrorCode::NotDirectory));
    let link = rig.peer.stat("out");
    assert_eq!((link.kind, link.size.0), (FileKind::Symlink, 4));
    let Ok(Reply::Link(target)) = rig.peer.call(Request::Readlink(rig.peer.target(&path("out"), None)))
    else {
        panic!("no link");
    };
    assert_eq!(&target[..], b"/etc");
    let no_link = rig.peer.call(Request::Readlink(rig.peer.target(&path("sub/f"), None)));
    assert_eq!(code(no_link), ErrorCode::Invalid);
    assert_eq!(rig.peer.read("out", &link, Extent::new(0, 4)), Err(ErrorCode::NotRegular));
    rig.end();
}

#[test]
fn only_regular_files_are_opened() {
    let rig = Rig::new(|dir| {
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.join("fifo"), 0o600.into()).unwrap();
        fs::create_dir(dir.join("sub")).unwrap();
    });
    let fifo = rig.peer.stat("fifo");
    assert_eq!(fifo.kind, FileKind::Fifo);
    // An open would wait for a writer for ever.
    let version = Version { size: ByteLen(1), ..fifo.version() };
    let read = rig.peer.read_version(&path("fifo"), (Some(fifo.id), version), Extent::new(0, 1));
    assert_eq!(read, Err(ErrorCode::NotRegular));
    let sub = rig.peer.stat("sub");
    assert_eq!(rig.peer.read("sub", &sub, Extent::new(0, 1)), Err(ErrorCode::IsDirectory));
    rig.end();
}

#[test]
fn attributes_equal_those_of_the_host() {
    let rig = Rig::new(|dir| {
        fs::write(dir.join("f"), pattern(10_000, 1)).unwrap();
        fs::set_permissions(dir.join("f"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::hard_link(dir.join("f"), dir.join("g")).unwrap();
    });
    let (attr, meta) = (rig.peer.stat("f"), fs::metadata(rig.dir.path().join("f")).unwrap());
    assert_eq!(attr.id.inode, meta.ino());
    assert!(attr.id.is_persistent(), "the test folder's file system keeps birth times");
    assert_eq!((attr.perm, attr.links), (0o4751, 2));
    assert_eq!(
        (attr.uid, attr.gid, attr.size.0, attr.blocks),
        (meta.uid(), meta.gid(), meta.size(), meta.blocks())
    );
    assert_eq!((attr.mtime.secs, i64::from(attr.mtime.nanos)), (meta.mtime(), meta.mtime_nsec()));
    assert_eq!((attr.ctime.secs, i64::from(attr.ctime.nanos)), (meta.ctime(), meta.ctime_nsec()));
    assert_eq!(rig.peer.stat("g").id, attr.id, "two names of one file");
    assert_eq!(rig.peer.stat("").id, rig.peer.root().id);
    assert_eq!(rig.peer.stat("").id.fs, attr.id.fs);
    rig.end();
}

#[test]
fn a_sparse_file_of_1_5_tb_reads_right_at_both_ends() {
    const SIZE: u64 = 1_500_000_000_000;
    let rig = Rig::new(|dir| {
        let mut file = fs::File::create(dir.join("huge")).unwrap();
        file.write_all(b"the start").unwrap();
        file.set_len(SIZE).unwrap();
        file.write_all_at(b"the end", SIZE - 7).unwrap();
    });
    let attr = rig.peer.stat("huge");
    assert_eq!(attr.size.0, SIZE);
    assert_eq!(rig.peer.read("huge", &attr, Extent::new(0, 10)).unwrap(), b"the start\0");
    let end = rig.peer.read("huge", &attr, Extent::new(SIZE - (1 << 20), 1 << 20)).unwrap();
    assert!(end.ends_with(b"\0the end"));
    assert!(end[..(1 << 20) - 7].iter().all(|&b| b == 0));
    rig.end();
}

#[test]
fn what_is_not_in_the_page_cache_comes_through_the_ring() {
    let bytes = pattern(3 << 20, 9);
    let rig = Rig::new(|dir| fs::write(dir.join("f"), &bytes).unwrap());
    let file = fs::File::open(rig.dir.path().join("f")).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    assert!(rig.peer.read_all("f").unwrap() == bytes);
    rig.end();
}

#[test]
fn verify_tells_which_ranges_still_hold() {
    let rig = Rig::new(|dir| fs::write(dir.join("f"), pattern(300_000, 3)).unwrap());
    let bytes = pattern(300_000, 3);
    let of = |range: std::ops::Range<usize>| Fingerprint::of(&bytes[range]);
    let ranges = vec![
        (Extent::new(0, 131_072), of(0..131_072)),
        (Extent::new(131_072, 131_072), of(0..131_072)),
        (Extent::new(262_144, 37_856), of(262_144..300_000)),
        (Extent::new(262_144, 37_857), of(262_144..300_000)),
        (Extent::new(0, 300_000), Fingerprint::Blake3(ContentHash::of(&bytes))),
        (Extent::new(1, 299_999), Fingerprint::Blake3(ContentHash::of(&bytes))),
        (Extent::new(10, 0), of(10..10)),
    ];
    let verify = |ranges| Request::Verify { target: rig.peer.target(&path("f"), None), ranges };
    let Ok(Reply::Verified { attr, equal }) = rig.peer.call(verify(ranges)) else { panic!("not verified") };
    assert_eq!(equal, [true, false, true, false, true, false, true]);
    assert_eq!(attr.version(), rig.peer.stat("f").version());
    let too_long = rig.peer.call(verify(vec![(Extent::new(0, (1 << 20) + 1), of(0..1))]));
    assert_eq!(code(too_long), ErrorCode::Invalid);
    rig.end();
}

#[test]
fn a_large_verification_holds_up_nobodys_reads() {
    const RANGES: u64 = 640;
    let rig = Rig::new(|dir| {
        fs::File::create(dir.join("large")).unwrap().set_len(RANGES << 20).unwrap();
        fs::write(dir.join("f"), pattern(1 << 20, 3)).unwrap();
    });
    let other = Peer::connect(rig.host.ticket()).unwrap();
    let ranges = (0..RANGES).map(|n| (Extent::new(n << 20, 1 << 20), Fingerprint::Xxh3(0))).collect();
    let verify = Request::Verify { target: rig.peer.target(&path("large"), None), ranges };
    // Several: the host hashes for a second or so.
    let verified = rig.peer.call_all((0..4).map(|_| (verify.clone(), Class::Metadata)));
    // By then they are there.
    rig.peer.stat("f");
    for peer in [&rig.peer, &other] {
        let attr = peer.stat("f");
        assert_eq!(peer.read("f", &attr, Extent::new(0, 1 << 20)).unwrap(), pattern(1 << 20, 3));
        assert_eq!(verified.under_way(), 4, "the read waited for none of them");
    }
    for reply in verified.wait() {
        let Ok(Reply::Verified { equal, .. }) = reply else { panic!("not verified: {reply:?}") };
        assert_eq!(equal, vec![false; usize::try_from(RANGES).unwrap()]);
    }
    other.close();
    rig.end();
}

#[test]
fn extended_attributes_and_the_file_systems_state() {
    let rig = Rig::new(|dir| fs::write(dir.join("f"), b"x").unwrap());
    let f = rig.dir.path().join("f");
    let value = |name: &[u8]| {
        let request = Request::GetXattr { target: rig.peer.target(&path("f"), None), name: name.to_vec() };
        match rig.peer.call(request) {
            Ok(Reply::Value(value)) => Ok(value),
            other => Err(code(other)),
        }
    };
    rustix::fs::setxattr(&f, "user.note", b"of the file", rustix::fs::XattrFlags::empty()).unwrap();
    assert_eq!(value(b"user.note").unwrap(), &b"of the file"[..]);
    assert_eq!(value(b"user.other"), Err(ErrorCode::NoAttribute));
    assert_eq!(value(b"user.\0x"), Err(ErrorCode::Invalid));
    let names = rig.peer.call(Request::ListXattr(rig.peer.target(&path("f"), None)));
    let Ok(Reply::Value(names)) = names else { panic!("no names") };
    assert!(names.split(|&b| b == 0).any(|name| name == b"user.note"), "{names:?}");
    let Ok(Reply::Statfs(state)) = rig.peer.call(Request::Statfs(rig.peer.share())) else {
        panic!("no state")
    };
    let own = rustix::fs::statvfs(rig.dir.path()).unwrap();
    assert_eq!((state.blocks, u64::from(state.block_bytes)), (own.f_blocks, own.f_frsize));
    assert_eq!(u64::from(state.name_bytes_max), own.f_namemax);
    rig.end();
}
