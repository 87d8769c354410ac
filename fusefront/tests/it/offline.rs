//! `--offline-ok`: what was read while the host was there is read without it, also by the next mount, and nothing is
//! made up.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use nix::{libc::EIO, sys::signal::Signal};
use tempfile::TempDir;

use crate::{
    failure::until,
    rig::{Mount, Rig, can_mount, finish},
};

const LARGE: usize = (3 << 20) + 4321;

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i / 7 + i * 13 + (i >> 17) * 5 + seed) % 251).unwrap()).collect()
}

/// All that `find` and `ls -l` show of a tree, and the bytes.
type Seen = BTreeMap<PathBuf, (u64, u32, u32, u32, u64, i64, i64, Vec<u8>)>;

fn look(root: &Path) -> io::Result<Seen> {
    let (mut seen, mut todo) = (Seen::new(), vec![PathBuf::new()]);
    while let Some(at) = todo.pop() {
        let path = root.join(&at);
        let meta = path.symlink_metadata()?;
        let holds = if meta.is_dir() {
            for entry in fs::read_dir(&path)? {
                todo.push(at.join(entry?.file_name()));
            }
            Vec::new()
        } else if meta.is_symlink() {
            fs::read_link(&path)?.into_os_string().into_encoded_bytes()
        } else {
            fs::read(&path)?
        };
        let times = (meta.mtime(), meta.mtime_nsec());
        let shown = (meta.ino(), meta.mode(), meta.uid(), meta.gid(), meta.size(), times.0, times.1, holds);
        seen.insert(at, shown);
    }
    Ok(seen)
}

fn fill(root: &Path) {
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    fs::create_dir(root.join("a/empty")).unwrap();
    for number in 0..40 {
        fs::write(root.join(format!("a/b/small-{number}")), pattern(number * 333, number)).unwrap();
    }
    fs::write(root.join("a/b/c/large"), pattern(LARGE, 1)).unwrap();
    fs::write(root.join("chunk"), pattern(128 << 10, 2)).unwrap();
    fs::set_permissions(root.join("chunk"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("b/c/large", root.join("a/link")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    settle(root);
}

/// Waits until what changed just now is old enough to be kept.
fn settle(root: &Path) {
    let changed = SystemTime::now(); // clock: the file system's, which the next line waits for
    // clock: a change is settled once the file system's clock has moved on, and nothing tells of that.
    until("the change is settled", || changed.elapsed().is_ok_and(|age| age > Duration::from_millis(100)));
    assert!(root.is_dir());
}

struct Tree {
    rig: Rig,
    cache: TempDir,
}

impl Tree {
    fn new() -> Tree {
        Tree { rig: Rig::new(fill), cache: TempDir::new().unwrap() }
    }

    fn arguments(&self) -> [&str; 7] {
        let dir = self.cache.path().to_str().unwrap();
        ["--offline-ok", "--cache-dir", dir, "--cache-size", "64MiB", "--deadline", "10s"]
    }

    fn mount(&self) -> Mount {
        self.rig.mount_with(&self.arguments())
    }

    fn unmount(&self, mut mount: Mount) {
        let done = self.rig.run(&["unmount", mount.path().to_str().unwrap()]);
        assert!(done.status.success(), "{done:?}");
        assert_eq!(mount.exit_code(), Some(0));
    }

    /// The file that the next mount begins with.
    fn known(&self) -> Option<PathBuf> {
        let entries = fs::read_dir(self.cache.path()).ok()?;
        entries.map(|entry| entry.unwrap().path()).find(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("known-") && !name.ends_with(".new")
        })
    }

    fn host(&self, path: &str) -> PathBuf {
        self.rig.folder.path().join(path)
    }
}

/// How many names a folder lists.
fn names(path: &Path) -> io::Result<usize> {
    Ok(fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?.len())
}

fn errno<T>(outcome: io::Result<T>) -> Option<i32> {
    outcome.err().and_then(|error| error.raw_os_error())
}

#[test]
fn all_that_was_read_is_read_without_the_host_and_its_changes_are_seen_when_it_appears() {
    if !can_mount() {
        return;
    }
    let mut tree = Tree::new();
    let mount = tree.mount();
    let seen = look(mount.path()).unwrap();
    assert_eq!(seen, look(tree.rig.folder.path()).unwrap(), "the host's tree");
    let pinned = |mount: &Mount| tree.rig.status(mount).cache.unwrap().pinned_files;
    assert!(tree.rig.run(&["cache", "pin", mount.join("a/b").to_str().unwrap()]).status.success());
    assert_eq!(pinned(&mount), 41);
    tree.unmount(mount);
    // A mount that reads nothing takes nothing away.
    tree.unmount(tree.mount());
    tree.rig.stop_host();
    let mount = tree.mount();
    assert_eq!(look(mount.path()).unwrap(), seen);
    let listed = finish(tree.rig.wormhole().args(["status"]).arg(mount.path()));
    let text = String::from_utf8(listed.stdout).unwrap();
    assert!(text.contains("the host has not appeared"), "{text}");
    let report = tree.rig.status(&mount);
    assert!(report.serves_stale && !report.session.connected && report.session.reconnects == 0);
    assert_eq!(report.offline.unwrap().host_appeared_s, None);
    let unpinned = tree.rig.run(&["cache", "unpin", mount.join("a/b").to_str().unwrap()]);
    assert!(unpinned.status.success(), "{unpinned:?}");
    assert_eq!(tree.rig.status(&mount).cache.unwrap().pinned_files, 0);
    // Never "no such file": nobody can say so.
    assert_eq!(errno(fs::metadata(mount.join("a/never"))), Some(EIO));
    assert_eq!(errno(File::options().write(true).open(mount.join("chunk"))), Some(nix::libc::EROFS));

    fs::write(tree.host("chunk"), b"changed").unwrap();
    // In this order: the new file gets a number of its own.
    fs::write(tree.host("a/b/new"), b"new").unwrap();
    fs::remove_file(tree.host("a/b/small-7")).unwrap();
    settle(tree.rig.folder.path());
    let now = look(tree.rig.folder.path()).unwrap();
    tree.rig.start_host();
    until("the host appears", || tree.rig.status(&mount).session.connected);
    assert!(tree.rig.status(&mount).offline.unwrap().host_appeared_s.is_some());
    assert_eq!(fs::read(mount.join("a/b/new")).unwrap(), b"new");
    // Names and attributes that the kernel was told before hold for a second.
    until("all changes are seen", || look(mount.path()).is_ok_and(|seen| seen == now));
    assert_eq!(tree.rig.status(&mount).session.reconnects, 0);
    assert_eq!(errno(fs::metadata(mount.join("a/never"))), Some(nix::libc::ENOENT));
}

#[test]
fn what_a_killed_mount_had_written_down_is_served_and_the_rest_is_an_error() {
    if !can_mount() {
        return;
    }
    let mut tree = Tree::new();
    let mut mount = tree.mount();
    let seen = look(&mount.join("a")).unwrap();
    until("what is known is written", || tree.known().is_some());
    // Known to this mount alone, if it is quick.
    let later = fs::read_dir(mount.path()).unwrap().count();
    assert_eq!(later, 3);
    mount.signal(Signal::SIGKILL);
    assert_eq!(mount.exit_code(), None);
    drop(mount);
    tree.rig.stop_host();
    let mount = tree.mount();
    match look(&mount.join("a")) {
        Ok(again) => assert_eq!(again, seen),
        // What waited for the disk when the process was killed is gone; never is it other bytes.
        Err(error) => assert_eq!(error.raw_os_error(), Some(EIO)),
    }
    assert_eq!(names(&mount.join("a/b")).unwrap(), 41);
    let top = names(mount.path());
    assert!(matches!(top, Ok(3)) || errno(top) == Some(EIO));
    assert!(errno(fs::metadata(mount.join("chunk"))).is_none_or(|code| code == EIO));
}

#[test]
fn what_was_not_read_is_an_error() {
    if !can_mount() {
        return;
    }
    let mut tree = Tree::new();
    let mount = tree.mount();
    assert_eq!(fs::read_dir(mount.join("a")).unwrap().count(), 3);
    let head = pattern(LARGE, 1);
    assert_eq!(fs::metadata(mount.join("a/b/c/large")).unwrap().len(), LARGE as u64);
    tree.unmount(mount);
    tree.rig.stop_host();
    let mount = tree.mount();
    assert_eq!(fs::read_dir(mount.join("a")).unwrap().count(), 3);
    assert_eq!(fs::metadata(mount.join("a/b/c/large")).unwrap().len(), head.len() as u64);
    assert_eq!(errno(fs::read(mount.join("a/b/c/large"))), Some(EIO), "its bytes were not read");
    assert_eq!(errno(fs::read_link(mount.join("a/link"))), Some(EIO));
    for unlisted in ["", "a/b", "a/b/c", "a/empty"] {
        assert_eq!(errno(names(&mount.join(unlisted))), Some(EIO), "{unlisted:?}");
    }
}

#[test]
fn without_anything_known_or_with_a_refused_ticket_there_is_no_mount() {
    if !can_mount() {
        return;
    }
    let mut tree = Tree::new();
    let refused = |tree: &Tree| {
        let mountpoint = TempDir::new().unwrap();
        let mut command = tree.rig.wormhole();
        command.arg("mount").args(tree.arguments()).arg(tree.rig.ticket_argument()).arg(mountpoint.path());
        let output = finish(&mut command);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let ticket = tree.rig.ticket_argument();
    let ticket = fs::read_to_string(ticket.trim_start_matches('@')).unwrap();
    let id = wire::Ticket::parse(&ticket).unwrap().claims.id;
    tree.rig.stop_host();
    let said = refused(&tree);
    assert!(said.contains("left here what it knew"), "{said}");
    tree.rig.start_host();
    let mount = tree.mount();
    look(mount.path()).unwrap();
    tree.unmount(mount);
    assert!(tree.known().is_some());
    tree.rig.revoke(id);
    let said = refused(&tree);
    assert!(said.contains("refused this ticket"), "{said}");
    assert_eq!(tree.known(), None, "and nothing is kept for it");
}

#[test]
fn damage_to_what_is_known_is_said_once_and_the_mount_works() {
    if !can_mount() {
        return;
    }
    let mut tree = Tree::new();
    let mount = tree.mount();
    let seen = look(mount.path()).unwrap();
    tree.unmount(mount);
    let known = tree.known().unwrap();
    assert_eq!(fs::metadata(&known).unwrap().mode() & 0o777, 0o600);
    let bytes = fs::read(&known).unwrap();
    fs::write(&known, &bytes[..bytes.len() / 2]).unwrap();
    let mount = tree.mount();
    assert_eq!(look(mount.path()).unwrap(), seen, "the host is there");
    tree.unmount(mount);
    tree.rig.stop_host();
    let mount = tree.mount();
    assert_eq!(look(mount.path()).unwrap(), seen, "it was written anew");
}
