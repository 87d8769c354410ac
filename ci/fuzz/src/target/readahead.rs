//! Any order of reads on one handle: what is fetched ahead lies in the file and in the window, and ends.

use std::time::Duration;

use fusefront::readahead::{EXTENT_BYTES, Limits, Readahead, WindowBudget};
use tokio::time::Instant;
use wire::Extent;

use crate::input::Input;

/// The largest file of any kernel.
const SIZE_MAX: u64 = i64::MAX as u64;
/// Strides fetched ahead at once; more than the machine's own bound would say that it has none.
const REQUESTS_MAX: u64 = 64;

/// The memory and the size; then reads, fetches, misses, rests and new sizes.
pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let memory = input.sized();
    let limits = Limits::for_memory(memory);
    assert!((EXTENT_BYTES..=limits.window_bytes_max).contains(&limits.window_bytes_min));
    let budget = WindowBudget::for_memory(memory);
    let all = budget.free_bytes();
    let mut size = input.sized().min(SIZE_MAX);
    let mut readahead = Readahead::new(limits, budget.clone(), size);
    let (mut now, mut last) = (Instant::now(), Extent::new(0, 0));
    while !input.is_empty() {
        match input.u8() % 8 {
            0 => {
                size = input.sized().min(SIZE_MAX);
                readahead.resize(size);
            }
            1 => issue(&mut readahead, input.u8().into()),
            2 => readahead.missed(input.sized()),
            3 => readahead.rest(now - Duration::from_millis(input.u8().into())),
            way => {
                now += Duration::from_millis(1);
                last = next(way, last, &mut input);
                readahead.on_read(last, now);
                readahead.whole(last);
            }
        }
        check(&readahead, &limits, size);
        assert_eq!(budget.free_bytes() + readahead.lent_bytes(), all, "a window is lent once");
    }
    // Asked for all of it, the machine wants no more until the next read: a fetch never leads to another one.
    issue(&mut readahead, u64::MAX);
    assert!(!readahead.wants_ahead(), "{:?} once more", readahead.ahead());
    drop(readahead);
    assert_eq!(budget.free_bytes(), all, "a window did not come home");
}

/// A read anywhere, or right after, right before or at a distance from the last one.
fn next(way: u8, last: Extent, input: &mut Input<'_>) -> Extent {
    let number = input.sized();
    let len = input.sized() % (2 * EXTENT_BYTES);
    let start = match way {
        4 => number,
        5 => last.end().0,
        6 => last.start.0.saturating_sub(len),
        _ => last.start.0.saturating_add(number),
    };
    let start = start.min(SIZE_MAX);
    Extent::new(start, len.min(SIZE_MAX - start))
}

/// Tells of the first `count` fetches as sent.
fn issue(readahead: &mut Readahead, count: u64) {
    let Some((cursor, extents)) = readahead.ahead() else { return };
    for extent in extents.iter().take(usize::try_from(count).unwrap_or(usize::MAX)) {
        readahead.issued(cursor, extent);
    }
}

fn check(readahead: &Readahead, limits: &Limits, size: u64) {
    let ahead = readahead.ahead();
    assert_eq!(readahead.wants_ahead(), ahead.is_some());
    let Some((_, extents)) = ahead else { return };
    let extents_max = (limits.window_bytes_max / EXTENT_BYTES + 1).max(REQUESTS_MAX);
    assert!(extents.len() as u64 <= extents_max, "{} fetches at once", extents.len());
    for extent in extents {
        assert!(
            !extent.is_empty() && extent.len.0 <= 2 * EXTENT_BYTES && extent.end().0 <= size,
            "{extent} of {size}"
        );
    }
}
