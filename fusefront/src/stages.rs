//! The stage clock: where the time of each read went, from fuser's call to the written reply.
//!
//! What the kernel takes before fuser has read a request is not visible from here, nor what it takes to wake the program
//! afterwards. The stages of one read follow each other without a gap, so that they add up to its whole. Reads that fail
//! are not counted.

use std::time::Duration;

use engine::stages::{StageStatus, write_histogram};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use transport::histogram::{Counts, Histogram};

use crate::read::spent::Spent;

/// The name of the metric.
const NAME: &str = "mount_read_stage_seconds";
/// From this round trip on, the targets are those of a WAN.
const WAN_RTT: Duration = Duration::from_millis(10);

const fn ms(millis: u64) -> Option<Duration> {
    Some(Duration::from_millis(millis))
}

/// A stage's name and its targets, on a LAN and on a WAN. Source: TARGETS.md, "Where a read's time may go"; request and
/// response on the network are one stage here, since only their sum can be told.
type Stage = (&'static str, [Option<Duration>; 2]);

const L1_STAGES: [Stage; 3] =
    [("lookup", [ms(1), ms(1)]), ("reply", [ms(5), ms(5)]), ("total", [ms(7), ms(7)])];
const HOST_STAGES: [Stage; 10] = [
    ("lookup", [ms(1), ms(1)]),
    ("hop", [ms(1), ms(1)]),
    ("l2", [None, None]),
    ("wait", [None, None]),
    ("wire", [ms(40), ms(200)]),
    ("host_queue", [None, None]),
    ("host_read", [ms(10), ms(10)]),
    ("lane", [None, None]),
    ("reply", [ms(5), ms(5)]),
    ("total", [ms(61), ms(221)]),
];

/// The times of all reads of a mount.
#[derive(Debug, Default)]
pub struct ReadStages {
    l1: [Histogram; L1_STAGES.len()],
    host: [Histogram; HOST_STAGES.len()],
}

/// The moments of a read that memory did not answer.
#[derive(Clone, Copy, Debug)]
pub struct ReadMoments {
    /// fuser called.
    pub started: Instant,
    /// It was not in memory.
    pub missed: Instant,
    /// The lane took it up.
    pub taken_up: Instant,
    /// All bytes were there.
    pub ready: Instant,
    /// The kernel had them.
    pub replied: Instant,
}

/// Where reads spent their time, since the mount began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadStagesStatus {
    /// Those that memory answered on the spot.
    pub l1: Vec<StageStatus>,
    /// All others: what they asked for came from the host, for them or for whoever had asked before.
    pub host: Vec<StageStatus>,
}

impl ReadStages {
    /// A read that memory answered: it was found, and the kernel had it.
    pub fn hit(&self, started: Instant, found: Instant, replied: Instant) {
        let times = [found - started, replied - found, replied - started];
        record(&self.l1, times);
    }

    /// A read that took longer.
    pub fn fetched(&self, moments: &ReadMoments, spent: &Spent) {
        let ReadMoments { started, missed, taken_up, ready, replied } = *moments;
        let Spent { l2, wait, wire, host_queue, host_read } = *spent;
        let lane = (ready - taken_up).saturating_sub(l2 + wait + wire + host_queue + host_read);
        let (lookup, hop, reply) = (missed - started, taken_up - missed, replied - ready);
        record(
            &self.host,
            [lookup, hop, l2, wait, wire, host_queue, host_read, lane, reply, replied - started],
        );
    }

    /// All of it, for people; the targets are those of a path with this round trip.
    pub fn status(&self, rtt: Duration) -> ReadStagesStatus {
        let far = usize::from(rtt >= WAN_RTT);
        let of = |(histogram, (name, targets)): (&Histogram, &Stage)| {
            StageStatus::of(name, &histogram.counts(), targets[far])
        };
        ReadStagesStatus {
            l1: self.l1.iter().zip(&L1_STAGES).map(of).collect(),
            host: self.host.iter().zip(&HOST_STAGES).map(of).collect(),
        }
    }

    /// All of it, for Prometheus.
    pub fn exposition(&self) -> String {
        let labelled = |path: &str, (histogram, (name, _)): (&Histogram, &Stage)| {
            (format!("path=\"{path}\",stage=\"{name}\""), histogram.counts())
        };
        let l1 = self.l1.iter().zip(&L1_STAGES).map(|stage| labelled("l1", stage));
        let host = self.host.iter().zip(&HOST_STAGES).map(|stage| labelled("host", stage));
        let all: Vec<(String, Counts)> = l1.chain(host).collect();
        let series: Vec<(&str, &Counts)> =
            all.iter().map(|(labels, counts)| (labels.as_str(), counts)).collect();
        let mut text = String::new();
        write_histogram(&mut text, NAME, "parts of the time of reads", &series);
        text
    }
}

fn record<const N: usize>(histograms: &[Histogram; N], times: [Duration; N]) {
    for (histogram, time) in histograms.iter().zip(times) {
        histogram.record(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, micros: u64) -> Instant {
        start + Duration::from_micros(micros)
    }

    #[test]
    fn the_stages_of_a_read_add_up_to_its_whole() {
        let stages = ReadStages::default();
        let start = Instant::now(); // clock: a moment to count from
        let moments = ReadMoments {
            started: start,
            missed: at(start, 3),
            taken_up: at(start, 10),
            ready: at(start, 510),
            replied: at(start, 520),
        };
        let [l2, wait, wire, host_queue, host_read] = [5, 20, 300, 50, 100].map(Duration::from_micros);
        stages.fetched(&moments, &Spent { l2, wait, wire, host_queue, host_read });
        stages.hit(start, at(start, 2), at(start, 9));
        let sums = |histograms: &[Histogram]| -> Vec<u128> {
            histograms.iter().map(|histogram| histogram.counts().sum().as_micros()).collect()
        };
        assert_eq!(sums(&stages.host), [3, 7, 5, 20, 300, 50, 100, 25, 10, 520]);
        assert_eq!(sums(&stages.l1), [2, 7, 9]);
    }

    #[test]
    fn targets_follow_the_round_trip() {
        let wire = |rtt| {
            let status = ReadStages::default().status(Duration::from_millis(rtt));
            status.host.iter().find(|stage| stage.stage == "wire").unwrap().target_ns
        };
        assert_eq!((wire(1), wire(50)), (Some(40_000_000), Some(200_000_000)));
    }
}
