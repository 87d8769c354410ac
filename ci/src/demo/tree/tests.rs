//! Every way two trees can differ is found and named.

use std::env;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process;

use super::*;

/// A folder of one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("wormhole-ci-tree-{name}-{}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Two equal trees, `a` and `b`.
    fn twins(name: &str) -> (Self, PathBuf, PathBuf) {
        let folder = Self::new(name);
        let (a, b) = (folder.0.join("a"), folder.0.join("b"));
        for root in [&a, &b] {
            fs::create_dir_all(root.join("sub")).unwrap();
            fs::write(root.join("sub/file"), vec![7; PIECE_BYTES + 10]).unwrap();
            fs::write(root.join("small"), b"small").unwrap();
            symlink("small", root.join("link")).unwrap();
        }
        (folder, a, b)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Both passes of the demo; times are left out, since the twins are written one after the other.
fn compare(a: &Path, b: &Path) -> Result<(), String> {
    let progress = Progress::default();
    let timeless = |root: &Path| {
        let mut entries = list(root, &progress).unwrap();
        entries.iter_mut().for_each(|entry| entry.modified = (0, 0));
        entries
    };
    let (ours, mut theirs) = (timeless(a), timeless(b));
    read_all(b, &mut theirs, &progress)?;
    compare_entries(&ours, &theirs)?;
    compare_bytes(a, b, &theirs, &progress)
}

#[test]
fn equal_trees_are_equal() {
    let (_folder, a, b) = Folder::twins("equal");
    assert_eq!(compare(&a, &b), Ok(()));
    let totals = totals(&list(&a, &Progress::default()).unwrap());
    let bytes = PIECE_BYTES as u64 + 15;
    assert_eq!(totals, Totals { files: 2, folders: 2, symlinks: 1, specials: 0, bytes });
}

#[test]
fn the_first_byte_that_differs_is_named() {
    let (_folder, a, b) = Folder::twins("byte");
    let mut bytes = vec![7; PIECE_BYTES + 10];
    bytes[PIECE_BYTES + 3] = 8;
    fs::write(b.join("sub/file"), bytes).unwrap();
    assert_eq!(compare(&a, &b), Err(format!("\"sub/file\" differs at byte {}", PIECE_BYTES + 3)));
}

#[test]
fn missing_and_added_names_are_found() {
    let (_folder, a, b) = Folder::twins("names");
    fs::write(b.join("more"), b"").unwrap();
    assert_eq!(compare(&a, &b), Err("\"more\" is on the mount only".into()));
    fs::remove_file(b.join("more")).unwrap();
    fs::remove_file(b.join("small")).unwrap();
    assert_eq!(compare(&a, &b), Err("\"small\" is missing on the mount".into()));
}

#[test]
fn modes_sizes_and_targets_are_compared() {
    let (_folder, a, b) = Folder::twins("attributes");
    fs::set_permissions(b.join("small"), Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(a.join("small"), Permissions::from_mode(0o644)).unwrap();
    assert_eq!(compare(&a, &b), Err("\"small\" differs in mode: 644 on the host, 600 on the mount".into()));
    fs::set_permissions(b.join("small"), Permissions::from_mode(0o644)).unwrap();
    fs::remove_file(b.join("link")).unwrap();
    symlink("sub", b.join("link")).unwrap();
    let target = compare(&a, &b).unwrap_err();
    assert!(target.starts_with("\"link\" differs in type or link target"), "{target}");
    fs::remove_file(b.join("link")).unwrap();
    symlink("small", b.join("link")).unwrap();
    fs::write(b.join("small"), b"smaller").unwrap();
    assert_eq!(compare(&a, &b), Err("\"small\" differs in size: 5 on the host, 7 on the mount".into()));
}

#[test]
fn times_are_compared_to_the_nanosecond() {
    let (_folder, a, _) = Folder::twins("times");
    let ours = list(&a, &Progress::default()).unwrap();
    let mut theirs = ours.clone();
    theirs[1].modified.1 ^= 1;
    assert!(compare_entries(&ours, &theirs).unwrap_err().contains("modification time"));
}

#[test]
fn a_first_reading_that_was_wrong_is_found() {
    let (_folder, a, b) = Folder::twins("sum");
    let progress = Progress::default();
    let mut entries = list(&b, &progress).unwrap();
    read_all(&b, &mut entries, &progress).unwrap();
    let file = entries.iter_mut().find(|entry| entry.path == Path::new("small")).unwrap();
    file.sum = file.sum.map(|sum| sum ^ 1);
    assert!(compare_bytes(&a, &b, &entries, &progress).unwrap_err().contains("first reading"));
}

#[test]
fn the_sum_notices_what_goes_wrong() {
    let sum = |pieces: &[&[u8]]| {
        let mut sum = Sum::default();
        pieces.iter().for_each(|piece| sum.add(piece));
        sum.0
    };
    let (one, two) = (b"abcdefgh".as_slice(), b"ABCDEFGH".as_slice());
    let all = [
        sum(&[one, two]),
        sum(&[two, one]),
        sum(&[one]),
        sum(&[one, one]),
        sum(&[one, b"ABCDEFG"]),
        sum(&[]),
    ];
    for (index, a) in all.iter().enumerate() {
        assert!(all[..index].iter().all(|b| a != b), "{all:?}");
    }
    assert_eq!(first_difference(b"abc", b"abd"), Some(2));
    assert_eq!(first_difference(b"abc", b"ab"), Some(2));
}
