//! A disk that fails is a cache that has nothing, and never one with wrong bytes.

use std::{path::Path, time::Duration};

use nix::mount::{MsFlags, mount};
use uring::{
    RingConfig,
    testing::{DiskFaults, FaultyDisk},
};
use wire::{Extent, chunk::ChunkIndex};
use wormhole_engine::cache::{
    L2,
    l2::{DirectIo, L2Config, Offered},
};

use crate::mounts::Mounted;

use super::shelf::{File, MIB, PATIENCE, Shelf, until};

/// A store over a disk that does as it is told.
fn over(disk: &FaultyDisk, shelf: &Shelf, quota_mib: u64) -> L2 {
    let config = L2Config {
        direct: DirectIo::Off,
        retry_after: Duration::from_millis(1),
        read_deadline: Duration::from_millis(200),
        ..shelf.config(quota_mib)
    };
    L2::open(&config, disk.ring(RingConfig::default()), shelf.pool.clone()).unwrap()
}

/// When a disk that hangs would go on by itself.
fn far() -> tokio::time::Instant {
    // clock: the disk's own, and past every deadline of these tests
    tokio::time::Instant::now() + Duration::from_secs(3600)
}

async fn offer(l2: &L2, shelf: &Shelf, file: File) {
    for start in (0..file.size).step_by(1 << 20) {
        let bytes = shelf.slot_of(file, start).await;
        l2.offer(file.key(), ChunkIndex(start / wire::CHUNK_BYTES), bytes);
    }
    l2.flush(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_is_said_and_tried_again() {
    let (shelf, disk) = (Shelf::new(), FaultyDisk::new(1));
    let l2 = over(&disk, &shelf, 64);
    let (before, lost, after) = (File::new(1, MIB), File::new(2, MIB), File::new(3, MIB));
    offer(&l2, &shelf, before).await;
    disk.set(DiskFaults { error_ppm: 1_000_000, ..DiskFaults::default() });
    offer(&l2, &shelf, lost).await;
    let stats = l2.stats();
    assert!(stats.degraded.as_ref().is_some_and(|why| why.contains("writing")), "{stats:?}");
    assert_eq!((stats.dropped, stats.write_errors), (8, 1));
    disk.heal();
    until(|| l2.offer(after.key(), ChunkIndex(9), vec![1; 10].into()) == Offered::Queued).await;
    offer(&l2, &shelf, after).await;
    assert_eq!(l2.stats().degraded, None);
    assert_eq!((before.check(&l2).await, lost.check(&l2).await, after.check(&l2).await), (MIB, 0, MIB));
}

#[tokio::test]
async fn plain_reads_call_back_with_the_bytes_or_the_slot() {
    let (shelf, disk) = (Shelf::new(), FaultyDisk::new(3));
    let l2 = over(&disk, &shelf, 64);
    let file = File::new(1, MIB);
    offer(&l2, &shelf, file).await;
    let wanted = Extent::new(200 << 10, 8 << 10);
    assert!(!l2.find(file.key(), wanted).unwrap().is_plain(), "not checked yet");
    assert_eq!(file.check(&l2).await, MIB);
    let whole = l2.find(file.key(), Extent::new(0, MIB)).unwrap();
    assert!(!whole.is_plain(), "several records");
    let read = async || {
        let found = l2.find(file.key(), wanted).unwrap();
        assert!(found.is_plain());
        let slot = shelf.pool.lend(found.class()).await;
        let (end, ended) = tokio::sync::oneshot::channel();
        l2.read_then(found, slot, |outcome| drop(end.send(outcome))).unwrap();
        ended.await.unwrap()
    };
    let before = l2.stats();
    let hit = read().await.unwrap();
    assert_eq!(hit.extent, wanted);
    assert!(hit.bytes == file.bytes(wanted));
    drop(hit);
    disk.set(DiskFaults { error_ppm: 1_000_000, ..DiskFaults::default() });
    assert!(read().await.unwrap_err().slot.is_some());
    disk.set(DiskFaults { short_ppm: 1_000_000, ..DiskFaults::default() });
    assert!(read().await.unwrap_err().slot.is_some(), "a short read is no hit");
    let after = l2.stats();
    let counts = (after.hits - before.hits, after.misses - before.misses, after.read_errors);
    assert_eq!(counts, (1, 2, 1));
}

#[tokio::test]
async fn reads_that_fail_are_misses_and_the_slot_comes_back() {
    let (shelf, disk) = (Shelf::new(), FaultyDisk::new(2));
    let l2 = over(&disk, &shelf, 64);
    let file = File::new(1, 4 * MIB);
    offer(&l2, &shelf, file).await;
    disk.set(DiskFaults { error_ppm: 1_000_000, ..DiskFaults::default() });
    let found = l2.find(file.key(), Extent::new(0, MIB)).unwrap();
    let slot = shelf.pool.lend(found.class()).await;
    let miss = l2.read(found, slot).await.unwrap_err();
    assert_eq!(miss.slot.map(|slot| slot.class()), Some(uring::SlotClass::Extent1M));
    assert_eq!((l2.stats().misses, l2.stats().read_errors), (1, 1));
    // A few more, and the disk is left alone.
    until_degraded(&l2, file).await;
    disk.heal();
    until(|| l2.covered(file.key(), Extent::new(0, MIB)) == MIB).await;
    assert_eq!(file.check(&l2).await, file.size);
}

async fn until_degraded(l2: &L2, file: File) {
    for _ in 0..3 {
        l2.get(file.key(), Extent::new(0, 1)).await;
    }
    assert!(l2.stats().degraded.is_some(), "{:?}", l2.stats());
}

#[tokio::test]
async fn a_disk_that_hangs_is_late_and_not_waited_for() {
    let (shelf, disk) = (Shelf::new(), FaultyDisk::new(3));
    let l2 = over(&disk, &shelf, 64);
    let file = File::new(1, MIB);
    offer(&l2, &shelf, file).await;
    disk.hang_until(far());
    let found = l2.find(file.key(), Extent::new(0, MIB)).unwrap();
    let slot = shelf.pool.lend(found.class()).await;
    assert!(l2.read(found, slot).await.unwrap_err().slot.is_none(), "the disk holds it");
    assert!(l2.close(Duration::from_millis(50)).await.is_ok(), "nothing is left to be written");
    disk.heal();
    until(|| shelf.pool.stats().lent_bytes == 0).await;
}

#[tokio::test]
async fn flipped_bits_short_writes_and_errors_never_give_wrong_bytes() {
    for seed in 0..6 {
        let (shelf, disk) = (Shelf::new(), FaultyDisk::new(seed));
        disk.set(DiskFaults {
            error_ppm: 4_000,
            short_ppm: 200_000,
            late_ppm: 50_000,
            late_max: Duration::from_millis(2),
            flip_ppm: 100_000,
            uncached_ppm: 0,
        });
        let l2 = over(&disk, &shelf, 24);
        let files: Vec<File> = (0..30).map(|i| File::new(i, MIB / 2 + 77_777 * i)).collect();
        let mut served = 0;
        for file in &files {
            // A disk that was left alone after an error is tried again.
            until(|| l2.offer(file.key(), ChunkIndex(1000), vec![1].into()) != Offered::Dropped).await;
            offer(&l2, &shelf, *file).await;
            served += first_reads(&l2, *file).await;
        }
        let stats = l2.stats();
        assert!(served > 0 && stats.corrupt > 0 && disk.counts().short > 0, "seed {seed}: {stats:?}");
        l2.close(PATIENCE).await.unwrap();
        until(|| shelf.pool.stats().lent_bytes == 0).await;
    }
}

/// Reads each MiB once, so that every byte of it is checked against its hash by the store: what flips in memory later is
/// not what this is about.
async fn first_reads(l2: &L2, file: File) -> u64 {
    let mut served = 0;
    for start in (0..file.size).step_by(1 << 20) {
        if let Some(hit) = l2.get(file.key(), Extent::new(start, MIB)).await {
            assert!(hit.bytes == file.bytes(hit.extent), "wrong bytes of {file:?} at {:?}", hit.extent);
            served += hit.extent.len.0;
        }
    }
    served
}

#[tokio::test]
async fn a_directory_that_is_deleted_is_made_again() {
    let shelf = Shelf::new();
    let l2 = shelf.open_with(&L2Config { retry_after: Duration::from_millis(1), ..shelf.config(64) });
    let file = File::new(1, 6 * MIB);
    shelf.fill(&l2, file).await;
    std::fs::remove_dir_all(shelf.path()).unwrap();
    // What it still holds it may still serve; never something else.
    file.check(&l2).await;
    until(|| l2.stats().regions == 0).await;
    assert_eq!(file.check(&l2).await, 0);
    let again = File::new(2, MIB);
    let bytes = shelf.slot_of(again, 0).await;
    until(|| l2.offer(again.key(), ChunkIndex(0), bytes.clone()) == Offered::Queued).await;
    l2.flush(PATIENCE).await.unwrap();
    assert_eq!((again.check(&l2).await, l2.stats().degraded), (MIB, None));
    assert!(shelf.first_region().exists());
}

#[tokio::test]
async fn a_full_file_system_is_lived_with() {
    let shelf = Shelf::new();
    let Some(_mounted) = Mounted::with(shelf.path(), "size=22m") else { return };
    let l2 = shelf.open(64);
    for i in 0..60 {
        shelf.fill(&l2, File::new(i, MIB)).await;
    }
    let stats = l2.stats();
    assert_eq!((stats.regions, stats.degraded, stats.dropped), (5, None, 0), "what there is is written anew");
    assert_eq!(File::new(59, MIB).check(&l2).await, MIB);
    // Somebody else needs the rest: what is left below the floor is given back.
    l2.close(PATIENCE).await.unwrap();
    let l2 = shelf.open_with(&L2Config { free_floor_bytes: 8 * MIB, ..shelf.config(64) });
    until(|| l2.stats().regions == 3).await;
    assert_eq!(File::new(59, MIB).check(&l2).await, MIB);
    l2.close(PATIENCE).await.unwrap();
    until(|| shelf.pool.stats().lent_bytes == 0).await;
}

/// Makes a place read-only for whoever opens something there, until the answer drops. The kernel remounts nothing that is
/// open for writing, so the same folder is mounted over itself.
fn read_only(from: &Path, at: &Path) -> Option<Mounted> {
    let over = Mounted::bind(from, at.to_owned())?;
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(None::<&str>, at, None::<&str>, flags, None::<&str>).unwrap();
    Some(over)
}

#[tokio::test]
async fn a_file_system_that_turns_read_only_after_the_start_costs_only_what_is_new() {
    let shelf = Shelf::new();
    let disk = shelf.dir.path().join("disk");
    let Some(_disk) = Mounted::with(disk.clone(), "size=64m") else { return };
    let Some(_mounted) = Mounted::bind(&disk, shelf.path()) else { return };
    // Long enough that nothing is tried before it was looked at.
    let config = L2Config { retry_after: Duration::from_millis(500), ..shelf.config(40) };
    let l2 = shelf.open_with(&config);
    let (kept, after) = (File::new(1, 3 * MIB), File::new(100, MIB));
    shelf.fill(&l2, kept).await;
    let Some(over) = read_only(&disk, &shelf.path()) else { return };
    let mut numbers = 2..;
    // The region at hand is open; the next one cannot be made.
    let filling = async {
        while l2.stats().degraded.is_none() {
            offer(&l2, &shelf, File::new(numbers.next().unwrap(), MIB)).await;
        }
    };
    tokio::time::timeout(PATIENCE, filling).await.expect("it is noticed");
    let degraded = l2.stats().degraded.unwrap_or_default();
    assert!(degraded.contains("Read-only file system"), "{degraded}");
    assert!(l2.pin(kept.key().file()).await.is_err(), "pins cannot be written, which is said");
    assert_eq!(kept.check(&l2).await, 3 * MIB, "what is there is read");
    drop(over);
    let bytes = shelf.slot_of(after, 0).await;
    until(|| l2.offer(after.key(), ChunkIndex(0), bytes.clone()) == Offered::Queued).await;
    l2.flush(PATIENCE).await.unwrap();
    assert_eq!((after.check(&l2).await, l2.stats().degraded), (MIB, None));
    drop(bytes);
    l2.close(PATIENCE).await.unwrap();
    until(|| shelf.pool.stats().lent_bytes == 0).await;
}

#[tokio::test]
async fn the_queue_is_bounded_and_what_does_not_fit_is_dropped() {
    let (shelf, disk) = (Shelf::new(), FaultyDisk::new(4));
    let l2 = over(&disk, &shelf, 64);
    disk.hang_until(far());
    let mut offered = Vec::new();
    for i in 0..48 {
        let file = File::new(i, MIB);
        offered.push(l2.offer(file.key(), ChunkIndex(0), shelf.slot_of(file, 0).await));
    }
    // Eight writes under way and sixteen MiB that wait.
    let queued = offered.iter().filter(|offered| **offered == Offered::Queued).count();
    assert!((16..=25).contains(&queued), "{queued}");
    assert_eq!(l2.stats().dropped, 8 * (48 - queued as u64));
    disk.heal();
    l2.flush(PATIENCE).await.unwrap();
    assert_eq!(l2.stats().written, 8 * queued as u64);
}

/// The bytes after a power cut: each sector written since the start holds any of its contents since then.
#[tokio::test]
async fn after_a_power_cut_every_byte_served_is_right() {
    let rounds = std::env::var("WORMHOLE_POWER_CUTS").map_or(40, |count| count.parse().unwrap());
    let (mut served, mut corrupt) = (0, 0);
    for seed in 0..rounds {
        let (shelf, disk) = (Shelf::new(), FaultyDisk::new(seed));
        disk.keep_history();
        let files: Vec<File> =
            (0..24).map(|i| File::new(i, 1 + (seed * 7919 + i * 104_729) % (2 * MIB))).collect();
        let ring = disk.ring(RingConfig::default());
        let config = L2Config { direct: DirectIo::Off, ..shelf.config(24) };
        let l2 = L2::open(&config, ring.clone(), shelf.pool.clone()).unwrap();
        for (i, file) in files.iter().enumerate() {
            for start in (0..file.size).step_by(1 << 20) {
                let bytes = shelf.slot_of(*file, start).await;
                l2.offer(file.key(), ChunkIndex(start / wire::CHUNK_BYTES), bytes);
            }
            if i % 5 == 3 {
                l2.flush(PATIENCE).await.unwrap();
            }
            if i % 7 == 5 {
                // Another version of an earlier file takes over what did not change.
                let chunks = (0..4).map(ChunkIndex);
                let moved = File { version: 2, ..files[i - 3] };
                l2.rekey(files[i - 3].key(), moved.key(), chunks).await.unwrap();
            }
        }
        // The moment of the cut: nothing more is written.
        ring.stop();
        l2.close(PATIENCE).await.unwrap();
        assert!(disk.cut_power().unwrap() > 0);
        if seed % 2 == 1 {
            lose_a_rename(&shelf);
        }
        let l2 = over(&FaultyDisk::new(seed), &shelf, 24);
        until(|| !l2.stats().is_loading).await;
        for file in &files {
            served += file.check(&l2).await;
            let moved = File { version: 2, ..*file };
            if let Some(hit) = l2.get(moved.key(), Extent::new(0, MIB)).await {
                assert!(file.bytes(hit.extent) == hit.bytes, "wrong bytes of a new version of {file:?}");
            }
        }
        // And it goes on from there.
        let next = File::new(1000, 3 * MIB);
        offer(&l2, &shelf, next).await;
        assert_eq!(next.check(&l2).await, next.size, "seed {seed}: {:?}", l2.stats());
        corrupt += l2.stats().corrupt;
        l2.close(PATIENCE).await.unwrap();
    }
    assert!(served > 0 && corrupt > 0, "{served} bytes survived, {corrupt} records did not");
}

/// Gives the oldest region that was written a second time its name of before.
fn lose_a_rename(shelf: &Shelf) {
    let oldest = shelf.first_region();
    let earlier = shelf.path().join(format!("region-{:016x}", 0));
    std::fs::rename(oldest, earlier).unwrap();
}
