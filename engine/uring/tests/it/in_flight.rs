//! What the kernel holds stays the ring's until the completion, whoever stops waiting.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use wormhole_uring::{Done, Ring, RingConfig, SlotClass};

use crate::support::{file_of, fill_up, in_flight, on_each_backend, pipe, pool, read_first};

#[test]
fn dropped_future_keeps_the_slot_until_the_completion() {
    on_each_backend(async |config| {
        let (ring, pool) = (Ring::start(config).unwrap(), pool(1));
        let (reader, mut writer) = pipe();
        let slot = pool.lend(SlotClass::Extent1M).await;
        tokio::select! {
            biased;
            done = ring.read_at(read_first(&reader, slot, 8)) => panic!("an empty pipe was read: {done:?}"),
            () = in_flight(&ring, 1) => {}
        }
        assert_eq!(pool.stats().lent_bytes, 1 << 20, "the future is gone, the read is not");
        assert!(pool.try_lend(SlotClass::Page4K).is_none());
        assert_eq!(Arc::strong_count(&reader), 2, "the ring keeps the file open");

        writer.write_all(b"wormhole").unwrap();
        let mut slot = pool.lend(SlotClass::Extent1M).await;
        assert_eq!(&slot.bytes_mut()[..8], b"wormhole", "the kernel wrote where the ring kept the slot");
        assert_eq!((ring.stats().in_flight, Arc::strong_count(&reader)), (0, 1));
    });
}

#[test]
fn a_read_dropped_before_it_was_submitted_gives_its_slot_back() {
    on_each_backend(async |config| {
        let ring = Ring::start(RingConfig { depth: 1, ..config }).unwrap();
        let pool = pool(1);
        let (reader, mut writer) = pipe();
        let slot = pool.lend(SlotClass::Page4K).await;
        let blocks_the_ring = tokio::spawn({
            let (ring, read) = (ring.clone(), read_first(&reader, slot, 1));
            async move { ring.read_at(read).await }
        });
        in_flight(&ring, 1).await;
        let slot = pool.lend(SlotClass::Page4K).await;
        tokio::select! {
            biased;
            done = ring.read_at(read_first(&reader, slot, 1)) => panic!("the ring has depth 1: {done:?}"),
            () = std::future::ready(()) => {}
        }
        writer.write_all(b"1").unwrap();
        assert_eq!(blocks_the_ring.await.unwrap().result.unwrap(), 1);
        let _everything = pool.lend(SlotClass::Extent1M).await;
        ring.clone().shutdown().await.unwrap();
        assert_eq!(ring.stats().submitted, 1, "the dropped one never was");
    });
}

#[test]
fn a_full_queue_makes_callers_wait() {
    on_each_backend(async |config| {
        let ring = Ring::start(RingConfig { depth: 1, queue_max: 1, ..config }).unwrap();
        let pool = pool(1);
        let (reader, mut writer) = pipe();
        let mut reads = Vec::new();
        for _ in 0..4 {
            let (ring, slot) = (ring.clone(), pool.lend(SlotClass::Page4K).await);
            let read = read_first(&reader, slot, 1);
            reads.push(tokio::spawn(async move { ring.read_at(read).await }));
        }
        in_flight(&ring, 1).await;
        for _ in 0..4 {
            assert!(ring.stats().in_flight <= 1);
            writer.write_all(b"x").unwrap();
        }
        for read in reads {
            assert_eq!(read.await.unwrap().result.unwrap(), 1);
        }
    });
}

#[test]
fn a_read_with_an_end_of_its_own_is_called_with_its_bytes_or_given_back() {
    on_each_backend(async |config| {
        let ring = Ring::start(RingConfig { depth: 1, queue_max: 1, ..config }).unwrap();
        let pool = pool(1);
        let (reader, mut writer) = pipe();
        let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
        let start = async |len| {
            let (slot, ended) = (pool.lend(SlotClass::Page4K).await, ended.clone());
            let end = move |done: Done| ended.send((std::thread::current().id(), done)).unwrap();
            ring.read_then(read_first(&reader, slot, len), end)
        };
        start(1).await.unwrap();
        in_flight(&ring, 1).await;
        start(2).await.unwrap();
        // One is read, one waits, and the queue has no place for a third. Other back ends take several at once.
        let mut more = 0;
        let refused = loop {
            match start(3).await {
                Err(refused) => break refused,
                Ok(()) => more += 1,
            }
            assert!(more < 64, "a queue of one");
        };
        assert_eq!(refused.range.len, 3);
        drop(refused);
        writer.write_all(&[7; 256]).unwrap();
        for _ in 0..2 + more {
            let (thread, done) = ends.recv().await.unwrap();
            assert_ne!(thread, std::thread::current().id());
            let len = done.result.unwrap();
            assert!(done.slot.fill(len).as_ref().iter().all(|byte| *byte == 7));
        }
        assert_eq!(pool.stats().lent_bytes, 0);
        ring.clone().shutdown().await.unwrap();
        assert!(start(1).await.is_err(), "a stopped ring");
    });
}

#[test]
fn written_bytes_are_held_until_the_completion() {
    on_each_backend(async |config| {
        let (ring, pool) = (Ring::start(config).unwrap(), pool(2));
        let (reader, writer) = pipe();
        let filler = fill_up(&writer);
        let mut slot = pool.lend(SlotClass::Extent1M).await;
        slot.bytes_mut().fill(0x5A);
        let writer = Arc::new(writer);
        tokio::select! {
            biased;
            result = ring.write_at(Arc::clone(&writer), slot.fill(1 << 20), 0) => panic!("written: {result:?}"),
            () = in_flight(&ring, 1) => {}
        }
        assert_eq!(pool.stats().lent_bytes, 1 << 20);
        drop(writer);
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            std::io::Read::read_to_end(&mut &*reader, &mut all).map(|_| all)
        });
        ring.clone().shutdown().await.unwrap();
        let _both = (pool.lend(SlotClass::Extent1M).await, pool.lend(SlotClass::Extent1M).await);
        let all = reading.join().unwrap().unwrap();
        assert!(all.len() > filler && all[filler..].iter().all(|byte| *byte == 0x5A));
    });
}

#[test]
fn an_empty_pool_makes_a_reader_wait_for_a_slot() {
    on_each_backend(async |config| {
        let (ring, pool) = (Ring::start(config).unwrap(), pool(1));
        let file = Arc::new(file_of(b"abc").reopen().unwrap());
        let done = ring.read_at(read_first(&file, pool.lend(SlotClass::Extent1M).await, 3)).await;
        let shared: Bytes = done.slot.fill(done.result.unwrap()).freeze();
        let next = tokio::spawn({
            let (ring, pool) = (ring.clone(), pool.clone());
            async move { ring.read_at(read_first(&file, pool.lend(SlotClass::Page4K).await, 3)).await }
        });
        while pool.stats().waiters == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!((ring.stats().submitted, next.is_finished()), (1, false));
        assert_eq!(&shared[..], b"abc");
        drop(shared);
        assert_eq!(next.await.unwrap().result.unwrap(), 3);
    });
}
