//! What single operations took: a histogram of each, and one line of percentiles at the end.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::record::Spread;

/// Operations from which percentiles mean something (TARGETS.md, "Method").
pub const OPERATIONS_MIN: u64 = 1000;
/// The longest that is told apart from longer ones.
const LONGEST: Duration = Duration::from_secs(60);

/// The times of one kind of operation.
pub struct Latency {
    name: String,
    goal: Option<Duration>,
    nanos: Histogram<u64>,
}

impl Latency {
    /// None yet; `goal` is what the median is held against.
    pub fn new(name: impl Into<String>, goal: Option<Duration>) -> Latency {
        let nanos =
            Histogram::new_with_bounds(1, nanos(LONGEST), 3).expect("bounds in order and three digits");
        Latency { name: name.into(), goal, nanos }
    }

    /// Runs one operation and takes its time.
    pub fn time<T>(&mut self, operation: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let outcome = operation();
        self.record(start.elapsed());
        outcome
    }

    /// One operation that took so long.
    pub fn record(&mut self, took: Duration) {
        self.nanos.saturating_record(nanos(took).max(1));
    }

    /// Those of another thread.
    pub fn add(&mut self, other: &Latency) {
        self.nanos.add(&other.nanos).expect("the same bounds");
    }

    /// Of what.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.nanos.len()
    }

    /// In milliseconds, for a record; none if there were none.
    pub fn spread_ms(&self) -> Option<Spread> {
        let at = |quantile| millis(self.nanos.value_at_quantile(quantile));
        (self.count() > 0).then(|| Spread {
            count: self.count(),
            min: millis(self.nanos.min()),
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            max: millis(self.nanos.max()),
        })
    }

    /// The line, if there were any.
    #[expect(clippy::print_stdout, reason = "a bench's figures are its output")]
    pub fn print(&self) {
        if self.count() > 0 {
            println!("{}", self.line());
        }
    }

    fn line(&self) -> String {
        let at = |quantile| millis(self.nanos.value_at_quantile(quantile));
        let goal = match self.goal {
            None => String::new(),
            Some(goal) => {
                let is_met = self.nanos.value_at_quantile(0.5) < nanos(goal);
                let verdict = if is_met { "met" } else { "missed" };
                format!("  (p50 below {:.3}: {verdict})", millis(nanos(goal)))
            }
        };
        format!(
            "{}: p50 {:.3} p95 {:.3} p99 {:.3} max {:.3} ms of {} operations{goal}",
            self.name,
            at(0.5),
            at(0.95),
            at(0.99),
            millis(self.nanos.max()),
            self.count()
        )
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_single_operations() {
        let mut latency = Latency::new("x", Some(Duration::from_millis(60)));
        for millis in 1..=100 {
            latency.record(Duration::from_millis(millis));
        }
        let line = latency.line();
        assert!(line.starts_with("x: p50 50."), "{line}");
        assert!(line.ends_with(" ms of 100 operations  (p50 below 60.000: met)"), "{line}");
    }
}
