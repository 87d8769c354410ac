//! Who may do what, and by which means.

use std::{
    fs::{self, File, FileTimes, Permissions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::{
        fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink},
        process::ExitStatusExt,
    },
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl},
    libc,
    sys::{
        signal::Signal,
        stat::{Mode, SFlag, makedev, mknod},
    },
    unistd::mkfifo,
};
use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};

use super::{NOBODY, Program, as_nobody, eventually, is_root, number, pattern, rewrite};
use crate::rig::{Rig, can_mount, finish, skipped};

#[test]
fn mmap() {
    if !can_mount() {
        return;
    }
    // Far more than the kernel reads ahead of the first page.
    const LEN: usize = 12_000_000;
    let mut bytes = pattern(LEN, 0);
    bytes[..5].copy_from_slice(b"first");
    bytes[LEN - 5..].copy_from_slice(b"last.");
    let rig = Rig::new(|root| {
        fs::write(root.join("a"), &bytes).unwrap();
        fs::write(root.join("b"), &bytes).unwrap();
        fs::copy("/bin/cat", root.join("cat")).unwrap();
        fs::set_permissions(root.join("cat"), Permissions::from_mode(0o755)).unwrap();
    });
    let mount = rig.mount();
    let output = finish(Command::new(mount.join("cat")).arg(mount.join("a")));
    assert!(output.stdout == bytes, "a program runs from the mount");
    let script = "
import mmap, sys
f = open(sys.argv[1], 'rb')
for flags in (mmap.MAP_PRIVATE, mmap.MAP_SHARED):
    m = mmap.mmap(f.fileno(), 0, flags=flags, prot=mmap.PROT_READ)
    print(m[:5].decode(), m[-5:].decode())
try:
    mmap.mmap(f.fileno(), 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)
except PermissionError:
    print('refused')
sys.stdin.readline()
print(m[6000000])
";
    let Some(mut program) = Program::python(script, &mount.join("b")) else { return };
    assert_eq!(program.line(), "first last.");
    assert_eq!(program.line(), "first last.");
    assert_eq!(program.line(), "refused");
    // A mapping is a handle: where the bytes it showed are gone from the host, there is nothing to show.
    rewrite(&rig.folder.path().join("b"), &pattern(LEN, 1));
    program.go_on();
    let ended = program.end();
    assert_eq!(ended.signal(), Some(Signal::SIGBUS as i32), "{ended:?}");
}

#[test]
fn o_direct() {
    if !can_mount() {
        return;
    }
    let bytes = pattern(2_500_001, 0);
    let rig = Rig::new(|root| fs::write(root.join("a"), &bytes).unwrap());
    let mount = rig.mount();
    let open =
        || File::options().read(true).custom_flags(OFlag::O_DIRECT.bits()).open(mount.join("a")).unwrap();
    let file = open();
    for (start, len) in [(0, 4096), (4096, 2 << 20), (123, 77), (2_499_000, 1001)] {
        let mut read = vec![0; len];
        file.read_exact_at(&mut read, start as u64).unwrap();
        assert!(read == bytes[start..start + len], "{len} at {start}");
    }
    assert_eq!(file.read_at(&mut [0; 100], 2_500_001).unwrap(), 0, "the end");
    rewrite(&rig.folder.path().join("a"), &pattern(9000, 1));
    eventually("opened again", || {
        let mut read = Vec::new();
        open().read_to_end(&mut read).is_ok_and(|_| read == pattern(9000, 1))
    });
}

/// A record lock of the open file, without waiting for it.
fn record_lock(file: &File, kind: i32) -> nix::Result<i32> {
    let lock = libc::flock {
        l_type: kind.try_into().unwrap(),
        l_whence: libc::SEEK_SET.try_into().unwrap(),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock))
}

#[test]
fn flock_and_fcntl_locks() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(|root| fs::write(root.join("a"), b"x").unwrap());
    let (one, two) = (rig.mount(), rig.mount());
    let exclusive = |path: &Path| Flock::lock(File::open(path).unwrap(), FlockArg::LockExclusiveNonblock);
    let host = rig.folder.path().join("a");
    let held = exclusive(&one.join("a")).unwrap();
    let refused = exclusive(&one.join("a")).map(drop).map_err(|(_, error)| error);
    assert_eq!(refused, Err(Errno::EWOULDBLOCK), "programs of one mount see each other");
    assert!(exclusive(&two.join("a")).is_ok(), "another mount does not");
    assert!(exclusive(&host).is_ok(), "nor does the host");
    drop(held);
    assert!(exclusive(&one.join("a")).is_ok());
    let on_host = File::options().read(true).write(true).open(&host).unwrap();
    record_lock(&on_host, libc::F_WRLCK).unwrap();
    let (first, second) = (File::open(one.join("a")).unwrap(), File::open(one.join("a")).unwrap());
    record_lock(&first, libc::F_RDLCK).unwrap();
    record_lock(&second, libc::F_RDLCK).unwrap();
    // fcntl(2): a write lock takes a descriptor that is open for writing, and a share gives none.
    assert_eq!(record_lock(&first, libc::F_WRLCK), Err(Errno::EBADF));
}

#[test]
fn atime() {
    if !can_mount() {
        return;
    }
    let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let rig = Rig::new(|root| {
        let file = File::create(root.join("a")).unwrap();
        file.write_all_at(b"bytes", 0).unwrap();
        file.set_times(FileTimes::new().set_accessed(moment)).unwrap();
    });
    let mount = rig.mount();
    let seen = |path: &Path| fs::metadata(path).unwrap().atime();
    for _ in 0..2 {
        assert_eq!(fs::read(mount.join("a")).unwrap(), b"bytes");
        assert_eq!(seen(&mount.join("a")), 1_000_000_000, "a mount is noatime");
    }
    assert_eq!(
        seen(&rig.folder.path().join("a")),
        1_000_000_000,
        "the host reads its own files with O_NOATIME"
    );
    // With another change: one of atime alone the host does not see.
    let later = FileTimes::new().set_accessed(moment + Duration::from_secs(5)).set_modified(moment);
    File::open(rig.folder.path().join("a")).unwrap().set_times(later).unwrap();
    eventually("the host's atime", || seen(&mount.join("a")) == 1_000_000_005);
}

#[test]
fn permissions_and_allow_other() {
    if !can_mount() || !is_root("being another user") {
        return;
    }
    let rig = Rig::new(|root| {
        fs::set_permissions(root, Permissions::from_mode(0o755)).unwrap();
        for (name, mode, owner) in [("all", 0o644, 0), ("root", 0o600, 0), ("nobody", 0o400, NOBODY)] {
            fs::write(root.join(name), b"bytes").unwrap();
            fs::set_permissions(root.join(name), Permissions::from_mode(mode)).unwrap();
            chown(root.join(name), Some(owner), Some(owner)).unwrap();
        }
        fs::create_dir(root.join("closed")).unwrap();
        fs::write(root.join("closed/in"), b"bytes").unwrap();
        fs::set_permissions(root.join("closed"), Permissions::from_mode(0o700)).unwrap();
    });
    let (own, shared) = (rig.mount(), rig.mount_with(&["--allow-other"]));
    let can_read = |path: &Path| {
        let output = finish(as_nobody(Path::new("cat")).arg(path));
        let denied = String::from_utf8_lossy(&output.stderr).contains("Permission denied");
        assert!(output.status.success() != denied, "{output:?}");
        output.stdout == b"bytes"
    };
    for (name, allowed) in [("all", true), ("root", false), ("nobody", true), ("closed/in", false)] {
        assert_eq!(fs::read(own.join(name)).unwrap(), b"bytes", "the user who mounted");
        assert!(!can_read(&own.join(name)), "{name}: nobody else comes in");
        assert_eq!(can_read(&shared.join(name)), allowed, "{name}: by its mode");
    }
    let listed = finish(as_nobody(Path::new("ls")).arg(own.path()));
    assert!(!listed.status.success());
}

/// An access control list that lets [`NOBODY`] read, as xattr(7)'s `system.posix_acl_access` holds it.
fn access_list() -> Vec<u8> {
    const NO_ID: u32 = u32::MAX;
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, NO_ID), (2, 4, NOBODY), (4, 4, NO_ID), (0x10, 4, NO_ID), (0x20, 4, NO_ID)];
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

#[test]
fn extended_attributes() {
    if !can_mount() {
        return;
    }
    let labels: [(&str, Vec<u8>); 2] =
        [("security.wormhole", b"label".to_vec()), ("system.posix_acl_access", access_list())];
    let trusted = is_root("a trusted.* attribute");
    let mut kept = true;
    let rig = Rig::new(|root| {
        fs::write(root.join("a"), b"x").unwrap();
        kept = setxattr(root.join("a"), "user.comment", b"good", XattrFlags::empty()).is_ok();
        if trusted {
            setxattr(root.join("a"), "trusted.tag", b"root", XattrFlags::empty()).unwrap();
        }
        for (name, value) in &labels {
            if setxattr(root.join("a"), *name, value, XattrFlags::empty()).is_err() {
                skipped(&format!("{name} cannot be set here"));
            }
        }
    });
    if !kept {
        skipped("the temporary folder keeps no extended attributes");
        return;
    }
    let mount = rig.mount();
    let mut value = [0u8; 64];
    assert_eq!(getxattr(mount.join("a"), "user.comment", &mut value[..]), Ok(4));
    assert_eq!(&value[..4], b"good");
    assert_eq!(getxattr(mount.join("a"), "user.other", &mut value[..]), Err(rustix::io::Errno::NODATA));
    for name in ["security.wormhole", "security.capability", "system.posix_acl_access"] {
        let found = getxattr(mount.join("a"), name, &mut value[..]);
        assert_eq!(found, Err(rustix::io::Errno::OPNOTSUPP), "{name}");
    }
    let mut names = [0u8; 512];
    let len = listxattr(mount.join("a"), &mut names[..]).unwrap();
    let mut listed: Vec<&[u8]> =
        names[..len].split(|&byte| byte == 0).filter(|name| !name.is_empty()).collect();
    listed.sort_unstable();
    let expected: &[&[u8]] = if trusted { &[b"trusted.tag", b"user.comment"] } else { &[b"user.comment"] };
    assert_eq!(listed, expected);
    assert!(!trusted || getxattr(mount.join("a"), "trusted.tag", &mut value[..]) == Ok(4));
    let set = setxattr(mount.join("a"), "user.new", b"1", XattrFlags::empty());
    assert_eq!(set, Err(rustix::io::Errno::ROFS));
    assert_eq!(removexattr(mount.join("a"), "user.comment"), Err(rustix::io::Errno::ROFS));
}

#[test]
fn writes() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(|root| {
        fs::write(root.join("a"), b"x").unwrap();
        fs::create_dir(root.join("d")).unwrap();
    });
    let mount = rig.mount();
    let (file, new) = (mount.join("a"), mount.join("new"));
    let open = |options: &mut fs::OpenOptions, path: &Path| options.open(path).map(drop);
    let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
    let from_nix = |outcome: nix::Result<()>| outcome.map_err(io::Error::from);
    let cases: [(&str, io::Result<()>); 17] = [
        ("create", File::create(&new).map(drop)),
        ("open for writing", open(File::options().write(true), &file)),
        ("open for both", open(File::options().read(true).write(true), &file)),
        ("append", open(File::options().append(true), &file)),
        ("truncate by open", open(File::options().write(true).truncate(true), &file)),
        ("truncate", from_nix(nix::unistd::truncate(&file, 0))),
        ("mkdir", fs::create_dir(&new)),
        ("rmdir", fs::remove_dir(mount.join("d"))),
        ("unlink", fs::remove_file(&file)),
        ("rename", fs::rename(&file, &new)),
        ("link", fs::hard_link(&file, &new)),
        ("symlink", symlink("a", &new)),
        ("mkfifo", from_nix(mkfifo(&new, Mode::S_IRUSR))),
        ("chmod", fs::set_permissions(&file, Permissions::from_mode(0o600))),
        ("chown", chown(&file, Some(rustix::process::getuid().as_raw()), None)),
        ("utimes", File::open(&file).unwrap().set_times(times)),
        ("unnamed file", {
            let mut options = File::options();
            open(options.write(true).custom_flags(OFlag::O_TMPFILE.bits()), mount.path())
        }),
    ];
    for (what, outcome) in cases {
        assert_eq!(number(outcome), Some(Errno::EROFS), "{what}");
    }
    let writable = nix::unistd::access(&file, nix::unistd::AccessFlags::W_OK);
    assert_eq!(writable, Err(Errno::EROFS), "access(2) says so beforehand");
    assert_eq!(fs::read_dir(rig.folder.path()).unwrap().count(), 2, "nothing reached the host");
    assert_eq!(fs::read(rig.folder.path().join("a")).unwrap(), b"x");
}

#[test]
fn setuid_programs() {
    if !can_mount() || !is_root("being another user") {
        return;
    }
    let rig = Rig::new(|root| {
        fs::set_permissions(root, Permissions::from_mode(0o755)).unwrap();
        fs::copy("/usr/bin/id", root.join("id")).unwrap();
        fs::set_permissions(root.join("id"), Permissions::from_mode(0o4755)).unwrap();
        mknod(&root.join("null"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3)).unwrap();
        fs::set_permissions(root.join("null"), Permissions::from_mode(0o666)).unwrap();
    });
    let runs_as = |arguments: &[&str]| {
        let mount = rig.mount_with(arguments);
        let device = finish(as_nobody(Path::new("cat")).arg(mount.join("null")));
        let opens = arguments.contains(&"dev");
        assert_eq!(device.status.success(), opens, "{device:?}");
        assert_eq!(
            number(File::open(mount.join("null"))),
            (!opens).then_some(Errno::EACCES),
            "not even for root"
        );
        assert_eq!(fs::metadata(mount.join("id")).unwrap().mode() & 0o7777, 0o4755, "the bit is shown");
        let output = finish(as_nobody(&mount.join("id")).arg("-u"));
        String::from_utf8(output.stdout).unwrap().trim().parse::<u32>().unwrap()
    };
    assert_eq!(runs_as(&["--allow-other"]), NOBODY, "and means nothing");
    assert_eq!(runs_as(&["--allow-other", "-o", "suid"]), 0, "unless it is asked for");
    assert_eq!(
        runs_as(&["--allow-other", "-o", "dev"]),
        NOBODY,
        "and that is no device, nor the other way round"
    );
}

#[test]
fn sparse_files() {
    if !can_mount() {
        return;
    }
    const LEN: u64 = 1 << 40;
    let rig = Rig::new(|root| {
        let file = File::create(root.join("a")).unwrap();
        file.set_len(LEN).unwrap();
        file.write_all_at(b"data", LEN / 2).unwrap();
    });
    let mount = rig.mount();
    let (here, there) =
        (fs::metadata(mount.join("a")).unwrap(), fs::metadata(rig.folder.path().join("a")).unwrap());
    assert_eq!((here.len(), here.blocks()), (LEN, there.blocks()));
    let mut file = File::open(mount.join("a")).unwrap();
    let mut read = [1; 4096];
    file.read_exact_at(&mut read, LEN / 4).unwrap();
    assert_eq!(read, [0; 4096], "a hole reads as zeros");
    file.seek(SeekFrom::Start(LEN / 2)).unwrap();
    file.read_exact(&mut read[..4]).unwrap();
    assert_eq!(&read[..4], b"data");
    // Where the holes are is not told: the file is all data to lseek(2).
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)), Ok(0));
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(0)), Ok(LEN));
}
