//! Folders read file by file: their small files are fetched ahead, and never wrong.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, SystemTime},
};

use nix::libc::ESTALE;
use tempfile::TempDir;
use wormhole_fusefront::status::Report;

use crate::{
    failure::until,
    rig::{Mount, Rig, can_mount},
};

fn name(n: usize) -> String {
    format!("shot.{n:04}.exr")
}

/// Of every length up to 64 KiB, and a little beyond.
fn pattern(n: usize) -> Vec<u8> {
    let len = n * 7919 % 66_000;
    (0..len).map(|at| u8::try_from((at / 3 + at * 7 + n * 13) % 251).unwrap()).collect()
}

fn fill(root: &Path, count: usize) {
    (0..count).for_each(|n| fs::write(root.join(name(n)), pattern(n)).unwrap());
}

/// Waits until what was just written is settled: before, it is not fetched ahead.
fn settle(root: &Path) {
    let mark = root.join("settled");
    fs::write(&mark, b"").unwrap();
    let written = fs::metadata(&mark).unwrap().modified().unwrap();
    // clock: a change is settled once the file system's clock has moved on, and nothing tells of that.
    until("the files are settled", || SystemTime::now() > written + Duration::from_millis(100));
    fs::remove_file(&mark).unwrap();
}

/// A number that looks random, the same each time.
fn scattered(n: usize) -> usize {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15_usize) >> 20
}

fn read_all(mount: &Mount, order: impl Iterator<Item = usize>) {
    for n in order {
        assert!(fs::read(mount.join(name(n))).unwrap() == pattern(n), "file {n}");
    }
}

/// Ends a mount in order; what it said of itself at its end.
fn end(rig: &Rig, mut mount: Mount) -> Report {
    let report = rig.status(&mount);
    assert!(rig.run(&["unmount", mount.path().to_str().unwrap()]).status.success());
    assert_eq!(mount.exit_code(), Some(0));
    report
}

#[test]
fn a_folder_read_in_order_is_fetched_ahead() {
    if !can_mount() {
        return;
    }
    const FILES: usize = 400;
    let rig = Rig::new(|root| fill(root, FILES));
    settle(rig.folder.path());
    let mount = rig.mount();
    read_all(&mount, 0..FILES);
    let report = end(&rig, mount);
    assert!(report.reads.scan_files > FILES as u64 * 8 / 10, "{:?}", report.reads);
    let all: u64 = (0..FILES).map(|n| pattern(n).len() as u64).sum();
    assert!(report.reads.host_bytes <= all, "{:?}", report.reads);
}

#[test]
fn a_folder_read_in_no_order_by_many_is_right() {
    if !can_mount() {
        return;
    }
    const FILES: usize = 400;
    let rig = Rig::new(|root| fill(root, FILES));
    settle(rig.folder.path());
    let mount = rig.mount();
    let mut order: Vec<_> = (0..FILES).collect();
    order.sort_by_key(|n| scattered(*n));
    let (next, root) = (AtomicUsize::new(0), mount.path().to_owned());
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while let Some(n) = order.get(next.fetch_add(1, Relaxed)) {
                    assert!(fs::read(root.join(name(*n))).unwrap() == pattern(*n), "file {n}");
                }
            });
        }
    });
    let report = end(&rig, mount);
    let all: u64 = (0..FILES).map(|n| pattern(n).len() as u64).sum();
    assert!(report.reads.host_bytes <= all + all / 10, "nothing is fetched twice: {:?}", report.reads);
    assert!(report.reads.scan_files > 0, "{:?}", report.reads);
}

#[test]
fn a_wrong_guess_costs_little() {
    if !can_mount() {
        return;
    }
    const FILES: usize = 2000;
    let rig = Rig::new(|root| fill(root, FILES));
    settle(rig.folder.path());
    let mount = rig.mount();
    // A few in order, and then some far apart.
    read_all(&mount, (0..4).chain((4..8).map(|n| n * 211)));
    until("nothing is on its way", || rig.status(&mount).fetches_in_flight == 0);
    let report = end(&rig, mount);
    assert!(report.reads.scan_files <= 24, "{:?}", report.reads);
    assert!(report.reads.scan_bytes <= 24 * 65_536, "{:?}", report.reads);
}

#[test]
fn memory_stays_within_its_bound() {
    if !can_mount() {
        return;
    }
    const FILES: usize = 1500;
    let rig = Rig::new(|root| fill(root, FILES));
    settle(rig.folder.path());
    let mount = rig.mount_with(&["--memory", "32MiB"]);
    read_all(&mount, 0..FILES);
    let report = end(&rig, mount);
    assert!(report.memory.lent_bytes <= 32 << 20, "{:?}", report.memory);
    assert!(report.memory.resident_bytes <= 32 << 20, "{:?}", report.memory);
    assert!(report.reads.scan_files > 500, "{:?}", report.reads);
}

#[test]
fn the_disk_cache_is_filled_by_it_and_read_by_the_next_mount() {
    if !can_mount() {
        return;
    }
    const FILES: usize = 300;
    let rig = Rig::new(|root| fill(root, FILES));
    settle(rig.folder.path());
    let cache = TempDir::new().unwrap();
    let arguments = ["--cache-dir", cache.path().to_str().unwrap(), "--cache-size", "64MiB"];
    let first = rig.mount_with(&arguments);
    read_all(&first, 0..FILES);
    assert!(end(&rig, first).reads.scan_files > FILES as u64 / 2);
    let second = rig.mount_with(&arguments);
    until("the cache is loaded", || !rig.status(&second).cache.unwrap().is_loading);
    read_all(&second, 0..FILES);
    let report = end(&rig, second);
    assert_eq!(report.reads.host_bytes, 0, "{:?}", report.reads);
    let all: u64 = (0..FILES).map(|n| pattern(n).len() as u64).sum();
    assert_eq!(report.reads.l2_bytes, all);
}

/// What a host's users do to a file: each leaves it, at every moment, with one byte all over.
fn disturb(root: &Path, n: usize, round: usize) {
    let (path, byte) = (root.join(name(n)), u8::try_from(round % 250).unwrap() + 1);
    let len = 100 + scattered(n + round) % 60_000;
    match round % 4 {
        // Replaced.
        0 => {
            let fresh = root.join(format!("{}.new", name(n)));
            fs::write(&fresh, vec![byte; len]).unwrap();
            fs::rename(&fresh, &path).unwrap();
        }
        // Written over, at once and in place.
        1 => {
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            let whole = usize::try_from(file.metadata().unwrap().len()).unwrap();
            file.write_all_at(&vec![byte; whole], 0).unwrap();
        }
        // Cut short.
        2 => {
            let file = File::options().write(true).open(&path).unwrap();
            let whole = file.metadata().unwrap().len();
            file.set_len(whole / 2 + 1).unwrap();
        }
        // Taken away, and made again.
        _ => {
            fs::remove_file(&path).unwrap();
            fs::write(&path, vec![byte; len]).unwrap();
        }
    }
}

#[test]
fn files_that_change_while_they_are_scanned_are_never_a_mixture() {
    if !can_mount() {
        return;
    }
    const FILES: usize = 150;
    let rig = Rig::new(|root| {
        (0..FILES).for_each(|n| fs::write(root.join(name(n)), vec![1; 20_000]).unwrap());
    });
    settle(rig.folder.path());
    let mount = rig.mount();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = thread::spawn({
        let (root, stop) = (rig.folder.path().to_owned(), stop.clone());
        move || {
            for round in 0.. {
                if stop.load(Relaxed) {
                    return;
                }
                disturb(&root, scattered(round) % FILES, round);
            }
        }
    });
    let right = AtomicUsize::new(0);
    thread::scope(|scope| {
        for reader in 0..8 {
            let (root, right) = (mount.path().to_owned(), &right);
            scope.spawn(move || {
                for pass in 0..4 {
                    // Some in order, the others in none.
                    let order = |n| if reader % 2 == 0 { n } else { scattered(n + pass) % FILES };
                    for n in (0..FILES).map(order) {
                        right.fetch_add(usize::from(is_whole(&root.join(name(n)))), Relaxed);
                    }
                }
            });
        }
    });
    stop.store(true, Relaxed);
    writer.join().unwrap();
    assert!(right.into_inner() > FILES, "most reads succeed");
    // At rest, what is read is what is there.
    for n in 0..FILES {
        let there = fs::read(rig.folder.path().join(name(n))).ok();
        assert!(fs::read(mount.join(name(n))).ok() == there, "file {n}");
    }
    end(&rig, mount);
}

/// Whether a file could be read; it may be gone, or change under the handle, and must not be two versions at once.
fn is_whole(path: &Path) -> bool {
    match fs::read(path) {
        Ok(bytes) => {
            assert!(bytes.windows(2).all(|pair| pair[0] == pair[1]), "a mixture in {path:?}");
            true
        }
        Err(error) => {
            let is_fair = error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESTALE);
            assert!(is_fair, "{path:?}: {error}");
            false
        }
    }
}

#[test]
fn folders_read_one_after_the_other_are_fetched_ahead_and_each_file_once() {
    if !can_mount() {
        return;
    }
    const FOLDERS: usize = 40;
    const FILES: usize = 20;
    let rig = Rig::new(|root| {
        for folder in 0..FOLDERS {
            let folder = root.join(format!("folder{folder:03}"));
            fs::create_dir(&folder).unwrap();
            fill(&folder, FILES);
        }
    });
    settle(rig.folder.path());
    let mount = rig.mount();
    for folder in 0..FOLDERS {
        let folder = format!("folder{folder:03}");
        for n in 0..FILES {
            assert!(fs::read(mount.join(&folder).join(name(n))).unwrap() == pattern(n), "{folder}, file {n}");
        }
    }
    let report = end(&rig, mount);
    let all: u64 = (0..FILES).map(|n| pattern(n).len() as u64).sum::<u64>() * FOLDERS as u64;
    assert!(report.reads.host_bytes <= all, "nothing is fetched twice: {:?}", report.reads);
    assert!(report.reads.scan_files > (FOLDERS * FILES) as u64 * 8 / 10, "{:?}", report.reads);
    // A lease and a listing for each folder, at most, once it is known how they are read; not a look-up of each file.
    assert!(report.metadata_requests < 6 * FOLDERS as u64, "{}", report.metadata_requests);
}
