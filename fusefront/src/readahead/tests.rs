use proptest::prelude::*;

use super::*;

const MIB: u64 = EXTENT_BYTES;
const LIMITS: Limits = Limits { window_bytes_min: 2 * MIB, window_bytes_max: 16 * MIB };

fn reader(size_bytes: u64) -> Readahead {
    Readahead::new(LIMITS, size_bytes)
}

#[test]
fn first_read_fetches_nothing_ahead() {
    let mut handle = reader(1 << 30);
    let advice = handle.on_read(Extent::new(0, 128 << 10));
    assert_eq!(advice, Advice { whole_from: u64::MAX, jumped: false });
    assert!(handle.ahead().is_empty());
}

#[test]
fn second_read_in_order_opens_the_window() {
    let mut handle = reader(1 << 30);
    handle.on_read(Extent::new(0, 256 << 10));
    let advice = handle.on_read(Extent::new(256 << 10, 256 << 10));
    assert_eq!(advice.whole_from, 256 << 10, "what the first read took is not fetched again");
    assert_eq!(handle.ahead(), 1..3, "two extents past the reader");
    handle.issued(3);
    assert!(handle.ahead().is_empty(), "nothing is told twice");
}

#[test]
fn window_doubles_up_to_its_bound() {
    let mut handle = reader(1 << 30);
    let mut widest = 0;
    for extent in 0..64 {
        handle.on_read(Extent::new(extent * MIB, MIB));
        let ahead = handle.ahead();
        handle.issued(ahead.end);
        widest = widest.max(ahead.end.saturating_sub(extent + 1));
    }
    assert_eq!(widest * MIB, LIMITS.window_bytes_max);
}

#[test]
fn requests_in_swapped_order_stay_one_run() {
    let mut handle = reader(1 << 30);
    for start in [0, 2, 1, 3, 5, 4] {
        let advice = handle.on_read(Extent::new(start * MIB, MIB));
        assert!(!advice.jumped);
    }
    assert!(handle.ahead().end > 6);
}

#[test]
fn jump_ends_the_run_and_says_so_once() {
    let mut handle = reader(1 << 30);
    handle.on_read(Extent::new(0, MIB));
    handle.on_read(Extent::new(MIB, MIB));
    assert!(handle.on_read(Extent::new(500 * MIB, 4096)).jumped);
    assert!(handle.ahead().is_empty());
    assert!(!handle.on_read(Extent::new(100 * MIB, 4096)).jumped, "a lone read is no run to leave");
}

#[test]
fn random_reads_never_fetch_ahead() {
    let mut handle = reader(1 << 40);
    for i in 0..1000_u64 {
        handle.on_read(Extent::new(i.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (1 << 40), 4096));
        assert!((handle.ahead().end - handle.ahead().start) * EXTENT_BYTES <= 2 * EXTENT_BYTES);
    }
}

proptest! {
    /// Any reads: what is fetched ahead lies inside the file, past the reader, within the largest window.
    #[test]
    fn ahead_is_bounded(size in 0_u64..1 << 36, reads in prop::collection::vec((0_u64..1 << 36, 0_u64..4 << 20), 1..60)) {
        let mut handle = reader(size);
        for (start, len) in reads {
            let read = Extent::new(start, len).clip(wire::ByteLen(size));
            handle.on_read(read);
            let ahead = handle.ahead();
            prop_assert!(ahead.end <= size.div_ceil(EXTENT_BYTES) || ahead.is_empty());
            prop_assert!(ahead.clone().count() as u64 * EXTENT_BYTES <= LIMITS.window_bytes_max + EXTENT_BYTES);
            prop_assert!(ahead.is_empty() || ahead.start * EXTENT_BYTES >= read.end().0.saturating_sub(SLACK_BYTES));
            handle.issued(ahead.end);
            prop_assert!(handle.ahead().is_empty());
        }
    }

    /// A sequential reader is told of every extent of the file exactly once, the first read's own apart.
    #[test]
    fn sequential_reader_gets_each_extent_once(size in 1_u64..200 << 20, step in 4096_u64..1 << 20) {
        let mut handle = reader(size);
        let mut told = Vec::new();
        let mut at = 0;
        while at < size {
            let read = Extent::new(at, step).clip(wire::ByteLen(size));
            handle.on_read(read);
            let ahead = handle.ahead();
            handle.issued(ahead.end);
            told.extend(ahead);
            at += step;
        }
        let first = told.first().copied().unwrap_or(0);
        prop_assert_eq!(&told, &(first..first + told.len() as u64).collect::<Vec<_>>());
        prop_assert!(told.is_empty() || told.len() as u64 + first == size.div_ceil(EXTENT_BYTES));
    }
}
