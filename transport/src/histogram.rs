//! How often something took how long: fixed buckets of atomics, for paths that cannot afford more.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Below this (2^7 nanoseconds) all times are one.
const FLOOR_SHIFT: u32 = 7;
/// From here on (2^37 nanoseconds, 137 s) as well: no operation outlives its deadline.
const CEILING_SHIFT: u32 = 37;
/// Each power of two is cut into eight: a bucket is wider than its times by an eighth at most.
const PARTS_SHIFT: u32 = 3;
const PARTS: usize = 1 << PARTS_SHIFT;
const BUCKETS: usize = 1 + (CEILING_SHIFT - FLOOR_SHIFT) as usize * PARTS;

/// Counts of times, to an eighth of each; 2 KiB. Recording takes two additions and no lock, and may be done by any
/// thread.
#[derive(Debug)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            counts: array::from_fn(|_| AtomicU64::new(0)),
            sum_ns: AtomicU64::new(0),
            max_ns: AtomicU64::new(0),
        }
    }
}

/// What a [`Histogram`] had counted at one moment; of those being recorded meanwhile, a part may be missing.
#[derive(Clone, Debug)]
pub struct Counts {
    counts: Box<[u64; BUCKETS]>,
    sum_ns: u64,
    max_ns: u64,
}

impl Histogram {
    /// Counts one.
    pub fn record(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(nanos, Relaxed);
        if nanos > self.max_ns.load(Relaxed) {
            self.max_ns.fetch_max(nanos, Relaxed);
        }
    }

    /// What there is so far.
    pub fn counts(&self) -> Counts {
        Counts {
            counts: Box::new(array::from_fn(|at| self.counts[at].load(Relaxed))),
            sum_ns: self.sum_ns.load(Relaxed),
            max_ns: self.max_ns.load(Relaxed),
        }
    }
}

impl Counts {
    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All their times together; wraps after 584 years.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns)
    }

    /// The time that `per_mille` of a thousand were no longer than, to an eighth and never less than it; zero where
    /// there are none.
    pub fn quantile(&self, per_mille: u32) -> Duration {
        let rank = (u128::from(self.count()) * u128::from(per_mille.min(1_000))).div_ceil(1_000).max(1);
        let mut seen = 0_u128;
        for (at, &count) in self.counts.iter().enumerate() {
            seen += u128::from(count);
            if seen >= rank {
                return Duration::from_nanos(bound_ns(at).min(self.max_ns));
            }
        }
        Duration::ZERO
    }

    /// Bounds, each four times the one before, from 1 us to 17 s, and how many were below each.
    pub fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let mut below = 0;
        self.counts.iter().enumerate().filter_map(move |(at, &count)| {
            below += count;
            let bound = bound_ns(at);
            // Powers of four, so that each is the bound of a bucket.
            let is_shown = bound.is_power_of_two() && bound.trailing_zeros().is_multiple_of(2);
            (is_shown && (10..=34).contains(&bound.trailing_zeros()))
                .then_some((Duration::from_nanos(bound), below))
        })
    }
}

/// Where a time is counted.
fn bucket(nanos: u64) -> usize {
    let shift = nanos.max(1).ilog2();
    if shift < FLOOR_SHIFT {
        return 0;
    }
    if shift >= CEILING_SHIFT {
        return BUCKETS - 1;
    }
    let part = nanos >> (shift - PARTS_SHIFT) & (PARTS as u64 - 1);
    1 + (shift - FLOOR_SHIFT) as usize * PARTS + usize::try_from(part).expect("three bits")
}

/// The first time that is too long for a bucket.
fn bound_ns(bucket: usize) -> u64 {
    let Some(above) = bucket.checked_sub(1) else { return 1 << FLOOR_SHIFT };
    let (power, part) = (above / PARTS, above % PARTS);
    ((PARTS + part + 1) as u64) << (power + (FLOOR_SHIFT - PARTS_SHIFT) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_below_its_bound_and_near_it() {
        for shift in 0..40 {
            for nanos in [1_u64 << shift, (1 << shift) + 1, (1 << shift) * 3 / 2, (2 << shift) - 1] {
                let at = bucket(nanos);
                let is_last = at == BUCKETS - 1;
                assert!(is_last || nanos < bound_ns(at), "{nanos} in {at}");
                assert!(at == 0 || nanos >= bound_ns(at - 1), "{nanos} in {at}");
                assert!(nanos < 128 || is_last || bound_ns(at) - nanos <= nanos / 8 + 1, "{nanos} in {at}");
            }
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn quantiles_are_no_less_than_the_times() {
        let histogram = Histogram::default();
        assert_eq!(histogram.counts().quantile(500), Duration::ZERO);
        for micros in 1..=1_000 {
            histogram.record(Duration::from_micros(micros));
        }
        let counts = histogram.counts();
        for (per_mille, micros) in [(1, 1), (500, 500), (990, 990), (1_000, 1_000)] {
            let (found, time) = (counts.quantile(per_mille), Duration::from_micros(micros));
            assert!(found >= time && found <= time * 9 / 8, "{per_mille}: {found:?}");
        }
        assert_eq!((counts.count(), counts.max()), (1_000, Duration::from_millis(1)));
        assert_eq!(counts.sum(), Duration::from_micros(500_500));
    }

    #[test]
    fn bounds_shown_are_exact() {
        let histogram = Histogram::default();
        for nanos in [1, 1_023, 1_024, 4_095, 1 << 34, u64::MAX] {
            histogram.record(Duration::from_nanos(nanos));
        }
        let counts = histogram.counts();
        let shown: Vec<_> = counts.cumulative().collect();
        assert_eq!(shown.len(), 13);
        assert_eq!(shown[0], (Duration::from_nanos(1 << 10), 2));
        assert_eq!(shown[1], (Duration::from_nanos(1 << 12), 4));
        assert_eq!(shown[12], (Duration::from_nanos(1 << 34), 4));
    }
}
