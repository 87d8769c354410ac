//! A token bucket: so much a second in the long run, so much at once.

use std::{num::NonZeroU64, time::Duration};

use tokio::time::Instant;

/// Told the time, it says when the next may go.
///
/// What is larger than the burst goes through as well and is paid off afterwards, so over any time `t` it lets through at
/// most `rate x t + burst` and one take more.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    per_s: NonZeroU64,
    /// How long the rate takes for one burst.
    burst: Duration,
    /// When all that was taken is paid off; in the past for a full bucket.
    paid_at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(per_s: NonZeroU64, burst: NonZeroU64, now: Instant) -> Bucket {
        Bucket { per_s, burst: time_for(burst.get(), per_s), paid_at: now }
    }

    /// Whether the next may go now.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.paid_at < now + self.burst
    }

    /// When the next may go; in the past when it may go now.
    pub(super) fn ready_at(&self) -> Instant {
        // A clock too young for the subtraction has seen no whole burst yet; later is safe.
        self.paid_at.checked_sub(self.burst).unwrap_or(self.paid_at) + Duration::from_nanos(1)
    }

    /// Takes `count`, which the caller saw to be allowed.
    pub(super) fn take(&mut self, now: Instant, count: u64) {
        self.paid_at = self.paid_at.max(now) + time_for(count, self.per_s);
    }

    /// Takes `count` whether it is allowed or not; owes one burst at most.
    pub(super) fn charge(&mut self, now: Instant, count: u64) {
        self.take(now, count);
        self.paid_at = self.paid_at.min(now + 2 * self.burst);
    }

    /// Gives back what was taken and not used.
    pub(super) fn give_back(&mut self, count: u64) {
        let time = time_for(count, self.per_s);
        self.paid_at = self.paid_at.checked_sub(time).unwrap_or(self.paid_at);
    }

    /// Whether nothing is owed: a new bucket would be the same.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.paid_at <= now
    }
}

/// How long the rate takes for `count`, rounded up; at most some centuries.
fn time_for(count: u64, per_s: NonZeroU64) -> Duration {
    let nanos = (u128::from(count) * 1_000_000_000).div_ceil(u128::from(per_s.get()));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: NonZeroU64 = NonZeroU64::new(1_000_000).unwrap();
    const BURST: NonZeroU64 = NonZeroU64::new(250_000).unwrap();

    /// A moment on the paused clock.
    fn now() -> Instant {
        // clock: paused, and nothing waits for it.
        Instant::now()
    }

    /// Takes of `size` that pass within `time`, asking again as soon as the bucket says.
    fn passed(bucket: &mut Bucket, size: u64, start: Instant, time: Duration) -> u64 {
        let mut now = start;
        let mut bytes = 0;
        while now < start + time {
            if bucket.is_ready(now) {
                bucket.take(now, size);
                bytes += size;
            } else {
                now = bucket.ready_at();
            }
        }
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept_and_idle_time_saves_no_more_than_the_burst() {
        let start = now();
        let mut bucket = Bucket::new(RATE, BURST, start);
        for size in [1, 1_000, 70_001, 1 << 20] {
            // A day of rest saves one burst.
            let start = bucket.ready_at().max(start) + Duration::from_secs(86_400);
            let bytes = passed(&mut bucket, size, start, Duration::from_secs(10));
            assert!(bytes >= 10_000_000, "{bytes} in takes of {size}");
            assert!(bytes <= 10_000_000 + BURST.get() + size, "{bytes} in takes of {size}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_the_burst_goes_through_and_is_paid_off() {
        let now = now();
        let mut bucket = Bucket::new(RATE, BURST, now);
        assert!(bucket.is_ready(now));
        bucket.take(now, 2_000_000);
        assert!(!bucket.is_ready(now + Duration::from_millis(1_749)));
        assert!(bucket.is_ready(now + Duration::from_millis(1_751)));
        bucket.give_back(2_000_000);
        assert!(bucket.is_ready(now) && bucket.is_full(now));
    }

    #[tokio::test(start_paused = true)]
    async fn a_charge_owes_one_burst_at_most() {
        let now = now();
        let mut bucket = Bucket::new(RATE, BURST, now);
        bucket.charge(now, 1 << 40);
        assert!(!bucket.is_ready(now + Duration::from_millis(249)));
        assert!(bucket.is_ready(now + Duration::from_millis(251)));
    }
}
