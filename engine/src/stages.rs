//! Where time went, by stage, as both programs show it: in `status`, and to Prometheus.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use transport::{StageCounts, histogram::Counts};

/// The longest a read of the host's disk should take. Source: TARGETS.md, "Where a read's time may go".
const DISK_TARGET: Duration = Duration::from_millis(10);

/// A stage of an operation: how long it took, since the process started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageStatus {
    /// Its name, as METRICS.md has it.
    pub stage: String,
    /// How often it was passed.
    pub count: u64,
    /// The quickest of them, in nanoseconds and to an eighth.
    #[serde(default)]
    pub min_ns: u64,
    /// Half of them took no longer than this, in nanoseconds and to an eighth.
    pub p50_ns: u64,
    /// 95 of 100 of them.
    #[serde(default)]
    pub p95_ns: u64,
    /// 99 of 100 of them.
    pub p99_ns: u64,
    /// All of them.
    pub max_ns: u64,
    /// What it may take; `None` where nothing is promised of this stage alone.
    pub target_ns: Option<u64>,
}

impl StageStatus {
    /// A stage and what was counted of it.
    pub fn of(stage: &str, counts: &Counts, target: Option<Duration>) -> StageStatus {
        StageStatus {
            stage: stage.to_owned(),
            count: counts.count(),
            min_ns: nanos(counts.quantile(0)),
            p50_ns: nanos(counts.quantile(500)),
            p95_ns: nanos(counts.quantile(950)),
            p99_ns: nanos(counts.quantile(990)),
            max_ns: nanos(counts.max()),
            target_ns: target.map(nanos),
        }
    }
}

/// The host's part of reads.
pub(crate) fn of_host(counts: &StageCounts) -> Vec<StageStatus> {
    vec![
        StageStatus::of("queue", &counts.queue, None),
        StageStatus::of("read", &counts.read, Some(DISK_TARGET)),
        StageStatus::of("send", &counts.send, None),
    ]
}

/// A table with a head, a stage a line; for the eyes.
pub fn write_table(out: &mut impl Write, title: &str, stages: &[StageStatus]) -> fmt::Result {
    writeln!(out, "{title:<24}{:>10}{:>10}{:>10}{:>10}{:>10}", "COUNT", "P50", "P99", "MAX", "TARGET")?;
    for StageStatus { stage, count, p50_ns, p99_ns, max_ns, target_ns, .. } in stages {
        let target = target_ns.map_or("-".to_owned(), |target| format!("< {}", shown(target)));
        let [p50, p99, max] = [p50_ns, p99_ns, max_ns].map(|&time| shown(time));
        writeln!(out, "  {stage:<22}{count:>10}{p50:>10}{p99:>10}{max:>10}{target:>10}")?;
    }
    Ok(())
}

/// A histogram as Prometheus reads it. Source: its text format, version 0.0.4.
///
/// Not by the `metrics` crate, whose histograms keep each sample until a scraper comes.
pub fn write_histogram(out: &mut String, name: &str, help: &str, series: &[(&str, &Counts)]) {
    let write = |out: &mut String| -> fmt::Result {
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram")?;
        for (labels, counts) in series {
            let comma = if labels.is_empty() { "" } else { "," };
            for (bound, below) in counts.cumulative() {
                writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{}\"}} {below}", bound.as_secs_f64())?;
            }
            let (count, sum) = (counts.count(), counts.sum().as_secs_f64());
            writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}")?;
            let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            writeln!(out, "{name}_sum{labels} {sum}\n{name}_count{labels} {count}")?;
        }
        Ok(())
    };
    write(out).expect("a string takes what is written to it");
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A time to three digits or so.
fn shown(nanos: u64) -> String {
    match nanos {
        0..10_000 => format!("{}.{} us", nanos / 1_000, nanos % 1_000 / 100),
        10_000..1_000_000 => format!("{} us", nanos / 1_000),
        1_000_000..10_000_000 => format!("{}.{} ms", nanos / 1_000_000, nanos % 1_000_000 / 100_000),
        10_000_000..10_000_000_000 => format!("{} ms", nanos / 1_000_000),
        _ => format!("{} s", nanos / 1_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use transport::histogram::Histogram;

    use super::*;

    fn counts() -> Counts {
        let histogram = Histogram::default();
        for micros in [1, 2, 3_000] {
            histogram.record(Duration::from_micros(micros));
        }
        histogram.counts()
    }

    #[test]
    fn a_table_has_a_line_for_each_stage_with_its_target() {
        let mut text = String::new();
        let stages = [
            StageStatus::of("queue", &counts(), None),
            StageStatus::of("read", &counts(), Some(Duration::from_millis(10))),
        ];
        write_table(&mut text, "STAGE", &stages).unwrap();
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[0], ["STAGE", "COUNT", "P50", "P99", "MAX", "TARGET"]);
        assert_eq!(words[1], ["queue", "3", "2.0", "us", "3.0", "ms", "3.0", "ms", "-"]);
        assert_eq!(words[2], ["read", "3", "2.0", "us", "3.0", "ms", "3.0", "ms", "<", "10", "ms"]);
    }

    #[test]
    fn prometheus_gets_bounds_sum_and_count() {
        let mut text = String::new();
        let counts = counts();
        let series = [("stage=\"read\"", &counts), ("", &counts)];
        write_histogram(&mut text, "a_seconds", "how long", &series);
        for line in [
            "# TYPE a_seconds histogram",
            "a_seconds_bucket{stage=\"read\",le=\"0.000001024\"} 1",
            "a_seconds_bucket{stage=\"read\",le=\"+Inf\"} 3",
            "a_seconds_sum{stage=\"read\"} 0.003003",
            "a_seconds_count{stage=\"read\"} 3",
            "a_seconds_bucket{le=\"0.004194304\"} 3",
            "a_seconds_count 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }

    #[test]
    fn times_in_words() {
        let words: Vec<String> = [0, 1_250, 61_000, 7_000_000, 221_000_000, 31_000_000_000].map(shown).into();
        assert_eq!(words, ["0.0 us", "1.2 us", "61 us", "7.0 ms", "221 ms", "31 s"]);
    }
}
