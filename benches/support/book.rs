//! The figures of one bench file on their way to the report, and the passes that they are of.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use crate::{
    latency::Latency,
    record::{self, Record, Recorder},
    run,
};

/// Passes that warm up, where enough others are left (TARGETS.md, "Method").
const WARM_UPS: usize = 3;
/// Passes from which the first are left out.
const PASSES_MIN: usize = 10;

/// Where a bench file's records go: to its part of the report, row by row, so that a filter leaves the others' be.
pub struct Book {
    part: &'static str,
    recorder: Option<Recorder>,
}

impl Book {
    /// Of the bench file of that name; nothing is kept in a run that is no measurement.
    pub fn open(part: &'static str) -> Book {
        Book { part, recorder: None }
    }

    /// Keeps a figure, of a median of `values` where there are any, with what `more` adds.
    ///
    /// # Panics
    /// When it cannot be written: a figure that is lost was measured for nothing.
    pub fn add(&mut self, name: &str, unit: &str, values: &[f64], more: impl FnOnce(Record) -> Record) {
        if !values.is_empty() {
            self.keep(&more(Record::new(self.part, name, unit, values)));
        }
    }

    /// The same of single operations, in milliseconds.
    ///
    /// # Panics
    /// As [`Book::add`].
    pub fn add_latency(&mut self, name: &str, latency: &Latency, more: impl FnOnce(Record) -> Record) {
        if let Some(spread) = latency.spread_ms() {
            self.keep(&more(Record::spread(self.part, name, "ms", spread)));
        }
    }

    fn keep(&mut self, record: &Record) {
        if !run::is_recorded() {
            return;
        }
        let part = self.part;
        let recorder = self.recorder.get_or_insert_with(|| {
            record::folder()
                .and_then(|folder| Recorder::resume(&folder, part))
                .unwrap_or_else(|why| panic!("no place for the records of {part}: {why}"))
        });
        recorder.add(record).unwrap_or_else(|why| panic!("a record of {part} is not written: {why}"));
    }
}

/// What each pass of a case took.
#[derive(Default)]
pub struct Passes(Vec<Duration>);

impl Passes {
    /// Runs so many passes, each of which tells its time; the sum, as criterion wants it.
    pub fn run(&mut self, count: u64, mut pass: impl FnMut() -> Duration) -> Duration {
        (0..count)
            .map(|_| {
                let took = pass();
                self.0.push(took);
                took
            })
            .sum()
    }

    /// The same of passes that are timed as a whole.
    pub fn time<T>(&mut self, count: u64, mut pass: impl FnMut() -> T) -> Duration {
        self.run(count, || {
            let start = Instant::now();
            let outcome = pass();
            let took = start.elapsed();
            drop(outcome);
            took
        })
    }

    /// So many operations timed together, for those too short to be timed alone; one value, of each of them.
    pub fn batch<T>(&mut self, count: u64, mut operation: impl FnMut() -> T) -> Duration {
        let start = Instant::now();
        for _ in 0..count {
            black_box(operation());
        }
        let took = start.elapsed();
        self.0.push(took.div_f64(count.max(1) as f64));
        took
    }

    /// Those that count: the first are left out where enough others are left.
    fn counted(&self) -> &[Duration] {
        if self.0.len() >= PASSES_MIN + WARM_UPS { &self.0[WARM_UPS..] } else { &self.0 }
    }

    /// So many units a second, pass by pass.
    pub fn per_second(&self, units: u64) -> Vec<f64> {
        self.counted().iter().map(|took| units as f64 / took.as_secs_f64()).collect()
    }

    /// MB/s of passes over so many bytes.
    pub fn rates(&self, bytes: u64) -> Vec<f64> {
        self.per_second(bytes).into_iter().map(|rate| rate / 1e6).collect()
    }

    /// Milliseconds of each `parts`th of a pass.
    pub fn millis(&self, parts: u64) -> Vec<f64> {
        self.counted().iter().map(|took| took.as_secs_f64() * 1e3 / parts as f64).collect()
    }
}

/// The median, for a ceiling; none where the case did not run.
pub fn median(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| record::Spread::of(values).p50)
}

/// A record beside its ceiling, where that was measured too.
#[must_use]
pub fn beside(record: Record, what: &str, ceiling: Option<f64>) -> Record {
    match ceiling {
        Some(value) => record.ceiling(what, value),
        None => record,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_passes_warm_up_where_enough_are_left() {
        let mut passes = Passes::default();
        let mut next = 0;
        let total = passes.run(13, || {
            next += 1;
            Duration::from_secs(next)
        });
        assert_eq!(total, Duration::from_secs(91));
        assert_eq!(passes.millis(1).first(), Some(&4000.0));
        assert_eq!(passes.rates(4_000_000).len(), PASSES_MIN);
        let mut few = Passes::default();
        few.run(2, || Duration::from_secs(2));
        assert_eq!(few.per_second(6), [3.0, 3.0]);
        assert_eq!(median(&few.per_second(6)), Some(3.0));
    }
}
