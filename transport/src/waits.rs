//! For how long a session was held up by what, and what that says about its bound.

use std::{pin::pin, task::Poll, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use wire::bound::Bound;

/// Seconds that are looked back to say what bounds a session now.
const LOOKS: usize = 5;
/// How often they are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The time in which at least one of several waits. Who does not wait pays nothing.
#[derive(Debug, Default)]
pub struct Stall(Mutex<Stalled>);

#[derive(Debug, Default)]
struct Stalled {
    waiting: u32,
    since: Option<Instant>,
    total: Duration,
}

/// One who waits, until it drops.
#[derive(Debug)]
pub struct Holding<'a>(&'a Stall);

impl Stall {
    /// One waits from `now` on.
    pub fn hold(&self, now: Instant) -> Holding<'_> {
        let mut stalled = self.0.lock();
        stalled.waiting += 1;
        stalled.since.get_or_insert(now);
        Holding(self)
    }

    /// Runs `future`, and counts the time from when it first had to wait.
    pub async fn watch<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let first = std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        match first {
            Poll::Ready(output) => output,
            Poll::Pending => {
                let _holding = self.hold(Instant::now());
                future.await
            }
        }
    }

    /// All of it so far.
    pub fn total(&self, now: Instant) -> Duration {
        let stalled = self.0.lock();
        stalled.total + stalled.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        let mut stalled = self.0.0.lock();
        stalled.waiting -= 1;
        if stalled.waiting == 0
            && let Some(since) = stalled.since.take()
        {
            stalled.total += since.elapsed();
        }
    }
}

/// For how long each bound held, since a session began or between two looks. They overlap: a window that is full makes
/// others wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    elapsed: Duration,
    times: [Duration; Bound::COUNT],
}

impl Waits {
    /// None yet, of a session that exists for so long and had something under way for `busy` of it.
    pub fn new(elapsed: Duration, busy: Duration) -> Waits {
        let mut waits = Waits { elapsed, times: [Duration::ZERO; Bound::COUNT] };
        waits.add(Bound::Application, elapsed.saturating_sub(busy));
        waits
    }

    /// A bound held for so long.
    pub fn add(&mut self, bound: Bound, time: Duration) {
        self.times[bound as usize] += time;
    }

    /// For how long it held.
    pub fn of(&self, bound: Bound) -> Duration {
        self.times[bound as usize]
    }

    /// What came since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Waits) -> Waits {
        let times = std::array::from_fn(|at| self.times[at].saturating_sub(earlier.times[at]));
        Waits { elapsed: self.elapsed.saturating_sub(earlier.elapsed), times }
    }

    /// The bound: that of most of the time is the application, or else the first that held for half of the time in
    /// which something was under way, or else the round trip.
    pub fn bound(&self) -> Bound {
        let idle = self.of(Bound::Application);
        if idle * 2 >= self.elapsed {
            return Bound::Application;
        }
        let busy = self.elapsed.saturating_sub(idle);
        Bound::all().find(|bound| self.of(*bound) * 2 >= busy).unwrap_or(Bound::RoundTrip)
    }

    /// The part of the time that a bound held, in thousandths.
    pub fn per_mille(&self, bound: Bound) -> u64 {
        let parts = self.of(bound).as_nanos() * 1_000 / self.elapsed.as_nanos().max(1);
        u64::try_from(parts).unwrap_or(u64::MAX).min(1_000)
    }
}

/// The last seconds of a session.
#[derive(Debug, Default)]
pub struct Recent {
    looks: std::collections::VecDeque<Waits>,
    latest: Waits,
}

impl Recent {
    /// Takes note of all that was so far; about once in [`LOOK_EVERY`].
    pub fn look(&mut self, waits: Waits) {
        if self.looks.len() == LOOKS {
            self.looks.pop_front();
        }
        let before = std::mem::replace(&mut self.latest, waits);
        self.looks.push_back(before);
    }

    /// What came in the last seconds; of a session younger than that, since it began.
    pub fn waits(&self) -> Waits {
        self.latest.since(self.looks.front().unwrap_or(&Waits::default()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn waits(elapsed: u32, busy: u32, held: &[(Bound, u32)]) -> Waits {
        let mut waits = Waits::new(S * elapsed, S * busy);
        held.iter().for_each(|&(bound, time)| waits.add(bound, S * time));
        waits
    }

    #[test]
    fn the_first_that_holds_for_half_of_the_time_is_named() {
        assert_eq!(waits(10, 4, &[(Bound::Cubic, 4)]).bound(), Bound::Application);
        assert_eq!(waits(10, 8, &[(Bound::Cubic, 3), (Bound::Disk, 1)]).bound(), Bound::RoundTrip);
        let both = [(Bound::HostAnswers, 8), (Bound::Cubic, 7)];
        assert_eq!(waits(10, 8, &both).bound(), Bound::Cubic, "answers wait for the window");
        assert_eq!(waits(10, 8, &both).per_mille(Bound::HostAnswers), 800);
        assert_eq!(Waits::default().bound(), Bound::Application);
    }

    #[test]
    fn only_the_last_seconds_count() {
        let mut recent = Recent::default();
        for second in 1..=20 {
            let held = second.min(10);
            recent.look(waits(second, second, &[(Bound::Disk, held)]));
            let expected = if second < 13 { Bound::Disk } else { Bound::RoundTrip };
            assert_eq!(recent.waits().bound(), expected, "{second}");
        }
        assert_eq!(recent.waits().elapsed, S * 5);
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_several_wait_counts_once() {
        let stall = Stall::default();
        let wait = |seconds| stall.watch(time::sleep(S * seconds)); // clock: paused
        tokio::join!(wait(3), wait(5));
        stall.watch(async {}).await;
        time::sleep(S).await; // clock: paused
        let _holding = stall.hold(Instant::now()); // clock: paused
        time::sleep(S).await; // clock: paused
        // Paused sleeps end at the next whole millisecond.
        let total = stall.total(Instant::now()); // clock: paused
        assert!(total >= S * 6 && total < S * 6 + Duration::from_millis(10), "{total:?}");
    }
}
