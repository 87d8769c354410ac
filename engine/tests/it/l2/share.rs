//! Several processes on one directory. Two stores of one process are two owners like any other: their locks are of
//! their own open files.

use wire::{Extent, chunk::ChunkIndex};
use wormhole_engine::cache::L2;

use super::shelf::{File, MIB, PATIENCE, Shelf, dir_bytes, until};

#[tokio::test]
async fn who_comes_second_gets_its_share_and_the_quota_holds() {
    let shelf = Shelf::new();
    let (first, second) = (shelf.open(48), shelf.open(48));
    for i in 0..80 {
        shelf.fill(&first, File::new(i, MIB)).await;
    }
    // Eleven regions of 4 MiB beside the reserve.
    assert_eq!(first.stats().regions, 11);
    let mut number = 1000;
    while second.stats().regions < 5 {
        keep_offering(&second, &shelf, &mut number).await;
        assert!(dir_bytes(&shelf.path()) <= 48 * MIB);
    }
    assert!(first.stats().regions >= 5, "{:?}", first.stats());
    for i in 0..40 {
        shelf.fill(&second, File::new(2000 + i, MIB)).await;
        let bytes = shelf.slot_of(File::new(3000 + i, MIB), 0).await;
        first.offer(File::new(3000 + i, MIB).key(), ChunkIndex(0), bytes);
        first.flush(PATIENCE).await.unwrap();
        assert!(dir_bytes(&shelf.path()) <= 48 * MIB);
    }
    assert_eq!(File::new(2039, MIB).check(&second).await, MIB);
    assert_eq!((first.stats().corrupt, second.stats().corrupt), (0, 0));
}

async fn keep_offering(l2: &L2, shelf: &Shelf, number: &mut u64) {
    *number += 1;
    let file = File::new(*number, MIB);
    let bytes = shelf.slot_of(file, 0).await;
    l2.offer(file.key(), ChunkIndex(0), bytes);
    l2.flush(PATIENCE).await.unwrap();
    tokio::task::yield_now().await;
}

#[tokio::test]
async fn regions_of_an_owner_that_is_gone_are_taken_over() {
    let shelf = Shelf::new();
    let (first, second) = (shelf.open(64), shelf.open(64));
    let (mine, theirs) = (File::new(1, 6 * MIB), File::new(2, 6 * MIB));
    shelf.fill(&first, mine).await;
    shelf.fill(&second, theirs).await;
    assert_eq!(mine.check(&second).await, 0, "each has its own");
    first.close(PATIENCE).await.unwrap();
    let third = shelf.open(64);
    until(|| !third.stats().is_loading).await;
    assert_eq!((mine.check(&third).await, theirs.check(&third).await), (6 * MIB, 0));
    assert_eq!(theirs.check(&second).await, 6 * MIB);
}

#[tokio::test]
async fn regions_of_an_owner_that_ends_are_taken_over_by_one_that_lives() {
    let shelf = Shelf::new();
    let (first, second) = (shelf.open(64), shelf.open(64));
    let (mine, theirs) = (File::new(1, 6 * MIB), File::new(2, 6 * MIB));
    shelf.fill(&first, mine).await;
    shelf.fill(&second, theirs).await;
    first.close(PATIENCE).await.unwrap();
    until(|| second.covered(mine.key(), Extent::new(0, 6 * MIB)) == 6 * MIB).await;
    until(|| !second.stats().is_loading).await;
    assert_eq!((mine.check(&second).await, theirs.check(&second).await), (6 * MIB, 6 * MIB));
}

#[tokio::test]
async fn a_pin_of_one_holds_in_the_other() {
    let shelf = Shelf::new();
    let (first, second) = (shelf.open(64), shelf.open(64));
    let file = File::new(1, MIB).key().file();
    first.pin(file).await.unwrap();
    until(|| second.is_pinned(file)).await;
    second.unpin(file).await.unwrap();
    until(|| !first.is_pinned(file)).await;
}

#[tokio::test]
async fn storms_of_eviction_stay_within_the_quota() {
    let shelf = Shelf::new();
    let stores = [shelf.open(32), shelf.open(32)];
    for i in 0..120 {
        for (l2, base) in stores.iter().zip([0, 10_000]) {
            let file = File::new(base + i, MIB);
            let bytes = shelf.slot_of(file, 0).await;
            l2.offer(file.key(), ChunkIndex(0), bytes);
        }
        assert!(dir_bytes(&shelf.path()) <= 32 * MIB);
        if i % 10 == 9 {
            for (l2, base) in stores.iter().zip([0, 10_000]) {
                l2.flush(PATIENCE).await.unwrap();
                for j in 0..=i {
                    let file = File::new(base + j, MIB);
                    if l2.covered(file.key(), Extent::new(0, MIB)) > 0 {
                        file.check(l2).await;
                    }
                }
            }
        }
    }
    assert!(stores.iter().all(|l2| l2.stats().regions >= 1 && l2.stats().corrupt == 0), "{stores:?}");
}
