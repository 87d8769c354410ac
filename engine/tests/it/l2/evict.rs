//! Room is made by the region, oldest first, within a hard quota.

use wire::Extent;
use wormhole_engine::cache::L2;

use super::shelf::{File, MIB, PATIENCE, Shelf, dir_bytes, until};

#[tokio::test]
async fn the_quota_holds_and_the_newest_stays() {
    let shelf = Shelf::new();
    let l2 = shelf.open(24);
    let files: Vec<File> = (0..60).map(|i| File::new(i, MIB + 5000 * i)).collect();
    for file in &files {
        shelf.fill(&l2, *file).await;
        assert!(dir_bytes(&shelf.path()) <= 24 * MIB);
    }
    let stats = l2.stats();
    assert!(stats.evicted > 300, "{stats:?}");
    assert_eq!((stats.dropped, stats.regions), (0, 5));
    assert_eq!(files[59].check(&l2).await, files[59].size);
    let mut served = 0;
    for file in &files {
        served += file.check(&l2).await;
    }
    // Three regions of five are full at least: one is written and one kept empty.
    assert!((12 * MIB - 2 * MIB..20 * MIB).contains(&served), "{served}");
    assert_eq!((l2.stats().corrupt, l2.stats().bytes), (0, served));
    l2.close(PATIENCE).await.unwrap();
    assert_eq!(shelf.pool.stats().lent_bytes, 0);
}

#[tokio::test]
async fn what_is_read_often_or_pinned_outlasts_eviction() {
    let shelf = Shelf::new();
    let l2 = shelf.open(40);
    let (hot, pinned, cold) = (File::new(1, MIB), File::new(2, 3 * MIB + 77), File::new(3, MIB));
    for file in [hot, pinned, cold] {
        shelf.fill(&l2, file).await;
    }
    l2.pin_all(vec![pinned.key().file(), File::new(999, 1).key().file()]).await.unwrap();
    l2.unpin(File::new(999, 1).key().file()).await.unwrap();
    for i in 10..100 {
        shelf.fill(&l2, File::new(i, MIB)).await;
        for _ in 0..2 {
            hot.check(&l2).await;
        }
        assert!(dir_bytes(&shelf.path()) <= 40 * MIB);
    }
    assert_eq!(pinned.check(&l2).await, pinned.size, "{:?}", l2.stats());
    assert_eq!(hot.check(&l2).await, hot.size);
    assert_eq!(cold.check(&l2).await, 0);
    assert!(l2.stats().rewritten > 0);
    // The pin outlasts the process too.
    l2.close(PATIENCE).await.unwrap();
    let l2 = shelf.open(40);
    until(|| !l2.stats().is_loading).await;
    assert!(l2.is_pinned(pinned.key().file()) && !l2.is_pinned(hot.key().file()));
    for i in 100..150 {
        shelf.fill(&l2, File::new(i, MIB)).await;
    }
    assert_eq!(pinned.check(&l2).await, pinned.size);
    l2.unpin(pinned.key().file()).await.unwrap();
    for i in 150..200 {
        shelf.fill(&l2, File::new(i, MIB)).await;
    }
    assert_eq!(pinned.check(&l2).await, 0);
}

#[tokio::test]
async fn pins_may_fill_the_store_and_then_nothing_else_gets_in() {
    let shelf = Shelf::new();
    let l2 = shelf.open(24);
    let pinned: Vec<File> = (0..40).map(|i| File::new(i, MIB)).collect();
    for file in &pinned {
        l2.pin(file.key().file()).await.unwrap();
        let bytes = shelf.slot_of(*file, 0).await;
        l2.offer(file.key(), wire::chunk::ChunkIndex(0), bytes);
        l2.flush(PATIENCE).await.unwrap();
        assert!(dir_bytes(&shelf.path()) <= 24 * MIB);
    }
    assert!(l2.stats().dropped > 0);
    let held = |file: &&File| l2.covered(file.key(), Extent::new(0, MIB)) == MIB;
    assert!(pinned.iter().filter(held).count() > 10, "{:?}", l2.stats());
    assert_eq!(pinned[0].check(&l2).await, MIB, "the first one in is still there");
}

#[tokio::test]
async fn chunks_that_moved_to_a_new_version_outlast_the_region_of_their_record() {
    let shelf = Shelf::new();
    let l2 = shelf.open(40);
    let old = File::new(1, 3 * MIB);
    let new = File { version: 2, ..old };
    shelf.fill(&l2, old).await;
    // So much of its region is pinned that it is passed over; the records of the new version are in a later region.
    l2.pin(old.key().file()).await.unwrap();
    shelf.fill(&l2, File::new(2, 6 * MIB)).await;
    let chunks = || (0..24).map(wire::chunk::ChunkIndex);
    assert_eq!(l2.rekey(old.key(), new.key(), chunks()).await.unwrap(), 24);
    for i in 10..80 {
        shelf.fill(&l2, File::new(i, MIB)).await;
        if i % 20 == 0 {
            served_as(&l2, new, old).await;
        }
    }
    assert!(l2.stats().evicted > 200 && l2.stats().rewritten == 0, "{:?}", l2.stats());
    l2.close(PATIENCE).await.unwrap();
    let l2 = shelf.open(40);
    until(|| !l2.stats().is_loading).await;
    served_as(&l2, new, old).await;
    assert_eq!(l2.stats().corrupt, 0);
}

/// All of `new` is there, with the bytes of `old`.
async fn served_as(l2: &L2, new: File, old: File) {
    for start in (0..new.size).step_by(1 << 20) {
        let hit = l2.get(new.key(), Extent::new(start, MIB)).await.unwrap();
        assert_eq!(hit.extent, Extent::new(start, MIB));
        assert!(hit.bytes == old.bytes(hit.extent));
    }
}

#[tokio::test]
async fn a_place_that_was_written_anew_meanwhile_is_a_miss() {
    let shelf = Shelf::new();
    let l2 = shelf.open(24);
    let file = File::new(1, MIB);
    shelf.fill(&l2, file).await;
    // Checked once, so that no hash stands between its place and a reader.
    file.check(&l2).await;
    let found = l2.find(file.key(), Extent::new(0, MIB)).unwrap();
    for i in 10..60 {
        shelf.fill(&l2, File::new(i, MIB)).await;
    }
    let slot = shelf.pool.lend(found.class()).await;
    let miss = l2.read(found, slot).await.unwrap_err();
    assert!(miss.slot.is_some() && l2.stats().corrupt == 0);
}

#[tokio::test]
async fn a_smaller_quota_holds_from_the_start() {
    let shelf = Shelf::new();
    let l2 = shelf.open(64);
    let files: Vec<File> = (0..50).map(|i| File::new(i, MIB)).collect();
    for file in &files {
        shelf.fill(&l2, *file).await;
    }
    l2.close(PATIENCE).await.unwrap();
    let l2 = shelf.open(24);
    assert!(dir_bytes(&shelf.path()) <= 24 * MIB);
    until(|| !l2.stats().is_loading).await;
    assert_eq!(files[49].check(&l2).await, MIB);
    assert_eq!(files[0].check(&l2).await, 0);
}

#[tokio::test]
async fn the_file_system_keeps_its_floor() {
    let shelf = Shelf::new();
    let floor = wormhole_engine::cache::l2::L2Config { free_floor_bytes: u64::MAX, ..shelf.config(64) };
    let l2 = shelf.open_with(&floor);
    let file = File::new(1, MIB);
    let bytes = shelf.slot_of(file, 0).await;
    l2.offer(file.key(), wire::chunk::ChunkIndex(0), bytes);
    l2.flush(PATIENCE).await.unwrap();
    assert_eq!((l2.stats().regions, l2.stats().dropped, file.check(&l2).await), (0, 8, 0));
    assert_eq!(l2.stats().degraded, None, "a full disk is no broken one");
    assert!(l2.stats().lacks_room);
}
