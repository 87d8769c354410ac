//! The disk cache under a mount: what was read once is read from this machine, also tomorrow, and never wrong.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use wormhole_fusefront::status::{Cache, Report};

use crate::{
    failure::until,
    rig::{Mount, Rig, can_mount},
};

/// Five whole extents, and a tail of less than a page.
const BYTES: usize = (5 << 20) + 1234;
const CHUNK: usize = 128 << 10;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i / 5 + i * 11 + (i >> 17) * 7) % 251).unwrap()).collect()
}

/// A host of one file, and a folder for the cache.
struct Disk {
    rig: Rig,
    cache: TempDir,
    bytes: Vec<u8>,
}

impl Disk {
    fn new() -> Disk {
        let bytes = pattern(BYTES);
        let rig = Rig::new(|root| fs::write(root.join("a"), &bytes).unwrap());
        let disk = Disk { rig, cache: TempDir::new().unwrap(), bytes };
        disk.age();
        disk
    }

    fn on_host(&self) -> PathBuf {
        self.rig.folder.path().join("a")
    }

    /// Gives the file a time of long ago: what changed just now is not kept.
    fn age(&self) {
        let file = File::options().write(true).open(self.on_host()).unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        file.set_modified(long_ago).unwrap();
        let changed = file.metadata().unwrap();
        let changed =
            Duration::new(changed.ctime().unsigned_abs(), u32::try_from(changed.ctime_nsec()).unwrap());
        // clock: a change is settled once the file system's clock has moved on, and nothing tells of that.
        let is_past = || SystemTime::now() > SystemTime::UNIX_EPOCH + changed + Duration::from_millis(100);
        until("the change is settled", is_past);
    }

    /// Mounts, and waits until all that earlier mounts left is found.
    fn mount(&self) -> Mount {
        let cache = self.cache.path().to_str().unwrap();
        let mount = self.rig.mount_with(&["--cache-dir", cache, "--cache-size", "64MiB"]);
        until("the cache is loaded", || !self.report(&mount).cache.unwrap().is_loading);
        mount
    }

    fn report(&self, mount: &Mount) -> Report {
        self.rig.status(mount)
    }

    /// Mounts, reads all, checks it, unmounts; what the mount says of it at its end.
    fn read(&self) -> Report {
        let mut mount = self.mount();
        assert!(fs::read(mount.join("a")).unwrap() == self.bytes, "the bytes of the host's file");
        let report = self.report(&mount);
        assert!(self.rig.run(&["unmount", mount.path().to_str().unwrap()]).status.success());
        assert_eq!(mount.exit_code(), Some(0));
        report
    }
}

fn cache(report: &Report) -> &Cache {
    report.cache.as_ref().expect("a disk cache")
}

#[test]
fn the_next_mount_reads_what_this_one_read_from_disk() {
    if !can_mount() {
        return;
    }
    let disk = Disk::new();
    let first = disk.read();
    assert_eq!((first.reads.host_bytes, first.reads.l2_bytes), (BYTES as u64, 0));
    let second = disk.read();
    assert_eq!((second.reads.host_bytes, second.reads.l2_bytes), (0, BYTES as u64));
    assert_eq!(cache(&second).bytes, BYTES as u64);
}

#[test]
fn a_file_that_was_only_touched_is_not_fetched_again() {
    if !can_mount() {
        return;
    }
    let disk = Disk::new();
    disk.read();
    disk.age();
    let again = disk.read();
    assert_eq!((again.reads.host_bytes, again.reads.l2_bytes), (0, BYTES as u64));
    assert_eq!(cache(&again).carried_over, BYTES.div_ceil(CHUNK) as u64);
    let settled = disk.read();
    assert_eq!((settled.reads.l2_bytes, cache(&settled).carried_over), (BYTES as u64, 0), "asked once");
}

#[test]
fn of_a_changed_file_only_what_changed_is_fetched() {
    if !can_mount() {
        return;
    }
    let mut disk = Disk::new();
    disk.read();
    let at = 2 * (1 << 20) + 77;
    disk.bytes[at] ^= 0xff;
    File::options()
        .write(true)
        .open(disk.on_host())
        .unwrap()
        .write_at(&disk.bytes[at..=at], at as u64)
        .unwrap();
    disk.age();
    let changed = disk.read();
    // The extent with the change comes from the host as one.
    assert_eq!(changed.reads.host_bytes, 1 << 20);
    assert_eq!(changed.reads.l2_bytes, BYTES as u64 - (1 << 20));
    assert_eq!(disk.read().reads.host_bytes, 0, "and is kept");
}

#[test]
fn a_disk_that_changed_its_bytes_is_not_believed() {
    if !can_mount() {
        return;
    }
    let disk = Disk::new();
    disk.read();
    for region in regions(disk.cache.path()) {
        let file = File::options().read(true).write(true).open(&region).unwrap();
        let mut byte = [0];
        // In the first megabyte of what was written.
        file.read_exact_at(&mut byte, 300_000).unwrap();
        file.write_all_at(&[byte[0] ^ 1], 300_000).unwrap();
    }
    let report = disk.read();
    assert!(cache(&report).corrupt >= 1, "{:?}", report.cache);
    assert!(report.reads.host_bytes >= CHUNK as u64, "fetched again");
}

#[test]
fn what_the_disk_has_proves_what_a_handle_was_given() {
    if !can_mount() {
        return;
    }
    let mut disk = Disk::new();
    disk.read();
    let mount = disk.mount();
    let file = File::open(mount.join("a")).unwrap();
    let mut all = vec![0; BYTES];
    file.read_exact_at(&mut all, 0).unwrap();
    assert!(all == disk.bytes);
    // Only touched: another open has the mount ask, and the handle goes on.
    disk.age();
    assert!(fs::read(mount.join("a")).unwrap() == disk.bytes);
    file.read_exact_at(&mut all, 0).unwrap();
    // What it was given is not there any more.
    disk.bytes[77] ^= 0xff;
    File::options().write(true).open(disk.on_host()).unwrap().write_at(&disk.bytes[77..78], 77).unwrap();
    disk.age();
    let reopened = File::open(mount.join("a")).unwrap();
    let stale = file.read_at(&mut all, 0).unwrap_err();
    assert_eq!(stale.raw_os_error(), Some(nix::libc::ESTALE));
    let report = disk.report(&mount);
    assert!(report.stale >= 1 && report.errors == 0, "{report:?}");
    assert!(report.verifications >= 2);
    reopened.read_exact_at(&mut all, 0).unwrap();
    assert!(all == disk.bytes, "an open after the change sees it");
}

/// The large files of a cache: its regions.
fn regions(dir: &Path) -> Vec<PathBuf> {
    let is_large = |path: &PathBuf| path.is_file() && fs::metadata(path).unwrap().len() >= 1 << 20;
    let found: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(is_large).collect();
    assert!(!found.is_empty(), "no region files in {}", dir.display());
    found
}

#[test]
fn small_reads_at_random_come_from_disk_once_a_chunk_was_checked() {
    if !can_mount() {
        return;
    }
    let disk = Disk::new();
    disk.read();
    let mount = disk.mount();
    let file = File::open(mount.join("a")).unwrap();
    for round in 0..40 {
        let at = (round * 7919 * 4096) % (BYTES - 4096);
        let mut read = [0; 4096];
        file.read_exact_at(&mut read, at as u64).unwrap();
        assert!(read == disk.bytes[at..at + 4096], "at {at}");
    }
    let report = disk.report(&mount);
    assert_eq!(report.reads.host_bytes, 0);
    assert!(report.reads.l2_bytes > 0);
}

#[test]
fn a_cache_that_cannot_be_had_is_said_and_the_mount_works() {
    if !can_mount() {
        return;
    }
    let disk = Disk::new();
    let file = disk.cache.path().join("a-file");
    fs::write(&file, b"no folder").unwrap();
    let mount = disk.rig.mount_with(&["--cache-dir", file.to_str().unwrap()]);
    assert!(fs::read(mount.join("a")).unwrap() == disk.bytes);
    assert_eq!(disk.report(&mount).cache, None);
    let none = disk.rig.mount_with(&["--cache-size", "0"]);
    assert_eq!(disk.report(&none).cache, None);
}
