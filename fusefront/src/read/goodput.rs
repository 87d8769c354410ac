//! How fast file contents arrive, and what follows for how much to ask for.
//!
//! On a fast path a run is fetched in whole extents and far ahead. On a slow one an extent of 1 MiB takes seconds: a
//! reader that needs its first bytes waits for the last ones, and what was asked for ahead of a reader who turns away
//! blocks the link for longer. So a slow path is asked for chunks, and for no more than it brings in a second or in ten
//! round trips; a lossy path needs as many round trips in flight, since a stream that waits for a packet sent again
//! holds its slot.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::readahead::EXTENT_BYTES;

/// Below this an extent takes longer than 100 ms.
const SLOW_BYTES_PER_S: u64 = 10 << 20;
/// A sample is of this many bytes at least, over [`SAMPLE_MIN`] at least; less tells of the round trip, or of what
/// came at once after a lost packet, not of the rate.
const SAMPLE_BYTES: u64 = 512 << 10;
const SAMPLE_MIN: Duration = Duration::from_millis(250);
/// Or over so long, however few bytes came.
const SAMPLE_MAX: Duration = Duration::from_secs(1);
/// Time of the path's rate that is asked for ahead, at least.
const AHEAD: Duration = Duration::from_secs(1);
/// And round trips of it, at least.
const AHEAD_ROUND_TRIPS: u32 = 10;

/// The rate at which contents arrive while some are asked for.
#[derive(Debug)]
pub(super) struct Goodput {
    sample: Mutex<Sample>,
    is_slow: AtomicBool,
    ahead_bytes_max: AtomicU64,
    bytes_per_s: AtomicU64,
}

#[derive(Debug, Default)]
struct Sample {
    in_flight: u32,
    since: Option<Instant>,
    bytes: u64,
    bytes_per_s: Option<u64>,
}

impl Default for Goodput {
    fn default() -> Goodput {
        Goodput {
            sample: Mutex::default(),
            is_slow: AtomicBool::new(false),
            ahead_bytes_max: AtomicU64::new(u64::MAX),
            bytes_per_s: AtomicU64::new(0),
        }
    }
}

/// A fetch under way; counts until it drops.
pub(super) struct Fetching<'a>(&'a Goodput);

impl Goodput {
    /// A fetch begins.
    pub(super) fn begin(&self, now: Instant) -> Fetching<'_> {
        let mut sample = self.sample.lock();
        if sample.in_flight == 0 {
            (sample.since, sample.bytes) = (Some(now), 0);
        }
        sample.in_flight += 1;
        Fetching(self)
    }

    /// Whether runs are better fetched in chunks.
    pub(super) fn is_slow(&self) -> bool {
        self.is_slow.load(Relaxed)
    }

    /// Bytes ahead of a reader that make sense on this path, at least an extent.
    pub(super) fn ahead_bytes_max(&self) -> u64 {
        self.ahead_bytes_max.load(Relaxed)
    }

    /// The rate as last measured; zero before that.
    pub(super) fn bytes_per_s(&self) -> u64 {
        self.bytes_per_s.load(Relaxed)
    }

    fn learn(&self, bytes_per_s: u64, round_trip: Duration) {
        let ahead = (round_trip * AHEAD_ROUND_TRIPS).max(AHEAD);
        let bytes = u128::from(bytes_per_s) * ahead.as_micros() / 1_000_000;
        self.ahead_bytes_max.store(u64::try_from(bytes).unwrap_or(u64::MAX).max(EXTENT_BYTES), Relaxed);
        self.is_slow.store(bytes_per_s < SLOW_BYTES_PER_S, Relaxed);
        self.bytes_per_s.store(bytes_per_s, Relaxed);
    }
}

impl Fetching<'_> {
    /// So many bytes came. The round trip is asked for when it is needed: once in a sample.
    pub(super) fn arrived(&self, now: Instant, bytes: u64, round_trip: impl FnOnce() -> Duration) {
        let learned = {
            let mut sample = self.0.sample.lock();
            sample.bytes += bytes;
            sample.take(now)
        };
        if let Some(bytes_per_s) = learned {
            self.0.learn(bytes_per_s, round_trip());
        }
    }
}

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        let mut sample = self.0.sample.lock();
        sample.in_flight -= 1;
    }
}

impl Sample {
    /// The rate, when the sample is whole; the next one begins.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let time = now.saturating_duration_since(self.since?);
        let is_whole = time >= SAMPLE_MAX || (time >= SAMPLE_MIN && self.bytes >= SAMPLE_BYTES);
        if !is_whole {
            return None;
        }
        let sampled = u64::try_from(u128::from(self.bytes) * 1_000_000 / time.as_micros().max(1)).ok()?;
        (self.since, self.bytes) = (Some(now), 0);
        let rate = match self.bytes_per_s {
            None => sampled,
            // Sooner up than down: a reader that pauses asks for less, and the path is not slower for it.
            Some(rate) if sampled > rate => rate + (sampled - rate) / 4,
            Some(rate) => rate - (rate - sampled) / 8,
        };
        self.bytes_per_s = Some(rate);
        Some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn after(goodput: &Goodput, steps: &[(u64, u64)]) {
        let mut now = Instant::now(); // clock: a moment to count from
        let fetch = goodput.begin(now);
        for (millis, bytes) in steps {
            now += Duration::from_millis(*millis);
            fetch.arrived(now, *bytes, || Duration::from_millis(50));
        }
    }

    #[test]
    fn nothing_is_held_back_before_the_path_is_known() {
        let goodput = Goodput::default();
        assert_eq!((goodput.is_slow(), goodput.ahead_bytes_max()), (false, u64::MAX));
        after(&goodput, &[(1, 4096), (5, 4096)]);
        assert_eq!((goodput.is_slow(), goodput.ahead_bytes_max()), (false, u64::MAX), "too little to tell");
    }

    #[test]
    fn a_slow_path_is_asked_for_less() {
        let goodput = Goodput::default();
        after(&goodput, &[(1000, 128 << 10), (1000, 128 << 10)]);
        assert!(goodput.is_slow());
        assert_eq!(goodput.ahead_bytes_max(), EXTENT_BYTES, "an extent at least");
    }

    #[test]
    fn a_fast_path_is_asked_for_a_second_of_it() {
        let goodput = Goodput::default();
        after(&goodput, &[(250, 25 * MIB), (250, 25 * MIB)]);
        assert!(!goodput.is_slow());
        assert_eq!((goodput.bytes_per_s(), goodput.ahead_bytes_max()), (100 * MIB, 100 * MIB));
    }

    #[test]
    fn the_rate_rises_soon_and_falls_slowly() {
        let goodput = Goodput::default();
        after(&goodput, &[(500, 4 * MIB), (500, 12 * MIB)]);
        assert_eq!(goodput.bytes_per_s(), 12 * MIB);
        after(&goodput, &[(500, 2 * MIB)]);
        assert_eq!(goodput.bytes_per_s(), 11 * MIB);
    }

    #[test]
    fn the_time_between_fetches_does_not_count() {
        let goodput = Goodput::default();
        after(&goodput, &[(10, 300 << 10)]);
        after(&goodput, &[(300, 10 * MIB)]);
        assert!(goodput.bytes_per_s() > 30 * MIB, "{}", goodput.bytes_per_s());
    }
}
