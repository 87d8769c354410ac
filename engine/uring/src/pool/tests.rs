//! The pool against a plain model, and who waits for whom.

use std::future::poll_fn;

use proptest::prelude::*;

use super::*;

const PAGE_BYTES: usize = SlotClass::Page4K.bytes();

fn pool(extents: usize) -> Pool {
    Pool::new(PoolConfig { capacity_bytes: extents * EXTENT_BYTES, idle_floor_bytes: 0 }).unwrap()
}

/// Polls a future once, with this task's waker.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

#[derive(Clone, Debug)]
enum Step {
    Lend(SlotClass),
    /// Drops one of those held, counted from the oldest, round and round.
    Drop(usize),
    Trim,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let class = prop::sample::select(SlotClass::ALL.to_vec());
    let step = prop_oneof![
        6 => class.prop_map(Step::Lend),
        5 => any::<usize>().prop_map(Step::Drop),
        1 => Just(Step::Trim),
    ];
    prop::collection::vec(step, 1..400)
}

/// What the model knows of a slot that is lent: its pages, and the stamp written into each of them.
struct Held {
    slot: Slot,
    first_page: usize,
    stamp: u64,
}

impl Held {
    fn pages(&self) -> std::ops::Range<usize> {
        self.first_page..self.first_page + self.slot.capacity() / PAGE_BYTES
    }

    fn write(&mut self) {
        let stamp = self.stamp.to_le_bytes();
        for page in self.slot.bytes_mut().chunks_mut(PAGE_BYTES) {
            page[..8].copy_from_slice(&stamp);
            page[PAGE_BYTES - 8..].copy_from_slice(&stamp);
        }
    }

    fn check(self) {
        let len = self.slot.capacity();
        let stamp = self.stamp.to_le_bytes();
        for page in self.slot.fill(len).freeze().chunks(PAGE_BYTES) {
            assert_eq!((&page[..8], &page[PAGE_BYTES - 8..]), (&stamp[..], &stamp[..]));
        }
    }
}

/// Whether an aligned run of the class's size is free, given the pages that are not.
fn has_room(occupied: &[bool], class: SlotClass) -> bool {
    occupied.chunks(class.bytes() / PAGE_BYTES).any(|unit| unit.iter().all(|page| !page))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn slots_are_disjoint_found_when_there_is_room_and_all_come_home(steps in steps()) {
        const EXTENTS: usize = 3;
        let pool = pool(EXTENTS);
        let base = pool.inner.region.address(0, 0).as_ptr() as usize;
        let mut held: Vec<Held> = Vec::new();
        let mut occupied = vec![false; EXTENTS * EXTENT_BYTES / PAGE_BYTES];
        for (stamp, step) in (1u64..).zip(steps) {
            match step {
                Step::Lend(class) => match pool.try_lend(class) {
                    Some(mut slot) => {
                        let offset = slot.bytes_mut().as_ptr() as usize - base;
                        prop_assert_eq!(offset % class.bytes(), 0);
                        let mut new = Held { slot, first_page: offset / PAGE_BYTES, stamp };
                        prop_assert!(occupied[new.pages()].iter().all(|page| !page), "lent twice");
                        occupied[new.pages()].fill(true);
                        new.write();
                        held.push(new);
                    }
                    None => prop_assert!(!has_room(&occupied, class), "refused a {:?} that was free", class),
                },
                Step::Drop(which) if !held.is_empty() => {
                    let gone = held.swap_remove(which % held.len());
                    occupied[gone.pages()].fill(false);
                    gone.check();
                }
                Step::Drop(_) => {}
                Step::Trim => prop_assert_eq!(pool.trim() % EXTENT_BYTES, 0),
            }
            let lent = occupied.iter().filter(|page| **page).count() * PAGE_BYTES;
            let stats = pool.stats();
            prop_assert_eq!(stats.lent_bytes, lent);
            prop_assert!(stats.resident_bytes >= lent && stats.resident_bytes <= stats.capacity_bytes);
        }
        held.into_iter().for_each(Held::check);
        prop_assert_eq!(pool.stats().lent_bytes, 0);
        // Coalesced: the whole slab can be lent in the largest class again.
        let all: Vec<_> = (0..EXTENTS).map(|_| pool.try_lend(SlotClass::Extent1M)).collect();
        prop_assert!(all.iter().all(Option::is_some));
    }
}

#[test]
fn a_capacity_that_is_not_whole_mib_is_refused() {
    for capacity_bytes in [0, 1, EXTENT_BYTES - 1, EXTENT_BYTES + 4096] {
        let error = Pool::new(PoolConfig::with_capacity(capacity_bytes)).unwrap_err();
        assert!(matches!(error, PoolError::Capacity { .. }), "{error}");
    }
}

#[test]
fn a_capacity_beyond_the_address_space_is_refused_with_the_reason() {
    let error = Pool::new(PoolConfig::with_capacity(1 << 50)).unwrap_err();
    assert!(matches!(error, PoolError::Map { .. }), "{error}");
}

#[test]
fn partly_used_extents_are_used_up_first() {
    let pool = pool(2);
    let pages: Vec<_> = (0..256).map(|_| pool.try_lend(SlotClass::Page4K).unwrap()).collect();
    assert_eq!(pool.stats().resident_bytes, EXTENT_BYTES, "256 pages fit one extent");
    assert!(pool.try_lend(SlotClass::Extent1M).is_some(), "the other one is whole");
    drop(pages);
}

#[test]
fn a_steady_stream_reuses_its_extent() {
    let pool = pool(8);
    for _ in 0..100 {
        drop(pool.try_lend(SlotClass::Extent1M).unwrap());
        drop(pool.try_lend(SlotClass::Chunk128K).unwrap());
    }
    assert_eq!(pool.stats().resident_bytes, EXTENT_BYTES);
}

#[test]
fn trim_gives_back_free_extents_above_the_floor_and_no_others() {
    let config = PoolConfig { capacity_bytes: 8 * EXTENT_BYTES, idle_floor_bytes: 2 * EXTENT_BYTES };
    let pool = Pool::new(config).unwrap();
    let mut slots: Vec<_> = (0..8).map(|_| pool.try_lend(SlotClass::Extent1M).unwrap()).collect();
    slots.iter_mut().for_each(|slot| slot.bytes_mut().fill(7));
    let kept = slots.pop().unwrap().fill(EXTENT_BYTES).freeze();
    assert_eq!(pool.trim(), 0, "nothing is free");
    drop(slots);
    assert_eq!(pool.trim(), 5 * EXTENT_BYTES);
    assert_eq!(pool.stats().resident_bytes, 3 * EXTENT_BYTES);
    assert!(kept.iter().all(|byte| *byte == 7), "a lent extent is not touched");
    assert_eq!(pool.trim(), 0, "the floor stays");
    let again: Vec<_> = (0..7).map(|_| pool.try_lend(SlotClass::Extent1M).unwrap()).collect();
    assert_eq!(again.len(), 7, "cold extents are lent again");
}

#[test]
fn memory_given_back_reads_as_zeros() {
    let pool = pool(1);
    let mut slot = pool.try_lend(SlotClass::Extent1M).unwrap();
    slot.bytes_mut().fill(0xAB);
    drop(slot);
    assert_eq!(pool.trim(), EXTENT_BYTES);
    let mut slot = pool.try_lend(SlotClass::Extent1M).unwrap();
    assert!(slot.bytes_mut().iter().all(|byte| *byte == 0));
}

#[tokio::test]
async fn waiters_are_served_in_order_whatever_they_want() {
    let pool = pool(1);
    let whole = pool.lend(SlotClass::Extent1M).await;
    let mut first = Box::pin(pool.lend(SlotClass::Chunk128K));
    let mut second = Box::pin(pool.lend(SlotClass::Extent1M));
    let mut third = Box::pin(pool.lend(SlotClass::Page4K));
    assert!(poll_once(&mut first).await.is_pending());
    assert!(poll_once(&mut second).await.is_pending());
    assert!(poll_once(&mut third).await.is_pending());
    assert_eq!(pool.stats().waiters, 3);

    drop(whole);
    let chunk = first.await;
    assert!(poll_once(&mut second).await.is_pending(), "a chunk of the extent is lent");
    assert!(poll_once(&mut third).await.is_pending(), "third in line, though pages are free");
    assert!(pool.try_lend(SlotClass::Page4K).is_none(), "nobody overtakes the line");

    drop(chunk);
    let whole = second.await;
    assert!(poll_once(&mut third).await.is_pending());
    drop(whole);
    assert_eq!(third.await.class(), SlotClass::Page4K);
    assert_eq!(pool.stats(), PoolStats { lent_bytes: 0, waiters: 0, ..pool.stats() });
}

#[tokio::test]
async fn a_waiter_that_leaves_lets_the_next_one_through() {
    let pool = pool(1);
    let chunk = pool.lend(SlotClass::Chunk128K).await;
    let mut large = Box::pin(pool.lend(SlotClass::Extent1M));
    let mut small = Box::pin(pool.lend(SlotClass::Page4K));
    assert!(poll_once(&mut large).await.is_pending());
    assert!(poll_once(&mut small).await.is_pending());
    drop(large);
    assert_eq!(small.await.class(), SlotClass::Page4K);
    drop(chunk);
    assert_eq!(pool.stats().lent_bytes, 0);
}

#[tokio::test]
async fn a_slot_granted_to_a_dropped_future_goes_to_the_next_one() {
    let pool = pool(1);
    let whole = pool.lend(SlotClass::Extent1M).await;
    let mut first = Box::pin(pool.lend(SlotClass::Extent1M));
    let mut second = Box::pin(pool.lend(SlotClass::Extent1M));
    assert!(poll_once(&mut first).await.is_pending());
    assert!(poll_once(&mut second).await.is_pending());
    drop(whole);
    assert_eq!(pool.stats().waiters, 1, "the first one has its slot, unseen");
    drop(first);
    drop(second.await);
    assert_eq!(pool.stats().lent_bytes, 0);
}

#[tokio::test]
async fn a_trim_serves_whoever_queued_during_it() {
    let pool = pool(1);
    let offset = {
        drop(pool.lend(SlotClass::Page4K).await);
        pool.inner.state.lock().buddy.take_idle(0).unwrap()
    };
    let mut waiting = Box::pin(pool.lend(SlotClass::Page4K));
    assert!(poll_once(&mut waiting).await.is_pending(), "the only extent is being given back");
    pool.inner.state.lock().buddy.chill(offset);
    assert_eq!(pool.trim(), 0);
    assert_eq!(waiting.await.class(), SlotClass::Page4K);
}

#[test]
fn bytes_outlive_every_handle_and_come_home_across_threads() {
    let pool = pool(1);
    let mut slot = pool.try_lend(SlotClass::Block16K).unwrap();
    slot.bytes_mut()[..5].copy_from_slice(b"hello");
    let bytes = slot.fill(5).freeze();
    let (head, tail) = (bytes.slice(..2), bytes.slice(2..));
    drop(bytes);
    let stats = pool.clone();
    drop(pool);
    std::thread::spawn(move || assert_eq!(&head[..], b"he")).join().unwrap();
    assert_eq!(stats.stats().lent_bytes, 16 << 10, "a slice still holds the slot");
    assert_eq!(&tail[..], b"llo");
    drop(tail);
    assert_eq!(stats.stats().lent_bytes, 0);
}

#[test]
fn a_slot_that_comes_home_twice_is_noticed() {
    let pool = pool(1);
    let keeps_the_extent_split = pool.try_lend(SlotClass::Page4K).unwrap();
    let offset = pool.inner.state.lock().buddy.take(SlotClass::Page4K).unwrap();
    let put_back = || pool.inner.state.lock().buddy.put_back(SlotClass::Page4K, offset);
    put_back();
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(put_back)).is_err());
    drop(keeps_the_extent_split);
}

#[test]
#[should_panic(expected = "do not fit")]
fn more_than_the_capacity_is_never_readable() {
    let pool = pool(1);
    let _ = pool.try_lend(SlotClass::Page4K).unwrap().fill(4097);
}

#[test]
fn lending_races_lose_no_slot() {
    let pool = pool(2);
    let threads: Vec<_> = (0..4usize)
        .map(|thread| {
            let pool = pool.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    for round in 0..500 {
                        let class = SlotClass::ALL[(thread + round) % 4];
                        let mut lending = Box::pin(pool.lend(class));
                        // Every third future that would wait is dropped instead, often with a grant on its way.
                        match poll_once(&mut lending).await {
                            Poll::Ready(slot) => drop(slot),
                            Poll::Pending if round % 3 == 0 => drop(lending),
                            Poll::Pending => drop(lending.await),
                        }
                        tokio::task::yield_now().await;
                    }
                });
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!((pool.stats().lent_bytes, pool.stats().waiters), (0, 0));
    assert!(
        (0..2).map(|_| pool.try_lend(SlotClass::Extent1M)).collect::<Vec<_>>().iter().all(Option::is_some)
    );
}

#[cfg(wormhole_asan)]
#[test]
fn the_sanitizer_reports_a_touch_of_a_slot_that_is_home() {
    use crate::region::asan::is_poisoned;
    let pool = pool(1);
    let mut slot = pool.try_lend(SlotClass::Page4K).unwrap();
    let (first, next) = (slot.bytes_mut().as_ptr(), slot.bytes_mut().as_ptr_range().end);
    assert!(!is_poisoned(first) && is_poisoned(next), "the neighbour is not lent");
    let bytes = slot.fill(PAGE_BYTES).freeze();
    assert!(!is_poisoned(first));
    drop(bytes);
    assert!(is_poisoned(first));
}
