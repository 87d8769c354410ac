use uring::PoolConfig;

use super::*;
use crate::cache::ContentKey;

const PAGE: usize = 4096;

fn cache_of_one_mib() -> (Pool, L1) {
    let pool = Pool::new(PoolConfig { capacity_bytes: 1 << 20, idle_floor_bytes: 0 }).unwrap();
    (pool.clone(), L1::new(pool))
}

fn key(index: u64) -> BlockKey {
    let id = wire::FileId { fs: 1, inode: 2, birth: 3 };
    let version = wire::Version {
        size: wire::ByteLen(1 << 30),
        mtime: wire::Timestamp::default(),
        ctime: wire::Timestamp::default(),
    };
    BlockKey { content: ContentKey::new(&[0; 32], b"share", &id, &version), class: SlotClass::Page4K, index }
}

fn put(l1: &L1, index: u64) {
    let mut slot = l1.try_lend(SlotClass::Page4K, Pressure::Any).expect("a block can always make room");
    slot.bytes_mut().fill(u8::try_from(index % 251).unwrap());
    l1.insert(key(index), slot.fill(PAGE).freeze());
}

#[test]
fn block_comes_back_as_it_was() {
    let (_, l1) = cache_of_one_mib();
    put(&l1, 7);
    assert_eq!(l1.get(&key(7)).unwrap(), vec![7_u8; PAGE]);
    assert!(l1.get(&key(8)).is_none());
}

#[test]
fn served_blocks_go_first() {
    let (_, l1) = cache_of_one_mib();
    for index in 0..256 {
        put(&l1, index);
    }
    l1.served(&key(100), PAGE);
    put(&l1, 256);
    assert!(l1.get(&key(100)).is_none(), "the kernel holds it");
    assert!(l1.get(&key(0)).is_some(), "nobody has read it yet");
    assert_eq!(l1.stats(), L1Stats { blocks: 256, bytes: 1 << 20, evicted: 1, evicted_unread: 0 });
}

#[test]
fn partly_served_is_not_served() {
    let (_, l1) = cache_of_one_mib();
    put(&l1, 0);
    l1.served(&key(0), PAGE - 1);
    for index in 1..256 {
        put(&l1, index);
    }
    assert!(l1.try_lend(SlotClass::Page4K, Pressure::Served).is_none());
}

#[test]
fn blocks_asked_for_again_outlive_a_scan() {
    let (_, l1) = cache_of_one_mib();
    for index in 0..64 {
        put(&l1, index);
        l1.served(&key(index), PAGE);
        l1.served(&key(index), PAGE);
    }
    for index in 1000..5000 {
        put(&l1, index);
        l1.served(&key(index), PAGE);
    }
    assert!((0..64).all(|index| l1.get(&key(index)).is_some()), "a scan pushes out only itself");
}

#[test]
fn read_ahead_does_not_push_out_read_ahead() {
    let (_, l1) = cache_of_one_mib();
    for index in 0..256 {
        put(&l1, index);
    }
    assert!(l1.try_lend(SlotClass::Page4K, Pressure::Served).is_none());
    assert!(l1.try_lend(SlotClass::Page4K, Pressure::Any).is_some());
    assert_eq!(l1.stats().evicted_unread, 1);
}

#[test]
fn large_slot_is_made_of_many_small_blocks() {
    let (pool, l1) = cache_of_one_mib();
    for index in 0..256 {
        put(&l1, index);
    }
    let slot = l1.try_lend(SlotClass::Extent1M, Pressure::Any).expect("all blocks can go");
    assert_eq!(l1.stats().blocks, 0);
    drop(slot);
    assert_eq!(pool.stats().lent_bytes, 0);
}

#[test]
fn shrink_gives_memory_back() {
    let (pool, l1) = cache_of_one_mib();
    for index in 0..256 {
        put(&l1, index);
    }
    l1.shrink(16 << 10);
    assert_eq!(l1.stats().bytes, 16 << 10);
    l1.shrink(0);
    assert_eq!((l1.stats().blocks, pool.stats().lent_bytes), (0, 0));
}

#[test]
fn queues_stay_as_short_as_the_cache() {
    let (_, l1) = cache_of_one_mib();
    for index in 0..100_000 {
        put(&l1, index);
        l1.served(&key(index), PAGE);
    }
    let state = l1.state.lock();
    let queued: usize = state.queues.iter().map(VecDeque::len).sum();
    assert!(queued <= 3 * (2 * state.blocks.len() + 65), "{queued} places for {} blocks", state.blocks.len());
}

#[test]
fn removed_block_is_gone_and_its_slot_home() {
    let (pool, l1) = cache_of_one_mib();
    put(&l1, 1);
    put(&l1, 2);
    assert_eq!(l1.blocks_of(&key(0).content).len(), 2);
    l1.remove(&key(1));
    l1.remove(&key(1));
    assert!(l1.get(&key(1)).is_none() && l1.get(&key(2)).is_some());
    assert_eq!((l1.stats().bytes, pool.stats().lent_bytes), (PAGE as u64, PAGE));
}
