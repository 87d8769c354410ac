use proptest::prelude::*;
use wire::ByteLen;

use super::*;

const KIB: u64 = 1024;
const MIB: u64 = EXTENT_BYTES;
const GIB: u64 = 1 << 30;
const LIMITS: Limits = Limits { window_bytes_min: 2 * MIB, window_bytes_max: 16 * MIB };

/// A handle with all the memory it may want.
fn handle(size_bytes: u64) -> Readahead {
    Readahead::new(LIMITS, WindowBudget::new(1 << 40), size_bytes)
}

fn now() -> Instant {
    Instant::now() // clock: a moment to count from
}

/// Reads, and asks for all that is wanted ahead.
fn read(handle: &mut Readahead, start: u64, len: u64) -> Vec<Extent> {
    handle.on_read(Extent::new(start, len), now());
    ask(handle)
}

fn ask(handle: &mut Readahead) -> Vec<Extent> {
    let Some((cursor, extents)) = handle.ahead() else { return Vec::new() };
    extents.iter().for_each(|extent| handle.issued(cursor, extent));
    assert!(!handle.wants_ahead(), "nothing is told twice");
    extents
}

/// A page somewhere in the first GiB, the same at each run: Fibonacci hashing.
fn scattered(n: u64) -> u64 {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 34 & !4095
}

fn indexes(extents: &[Extent]) -> Vec<u64> {
    extents.iter().map(|extent| extent.start.0 / MIB).collect()
}

#[test]
fn first_read_fetches_nothing_ahead() {
    let mut handle = handle(GIB);
    assert!(read(&mut handle, 0, 128 * KIB).is_empty());
    assert_eq!(handle.whole(Extent::new(0, 1)), Whole::Never);
}

#[test]
fn second_read_in_order_opens_the_window() {
    let mut handle = handle(GIB);
    read(&mut handle, 0, 256 * KIB);
    let ahead = read(&mut handle, 256 * KIB, 256 * KIB);
    let whole = handle.whole(Extent::new(256 * KIB, 1));
    assert_eq!(whole, Whole::From(256 * KIB), "what the first read took is not fetched again");
    assert_eq!(indexes(&ahead), [1, 2], "two extents past the reader");
}

#[test]
fn window_doubles_up_to_its_bound() {
    let mut handle = handle(GIB);
    let mut widest = 0;
    for extent in 0..64 {
        let ahead = read(&mut handle, extent * MIB, MIB);
        widest = widest.max(ahead.last().map_or(0, |last| last.end().0 / MIB - extent - 1));
    }
    assert_eq!(widest * MIB, LIMITS.window_bytes_max);
    assert_eq!(handle.lent_bytes(), LIMITS.window_bytes_max - MIB, "the first extent is not lent");
}

#[test]
fn requests_in_swapped_order_stay_one_run() {
    for order in [[0, 2, 1, 3, 5, 4], [1, 0, 2, 3, 4, 5]] {
        let mut handle = handle(GIB);
        let told: Vec<_> = order.iter().flat_map(|start| read(&mut handle, start * MIB, MIB)).collect();
        assert_eq!(handle.cursors.len(), 1, "{order:?}");
        assert!(indexes(&told).contains(&6), "{order:?}: {told:?}");
    }
}

#[test]
fn backward_reader_is_fetched_whole_extents_before_it() {
    let mut handle = handle(GIB);
    let step = 256 * KIB;
    assert!(read(&mut handle, GIB / 2, step).is_empty());
    assert!(read(&mut handle, GIB / 2 - step, step).is_empty(), "two reads may be one run out of order");
    let ahead = read(&mut handle, GIB / 2 - 2 * step, step);
    assert_eq!(indexes(&ahead), [510, 509], "the nearest first; 511 is demand's");
    assert_eq!(handle.whole(Extent::new(GIB / 2 - 2 * step, 1)), Whole::Before(GIB / 2));
}

#[test]
fn strided_reader_is_fetched_his_next_reads_alone() {
    let mut handle = handle(GIB);
    let (step, len) = (5 * MIB, 64 * KIB);
    for n in 0..3 {
        assert!(read(&mut handle, n * step, len).is_empty());
    }
    let ahead = read(&mut handle, 3 * step, len);
    assert_eq!(ahead[0], Extent::new(4 * step, len), "the third equal distance tells");
    assert!(ahead.iter().all(|extent| extent.len.0 == len && extent.start.0 % step == 0));
    let bytes: u64 = ahead.iter().map(|extent| extent.len.0).sum();
    assert!(bytes <= LIMITS.window_bytes_max);
    assert_eq!(handle.whole(Extent::new(3 * step, 1)), Whole::Never);
    // The last read again, as two readers of one handle send it: another cursor's, no fault.
    handle.on_read(Extent::new(3 * step, len), now());
}

#[test]
fn interleaved_readers_keep_their_windows() {
    let mut handle = handle(64 * GIB);
    let mut told = vec![Vec::new(); 8];
    for round in 0..20 {
        for reader in 0..8_u64 {
            // Four at a time, as the kernel's own read-ahead sends them.
            for part in 0..4 {
                let at = reader * 8 * GIB + (round * 4 + part) * 256 * KIB;
                let lost = handle.on_read(Extent::new(at, 256 * KIB), now());
                assert_eq!(lost, None, "round {round}, reader {reader}");
                told[usize::try_from(reader).unwrap()].extend(ask(&mut handle));
            }
        }
    }
    for (reader, told) in told.iter().enumerate() {
        let first = indexes(told)[0];
        let expected: Vec<_> = (first..first + told.len() as u64).collect();
        assert_eq!(indexes(told), expected, "reader {reader}: each extent once, in order");
        assert!(told.len() >= 20 + 8, "reader {reader} is fetched for in time: {}", told.len());
    }
}

#[test]
fn seek_calls_off_the_run_it_left() {
    let mut handle = handle(64 * GIB);
    for n in 0..8 {
        read(&mut handle, n * MIB, MIB);
    }
    let left = handle.ahead().map_or(CursorId(0), |(cursor, _)| cursor);
    let lost: Vec<_> = (0..16)
        .filter_map(|n| {
            let lost = handle.on_read(Extent::new(32 * GIB + n * MIB, MIB), now());
            ask(&mut handle);
            Some((n, lost?))
        })
        .collect();
    assert_eq!(lost.len(), 1);
    let (after, cursor) = lost[0];
    assert_eq!(cursor, left);
    assert!(after <= 12, "called off after {after} reads elsewhere");
}

#[test]
fn a_look_elsewhere_does_not_end_a_run() {
    let mut handle = handle(64 * GIB);
    read(&mut handle, 0, MIB);
    for n in 1..100 {
        read(&mut handle, n * MIB, MIB);
        assert_eq!(handle.on_read(Extent::new(32 * GIB + scattered(n), 4096), now()), None);
        assert!(ask(&mut handle).is_empty());
    }
    assert_eq!(handle.lent_bytes(), LIMITS.window_bytes_max - MIB);
}

#[test]
fn random_reads_fetch_almost_nothing_ahead() {
    let mut handle = handle(GIB);
    let mut fetched = 0;
    for i in 0..10_000_u64 {
        fetched += read(&mut handle, scattered(i), 4096).iter().map(|extent| extent.len.0).sum::<u64>();
    }
    assert!(fetched <= 10_000 * 4096 / 2, "{fetched} bytes fetched ahead for 40,960,000 read");
}

#[test]
fn what_yields_unread_halves_the_window() {
    let mut handle = handle(GIB);
    for n in 0..40 {
        read(&mut handle, n * MIB, MIB);
    }
    assert_eq!(handle.lent_bytes(), 15 * MIB);
    handle.on_read(Extent::new(40 * MIB, MIB), now());
    handle.missed(40 * MIB);
    assert_eq!(handle.lent_bytes(), 7 * MIB);
    handle.missed(GIB - 1);
    assert_eq!(handle.lent_bytes(), 7 * MIB, "nobody asked for that");
}

#[test]
fn windows_are_lent_and_given_back() {
    let budget = WindowBudget::new(20 * MIB);
    let mut first = Readahead::new(LIMITS, budget.clone(), GIB);
    let mut second = Readahead::new(LIMITS, budget.clone(), GIB);
    for n in 0..40 {
        read(&mut first, n * MIB, MIB);
    }
    assert_eq!(budget.free_bytes(), 5 * MIB);
    for n in 0..40 {
        read(&mut second, n * MIB, MIB);
    }
    assert_eq!(second.lent_bytes(), 3 * MIB, "doubled once, and then the budget had not enough");
    first.rest(now());
    assert_eq!(first.lent_bytes(), 0);
    for n in 40..80 {
        read(&mut second, n * MIB, MIB);
    }
    assert_eq!(second.lent_bytes(), 15 * MIB);
    drop(second);
    assert_eq!(budget.free_bytes(), 20 * MIB);
}

proptest! {
    /// Any reads: what is fetched ahead lies inside the file, is within the windows, and goes home in the end.
    #[test]
    fn ahead_is_bounded(
        size in 0_u64..1 << 36,
        reads in prop::collection::vec((0_u64..1 << 36, 0_u64..4 << 20, any::<bool>()), 1..120),
    ) {
        let budget = WindowBudget::new(64 * MIB);
        let mut handle = Readahead::new(LIMITS, budget.clone(), size);
        let mut next = 0;
        for (start, len, follows) in reads {
            let extent = Extent::new(if follows { next } else { start }, len).clip(ByteLen(size));
            next = extent.end().0;
            handle.on_read(extent, now());
            prop_assert!(handle.cursors.len() <= CURSORS_MAX);
            let Some((cursor, ahead)) = handle.ahead() else { continue };
            prop_assert!(handle.wants_ahead());
            let bytes: u64 = ahead.iter().map(|extent| extent.len.0).sum();
            prop_assert!(bytes <= LIMITS.window_bytes_max + 2 * MIB, "{} bytes", bytes);
            for extent in &ahead {
                prop_assert!(extent.len.0 > 0 && extent.end().0 <= size);
                handle.issued(cursor, extent);
            }
            prop_assert!(!handle.wants_ahead());
            prop_assert!(budget.free_bytes() + handle.lent_bytes() == 64 * MIB);
        }
        drop(handle);
        prop_assert_eq!(budget.free_bytes(), 64 * MIB);
    }

    /// A sequential reader, in either direction, is told of every extent of the file once, its first reads' own apart.
    #[test]
    fn sequential_reader_gets_each_extent_once(
        size in 1_u64..200 << 20,
        step in 4096_u64..1 << 20,
        backward in any::<bool>(),
    ) {
        let mut handle = handle(size);
        let steps = size.div_ceil(step);
        let mut told = Vec::new();
        for n in 0..steps {
            let at = if backward { (steps - 1 - n) * step } else { n * step };
            told.extend(indexes(&read(&mut handle, at, step)));
        }
        let mut sorted = told.clone();
        sorted.sort_unstable();
        sorted.dedup();
        prop_assert_eq!(sorted.len(), told.len(), "told twice");
        let last = if backward { 0 } else { size.div_ceil(MIB) - 1 };
        prop_assert!(told.is_empty() || told.last() == Some(&last));
        let contiguous = sorted.windows(2).all(|pair| pair[1] == pair[0] + 1);
        prop_assert!(contiguous, "{:?}", told);
    }
}
