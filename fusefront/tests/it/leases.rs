//! Changes on the host, seen through a mount that had cached what was there before: the host pushes them.
//!
//! Each look first proves that the mount had it cached: past the second for which anything holds without a lease, it asks
//! the host nothing.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    thread,
    time::Duration,
};

use crate::rig::{Mount, Rig, can_mount, soon};

/// Longer than anything holds without a lease, far shorter than it does with one.
const PAST_THE_TTL: Duration = Duration::from_millis(1200);

/// What a program sees of a tree: every name with its kind, size, mode, links, and the text of links.
fn look(dir: &Path, names: &[&str]) -> Vec<String> {
    let mut seen = Vec::new();
    for name in names {
        let path = dir.join(name);
        seen.push(match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => {
                let mut names: Vec<String> = fs::read_dir(&path)
                    .map(|all| all.map(|entry| entry.unwrap().file_name().to_string_lossy().into()).collect())
                    .unwrap_or_default();
                names.sort();
                format!("{name}: {:o} {names:?}", found.mode())
            }
            Ok(found) => format!("{name}: {:o} {} x{}", found.mode(), found.len(), found.nlink()),
            Err(error) => format!("{name}: {:?}", error.kind()),
        });
    }
    seen
}

/// Looks until the mount needs the host for none of it any more: everything is under a lease, and settled.
fn warm(rig: &Rig, mount: &Mount, look: impl Fn()) {
    let requests = || rig.status(mount).metadata_requests;
    soon("all of it comes from memory, past the second that it would hold without a lease", || {
        look();
        let before = requests();
        thread::sleep(PAST_THE_TTL); // clock: the kernel's TTL runs on the real one
        look();
        requests() == before
    });
}

/// Makes a change on the host, and waits until the mount shows what the host has, by names.
fn shows(rig: &Rig, mount: &Mount, names: &[&str], change: impl FnOnce(&Path)) {
    let root = rig.folder.path();
    warm(rig, mount, || assert_eq!(look(mount.path(), names), look(root, names)));
    change(root);
    let truth = look(root, names);
    soon("what the host has now", || look(mount.path(), names) == truth);
}

fn tree(root: &Path) {
    fs::write(root.join("a"), b"first").unwrap();
    fs::write(root.join("b"), b"other file").unwrap();
    fs::create_dir_all(root.join("d/e")).unwrap();
    fs::write(root.join("d/x"), b"x").unwrap();
    fs::write(root.join("d/e/y"), b"yy").unwrap();
    symlink("a", root.join("l")).unwrap();
}

const NAMES: [&str; 14] =
    [".", "a", "b", "c", "d", "d/x", "d/z", "d/e", "d/e/y", "f", "f/x", "f/e", "f/e/y", "l"];

#[test]
fn names_that_come_go_and_move_are_seen_where_they_were_cached() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(tree);
    let mount = rig.mount();
    shows(&rig, &mount, &NAMES, |root| fs::write(root.join("c"), b"new").unwrap());
    shows(&rig, &mount, &NAMES, |root| fs::remove_file(root.join("c")).unwrap());
    shows(&rig, &mount, &NAMES, |root| fs::create_dir(root.join("c")).unwrap());
    shows(&rig, &mount, &NAMES, |root| fs::remove_dir(root.join("c")).unwrap());
    shows(&rig, &mount, &NAMES, |root| fs::rename(root.join("a"), root.join("c")).unwrap());
    // Over an existing name.
    shows(&rig, &mount, &NAMES, |root| fs::rename(root.join("c"), root.join("b")).unwrap());
    // A folder, and with it everything below: nothing happens in those.
    shows(&rig, &mount, &NAMES, |root| fs::rename(root.join("d"), root.join("f")).unwrap());
    shows(&rig, &mount, &NAMES, |root| fs::rename(root.join("f"), root.join("d")).unwrap());
    assert_eq!(rig.status(&mount).errors, 0);
}

#[test]
fn contents_and_attributes_that_change_are_seen_where_they_were_cached() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(tree);
    let mount = rig.mount();
    let append = |root: &Path| {
        File::options().append(true).open(root.join("d/x")).unwrap().write_all(b"more").unwrap();
    };
    shows(&rig, &mount, &NAMES, append);
    shows(&rig, &mount, &NAMES, |root| {
        File::options().write(true).open(root.join("d/x")).unwrap().set_len(2).unwrap();
    });
    shows(&rig, &mount, &NAMES, |root| {
        fs::set_permissions(root.join("d/x"), fs::Permissions::from_mode(0o600)).unwrap();
    });
    shows(&rig, &mount, &NAMES, |root| {
        fs::set_permissions(root.join("d/e"), fs::Permissions::from_mode(0o711)).unwrap();
    });
    // Of the same size, without an open in between.
    let read = |path: &Path| fs::read(path).unwrap();
    warm(&rig, &mount, || assert_eq!(read(&mount.join("a")), b"first"));
    fs::write(rig.folder.path().join("a"), b"other").unwrap();
    soon("the new bytes", || fs::read(mount.join("a")).is_ok_and(|bytes| bytes == b"other"));
    assert_eq!(rig.status(&mount).errors, 0);
}

#[test]
fn a_file_held_open_is_followed() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(tree);
    let mount = rig.mount();
    let mut file = File::open(mount.join("d/x")).unwrap();
    let mut bytes = Vec::new();
    warm(&rig, &mount, || assert_eq!(file.metadata().unwrap().len(), 1));
    file.read_to_end(&mut bytes).unwrap();
    let mut host = File::options().append(true).open(rig.folder.path().join("d/x")).unwrap();
    host.write_all(b"yz").unwrap();
    soon("its new size", || file.metadata().unwrap().len() == 3);
    soon("its new bytes", || {
        file.seek(SeekFrom::Start(0)).unwrap();
        bytes.clear();
        file.read_to_end(&mut bytes).is_ok() && bytes == b"xyz"
    });
}

#[test]
fn links_are_seen_where_they_were_cached() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(tree);
    let mount = rig.mount();
    let text = |path: &Path| fs::read_link(path.join("l")).unwrap();
    warm(&rig, &mount, || assert_eq!(look(mount.path(), &["l"]), look(rig.folder.path(), &["l"])));
    assert_eq!(text(mount.path()), Path::new("a"));
    symlink("d/x", rig.folder.path().join("new")).unwrap();
    fs::rename(rig.folder.path().join("new"), rig.folder.path().join("l")).unwrap();
    soon("the other text", || text(mount.path()) == Path::new("d/x"));
    // The file's attributes change under its first name too, in another folder.
    shows(&rig, &mount, &["d/x", "a"], |root| fs::hard_link(root.join("d/x"), root.join("z")).unwrap());
    soon("its two names", || fs::metadata(mount.join("z")).is_ok_and(|found| found.nlink() == 2));
    // From here on it is under no lease: a change under one name shows under the other within a second.
    File::options().append(true).open(rig.folder.path().join("z")).unwrap().write_all(b"more").unwrap();
    soon("what was written under the other name", || fs::metadata(mount.join("d/x")).unwrap().len() == 5);
}

#[test]
fn a_listing_in_memory_is_as_the_hosts_after_many_changes() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(|root| {
        for number in 0..3000 {
            fs::write(root.join(format!("n{number:05}")), b"x").unwrap();
        }
    });
    let mount = rig.mount();
    let names = |path: &Path| -> io::Result<Vec<_>> {
        let mut names =
            fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    };
    warm(&rig, &mount, || assert_eq!(names(mount.path()).unwrap().len(), 3000));
    for number in (0..3000).step_by(3) {
        fs::remove_file(rig.folder.path().join(format!("n{number:05}"))).unwrap();
        fs::write(rig.folder.path().join(format!("m{number:05}")), b"y").unwrap();
    }
    let truth = names(rig.folder.path()).unwrap();
    soon("the names of now", || names(mount.path()).unwrap() == truth);
    for name in ["n00000", "n00001", "m00003", "m00001"] {
        let (seen, held) = (mount.join(name).exists(), rig.folder.path().join(name).exists());
        assert_eq!(seen, held, "{name}");
    }
}

#[test]
fn nothing_is_stale_after_a_session_was_lost() {
    if !can_mount() {
        return;
    }
    let mut rig = Rig::new(tree);
    let mount = rig.mount();
    let root = rig.folder.path().to_owned();
    warm(&rig, &mount, || assert_eq!(look(mount.path(), &NAMES), look(&root, &NAMES)));
    let open = File::open(mount.join("d/x")).unwrap();
    rig.stop_host();
    // While nobody watches.
    fs::write(root.join("c"), b"new").unwrap();
    fs::rename(root.join("d"), root.join("f")).unwrap();
    fs::set_permissions(root.join("f/x"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(root.join("l")).unwrap();
    rig.start_host();
    let truth = look(&root, &NAMES);
    soon("what the host has now", || look(mount.path(), &NAMES) == truth);
    soon("the mode of the open file", || {
        fs::metadata(mount.join("f/x"))
            .is_ok_and(|_| open.metadata().is_ok_and(|found| found.mode() & 0o777 == 0o600))
    });
    // And pushes come again.
    shows(&rig, &mount, &NAMES, |root| fs::remove_file(root.join("b")).unwrap());
}

#[test]
fn what_is_absent_stays_absent_in_memory_until_it_is_there() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(tree);
    let mount = rig.mount();
    let absent = |name: &str| {
        fs::metadata(mount.join(name)).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    warm(&rig, &mount, || assert!(absent("nothing") && absent("d/nothing")));
    fs::write(rig.folder.path().join("d/nothing"), b"something").unwrap();
    soon("the file that appeared", || !absent("d/nothing"));
    assert!(absent("nothing"));
}
