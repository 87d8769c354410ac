//! A ring ends without freeing what the kernel holds, and without keeping anyone waiting.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use wormhole_uring::{Ring, RingConfig, RingError, SlotClass};

use crate::support::{file_of, in_flight, on_each_backend, pipe, pool, read_first};

#[test]
fn reads_in_flight_are_drained() {
    on_each_backend(async |config| {
        let (ring, pool) = (Ring::start(config).unwrap(), pool(1));
        let (reader, mut writer) = pipe();
        let slot = pool.lend(SlotClass::Chunk128K).await;
        let read = tokio::spawn({
            let ring = ring.clone();
            async move { ring.read_at(read_first(&reader, slot, 4)).await }
        });
        in_flight(&ring, 1).await;
        ring.stop();
        writer.write_all(b"late").unwrap();
        ring.clone().shutdown().await.unwrap();
        let mut done = read.await.unwrap();
        assert_eq!(done.result.unwrap(), 4);
        assert_eq!(&done.slot.bytes_mut()[..4], b"late");
        assert_eq!(ring.stats().in_flight, 0);
    });
}

#[test]
fn shutdown_past_its_deadline_frees_nothing() {
    on_each_backend(async |config| {
        let drain_deadline = Duration::from_millis(50);
        let ring = Ring::start(RingConfig { drain_deadline, ..config }).unwrap();
        let pool = pool(1);
        let (reader, mut writer) = pipe();
        let slot = pool.lend(SlotClass::Extent1M).await;
        tokio::select! {
            biased;
            done = ring.read_at(read_first(&reader, slot, 4)) => panic!("an empty pipe was read: {done:?}"),
            () = in_flight(&ring, 1) => {}
        }
        let error = ring.shutdown().await.unwrap_err();
        assert!(matches!(error, RingError::DrainDeadline { in_flight: 1, .. }), "{error}");
        assert!(pool.try_lend(SlotClass::Page4K).is_none(), "the kernel may still write to the slot");

        // However late the device answers, the memory is there for it, and then comes home.
        writer.write_all(b"late").unwrap();
        assert_eq!(&pool.lend(SlotClass::Extent1M).await.bytes_mut()[..4], b"late");
    });
}

#[test]
fn the_slab_outlives_its_handles_while_the_kernel_holds_a_slot() {
    on_each_backend(async |config| {
        let (reader, mut writer) = pipe();
        let weak = {
            let (ring, pool) = (Ring::start(config).unwrap(), pool(1));
            let slot = pool.lend(SlotClass::Page4K).await;
            tokio::select! {
                biased;
                done = ring.read_at(read_first(&reader, slot, 4)) => panic!("an empty pipe was read: {done:?}"),
                () = in_flight(&ring, 1) => {}
            }
            std::sync::Arc::downgrade(&reader)
        };
        drop(reader);
        assert_eq!(weak.strong_count(), 1, "the ring's table has the file, so it has the slot");
        writer.write_all(b"late").unwrap();
        while weak.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn what_is_queued_at_the_stop_ends_at_once_with_its_slot() {
    on_each_backend(async |config| {
        let config = RingConfig { depth: 1, queue_max: 1, drain_deadline: Duration::ZERO, ..config };
        let (ring, pool) = (Ring::start(config).unwrap(), pool(1));
        let (reader, mut writer) = pipe();
        let read = |slot| {
            let (ring, read) = (ring.clone(), read_first(&reader, slot, 1));
            tokio::spawn(async move { ring.read_at(read).await })
        };
        let in_kernel = read(pool.lend(SlotClass::Page4K).await);
        in_flight(&ring, 1).await;
        let queued = read(pool.lend(SlotClass::Page4K).await);
        let without_a_place = read(pool.lend(SlotClass::Page4K).await);
        tokio::task::yield_now().await;
        let error = ring.clone().shutdown().await.unwrap_err();
        assert!(matches!(error, RingError::DrainDeadline { .. }), "{error}");
        for stopped in [queued, without_a_place] {
            let done = stopped.await.unwrap();
            assert!(matches!(done.result, Err(RingError::Stopped)), "{:?}", done.result);
            assert_eq!(done.slot.class(), SlotClass::Page4K);
        }
        writer.write_all(b"1").unwrap();
        assert_eq!(in_kernel.await.unwrap().result.unwrap(), 1);
    });
}

#[test]
fn a_stopped_ring_takes_nothing_and_gives_the_slot_back() {
    on_each_backend(async |config| {
        let (ring, pool) = (Ring::start(config).unwrap(), pool(1));
        let file = std::sync::Arc::new(file_of(b"abc").reopen().unwrap());
        ring.clone().shutdown().await.unwrap();
        let done = ring.read_at(read_first(&file, pool.lend(SlotClass::Page4K).await, 3)).await;
        assert!(matches!(done.result, Err(RingError::Stopped)));
        drop(done.slot);
        let result = ring.write_at(file, Bytes::from_static(b"x"), 0).await;
        assert!(matches!(result, Err(RingError::Stopped)));
        assert_eq!((ring.stats().submitted, pool.stats().lent_bytes), (0, 0));
        ring.shutdown().await.unwrap();
    });
}
