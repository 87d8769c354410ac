//! Programs that walk a tree: its folders are listed before they are opened, and never shown as they were before.

use std::{fs, path::Path};

use wormhole_fusefront::status::Report;

use crate::rig::{Mount, Rig, can_mount, soon};

const FOLDERS: usize = 80;
/// Folders that a walk is ahead by, at most.
const WINDOW_MAX: u64 = 64;

fn name(n: usize) -> String {
    format!("folder{n:03}")
}

/// Folders with a file and two folders each, and a file in those.
fn tree(root: &Path) {
    for n in 0..FOLDERS {
        for inner in ["left", "right"] {
            fs::create_dir_all(root.join(name(n)).join(inner)).unwrap();
            fs::write(root.join(name(n)).join(inner).join("leaf"), b"leaf").unwrap();
        }
        fs::write(root.join(name(n)).join("file"), b"file").unwrap();
    }
}

/// Everything below a folder, each folder before what is in it.
fn walk(dir: &Path, seen: &mut Vec<String>, root: &Path) {
    let entries: Vec<_> = fs::read_dir(dir).unwrap().map(Result::unwrap).collect();
    for entry in entries {
        seen.push(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), seen, root);
        }
    }
}

fn all(root: &Path) -> Vec<String> {
    let mut seen = Vec::new();
    walk(root, &mut seen, root);
    seen.sort();
    seen
}

/// Waits until nothing is being listed any more.
fn settled(rig: &Rig, mount: &Mount) -> Report {
    let mut last = rig.status(mount);
    soon("nothing more is listed", || {
        let now = rig.status(mount);
        let is_same = now.metadata_requests == last.metadata_requests && now.leases == last.leases;
        last = now;
        is_same
    });
    last
}

#[test]
fn a_walk_is_listed_ahead() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(tree);
    let mount = rig.mount();
    assert_eq!(all(mount.path()), all(rig.folder.path()));
    let report = settled(&rig, &mount);
    let (ahead, used) = (report.leases.listed_ahead, report.leases.ahead_used);
    assert!(used > FOLDERS as u64 * 3 / 2, "{:?}", report.leases);
    // On a busy machine the walk may stand still for longer than what is ahead waits for it: once, for one window.
    let lost = ahead - used;
    assert!(lost <= WINDOW_MAX, "none for nothing: {:?}", report.leases);
    // One for each folder; a few look-ups and leases besides.
    assert!(report.metadata_requests < FOLDERS as u64 * 3 + 20 + lost, "{}", report.metadata_requests);
}

#[test]
fn a_folder_looked_at_alone_has_nothing_listed_ahead() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(tree);
    let mount = rig.mount();
    for dir in ["", "folder007/left", "folder040", ""] {
        assert!(fs::read_dir(mount.join(dir)).unwrap().count() > 0);
        assert!(fs::read(mount.join("folder001/file")).unwrap() == b"file");
    }
    // Each but the last of these is no child of one that was opened before; that one begins at most a small walk.
    let report = settled(&rig, &mount);
    assert!(report.leases.listed_ahead <= 4, "{:?}", report.leases);
}

#[test]
fn a_change_in_a_folder_listed_ahead_is_seen() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(tree);
    let mount = rig.mount();
    let folders: Vec<_> =
        fs::read_dir(mount.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    for folder in &folders[..4] {
        assert_eq!(fs::read_dir(mount.join(folder)).unwrap().count(), 3);
    }
    let before = settled(&rig, &mount);
    assert!(before.leases.listed_ahead > before.leases.ahead_used, "some are ahead: {:?}", before.leases);
    let host = rig.folder.path();
    for folder in &folders[4..] {
        fs::write(host.join(folder).join("new"), b"new").unwrap();
        fs::remove_file(host.join(folder).join("file")).unwrap();
        fs::rename(host.join(folder).join("left"), host.join(folder).join("moved")).unwrap();
    }
    soon("the tree as it is now", || all(mount.path()) == all(host));
}

#[test]
fn a_walk_outlives_its_session() {
    if !can_mount() {
        return;
    }
    let mut rig = Rig::new(tree);
    let mount = rig.mount();
    let folders: Vec<_> =
        fs::read_dir(mount.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    for folder in &folders[..8] {
        assert_eq!(fs::read_dir(mount.join(folder)).unwrap().count(), 3);
    }
    rig.stop_host();
    for folder in &folders[8..] {
        fs::write(rig.folder.path().join(folder).join("new"), b"new").unwrap();
    }
    rig.start_host();
    soon("the session is back", || rig.status(&mount).session.connected);
    assert_eq!(all(mount.path()), all(rig.folder.path()));
    let report = settled(&rig, &mount);
    assert!(report.leases.ahead_used > 0, "{:?}", report.leases);
}
