//! The share is read-only, and what changes on the host is never mixed.

use std::{
    fs::{self, File, FileTimes, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, PermissionsExt, symlink},
    path::Path,
    thread,
    time::SystemTime,
};

use nix::errno::Errno;

use crate::rig::{Rig, can_mount, soon};

fn number(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw)
}

fn rejected<T>(outcome: io::Result<T>, what: &str) {
    match outcome {
        Ok(_) => panic!("{what} went through"),
        Err(error) => assert_eq!(number(&error), Some(Errno::EROFS), "{what}: {error}"),
    }
}

#[test]
fn every_change_is_refused_as_read_only() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(|root| {
        fs::write(root.join("a"), b"x").unwrap();
        fs::create_dir(root.join("d")).unwrap();
    });
    let mount = rig.mount();
    let (file, new) = (mount.join("a"), mount.join("new"));
    rejected(File::create(&new), "create");
    rejected(File::options().write(true).open(&file), "open for writing");
    rejected(File::options().append(true).open(&file), "open for appending");
    rejected(fs::create_dir(&new), "mkdir");
    rejected(fs::remove_file(&file), "unlink");
    rejected(fs::remove_dir(mount.join("d")), "rmdir");
    rejected(fs::rename(&file, &new), "rename");
    rejected(fs::hard_link(&file, &new), "link");
    rejected(symlink("a", &new), "symlink");
    rejected(fs::set_permissions(&file, Permissions::from_mode(0o600)), "chmod");
    let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
    rejected(File::open(&file).unwrap().set_times(times), "utimes");
    let attribute = rustix::fs::setxattr(&file, "user.a", b"b", rustix::fs::XattrFlags::empty());
    assert_eq!(attribute, Err(rustix::io::Errno::ROFS));
}

/// Whether a read of a replaced file told the truth: bytes of the version opened, or an error.
fn is_old_or_refused(outcome: io::Result<usize>, read: &[u8], old: u8) -> bool {
    match outcome {
        Ok(n) => read[..n].iter().all(|&byte| byte == old),
        Err(error) => number(&error) == Some(Errno::ESTALE),
    }
}

#[test]
fn a_rewritten_file_shows_its_new_bytes_when_it_is_opened_again() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(|root| fs::write(root.join("a"), [b'1'; 300_000]).unwrap());
    let mount = rig.mount();
    let old = File::open(mount.join("a")).unwrap();
    let mut read = vec![0; 4096];
    old.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(read, [b'1'; 4096]);
    // In place and longer, in place and shorter, replaced by another file: as soon as it is pushed, within every TTL.
    for (turn, len) in [(b'2', 500_000), (b'3', 1000), (b'4', 200_000)] {
        if turn == b'4' {
            fs::write(rig.folder.path().join("b"), vec![turn; len]).unwrap();
            fs::rename(rig.folder.path().join("b"), rig.folder.path().join("a")).unwrap();
        } else {
            fs::write(rig.folder.path().join("a"), vec![turn; len]).unwrap();
        }
        soon("the bytes of this turn", || {
            fs::read(mount.join("a"))
                .is_ok_and(|bytes| bytes.len() == len && bytes.iter().all(|&byte| byte == turn))
        });
    }
    let outcome = old.read_at(&mut read, 262_144);
    assert!(is_old_or_refused(outcome, &read, b'1'));
}

/// Rewrites the file in place, front to back, with another byte each time.
fn rewrite(path: &Path, len: usize, turns: std::ops::Range<u8>) {
    for turn in turns {
        let mut file = File::options().write(true).open(path).unwrap();
        file.write_all(&vec![turn; len]).unwrap();
    }
}

#[test]
fn a_file_rewritten_during_reads_is_never_mixed_within_one() {
    if !can_mount() {
        return;
    }
    const LEN: usize = 64 * 1024;
    let rig = Rig::new(|root| fs::write(root.join("a"), [b'0'; LEN]).unwrap());
    let mount = rig.mount();
    thread::scope(|scope| {
        let writer = scope.spawn(|| rewrite(&rig.folder.path().join("a"), LEN, 1..200));
        // The writer's end bounds the loop.
        while !writer.is_finished() {
            let mut page = [0; 4096];
            let outcome = File::open(mount.join("a")).and_then(|mut file| file.read(&mut page));
            match outcome {
                // One page of one write is the smallest thing the host can read in one piece.
                Ok(n) => assert!(page[..n].windows(2).all(|pair| pair[0] == pair[1]), "a mixture"),
                Err(error) => assert_eq!(number(&error), Some(Errno::ESTALE), "{error}"),
            }
        }
    });
}

#[test]
fn a_new_file_is_seen_at_once_and_a_removed_one_is_gone_when_opened() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(|_| {});
    let mount = rig.mount();
    let absent = fs::metadata(mount.join("a")).unwrap_err();
    assert_eq!(absent.kind(), io::ErrorKind::NotFound);
    fs::write(rig.folder.path().join("a"), b"here").unwrap();
    soon("the new file", || fs::read(mount.join("a")).is_ok_and(|bytes| bytes == b"here"));
    fs::remove_file(rig.folder.path().join("a")).unwrap();
    soon("that it is gone", || {
        File::open(mount.join("a")).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    });
}
