//! What a report says, as report.json keeps it for the next one.

use crate::record::Record;
use serde::{Deserialize, Serialize};

use super::environment::Environment;

/// A machine and the figures taken on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Document {
    pub(super) environment: Environment,
    pub(super) records: Vec<Record>,
}

/// The rows that TARGETS.md names, in its order; all others come after them.
pub(super) const NAMED_ROWS: [&str; 6] =
    ["seq_read_1gb", "random_read_4kb", "first_byte_cold", "first_byte_warm", "stat_latency", "readdir_1000"];

/// Parts with sections of their own.
const APART: [&str; 2] = ["compare", "stages"];
/// A spread around the median, of the runs of a figure, that a reader must know of.
const WIDE: f64 = 0.20;

impl Document {
    /// Our own figures: the named rows first. Those of the comparison count where no other part has the row.
    pub(super) fn results(&self) -> Vec<&Record> {
        let ours = |record: &&Record| record.tool == "wormhole" && record.part != "stages";
        let mut results: Vec<&Record> = self.records.iter().filter(ours).collect();
        let has_own = |record: &Record| {
            self.records.iter().any(|other| {
                !APART.contains(&other.part.as_str())
                    && (&other.name, &other.link, &other.cache, &other.unit)
                        == (&record.name, &record.link, &record.cache, &record.unit)
            })
        };
        results.retain(|record| record.part != "compare" || !has_own(record));
        let rank = |record: &Record| NAMED_ROWS.iter().position(|row| *row == record.name);
        // Stable: within a rank the order of the parts.
        results.sort_by_key(|record| rank(record).unwrap_or(NAMED_ROWS.len()));
        results
    }

    /// Rows that TARGETS.md names and nobody measured.
    pub(super) fn missing_rows(&self) -> Vec<&'static str> {
        let is_there = |row: &&str| self.results().iter().any(|record| record.name == **row);
        NAMED_ROWS.iter().copied().filter(|row| !is_there(row)).collect()
    }

    /// Of one part.
    pub(super) fn part(&self, part: &str) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(move |record| record.part == part)
    }

    /// What a reader must know: wide spreads of runs, notes.
    pub(super) fn anomalies(&self) -> Vec<String> {
        let mut lines = Vec::new();
        // Each once, with the first figure it is of and how many more.
        let mut notes: Vec<(&str, String, usize)> = Vec::new();
        for record in self.records.iter().filter(|record| record.part != "stages") {
            let title = format!("{} {} {} {}", record.name, record.tool, record.link, record.cache);
            let title = title.trim_end();
            if let Some(percent) = wide_percent(record) {
                let spread = &record.spread;
                let (min, max, unit) = (significant(spread.min), significant(spread.max), &record.unit);
                lines.push(format!("{title}: runs differ by {percent:.0} % ({min} to {max} {unit})"));
            }
            if record.is_measured() && !record.note.is_empty() {
                match notes.iter_mut().find(|(note, ..)| *note == record.note) {
                    Some((.., more)) => *more += 1,
                    None => notes.push((record.note.as_str(), title.to_owned(), 0)),
                }
            }
        }
        lines.extend(notes.into_iter().map(|(note, title, more)| match more {
            0 => format!("{title}: {note}"),
            _ => format!("{title} and {more} more: {note}"),
        }));
        lines
    }
}

/// How far runs lie apart, in percent of their median, where that is much. Single operations spread by nature, and a
/// record does not tell them from runs but by their number.
fn wide_percent(record: &Record) -> Option<f64> {
    let spread = &record.spread;
    // Of nothing there is no share.
    let is_of_runs = (2..=20).contains(&spread.count) && spread.p50 != 0.0;
    let share = (spread.max - spread.min) / spread.p50.abs();
    (is_of_runs && share > WIDE).then_some(100.0 * share)
}

/// Whether more of a unit is better.
pub(super) fn is_rate(unit: &str) -> bool {
    unit.ends_with("/s") && !unit.starts_with("CPU") || unit == "IOPS" || unit.starts_with("% of")
}

/// Three digits, without an exponent.
pub(super) fn significant(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        size if size >= 0.001 || size == 0.0 => format!("{value:.3}"),
        _ => format!("{value:.6}"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use crate::record::Target;

    use super::*;

    pub(in crate::report) fn sample() -> Document {
        let record =
            |part: &str, name: &str, unit: &str, values: &[f64]| Record::new(part, name, unit, values);
        Document {
            environment: Environment { date: "2026-11-23".into(), ..Environment::default() },
            records: vec![
                record("compare", "seq_read_1gb", "MB/s", &[900.0]).cache("cold"),
                record("compare", "seq_read_1gb", "MB/s", &[400.0]).cache("cold").tool("sshfs"),
                Record::absent("compare", "seq_read_1gb", "MB/s", "not installed: nfs-ganesha")
                    .cache("cold")
                    .tool("nfs"),
                record("latency", "stat_latency", "ms", &[0.2]).target(Target::AtMost(10.0)),
                record("scenarios", "video", "MB/s", &[50.0, 70.0, 90.0]).target(Target::AtLeast(80.0)),
                record("stages", "host_hop", "ms", &[0.1]).target(Target::AtMost(1.0)),
            ],
        }
    }

    #[test]
    fn named_rows_come_first_and_those_that_nobody_measured_are_told() {
        let document = sample();
        let names: Vec<&str> = document.results().iter().map(|record| record.name.as_str()).collect();
        assert_eq!(names, ["seq_read_1gb", "stat_latency", "video"]);
        assert_eq!(
            document.missing_rows(),
            ["random_read_4kb", "first_byte_cold", "first_byte_warm", "readdir_1000"]
        );
    }

    #[test]
    fn a_row_of_a_bench_stands_before_that_of_the_comparison() {
        let mut document = sample();
        document.records.push(Record::new("throughput", "seq_read_1gb", "MB/s", &[950.0]).cache("cold"));
        let rows: Vec<&str> = document.results().iter().map(|record| record.part.as_str()).collect();
        assert_eq!(rows, ["throughput", "latency", "scenarios"]);
    }

    #[test]
    fn runs_far_apart_are_an_anomaly() {
        assert_eq!(
            sample().anomalies(),
            ["video wormhole loopback: runs differ by 57 % (50.0 to 90.0 MB/s)"]
        );
    }
}
