//! The tree on the mount is the tree on the host.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::{self, File, FileTimes, Permissions},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use nix::{sys::stat::Mode, unistd::mkfifo};

use crate::rig::{Rig, can_mount, skipped};

/// All that `find -printf` and `cmp` would tell of one file.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    size: u64,
    links: u64,
    inode: u64,
    owner: (u32, u32),
    mtime: (i64, i64),
    ctime: (i64, i64),
    blocks: u64,
    target: Option<PathBuf>,
    bytes: Option<Vec<u8>>,
}

fn see(path: &Path) -> Seen {
    let found = fs::symlink_metadata(path).unwrap();
    Seen {
        mode: found.mode(),
        size: found.size(),
        links: found.nlink(),
        inode: found.ino(),
        owner: (found.uid(), found.gid()),
        mtime: (found.mtime(), found.mtime_nsec()),
        ctime: (found.ctime(), found.ctime_nsec()),
        blocks: found.blocks(),
        target: found.is_symlink().then(|| fs::read_link(path).unwrap()),
        bytes: found.is_file().then(|| fs::read(path).unwrap()),
    }
}

fn walk(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut all = BTreeMap::from([(PathBuf::new(), see(root))]);
    let mut left = vec![PathBuf::new()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(root.join(&dir)).unwrap() {
            let entry = entry.unwrap();
            let path = dir.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                left.push(path.clone());
            }
            let seen = see(&root.join(&path));
            assert_eq!(std::os::unix::fs::DirEntryExt::ino(&entry), seen.inode, "{}", path.display());
            all.insert(path, seen);
        }
    }
    all
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from(i * 31 % 251).unwrap()).collect()
}

fn odd_names() -> Vec<OsString> {
    let mut names: Vec<OsString> =
        ["with space", "new\nline", "-dash", "ünïcode", "tab\t", "*?[", "..."].map(OsString::from).into();
    names.push(OsStr::from_bytes(b"not utf-8 \xff\xfe").to_owned());
    names.push("n".repeat(255).into());
    names
}

fn fill(root: &Path) {
    fs::create_dir_all(root.join("deep/er/and/deeper")).unwrap();
    fs::create_dir(root.join("empty folder")).unwrap();
    // Around the sizes of a page, a chunk and an extent.
    for edge in [0, 4096, 131_072, 1 << 20, 2 << 20] {
        for size in [edge.max(1) - 1, edge, edge + 1] {
            fs::write(root.join(format!("deep/{size}")), pattern(size)).unwrap();
        }
    }
    for name in odd_names() {
        fs::write(root.join("deep/er").join(&name), name.as_bytes()).unwrap();
    }
    fs::hard_link(root.join("deep/4097"), root.join("second name")).unwrap();
    symlink("deep/4096", root.join("link")).unwrap();
    symlink("/nowhere/at all", root.join("deep/dangling")).unwrap();
    symlink(OsStr::from_bytes(b"raw \xff"), root.join("raw link")).unwrap();
    mkfifo(&root.join("fifo"), Mode::from_bits_truncate(0o640)).unwrap();
    for (name, mode) in [("deep/1", 0o4755), ("deep/4095", 0o000), ("empty folder", 0o1770)] {
        fs::set_permissions(root.join(name), Permissions::from_mode(mode)).unwrap();
    }
    let before_1970 = SystemTime::UNIX_EPOCH - Duration::new(1, 500);
    let times = FileTimes::new().set_modified(before_1970);
    File::options().write(true).open(root.join("deep/131072")).unwrap().set_times(times).unwrap();
}

#[test]
fn the_whole_tree_is_equal() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(fill);
    let mount = rig.mount();
    let expected = walk(rig.folder.path());
    let found = walk(mount.path());
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (path, seen) in &expected {
        // Without the bytes of a mismatch: they are long.
        assert!(
            found[path] == *seen,
            "{}: {:?}",
            path.display(),
            Seen { bytes: None, ..see(&mount.join(path)) }
        );
    }
}

#[test]
fn two_mounts_of_one_share_are_equal() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(fill);
    let (one, two) = (rig.mount(), rig.mount());
    assert!(walk(one.path()) == walk(two.path()));
}

#[test]
fn a_directory_of_20_000_entries_lists_completely() {
    if !can_mount() {
        return;
    }
    let mut expected: Vec<OsString> = (0..20_000).map(|i| format!("{i:06}").into()).collect();
    let rig = Rig::new(|root| {
        for name in &expected {
            File::create(root.join(name)).unwrap();
        }
    });
    let mount = rig.mount();
    let mut names: Vec<OsString> =
        fs::read_dir(mount.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    expected.sort();
    assert!(names == expected, "{} names", names.len());
}

#[test]
fn extended_attributes_are_shown() {
    if !can_mount() {
        return;
    }
    use rustix::fs::{XattrFlags, getxattr, listxattr, setxattr};
    let mut kept = true;
    let rig = Rig::new(|root| {
        fs::write(root.join("a"), b"x").unwrap();
        kept = setxattr(root.join("a"), "user.comment", b"good", XattrFlags::empty()).is_ok();
    });
    if !kept {
        skipped("the temporary folder keeps no extended attributes");
        return;
    }
    let mount = rig.mount();
    let mut value = [0u8; 64];
    assert_eq!(getxattr(mount.join("a"), "user.comment", &mut value[..]), Ok(4));
    assert_eq!(&value[..4], b"good");
    assert_eq!(getxattr(mount.join("a"), "user.comment", &mut value[..2]), Err(rustix::io::Errno::RANGE));
    assert_eq!(getxattr(mount.join("a"), "user.other", &mut value[..]), Err(rustix::io::Errno::NODATA));
    let absent = getxattr(mount.join("b"), "user.comment", &mut value[..]);
    assert_eq!(absent, Err(rustix::io::Errno::NOENT));
    let mut names = [0u8; 256];
    let len = listxattr(mount.join("a"), &mut names[..]).unwrap();
    assert!(names[..len].split(|&b| b == 0).any(|name| name == b"user.comment"));
}
