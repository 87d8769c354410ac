//! Small files of one folder in one request.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::{FileExt, symlink},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use rustix::fs::{CWD, FileType, Mode};
use transport::CallError;
use wire::{Attr, ByteLen, Class, ErrorCode, FileId, Name, Request, Version, message::FileWanted};

use crate::rig::{Peer, Rig, code, path, pattern};

fn wanted(name: &str, attr: &Attr) -> FileWanted {
    FileWanted { name: Name::new(name.as_bytes()).unwrap(), id: attr.id, version: attr.version() }
}

fn of(peer: &Peer, dir: &str, name: &str) -> FileWanted {
    let at = if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") };
    wanted(name, &peer.stat(&at))
}

fn outcomes(peer: &Peer, dir: &str, files: Vec<FileWanted>) -> Vec<Result<Vec<u8>, ErrorCode>> {
    peer.read_files(dir, files).unwrap()
}

#[test]
fn files_come_whole_and_each_for_itself() {
    let lengths = [10_240, 0, 1, 4096, 65_536, 200_000];
    let rig = Rig::new(|dir| {
        fs::create_dir(dir.join("sub")).unwrap();
        for len in lengths {
            fs::write(dir.join(format!("sub/{len}")), pattern(len, len as u64)).unwrap();
        }
    });
    let mut files: Vec<_> = lengths.iter().map(|len| of(&rig.peer, "sub", &len.to_string())).collect();
    // A name that leads nowhere, and a file asked for twice.
    files.insert(2, FileWanted { name: Name::new(b"absent").unwrap(), ..files[0].clone() });
    files.push(files[0].clone());
    let read = outcomes(&rig.peer, "sub", files);
    let mut expected: Vec<_> = lengths.iter().map(|len| Ok(pattern(*len, *len as u64))).collect();
    expected.insert(2, Err(ErrorCode::NotFound));
    expected.push(expected[0].clone());
    assert!(read == expected);
    assert!(outcomes(&rig.peer, "sub", Vec::new()).is_empty());
    rig.end();
}

#[test]
fn what_is_not_as_it_was_asked_for_is_left_out() {
    let rig = Rig::new(|dir| {
        for name in ["good", "grown", "touched", "replaced", "gone", "fifo", "link", "sub"] {
            fs::write(dir.join(name), pattern(5000, 1)).unwrap();
        }
    });
    let names = ["good", "grown", "touched", "replaced", "gone", "fifo", "link", "sub"];
    let mut files: Vec<_> = names.iter().map(|name| of(&rig.peer, "", name)).collect();
    let at = |name: &str| rig.dir.path().join(name);
    OpenOptions::new().append(true).open(at("grown")).unwrap().write_all(b"more").unwrap();
    OpenOptions::new().write(true).open(at("touched")).unwrap().write_all_at(b"x", 0).unwrap();
    fs::write(at("new"), pattern(5000, 2)).unwrap();
    fs::rename(at("new"), at("replaced")).unwrap();
    fs::remove_file(at("gone")).unwrap();
    // By their own ids, since an id that does not match would be the reason.
    fs::remove_file(at("fifo")).unwrap();
    rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    fs::remove_file(at("link")).unwrap();
    symlink("good", at("link")).unwrap();
    fs::remove_file(at("sub")).unwrap();
    fs::create_dir(at("sub")).unwrap();
    for (index, name) in [(5, "fifo"), (6, "link"), (7, "sub")] {
        let attr = rig.peer.stat(name);
        files[index] =
            FileWanted { version: Version { size: ByteLen(8), ..attr.version() }, ..wanted(name, &attr) };
    }
    let read = outcomes(&rig.peer, "", files);
    let stale = Err(ErrorCode::Stale);
    let special = |code| Err::<Vec<u8>, _>(code);
    let expected = [
        Ok(pattern(5000, 1)),
        stale.clone(),
        stale.clone(),
        stale,
        special(ErrorCode::NotFound),
        special(ErrorCode::NotRegular),
        special(ErrorCode::NotRegular),
        special(ErrorCode::IsDirectory),
    ];
    assert!(
        read == expected,
        "{:?}",
        read.iter().map(|file| file.as_ref().map(Vec::len)).collect::<Vec<_>>()
    );
    rig.end();
}

#[test]
fn hidden_files_are_not_there() {
    let rig = Rig::with(
        |dir| {
            fs::create_dir(dir.join("secret")).unwrap();
            for name in ["seen", "seen.key", "secret/file"] {
                fs::write(dir.join(name), name).unwrap();
            }
        },
        |config| config.shares[0].exclude = vec!["*.key".to_owned(), "secret".to_owned()],
    );
    let id_of = |name: &str| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(rig.dir.path().join(name)).unwrap().ino()
    };
    let seen = of(&rig.peer, "", "seen");
    // As a mount would have to guess them: nothing tells it of these files.
    let guessed = |name: &str, at: &str| FileWanted {
        name: Name::new(name.as_bytes()).unwrap(),
        id: FileId { inode: id_of(at), ..seen.id },
        version: Version { size: ByteLen(at.len() as u64), ..seen.version },
    };
    let read = outcomes(&rig.peer, "", vec![seen.clone(), guessed("seen.key", "seen.key")]);
    assert_eq!(read, [Ok(b"seen".to_vec()), Err(ErrorCode::NotFound)]);
    let inside = rig.peer.read_files("secret", vec![guessed("file", "secret/file")]);
    assert_eq!(inside.unwrap_err(), ErrorCode::NotFound);
    rig.end();
}

#[test]
fn what_asks_for_too_much_or_for_no_folder_is_refused() {
    let rig = Rig::new(|dir| {
        fs::write(dir.join("file"), b"12345").unwrap();
        fs::create_dir(dir.join("sub")).unwrap();
        symlink("sub", dir.join("link")).unwrap();
    });
    let file = of(&rig.peer, "", "file");
    let refused = |dir: &str, files: Vec<FileWanted>| {
        let dir = rig.peer.target(&path(dir), None);
        code(rig.peer.call(Request::ReadFiles { dir, files }))
    };
    assert_eq!(refused("file", vec![file.clone()]), ErrorCode::NotDirectory);
    assert_eq!(refused("link", vec![file.clone()]), ErrorCode::NotDirectory);
    assert_eq!(refused("absent", vec![file.clone()]), ErrorCode::NotFound);
    assert_eq!(refused("", vec![file.clone(); 129]), ErrorCode::Invalid);
    for sizes in
        [&[1 << 20, 1][..], &[u64::MAX], &[u64::MAX, u64::MAX, 2], &[i64::MAX as u64, i64::MAX as u64, 2]]
    {
        let of_size = |size: &u64| {
            let version = Version { size: ByteLen(*size), ..file.version };
            FileWanted { version, ..file.clone() }
        };
        assert_eq!(refused("", sizes.iter().map(of_size).collect()), ErrorCode::Invalid, "{sizes:?}");
    }
    let other = rig.peer.stat("sub");
    let dir = rig.peer.target(&path(""), Some(other.id));
    assert_eq!(code(rig.peer.call(Request::ReadFiles { dir, files: vec![file] })), ErrorCode::Stale);
    rig.end();
}

#[test]
fn files_that_change_all_the_time_are_one_version_or_left_out() {
    const FILES: usize = 32;
    const LEN: usize = 20_000;
    const ROUNDS: usize = 40;
    /// On a quiet machine nothing holds the writer up, and only some rounds in a hundred find a file between two writes.
    const ROUNDS_MAX: usize = 2_000;
    let name = |n: usize| format!("f{n}");
    let rig = Rig::new(|dir| (0..FILES).for_each(|n| fs::write(dir.join(name(n)), vec![0; LEN]).unwrap()));
    let stop = Arc::new(AtomicBool::new(false));
    let writer = thread::spawn({
        let (stop, dir) = (stop.clone(), rig.dir.path().to_owned());
        move || write_over(&dir, &stop, (FILES, LEN))
    });
    let mut whole = 0;
    for round in 0..ROUNDS_MAX {
        if round >= ROUNDS && whole > 0 {
            break;
        }
        let files = (0..FILES).map(|n| of(&rig.peer, "", &name(n))).collect();
        for file in outcomes(&rig.peer, "", files) {
            match file {
                Ok(bytes) => {
                    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a mixture");
                    whole += 1;
                }
                Err(code) => assert_eq!(code, ErrorCode::Stale),
            }
        }
    }
    stop.store(true, Relaxed);
    writer.join().unwrap();
    assert!(whole > 0, "none was ever read");
    rig.end();
}

/// Writes one byte all over each file, another one each time, until told to stop.
fn write_over(dir: &Path, stop: &AtomicBool, (files, len): (usize, usize)) {
    for round in (1..=u8::MAX).cycle() {
        for n in 0..files {
            if stop.load(Relaxed) {
                return;
            }
            let file = OpenOptions::new().write(true).open(dir.join(format!("f{n}"))).unwrap();
            file.write_all_at(&vec![round; len], 0).unwrap();
        }
    }
}

#[test]
fn batches_leave_no_file_open_and_no_memory_lent() {
    let rig = Rig::new(|dir| {
        (0..256).for_each(|n| fs::write(dir.join(format!("f{n:03}")), pattern(8000, n)).unwrap());
    });
    let all: Vec<_> = (0..256).map(|n| of(&rig.peer, "", &format!("f{n:03}"))).collect();
    let root = rig.peer.target(&path(""), None);
    let requests = all
        .chunks(128)
        .cycle()
        .take(64)
        .map(|files| (Request::ReadFiles { dir: root.clone(), files: files.to_vec() }, Class::Readahead));
    // As calls that do not take data: each is broken off when its reply comes.
    for reply in rig.peer.call_all(requests).wait() {
        assert!(matches!(reply, Err(CallError::UnexpectedReply { .. })), "{reply:?}");
    }
    let read = outcomes(&rig.peer, "", all[..128].to_vec());
    assert!((0..).zip(&read).all(|(n, file)| *file == Ok(pattern(8000, n))));
    let open = fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
    let links = open.filter_map(|fd| fs::read_link(fd.path()).ok());
    let left: Vec<_> = links.filter(|link| link.starts_with(rig.dir.path().join("f"))).collect();
    assert!(left.is_empty(), "{left:?}");
    rig.end();
}
