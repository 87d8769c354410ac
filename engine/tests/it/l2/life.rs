//! What is put in comes out, now and after a restart.

use std::{
    io::Write,
    os::unix::fs::{FileExt, PermissionsExt},
};

use bytes::Bytes;
use uring::SlotClass;
use wire::{CHUNK_BYTES, Extent, chunk::ChunkIndex, chunk::ContentHash};
use wormhole_engine::cache::L2;
use wormhole_engine::cache::l2::{DirectIo, L2Config, L2Error, Offered};

use super::shelf::{File, MIB, PATIENCE, Shelf, until};

#[tokio::test]
async fn what_is_offered_is_served() {
    let shelf = Shelf::new();
    let l2 = shelf.open(64);
    let files = [File::new(1, 5 * MIB + 12_345), File::new(2, 10), File::new(3, 4096), File::new(4, 200_000)];
    for file in files {
        assert_eq!(file.check(&l2).await, 0);
        shelf.fill(&l2, file).await;
    }
    for file in files {
        assert_eq!(l2.covered(file.key(), Extent::new(0, file.size)), file.size);
        assert_eq!(file.check(&l2).await, file.size, "{:?}", l2.stats());
    }
    let stats = l2.stats();
    assert_eq!(stats.bytes, files.iter().map(|file| file.size).sum::<u64>());
    assert_eq!((stats.records, stats.dropped, stats.corrupt, stats.misses), (41 + 1 + 1 + 2, 0, 0, 0));
    // Only the ends of files that fill no block: 12,345 % 4,096, 10 and 200,000 % 4,096.
    assert_eq!(stats.copied_bytes, 57 + 10 + 3392);
    l2.close(PATIENCE).await.unwrap();
    assert_eq!(shelf.pool.stats().lent_bytes, 0, "every slot is home");
}

#[tokio::test]
async fn an_extent_written_together_is_one_read() {
    let shelf = Shelf::new();
    let l2 = shelf.open(64);
    let file = File::new(1, 3 * MIB);
    shelf.fill(&l2, file).await;
    file.check(&l2).await;
    let before = shelf.ring.stats().submitted;
    let found = l2.find(file.key(), Extent::new(MIB, 2 * MIB)).unwrap();
    assert_eq!((found.extent(), found.class()), (Extent::new(MIB, MIB), SlotClass::Extent1M));
    let slot = shelf.pool.lend(found.class()).await;
    let hit = l2.read(found, slot).await.unwrap();
    assert!(hit.bytes == file.bytes(Extent::new(MIB, MIB)));
    assert_eq!(shelf.ring.stats().submitted - before, 1);
}

#[tokio::test]
async fn pages_of_a_checked_record_are_read_alone() {
    let shelf = Shelf::new();
    let l2 = shelf.open(64);
    let file = File::new(1, MIB + 5000);
    shelf.fill(&l2, file).await;
    let page = Extent::new(CHUNK_BYTES + 8192 + 17, 100);
    let first = l2.find(file.key(), page).unwrap();
    assert_eq!(first.extent(), Extent::new(CHUNK_BYTES, CHUNK_BYTES), "the whole record, to be checked");
    l2.get(file.key(), page).await.unwrap();
    let second = l2.find(file.key(), page).unwrap();
    assert_eq!((second.extent(), second.class()), (Extent::new(CHUNK_BYTES + 8192, 4096), SlotClass::Page4K));
    let hit = l2.get(file.key(), page).await.unwrap();
    assert!(hit.bytes == file.bytes(hit.extent));
    file.check(&l2).await;
    let end = l2.get(file.key(), Extent::new(MIB + 4990, 4096)).await.unwrap();
    assert_eq!(end.extent, Extent::new(MIB + 4096, 904), "the file ends there");
    assert!(end.bytes == file.bytes(end.extent));
    assert!(l2.find(file.key(), Extent::new(MIB + 5000, 1)).is_none(), "past the end");
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let shelf = Shelf::new();
    let files: Vec<File> = (0..20).map(|i| File::new(i, i * 150_000 + 1)).collect();
    let l2 = shelf.open(64);
    for file in &files {
        shelf.fill(&l2, *file).await;
    }
    l2.close(PATIENCE).await.unwrap();
    assert_eq!(files[5].check(&l2).await, 0, "a closed store has nothing");
    let l2 = shelf.open(64);
    until(|| !l2.stats().is_loading).await;
    for file in &files {
        assert_eq!(file.check(&l2).await, file.size, "{file:?}");
    }
    // What comes next goes behind it.
    let more = File::new(100, 3 * MIB);
    shelf.fill(&l2, more).await;
    drop(l2);
    let l2 = until_free(&shelf, 64).await;
    for file in files.iter().chain([&more]) {
        assert_eq!(file.check(&l2).await, file.size, "{file:?}");
    }
    assert_eq!(l2.stats().corrupt, 0);
}

/// Opens the store once the one before it, of which the last handle is gone, has let go of all it had.
async fn until_free(shelf: &Shelf, quota_mib: u64) -> L2 {
    let mut opened = None;
    until(|| {
        let l2 = opened.insert(shelf.open(quota_mib));
        l2.stats().regions > 0
    })
    .await;
    let l2 = opened.unwrap();
    until(|| !l2.stats().is_loading).await;
    l2
}

#[tokio::test]
async fn bytes_that_changed_on_the_disk_are_a_miss() {
    let shelf = Shelf::new();
    let l2 = shelf.open(64);
    let file = File::new(1, 4 * MIB);
    shelf.fill(&l2, file).await;
    l2.close(PATIENCE).await.unwrap();
    let region = shelf.first_region();
    let mut bytes = std::fs::read(&region).unwrap();
    bytes[(3 << 17) + 77] ^= 1;
    std::fs::write(&region, bytes).unwrap();
    let l2 = shelf.open(64);
    until(|| !l2.stats().is_loading).await;
    assert_eq!(l2.stats().records, 32);
    assert_eq!(file.check(&l2).await, 4 * MIB - CHUNK_BYTES);
    assert_eq!((l2.stats().corrupt, l2.stats().records), (1, 31));
}

#[tokio::test]
async fn verify_finds_and_drops_what_went_bad() {
    let shelf = Shelf::new();
    let l2 = shelf.open_with(&L2Config { direct: DirectIo::Off, ..shelf.config(64) });
    let file = File::new(1, 4 * MIB);
    shelf.fill(&l2, file).await;
    file.check(&l2).await;
    let region = shelf.first_region();
    std::fs::File::options().write(true).open(region).unwrap().write_all_at(b"x", 5000).unwrap();
    let mut last = None;
    let verified = l2.verify_all(|progress| last = Some(progress)).await;
    assert_eq!((verified.good, verified.bad, verified.unread), (31, 1, 0));
    assert_eq!(last.unwrap().records, 32);
    assert_eq!(file.check(&l2).await, 4 * MIB - CHUNK_BYTES);
    l2.close(PATIENCE).await.unwrap();
    let l2 = shelf.open_with(&L2Config { direct: DirectIo::Off, ..shelf.config(64) });
    until(|| !l2.stats().is_loading).await;
    let again = l2.verify_all(|_| ()).await;
    assert_eq!((again.good, again.bad, again.unread), (31, 0, 0), "what was bad stays dropped");
    // It comes again, and is written elsewhere.
    shelf.fill(&l2, file).await;
    assert_eq!(file.check(&l2).await, 4 * MIB);
}

#[tokio::test]
async fn unchanged_chunks_move_to_a_new_version() {
    let shelf = Shelf::new();
    let l2 = shelf.open(64);
    let old = File::new(1, 4 * MIB);
    let new = File { version: 2, ..old };
    shelf.fill(&l2, old).await;
    let chunks = [ChunkIndex(0), ChunkIndex(1), ChunkIndex(9)];
    for chunk in chunks {
        assert_eq!(l2.other_version(new.key(), chunk), Some(old.key()));
        assert_eq!(l2.other_versions(new.key(), chunk.0..100)[0], (chunk, old.key()));
        let bytes = old.bytes(Extent::new(chunk.0 * CHUNK_BYTES, CHUNK_BYTES));
        assert_eq!(l2.hash_of(old.key(), chunk).await, Some(ContentHash::of(&bytes)));
    }
    assert_eq!(l2.rekey(old.key(), new.key(), chunks).await.unwrap(), 3);
    let of_old = |l2: &L2| l2.covered(old.key(), Extent::new(2 * CHUNK_BYTES, 100 * MIB));
    assert_eq!(l2.other_version(new.key(), ChunkIndex(1)), None);
    for restarted in [false, true] {
        let l2 = if restarted {
            l2.close(PATIENCE).await.unwrap();
            shelf.open(64)
        } else {
            l2.clone()
        };
        until(|| !l2.stats().is_loading).await;
        assert_eq!(of_old(&l2), 7 * CHUNK_BYTES, "up to chunk 9");
        for chunk in chunks {
            let extent = Extent::new(chunk.0 * CHUNK_BYTES, CHUNK_BYTES);
            let hit = l2.get(new.key(), extent).await.unwrap();
            assert!(hit.bytes.starts_with(&old.bytes(extent)), "the bytes are those of the old version");
        }
    }
}

#[tokio::test]
async fn clear_leaves_nothing() {
    let shelf = Shelf::new();
    let l2 = shelf.open(64);
    let file = File::new(1, 9 * MIB);
    shelf.fill(&l2, file).await;
    l2.clear().await.unwrap();
    assert_eq!((file.check(&l2).await, l2.stats().bytes, l2.stats().regions), (0, 0, 0));
    assert!(super::shelf::dir_bytes(&shelf.path()) < 4096);
    shelf.fill(&l2, file).await;
    assert_eq!(file.check(&l2).await, file.size);
}

#[tokio::test]
async fn bytes_that_lie_anyhow_in_memory_are_copied() {
    let shelf = Shelf::new();
    let l2 = shelf.open(64);
    let file = File::new(1, 300_000);
    let heap = Bytes::from([vec![0; 3], file.bytes(Extent::new(0, file.size))].concat()).slice(3..);
    assert_eq!(l2.offer(file.key(), ChunkIndex(0), heap.clone()), Offered::Queued);
    l2.flush(PATIENCE).await.unwrap();
    assert_eq!(file.check(&l2).await, file.size);
    assert_eq!(l2.stats().copied_bytes, file.size);
    assert_eq!(l2.offer(file.key(), ChunkIndex(0), heap), Offered::Present);
}

#[tokio::test]
async fn whatever_lies_in_the_directory_it_opens_and_serves() {
    let shelf = Shelf::new();
    std::fs::create_dir(shelf.path()).unwrap();
    let file = File::new(1, 5 * MIB);
    for (number, size) in [(1, 0), (2, 5), (3, 4096), (4, 4 * MIB + 17), (5, 9 * MIB), (6, 100 * MIB)] {
        let garbage = File::new(number, size).bytes(Extent::new(0, size));
        std::fs::write(shelf.path().join(format!("region-{number:016x}")), garbage).unwrap();
    }
    for name in
        ["region-", "region-xyz", "region-00000000000000001", "member-0000000000000000", "pins", "other"]
    {
        std::fs::write(shelf.path().join(name), b"12345678abc").unwrap();
    }
    let l2 = shelf.open(64);
    until(|| !l2.stats().is_loading).await;
    assert_eq!((l2.stats().records, l2.stats().pinned_files), (0, 1));
    assert!(super::shelf::dir_bytes(&shelf.path()) <= 64 * MIB);
    shelf.fill(&l2, file).await;
    assert_eq!(file.check(&l2).await, file.size);
}

#[tokio::test]
async fn it_works_in_memory_too() {
    let mut shelf = Shelf::new();
    match tempfile::TempDir::new_in("/dev/shm") {
        Ok(dir) => shelf.dir = dir,
        Err(why) => {
            return std::io::stderr().write_all(format!("SKIPPED: no tmpfs: {why}\n").as_bytes()).unwrap();
        }
    }
    let l2 = shelf.open(64);
    let file = File::new(1, 5 * MIB + 1);
    shelf.fill(&l2, file).await;
    l2.close(PATIENCE).await.unwrap();
    let l2 = shelf.open(64);
    until(|| !l2.stats().is_loading).await;
    assert_eq!(file.check(&l2).await, file.size);
}

#[tokio::test]
async fn only_the_owner_may_look() {
    let shelf = Shelf::new();
    let l2 = shelf.open(64);
    shelf.fill(&l2, File::new(1, MIB)).await;
    l2.pin(File::new(1, MIB).key().file()).await.unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&shelf.path()), 0o700);
    for entry in std::fs::read_dir(shelf.path()).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_says_why() {
    let shelf = Shelf::new();
    let open = |config: L2Config| L2::open(&config, shelf.ring.clone(), shelf.pool.clone());
    assert!(matches!(open(shelf.config(12)), Err(L2Error::Quota { .. })));
    std::fs::write(shelf.path(), b"a file").unwrap();
    assert!(matches!(open(shelf.config(64)), Err(L2Error::Dir { .. })));
}
