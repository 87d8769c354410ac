//! The same through the kernel: a real mount of a hostile host.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    process::Command,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use nix::errno::Errno;
use transport::Answer;
use wire::{Attr, ErrorCode, FileKind, Reply, Request, Timestamp};

use super::host::{Host, absent, attr, dir, entry, file, page, path, usual};
use crate::rig::{PATIENCE, can_mount, finish};

fn number<T>(outcome: io::Result<T>) -> Option<Errno> {
    outcome.err()?.raw_os_error().map(Errno::from_raw)
}

/// The names that are listed, or the error that ends them.
fn names(path: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// The last name of what a request is about.
fn last(request: &Request) -> String {
    path(request).rsplit('/').next().unwrap_or_default().to_owned()
}

/// A tree whose folders named `loop` are all one folder, with a file beside them.
fn loops(request: &Request) -> Option<Answer> {
    match (request, last(request).as_str()) {
        (Request::Stat(_), "loop") => attr(dir(7)),
        (Request::Stat(_), "good") => attr(file(8, 0)),
        (Request::List { target, .. }, _) if target.path.is_root() => {
            page(dir(2), vec![entry("good", 1, file(8, 0)), entry("loop", 2, dir(7))], true)
        }
        (Request::List { .. }, "loop") => {
            page(dir(7), vec![entry("loop", 1, dir(7)), entry("good", 2, file(8, 0))], true)
        }
        _ => usual(request),
    }
}

#[test]
fn a_folder_that_is_its_own_parent_ends_with_an_error() {
    if !can_mount() {
        return;
    }
    let host = Host::new(loops);
    let mount = host.mount(&["--deadline", "5s"]);
    assert_eq!(names(mount.path()).unwrap(), ["good", "loop"]);
    let found = finish(Command::new("find").arg(mount.path()));
    assert!(!found.status.success(), "it says that something is wrong");
    assert!(found.stdout.len() < 4096, "and ends");
    for path in ["loop/loop", "loop/loop/loop/good"] {
        assert_eq!(number(fs::metadata(mount.join(path))), Some(Errno::ESTALE), "{path}");
    }
    assert_eq!(number(names(&mount.join("loop"))), Some(Errno::ESTALE));
    assert_eq!(fs::read(mount.join("good")).unwrap(), b"", "the rest goes on");
    assert!(host.asked() < 500, "asked {} times", host.asked());
}

#[test]
fn listings_without_end_or_progress_end_with_an_error() {
    if !can_mount() {
        return;
    }
    let host = Host::new(|request| match (request, path(request).as_str()) {
        (Request::Stat(_), "none") => attr(dir(11)),
        (Request::Stat(_), "same") => attr(dir(12)),
        (Request::Stat(_), "round") => attr(dir(13)),
        (Request::Stat(_), "twice") => attr(dir(14)),
        (Request::List { .. }, "none") => page(dir(11), Vec::new(), false),
        (Request::List { .. }, "same") => {
            page(dir(12), vec![entry("a", 5, file(20, 0)), entry("b", 5, file(21, 0))], true)
        }
        (Request::List { cookie, .. }, "round") => {
            let next = cookie % 50 + 1;
            page(dir(13), vec![entry(&format!("n{next}"), next, file(100 + next, 0))], false)
        }
        // One name for two files: shown as the host lists it.
        (Request::List { .. }, "twice") => {
            page(dir(14), vec![entry("a", 1, file(30, 0)), entry("a", 2, file(31, 0))], true)
        }
        _ => usual(request),
    });
    let mount = host.mount(&["--deadline", "5s"]);
    for bad in ["none", "same", "round"] {
        assert_eq!(number(names(&mount.join(bad))), Some(Errno::EIO), "{bad}");
    }
    assert_eq!(names(&mount.join("twice")).unwrap(), ["a", "a"]);
    assert!(host.asked() < 1_000, "asked {} times", host.asked());
}

#[test]
fn what_a_host_says_of_files_breaks_nothing() {
    if !can_mount() {
        return;
    }
    let odd = Attr {
        links: 0,
        uid: u32::MAX,
        block_bytes: u32::MAX,
        blocks: u64::MAX,
        atime: Timestamp { secs: i64::MIN, nanos: 0 },
        mtime: Timestamp { secs: i64::MAX, nanos: 999_999_999 },
        ctime: Timestamp { secs: i64::MIN, nanos: 1 },
        ..file(5, i64::MAX.unsigned_abs())
    };
    let link = Attr { kind: FileKind::Symlink, ..file(6, 10) };
    // A listing says of one name what a look at it does not, and both under one identity.
    let host = Host::new(move |request| match (request, path(request).as_str()) {
        (Request::Stat(_), "odd") => attr(odd),
        (Request::Stat(_), "turns") => attr(dir(9)),
        (Request::Stat(_), "nul" | "long") => attr(link),
        (Request::Readlink(_), "nul") => Some(Reply::Link(bytes::Bytes::from_static(b"a\0b")).into()),
        (Request::Readlink(_), _) => Some(Reply::Link(vec![b'x'; 4096].into()).into()),
        (Request::List { target, .. }, _) if target.path.is_root() => {
            page(dir(2), vec![entry("odd", 1, odd), entry("turns", 2, file(9, 5))], true)
        }
        (Request::List { .. }, "turns") => page(dir(9), Vec::new(), true),
        (Request::Read { .. }, _) => absent(),
        _ => usual(request),
    });
    let mount = host.mount(&["--deadline", "1s"]);
    assert_eq!(names(mount.path()).unwrap(), ["odd", "turns"]);
    let seen = fs::metadata(mount.join("odd")).unwrap();
    assert_eq!((seen.len(), seen.nlink()), (i64::MAX.unsigned_abs(), 0));
    assert!(seen.blksize() <= 1 << 20, "programs take buffers of {}", seen.blksize());
    assert_eq!(
        number(File::open(mount.join("odd")).unwrap().read_exact_at(&mut [0], 0)),
        Some(Errno::EIO),
        "there at each look, and at no read, until the deadline"
    );
    // The kernel may trust the listing for a second.
    let until = Instant::now() + PATIENCE; // clock: the kernel's TTL runs on the real one
    while number(names(&mount.join("turns"))) == Some(Errno::ENOTDIR) {
        assert!(Instant::now() < until, "the latest look counts"); // clock: the bound of the wait
        thread::sleep(Duration::from_millis(20)); // clock: between two looks; the condition ends the wait
    }
    assert!(names(&mount.join("turns")).unwrap().is_empty());
    assert!(fs::metadata(mount.join("turns")).unwrap().is_dir());
    assert_eq!(number(fs::read_link(mount.join("nul"))), Some(Errno::EIO));
    assert_eq!(number(fs::read_link(mount.join("long"))), Some(Errno::ENAMETOOLONG));
    let listed = finish(Command::new("ls").arg("-l").arg(mount.path()));
    assert!(listed.status.success(), "{listed:?}");
    assert!(finish(Command::new("df").arg(mount.path())).status.success());
}

#[test]
fn a_busy_host_is_asked_again_and_status_says_so() {
    if !can_mount() {
        return;
    }
    let turn = AtomicU64::new(0);
    let host = Host::new(move |request| match (request, path(request).as_str()) {
        (Request::Stat(_), "later") if turn.fetch_add(1, Relaxed) < 3 => Some(ErrorCode::Busy.into()),
        (Request::Stat(_), "never") => Some(ErrorCode::Busy.into()),
        (Request::Stat(_), "later") => attr(file(5, 3)),
        _ => usual(request),
    });
    let mount = host.mount(&["--deadline", "2s"]);
    let mountpoint = mount.path().to_str().unwrap().to_owned();
    let status = || String::from_utf8(host.run(&["status", &mountpoint]).stdout).unwrap();
    assert!(!status().contains("busy"), "{}", status());
    assert_eq!(fs::metadata(mount.join("later")).unwrap().len(), 3);
    assert!(status().contains("1 requests put off by a busy host"), "{}", status());
    assert_eq!(number(fs::metadata(mount.join("never"))), Some(Errno::EIO), "at the deadline");
    assert!(host.asked() < 100, "asked {} times", host.asked());
}
