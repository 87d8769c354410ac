//! Names, links, folders, times.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs::{self, File, FileTimes, Permissions},
    io::{Read, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
        net::{UnixListener, UnixStream},
    },
    path::Path,
    process::Command,
    sync::{
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, SystemTime},
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::stat::{Mode, SFlag, makedev, mknod},
    unistd::mkfifo,
};

use super::{counter, eventually, is_root, number, pattern, rewrite, status};
use crate::rig::{PATIENCE, Rig, can_mount, finish};

#[test]
fn hard_links() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(|root| {
        fs::write(root.join("a"), pattern(200_000, 0)).unwrap();
        fs::create_dir(root.join("d")).unwrap();
        fs::hard_link(root.join("a"), root.join("d/b")).unwrap();
    });
    let mount = rig.mount();
    let (a, b) = (fs::metadata(mount.join("a")).unwrap(), fs::metadata(mount.join("d/b")).unwrap());
    assert_eq!((a.ino(), a.nlink()), (b.ino(), 2), "one file with two names");
    assert_eq!(a.ino(), fs::metadata(rig.folder.path().join("a")).unwrap().ino());
    assert!(fs::read(mount.join("a")).unwrap() == pattern(200_000, 0));
    let before = counter(&rig, &mount, "/reads/host_bytes");
    assert!(fs::read(mount.join("d/b")).unwrap() == pattern(200_000, 0));
    assert_eq!(counter(&rig, &mount, "/reads/host_bytes"), before, "by its other name it is cached already");
    // One name goes, the file stays.
    fs::remove_file(rig.folder.path().join("a")).unwrap();
    assert!(fs::read(mount.join("d/b")).unwrap() == pattern(200_000, 0));
    eventually("the name is gone", || number(File::open(mount.join("a"))) == Some(Errno::ENOENT));
    rewrite(&rig.folder.path().join("d/b"), &pattern(5000, 1));
    assert!(fs::read(mount.join("d/b")).unwrap() == pattern(5000, 1));
}

#[test]
fn symlinks() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(|root| {
        fs::write(root.join("a"), b"inside").unwrap();
        for (target, name) in
            [("a", "link"), ("nowhere", "dangling"), ("/etc/hostname", "absolute"), ("loop", "loop")]
        {
            symlink(target, root.join(name)).unwrap();
        }
    });
    let mount = rig.mount();
    assert_eq!(fs::read(mount.join("link")).unwrap(), b"inside");
    for (name, text) in [("link", "a"), ("dangling", "nowhere"), ("absolute", "/etc/hostname")] {
        assert_eq!(fs::read_link(mount.join(name)).unwrap(), Path::new(text), "the text as it is");
        assert!(fs::symlink_metadata(mount.join(name)).unwrap().is_symlink());
    }
    assert_eq!(number(File::open(mount.join("dangling"))), Some(Errno::ENOENT));
    assert_eq!(number(File::open(mount.join("loop"))), Some(Errno::ELOOP));
    // An absolute one leads into this machine's tree, never into the host's.
    let here = fs::read("/etc/hostname").ok();
    assert_eq!(fs::read(mount.join("absolute")).ok(), here);
    // Its text is cached, and a new link of the same name is another file.
    fs::remove_file(rig.folder.path().join("link")).unwrap();
    symlink("dangling", rig.folder.path().join("link")).unwrap();
    eventually("the new text", || {
        fs::read_link(mount.join("link")).is_ok_and(|text| text == Path::new("dangling"))
    });
}

fn list(path: &Path) -> Vec<OsString> {
    fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

#[test]
fn directory_listing_under_change() {
    if !can_mount() {
        return;
    }
    const STAY: usize = 3000;
    let rig = Rig::new(|root| {
        for i in 0..STAY {
            File::create(root.join(format!("stay {i}"))).unwrap();
        }
    });
    let mount = rig.mount();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // The listings' end bounds the loop.
            for i in 0.. {
                if done.load(Relaxed) {
                    break;
                }
                File::create(rig.folder.path().join(format!("passing {i}"))).unwrap();
                if i >= 50 {
                    fs::remove_file(rig.folder.path().join(format!("passing {}", i - 50))).unwrap();
                }
            }
        });
        let listings: Vec<Vec<OsString>> = (0..5).map(|_| list(mount.path())).collect();
        done.store(true, Relaxed);
        for listed in listings {
            let mut counts = BTreeMap::new();
            for name in listed {
                *counts.entry(name).or_insert(0) += 1;
            }
            let once = |i: &usize| counts.get(OsStr::new(&format!("stay {i}"))) == Some(&1);
            assert_eq!((0..STAY).filter(once).count(), STAY, "each that stays is listed once");
        }
    });
    // A directory opened anew is the host's at that moment, both ways, whatever was listed a moment ago.
    File::create(rig.folder.path().join("new")).unwrap();
    fs::remove_file(rig.folder.path().join("stay 7")).unwrap();
    let names = |path: &Path| list(path).into_iter().collect::<BTreeSet<OsString>>();
    eventually("the names of now", || names(mount.path()) == names(rig.folder.path()));
    assert_eq!(number(fs::metadata(mount.join("awaited"))), Some(Errno::ENOENT));
    File::create(rig.folder.path().join("awaited")).unwrap();
    eventually("the name that was absent", || fs::metadata(mount.join("awaited")).is_ok());
}

/// A file system mounted inside the share; unmounted when the test ends.
struct Nested<'a>(&'a Path);

impl Drop for Nested<'_> {
    fn drop(&mut self) {
        let _ = umount2(self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn nested_mounts_and_special_files() {
    if !can_mount() {
        return;
    }
    let device = is_root("making a device");
    let mut listener = None;
    let rig = Rig::new(|root| {
        fs::write(root.join("plain"), b"bytes").unwrap();
        fs::create_dir(root.join("nested")).unwrap();
        mkfifo(&root.join("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
        listener = Some(UnixListener::bind(root.join("socket")).unwrap());
        if device {
            mknod(&root.join("null"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3))
                .unwrap();
        }
    });
    let mountpoint = rig.folder.path().join("nested");
    let tmpfs =
        device && mount(Some("none"), &mountpoint, Some("tmpfs"), MsFlags::empty(), None::<&str>).is_ok();
    let _nested = tmpfs.then(|| Nested(&mountpoint));
    fs::write(mountpoint.join("deep"), b"deep bytes").unwrap();
    let share = rig.mount();
    let kinds: BTreeMap<OsString, fs::FileType> = fs::read_dir(share.path())
        .unwrap()
        .map(|entry| entry.map(|entry| (entry.file_name(), entry.file_type().unwrap())).unwrap())
        .collect();
    let kind = |name: &str| kinds[OsStr::new(name)];
    assert!(kind("fifo").is_fifo() && kind("socket").is_socket() && kind("plain").is_file());
    assert_eq!(
        fs::read(share.join("nested/deep")).unwrap(),
        b"deep bytes",
        "other file systems show through"
    );
    fifo_is_local(&share.join("fifo"), &share.join("plain"));
    // A socket is a name here: who listens on it listens on the host.
    assert_eq!(number(UnixStream::connect(share.join("socket"))), Some(Errno::ECONNREFUSED));
    if device {
        assert!(kind("null").is_char_device());
        assert_eq!(fs::metadata(share.join("null")).unwrap().rdev(), makedev(1, 3));
        assert_eq!(number(File::open(share.join("null"))), Some(Errno::EACCES), "nodev");
    }
    drop(listener);
}

/// A FIFO joins programs of this machine, and one that waits on it holds nobody up.
fn fifo_is_local(fifo: &Path, plain: &Path) {
    let (send, receive) = mpsc::channel();
    let path = fifo.to_owned();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        send.send(()).unwrap();
        File::open(path).unwrap().read_to_string(&mut text).unwrap();
        text
    });
    receive.recv_timeout(PATIENCE).unwrap();
    assert_eq!(fs::read(plain).unwrap(), b"bytes");
    let open = || File::options().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(fifo);
    let mut writer = None;
    eventually("the reader waits on the FIFO", || {
        writer = open().ok();
        writer.is_some()
    });
    writer.take().unwrap().write_all(b"through").unwrap();
    assert_eq!(reader.join().unwrap(), "through");
}

#[test]
fn names() {
    if !can_mount() {
        return;
    }
    let long = "n".repeat(255);
    let all: [&[u8]; 8] = [
        b"not utf-8 \xff\xfe",
        b"new\nline",
        b"tab\t",
        b" ",
        b"...",
        b"-rf",
        "\u{fc} and u\u{308}".as_bytes(),
        long.as_bytes(),
    ];
    let rig = Rig::new(|root| {
        for name in all {
            fs::write(root.join(OsStr::from_bytes(name)), name).unwrap();
        }
        fs::write(root.join("Case"), b"upper").unwrap();
        fs::write(root.join("case"), b"lower").unwrap();
    });
    let mount = rig.mount();
    let listed: BTreeSet<OsString> = list(mount.path()).into_iter().collect();
    assert_eq!(listed, list(rig.folder.path()).into_iter().collect());
    for name in all {
        assert_eq!(fs::read(mount.join(OsStr::from_bytes(name))).unwrap(), name);
    }
    assert_eq!(fs::read(mount.join("Case")).unwrap(), b"upper");
    assert_eq!(fs::read(mount.join("case")).unwrap(), b"lower");
    let too_long = mount.join("n".repeat(256));
    assert_eq!(number(fs::metadata(too_long)), Some(Errno::ENAMETOOLONG));
}

#[test]
fn two_clocks() {
    if !can_mount() {
        return;
    }
    let from_1970 = |seconds| SystemTime::UNIX_EPOCH + Duration::new(seconds, 123_456_789);
    let past = SystemTime::UNIX_EPOCH - Duration::new(1_000_000, 500);
    let moments = [("future", from_1970(4_000_000_000)), ("past", past), ("usual", from_1970(1_600_000_000))];
    let set = |path: &Path, moment| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_times(FileTimes::new().set_modified(moment)).unwrap();
    };
    let rig = Rig::new(|root| {
        for (name, moment) in moments {
            fs::write(root.join(name), pattern(5000, 0)).unwrap();
            set(&root.join(name), moment);
        }
    });
    let mount = rig.mount();
    for (name, moment) in moments {
        let (here, there) =
            (fs::metadata(mount.join(name)).unwrap(), fs::metadata(rig.folder.path().join(name)).unwrap());
        assert_eq!(here.modified().unwrap(), moment, "{name}");
        assert_eq!((here.ctime(), here.ctime_nsec()), (there.ctime(), there.ctime_nsec()), "{name}");
        assert!(fs::read(mount.join(name)).unwrap() == pattern(5000, 0));
        // New bytes under the old length and modification time: the change time tells, and nobody can set that back.
        rewrite(&rig.folder.path().join(name), &pattern(5000, 1));
        set(&rig.folder.path().join(name), moment);
        eventually(name, || fs::read(mount.join(name)).is_ok_and(|bytes| bytes == pattern(5000, 1)));
    }
}

#[test]
fn several_shares_are_folders_of_the_mount() {
    if !can_mount() {
        return;
    }
    let folders = [("films", "a"), ("stills", "b"), ("both", "")];
    let mut rig = Rig::of_shares(&folders, |root| {
        for (folder, mode) in [("a", 0o750), ("b", 0o755)] {
            fs::create_dir(root.join(folder)).unwrap();
            fs::set_permissions(root.join(folder), Permissions::from_mode(mode)).unwrap();
        }
        fs::write(root.join("a/one"), b"1").unwrap();
        fs::write(root.join("b/two"), b"22").unwrap();
    });
    let mount = rig.mount();
    let names = |path: &Path| {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(mount.path()), ["both", "films", "stills"]);
    let root = fs::metadata(mount.path()).unwrap();
    assert_eq!((root.mode() & 0o7777, root.nlink(), root.ino()), (0o555, 5, 1));
    assert_eq!(root.uid(), rustix::process::geteuid().as_raw());
    assert_eq!(fs::metadata(mount.path()).unwrap().modified().unwrap(), root.modified().unwrap());
    for (share, folder) in folders {
        let (here, there) =
            (fs::metadata(mount.join(share)).unwrap(), fs::metadata(rig.folder.path().join(folder)).unwrap());
        assert_eq!((here.mode(), here.nlink(), here.mtime()), (there.mode(), there.nlink(), there.mtime()));
    }
    assert_eq!(fs::read(mount.join("films/one")).unwrap(), b"1");
    assert_eq!(fs::read(mount.join("both/a/one")).unwrap(), b"1");
    let ino = |path: &str| fs::metadata(mount.join(path)).unwrap().ino();
    assert_ne!(ino("films/one"), ino("both/a/one"), "in two shares it is two files");
    assert_ne!(ino("films"), ino("both/a"));
    assert_eq!(number(fs::metadata(mount.join("absent"))), Some(Errno::ENOENT));
    let state = |path: &str| rustix::fs::statfs(mount.join(path)).unwrap();
    assert_eq!(state("films/one").f_blocks * 4096, state("").f_blocks * 4096, "one file system");
    assert_eq!(status(&rig, &mount, "/shares"), serde_json::json!(["films", "stills", "both"]));
    let one = rig.mount_with(&["--share", "stills"]);
    assert_eq!(names(one.path()), ["two"], "a share that is named is the root");

    let open = File::open(mount.join("films/one")).unwrap();
    let path = mount.path().to_str().unwrap().to_owned();
    rig.stop_host();
    assert_eq!(names(mount.path()), ["both", "films", "stills"], "the host may come back with them");
    let looks = finish(Command::new("sh").args(["-c", "ls -d $0; df $0; ls -d $0/films", &path]));
    assert!(looks.status.success(), "{looks:?}");
    rig.reshare(&[("stills", "b"), ("tapes", "a")]);
    rig.start_host();
    eventually("the shares of the host as it is now", || names(mount.path()) == ["stills", "tapes"]);
    eventually("a share that is gone", || number(fs::metadata(mount.join("films"))) == Some(Errno::ENOENT));
    assert_eq!(number(open.read_exact_at(&mut [0], 0)), Some(Errno::ESTALE));
    assert_eq!(fs::read(mount.join("stills/two")).unwrap(), b"22");
    assert_eq!(fs::read(mount.join("tapes/one")).unwrap(), b"1");
    assert_eq!(status(&rig, &mount, "/shares"), serde_json::json!(["stills", "tapes"]));
}
