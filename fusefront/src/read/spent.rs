//! Where a read waited while its blocks were fetched.

use std::time::Duration;

use tokio::time::Instant;
use transport::Trip;

/// The time of a read that is not its own threads'.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// For the disk of this machine.
    pub l2: Duration,
    /// Until a request was sent: for memory, for a session, or because the host was busy.
    pub wait: Duration,
    /// From there until its answer was whole, without the host's part.
    pub wire: Duration,
    /// Of the host's part, until the request was admitted.
    pub host_queue: Duration,
    /// Of the host's part, until the answer was whole there.
    pub host_read: Duration,
}

/// When a fetch was begun and where it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transit {
    pub(super) begun: Instant,
    pub(super) by: By,
}

/// Where a block came from, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// From the disk of this machine, at this moment.
    Disk(Instant),
    Host(Trip),
}

impl Spent {
    /// Adds what a fetch took of a read that waits since `since`, and returns since when it waits for the next.
    ///
    /// Of a fetch that was under way already, only the rest counts; the host's part of that rest is taken to be as large
    /// as its part of the whole, since nobody knows when it was.
    pub(super) fn add(&mut self, since: Instant, transit: &Transit) -> Instant {
        let Transit { begun, by } = *transit;
        let Trip { sent, arrived, host } = match by {
            By::Host(trip) => trip,
            By::Disk(arrived) => {
                self.l2 += arrived.saturating_duration_since(since.max(begun));
                return since.max(arrived);
            }
        };
        self.wait += sent.saturating_duration_since(since.max(begun));
        let whole = arrived.saturating_duration_since(sent);
        let rest = arrived.saturating_duration_since(since.max(sent));
        let mut wire = rest;
        for (part, sum) in [(host.queue, &mut self.host_queue), (host.read, &mut self.host_read)] {
            // A host says what it likes.
            let part = if rest == whole { part } else { scaled(part, rest, whole) }.min(wire);
            wire -= part;
            *sum += part;
        }
        self.wire += wire;
        since.max(arrived)
    }
}

/// The part of `time` that `rest` is of `whole`.
fn scaled(time: Duration, rest: Duration, whole: Duration) -> Duration {
    let nanos = time.as_nanos().saturating_mul(rest.as_nanos()) / whole.as_nanos().max(1);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use wire::timing::Timing;

    use super::*;

    const US: fn(u64) -> Duration = Duration::from_micros;

    fn transit(start: Instant, begun: u64, sent: u64, arrived: u64, host: Timing) -> Transit {
        let trip = Trip { sent: start + US(sent), arrived: start + US(arrived), host };
        Transit { begun: start + US(begun), by: By::Host(trip) }
    }

    #[test]
    fn a_fetch_of_its_own_counts_whole() {
        let start = Instant::now(); // clock: a moment to count from
        let mut spent = Spent::default();
        let host = Timing { queue: US(10), read: US(20), bound: None };
        let next = spent.add(start, &transit(start, 5, 7, 107, host));
        assert_eq!(
            spent,
            Spent { l2: US(0), wait: US(2), wire: US(70), host_queue: US(10), host_read: US(20) }
        );
        assert_eq!(next, start + US(107));
    }

    #[test]
    fn of_a_fetch_under_way_the_rest_counts() {
        let start = Instant::now(); // clock: a moment to count from
        let mut spent = Spent::default();
        let host = Timing { queue: US(0), read: US(40), bound: None };
        spent.add(start + US(50), &transit(start, 0, 0, 100, host));
        assert_eq!(spent, Spent { wire: US(30), host_read: US(20), ..Spent::default() });
        let over = spent.add(start + US(200), &transit(start, 0, 0, 100, host));
        assert_eq!((spent.wire, over), (US(30), start + US(200)), "it was over before");
    }

    #[test]
    fn a_disk_takes_what_is_left_of_its_fetch() {
        let start = Instant::now(); // clock: a moment to count from
        let mut spent = Spent::default();
        let transit = Transit { begun: start, by: By::Disk(start + US(100)) };
        assert_eq!(spent.add(start + US(40), &transit), start + US(100));
        assert_eq!(spent, Spent { l2: US(60), ..Spent::default() });
    }

    #[test]
    fn no_host_can_claim_more_than_the_whole() {
        let start = Instant::now(); // clock: a moment to count from
        let mut spent = Spent::default();
        spent.add(
            start,
            &transit(start, 0, 0, 100, Timing { queue: Duration::MAX, read: US(1), bound: None }),
        );
        assert_eq!(spent, Spent { host_queue: US(100), ..Spent::default() });
    }
}
