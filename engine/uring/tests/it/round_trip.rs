//! What is written is what is read, on every back end, buffered and direct.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use wormhole_uring::{
    Backend, BackendChoice, Operation, ReadAt, Ring, RingConfig, RingError, SlotClass, SlotRange,
};

use crate::support::{file_of, on_each_backend, open_direct, pattern, pool, read_first};

#[test]
fn what_is_written_is_read_back() {
    on_each_backend(async |config| {
        let (ring, pool) = (Ring::start(config).unwrap(), pool(4));
        let file = Arc::new(file_of(b"").reopen().unwrap());
        let data = pattern(1 << 20);
        let mut slot = pool.lend(SlotClass::Extent1M).await;
        slot.bytes_mut().copy_from_slice(&data);
        let filled = slot.fill(1 << 20);
        assert_eq!(ring.write_at(Arc::clone(&file), filled, 4096).await.unwrap(), 1 << 20);

        let slot = pool.lend(SlotClass::Extent1M).await;
        let range = SlotRange::first(1 << 20);
        let done = ring.read_at(ReadAt { file: Arc::clone(&file), slot, range, offset: 4096 }).await;
        let bytes = done.slot.fill(done.result.unwrap()).freeze();
        assert!(bytes == data);
        assert_eq!(Arc::strong_count(&file), 1, "the ring holds no file after the answer");
        drop(bytes);
        assert_eq!(pool.stats().lent_bytes, 0);
    });
}

#[test]
fn direct_files_are_read_and_written_by_whole_blocks() {
    on_each_backend(async |config| {
        let (ring, pool) = (Ring::start(config).unwrap(), pool(2));
        let data = pattern(256 << 10);
        let on_disk = file_of(&data);
        let Some(file) = open_direct(&on_disk) else { return };
        let slot = pool.lend(SlotClass::Chunk128K).await;
        let range = SlotRange { start: 8192, len: 64 << 10 };
        let done = ring.read_at(ReadAt { file: Arc::clone(&file), slot, range, offset: 128 << 10 }).await;
        assert_eq!(done.result.unwrap(), 64 << 10);
        let read = done.slot.fill(8192 + (64 << 10)).freeze().slice(8192..);
        assert!(read == data[128 << 10..192 << 10]);

        // The bytes just read go back to another place, from the slot they are in.
        assert_eq!(ring.write_at(Arc::clone(&file), read.clone(), 0).await.unwrap(), 64 << 10);
        assert!(std::fs::read(on_disk.path()).unwrap()[..64 << 10] == read);
    });
}

#[test]
fn many_reads_at_once_each_get_their_own_bytes() {
    on_each_backend(async |config| {
        let ring = Ring::start(RingConfig { depth: 8, queue_max: 4, ..config }).unwrap();
        let pool = pool(2);
        let data = Bytes::from(pattern(3 << 20));
        let on_disk = file_of(&data);
        let file = Arc::new(on_disk.reopen().unwrap());
        let reads: Vec<_> = (0..200usize)
            .map(|i| {
                let (ring, pool, file, data) = (ring.clone(), pool.clone(), Arc::clone(&file), data.clone());
                tokio::spawn(async move {
                    // More is asked for than the pool holds: the rest waits for slots, then for places.
                    let slot = pool.lend(SlotClass::Block16K).await;
                    let from = i * 15_000 % (data.len() - 16_384);
                    let range = SlotRange::first(16_384);
                    let done = ring.read_at(ReadAt { file, slot, range, offset: from as u64 }).await;
                    assert_eq!(done.result.unwrap(), 16_384);
                    assert!(done.slot.fill(16_384).as_ref() == &data[from..from + 16_384]);
                })
            })
            .collect();
        for read in reads {
            read.await.unwrap();
        }
        let stats = ring.stats();
        assert_eq!((stats.submitted, stats.completed, stats.in_flight), (200, 200, 0));
        assert_eq!(pool.stats().lent_bytes, 0);
    });
}

#[test]
fn a_read_across_the_end_is_short_and_one_past_it_empty() {
    on_each_backend(async |config| {
        let (ring, pool) = (Ring::start(config).unwrap(), pool(1));
        let file = Arc::new(file_of(b"wormhole").reopen().unwrap());
        let mut slot = pool.lend(SlotClass::Page4K).await;
        slot.bytes_mut()[..9].copy_from_slice(b".........");
        let range = SlotRange { start: 1, len: 100 };
        let done = ring.read_at(ReadAt { file: Arc::clone(&file), slot, range, offset: 5 }).await;
        assert_eq!(done.result.unwrap(), 3);
        let mut slot = done.slot;
        assert_eq!(&slot.bytes_mut()[..9], b".ole.....", "bytes outside the range are not touched");
        let done = ring.read_at(ReadAt { file, slot, range, offset: 8 }).await;
        assert_eq!(done.result.unwrap(), 0);
    });
}

#[test]
fn the_slot_comes_back_with_an_error_that_names_the_operation() {
    on_each_backend(async |config| {
        let (ring, pool) = (Ring::start(config).unwrap(), pool(1));
        let on_disk = file_of(b"secret");
        let write_only = Arc::new(File::options().write(true).open(on_disk.path()).unwrap());
        let read_only = Arc::new(File::open(on_disk.path()).unwrap());
        let slot = pool.lend(SlotClass::Page4K).await;
        let done = ring.read_at(read_first(&write_only, slot, 6)).await;
        let error = done.result.unwrap_err();
        assert_eq!(error.to_string(), "read of 6 bytes at offset 0");
        assert_eq!(pool.stats().lent_bytes, 4096, "the caller has the slot");
        let error = ring.write_at(read_only, Bytes::from_static(b"x"), 7).await.unwrap_err();
        assert!(matches!(error, RingError::Io { operation: Operation::Write, len: 1, offset: 7, .. }));

        let read = ReadAt { offset: u64::MAX, ..read_first(&write_only, done.slot, 6) };
        let done = ring.read_at(read).await;
        let RingError::Io { source, .. } = done.result.unwrap_err() else { panic!("not an I/O error") };
        assert_eq!(
            source.kind(),
            std::io::ErrorKind::InvalidInput,
            "the highest offset means something else"
        );
    });
}

#[test]
fn a_bound_out_of_range_is_refused() {
    for config in [
        RingConfig { depth: 0, ..RingConfig::default() },
        RingConfig { depth: 4097, ..RingConfig::default() },
        RingConfig { queue_max: 0, ..RingConfig::default() },
        RingConfig { queue_max: 65_537, ..RingConfig::default() },
    ] {
        assert!(matches!(Ring::start(config), Err(RingError::Config { .. })), "{config:?}");
    }
}

#[test]
fn the_back_end_says_what_it_is() {
    on_each_backend(async |config| {
        let backend = Ring::start(config).unwrap().backend();
        match config.backend {
            BackendChoice::Blocking => {
                assert_eq!(backend, Backend::Blocking { reason: "chosen by configuration".into() });
            }
            _ => assert_eq!(backend, Backend::Uring),
        }
    });
}

#[test]
fn handles_and_futures_cross_threads() {
    fn is_send<T: Send>(_: &T) {}
    fn is_send_sync<T: Send + Sync>(_: &T) {}
    on_each_backend(async |config| {
        let (ring, pool) = (Ring::start(config).unwrap(), pool(1));
        is_send_sync(&ring);
        is_send_sync(&pool);
        is_send(&pool.lend(SlotClass::Page4K));
        let slot = pool.lend(SlotClass::Page4K).await;
        is_send(&slot);
        let file = Arc::new(file_of(b"").reopen().unwrap());
        is_send(&ring.read_at(read_first(&file, slot, 1)));
        is_send(&ring.write_at(file, Bytes::new(), 0));
        is_send(&ring.clone().shutdown());
    });
}

#[test]
fn parts_are_written_as_one_piece() {
    on_each_backend(async |config| {
        let (ring, pool) = (Ring::start(config).unwrap(), pool(4));
        let on_disk = file_of(b"");
        let Some(file) = open_direct(&on_disk) else { return };
        let data = pattern(300 << 10);
        let mut parts = Vec::new();
        for part in data.chunks(20 << 10) {
            let mut slot = pool.lend(SlotClass::Chunk128K).await;
            slot.bytes_mut()[..part.len()].copy_from_slice(part);
            parts.push(slot.fill(part.len()).freeze());
        }
        assert_eq!(ring.write_parts_at(Arc::clone(&file), parts, 8192).await.unwrap(), data.len());
        assert!(std::fs::read(on_disk.path()).unwrap()[8192..] == data);
        assert_eq!(Arc::strong_count(&file), 1);
        assert_eq!(pool.stats().lent_bytes, 0, "the ring holds no part after the answer");
        assert_eq!(
            ring.write_parts_at(file, Vec::new(), 0).await.unwrap(),
            0,
            "nothing is written in no time"
        );
    });
}
