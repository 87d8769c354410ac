//! What readers see of files that change on the host.

use std::{
    fs::{self, File, FileTimes, Permissions},
    io,
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    time::{Duration, SystemTime},
};

use nix::errno::Errno;

use super::{Program, counter, eventually, number, pattern, rewrite};
use crate::rig::{Rig, can_mount};

const LEN: usize = 300_000;

/// What a read at `at` got: the bytes, or the error.
fn read_at(file: &File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let n = file.read_at(&mut bytes, at)?;
    bytes.truncate(n);
    Ok(bytes)
}

#[test]
fn read_after_rewrite() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(|root| fs::write(root.join("a"), pattern(LEN, 0)).unwrap());
    let mount = rig.mount();
    assert!(fs::read(mount.join("a")).unwrap() == pattern(LEN, 0));
    // Longer, shorter, of the same length, one after the other, within every TTL.
    for (seed, len) in [(1, LEN + 5000), (2, 1000), (3, 1000), (4, LEN)] {
        rewrite(&rig.folder.path().join("a"), &pattern(len, seed));
        eventually("opened after a rewrite", || {
            fs::read(mount.join("a")).is_ok_and(|bytes| bytes == pattern(len, seed))
        });
        assert_eq!(fs::metadata(mount.join("a")).unwrap().len(), len as u64, "an open brings its size along");
    }
    // Without an open: within the second that attributes hold.
    rewrite(&rig.folder.path().join("a"), &pattern(77, 5));
    eventually("stat shows the new size", || fs::metadata(mount.join("a")).unwrap().len() == 77);
}

#[test]
fn stale() {
    if !can_mount() {
        return;
    }
    // Far more than the kernel reads ahead of the first page.
    const LONG: usize = 12_000_000;
    let rig = Rig::new(|root| {
        fs::write(root.join("read"), pattern(LONG, 0)).unwrap();
        fs::write(root.join("unread"), pattern(LONG, 0)).unwrap();
    });
    let mount = rig.mount();
    let (read, unread) = (File::open(mount.join("read")).unwrap(), File::open(mount.join("unread")).unwrap());
    assert!(read_at(&read, 0, 4096).unwrap() == pattern(LONG, 0)[..4096]);
    let new = pattern(LONG, 1);
    for name in ["read", "unread"] {
        rewrite(&rig.folder.path().join(name), &new);
    }
    // Old bytes were handed out, so there are none that would fit them.
    for at in [LONG - 5000, 6_000_000] {
        assert_eq!(number(read_at(&read, at as u64, 4096)), Some(Errno::ESTALE), "{at}");
    }
    assert!(counter(&rig, &mount, "/stale") > 0);
    assert_eq!(counter(&rig, &mount, "/errors"), 0, "a change is no I/O error");
    let moved = read_at(&unread, 6_000_000, 4096).unwrap();
    assert!(moved == new[6_000_000..6_004_096], "nothing was handed out, so it reads the new file");
    assert!(fs::read(mount.join("read")).unwrap() == new, "opened again");
    // The limit: pages are the kernel's, one set for all handles, and now they are of the new file.
    match read_at(&read, 0, 4096) {
        Ok(bytes) => assert!(bytes == new[..4096], "one version, never a mixture"),
        Err(error) => assert_eq!(error.raw_os_error(), Some(Errno::ESTALE as i32)),
    }
}

#[test]
fn rename_over_an_open_file() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(|root| {
        fs::write(root.join("a"), pattern(LEN, 0)).unwrap();
        fs::write(root.join("b"), pattern(1000, 1)).unwrap();
    });
    let mount = rig.mount();
    let old = File::open(mount.join("a")).unwrap();
    assert!(read_at(&old, 0, 4096).unwrap() == pattern(LEN, 0)[..4096]);
    let inode = fs::metadata(rig.folder.path().join("b")).unwrap().ino();
    fs::rename(rig.folder.path().join("b"), rig.folder.path().join("a")).unwrap();
    eventually("an open gets the file of that name now", || {
        fs::read(mount.join("a")).is_ok_and(|bytes| bytes == pattern(1000, 1))
    });
    assert_eq!(fs::metadata(mount.join("a")).unwrap().ino(), inode);
    match read_at(&old, 200_000, 4096) {
        Ok(bytes) => assert!(bytes == pattern(LEN, 0)[200_000..204_096], "the file that was opened"),
        Err(error) => assert_eq!(error.raw_os_error(), Some(Errno::ESTALE as i32)),
    }
    eventually("the other name is gone", || fs::metadata(mount.join("b")).is_err());
}

#[test]
fn unlink_while_open() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(|root| fs::write(root.join("a"), pattern(LEN, 0)).unwrap());
    let mount = rig.mount();
    let old = File::open(mount.join("a")).unwrap();
    assert!(read_at(&old, 0, 4096).unwrap() == pattern(LEN, 0)[..4096]);
    fs::remove_file(rig.folder.path().join("a")).unwrap();
    eventually("the name is gone", || number(File::open(mount.join("a"))) == Some(Errno::ENOENT));
    match read_at(&old, 200_000, 4096) {
        Ok(bytes) => assert!(bytes == pattern(LEN, 0)[200_000..204_096], "the file that was opened"),
        Err(error) => assert_eq!(error.raw_os_error(), Some(Errno::ESTALE as i32)),
    }
    fs::write(rig.folder.path().join("a"), b"another").unwrap();
    eventually("another file of that name", || {
        fs::read(mount.join("a")).is_ok_and(|bytes| bytes == b"another")
    });
    match read_at(&old, 100_000, 4096) {
        Ok(bytes) => assert!(bytes == pattern(LEN, 0)[100_000..104_096], "never the other file's"),
        Err(error) => assert_eq!(error.raw_os_error(), Some(Errno::ESTALE as i32)),
    }
}

#[test]
fn truncation_while_reading() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(|root| fs::write(root.join("a"), pattern(LEN, 0)).unwrap());
    let mount = rig.mount();
    let file = File::open(mount.join("a")).unwrap();
    assert!(read_at(&file, 0, 4096).unwrap() == pattern(LEN, 0)[..4096]);
    File::options().write(true).open(rig.folder.path().join("a")).unwrap().set_len(100).unwrap();
    for reopened in [false, true] {
        if reopened {
            assert!(
                fs::read(mount.join("a")).unwrap() == pattern(100, 0),
                "a new open ends where the file does"
            );
        }
        match read_at(&file, LEN as u64 - 5000, 4096) {
            Ok(bytes) if bytes.is_empty() => {}
            // What the kernel read ahead is shown until it learns of the new size.
            Ok(bytes) => assert!(!reopened && bytes == pattern(LEN, 0)[LEN - 5000..LEN - 904], "no zeros"),
            Err(error) => assert_eq!(error.raw_os_error(), Some(Errno::ESTALE as i32)),
        }
    }
    // From here on the kernel's pages and size are the new file's, for every handle.
    match read_at(&file, 0, 4096) {
        Ok(bytes) => assert!(bytes == pattern(100, 0)),
        Err(error) => assert_eq!(error.raw_os_error(), Some(Errno::ESTALE as i32)),
    }
}

#[test]
fn touch_chmod_and_hard_link_backups() {
    if !can_mount() {
        return;
    }
    const FILES: usize = 20;
    let rig = Rig::new(|root| {
        for i in 0..FILES {
            fs::write(root.join(i.to_string()), pattern(LEN, i)).unwrap();
        }
    });
    let mount = rig.mount();
    let open: Vec<File> = (0..FILES).map(|i| File::open(mount.join(i.to_string())).unwrap()).collect();
    let read_all = |what: &str| {
        for (i, file) in open.iter().enumerate() {
            let held = read_at(file, 0, LEN).unwrap_or_else(|error| panic!("{what}, {i}: {error}"));
            assert!(held == pattern(LEN, i), "{what}: the handle held, {i}");
            assert!(
                fs::read(mount.join(i.to_string())).unwrap() == pattern(LEN, i),
                "{what}: opened anew, {i}"
            );
        }
    };
    let path = |i: usize| rig.folder.path().join(i.to_string());
    // What changed less than two ticks of the host's clock ago is served, but not kept.
    let settled = || {
        let changed = fs::metadata(path(FILES - 1)).unwrap();
        let at = Duration::new(changed.ctime().try_into().unwrap(), changed.ctime_nsec().try_into().unwrap());
        eventually("two ticks pass", || {
            let now = SystemTime::now(); // clock: the host's own, which gave the change its time
            now.duration_since(SystemTime::UNIX_EPOCH).unwrap() > at + Duration::from_millis(50)
        });
    };
    settled();
    read_all("before");
    let before = counter(&rig, &mount, "/reads/host_bytes");
    assert_eq!(before, (FILES * LEN) as u64);
    let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    for i in 0..FILES {
        let file = File::options().write(true).open(path(i)).unwrap();
        file.set_times(FileTimes::new().set_modified(moment)).unwrap();
    }
    settled();
    read_all("touch");
    (0..FILES).for_each(|i| fs::set_permissions(path(i), Permissions::from_mode(0o440)).unwrap());
    settled();
    read_all("chmod");
    fs::create_dir(rig.folder.path().join("backup")).unwrap();
    (0..FILES).for_each(|i| fs::hard_link(path(i), rig.folder.path().join(format!("backup/{i}"))).unwrap());
    settled();
    read_all("hard links");
    assert_eq!(counter(&rig, &mount, "/reads/host_bytes"), before, "nothing came twice");
    assert_eq!(counter(&rig, &mount, "/stale"), 0);
    let seen = || fs::metadata(mount.join("3")).unwrap();
    assert_eq!((seen().mode() & 0o7777, seen().mtime()), (0o440, 2_000_000_000));
    // The link was made in a folder that nobody looked at here.
    fs::set_permissions(path(3), Permissions::from_mode(0o400)).unwrap();
    eventually("both names", || (seen().mode() & 0o7777, seen().nlink()) == (0o400, 2));
}

#[test]
fn shared_mmap_writers() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(|root| fs::write(root.join("a"), [b'0'; 8192]).unwrap());
    let mount = rig.mount();
    let path = rig.folder.path().join("a");
    let script = "
import mmap, os, sys
f = open(sys.argv[1], 'r+b')
m = mmap.mmap(f.fileno(), 0)
for byte in b'12':
    m[:8192] = bytes([byte]) * 8192
    print('stored')
    sys.stdin.readline()
m.flush()
print('synced')
sys.stdin.readline()
m[:8192] = b'3' * 8192
m.flush()
m.close()
print('closed')
";
    let Some(mut writer) = Program::python(script, &path) else { return };
    let all = |byte: u8| fs::read(mount.join("a")).unwrap() == [byte; 8192];
    assert_eq!(writer.line(), "stored");
    eventually("the first store", || all(b'1'));
    let stamp =
        |path: &std::path::Path| fs::metadata(path).map(|m| (m.mtime_nsec(), m.ctime_nsec())).unwrap();
    let before = stamp(&path);
    writer.go_on();
    assert_eq!(writer.line(), "stored");
    // The limit: while no timestamp moves, an open may show the bytes from before this store, or from after it.
    if stamp(&path) == before {
        assert!(all(b'1') || all(b'2'));
    }
    writer.go_on();
    assert_eq!(writer.line(), "synced");
    assert!(all(b'1') || all(b'2'));
    // After a sync the next store moves the timestamps, and an open shows all that was stored until then.
    writer.go_on();
    assert_eq!(writer.line(), "closed");
    assert!(stamp(&path) != before, "the first store after a sync moves the timestamps");
    eventually("an open after it was closed", || all(b'3'));
    assert!(writer.end().success());
    // Whoever cannot wait for that touches the file.
    File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert!(all(b'3'));
}
