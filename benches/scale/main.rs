//! The scale of TARGETS.md and the primary metrics of processes, by the built `wormhole-engine host` and `wormhole mount`.
//!
//! `cargo build --release && cargo bench -p wormhole-benches --bench scale -- --help`. Each figure is printed with its
//! target and its verdict, and kept as a record. A run that fails, by wrong bytes too, is kept with its reason and the others
//! go on; it and a missed target fail the program.

#![forbid(unsafe_code)]
#![allow(clippy::print_stderr, reason = "a program that talks to people")]

mod large;
mod peers;
mod rates;
mod tree;

use std::{error::Error, process::ExitCode, time::Instant};

use wormhole_benches::{
    arguments::Arguments,
    figures::{Figures, RUN},
    proc::Used,
    record::{Record, Target},
    undo,
};

const PART: &str = "scale";
const HELP: &str = "\
Runs at scale with their targets, by the built programs, over loopback: `cargo build --release` first.

  cargo bench -p wormhole-benches --bench scale [-- RUN...] [--quick]

  file_100gb   100 GB really read, holes with marks that are checked        100 to 150 s, 2 GB of disk
  file_1tb     a file of 1.5 TB: its size, reads all over it, its last byte  5 s, nothing on the disk
  files_1m     find in a share of 1,000 x 1,000 files                        20 s, the first time 60 more; 0.5 GB, kept
  peers_100    100 mounts connected at once, all reading                     30 s, 1 GB
  shares_10    10 shares of one host in one mount, each read                 5 s, 0.2 GB
  idle         memory and processor time of host and mount that do nothing   75 s
  active       the same while 100 MB/s are read                              45 s, 1 GB

All of them without RUN, 6 minutes. --quick takes a tenth of the time and reads a tenth. What is kept is in tmp/wormhole-scale
of cargo's target folder. Figures: wormhole-records/scale.jsonl.";

pub(crate) type Failed = Box<dyn Error>;
type Run = fn(&mut Scale) -> Result<(), Failed>;

const RUNS: [(&str, Run); 7] = [
    ("file_100gb", large::hundred_gb),
    ("file_1tb", large::terabyte),
    ("files_1m", tree::million),
    ("peers_100", peers::hundred),
    ("shares_10", peers::ten_shares),
    ("idle", rates::idle),
    ("active", rates::active),
];

/// One start of this program.
pub(crate) struct Scale {
    is_quick: bool,
    figures: Figures,
}

impl Scale {
    /// `full`, or for a quick run a tenth of it.
    fn size(&self, full: u64) -> u64 {
        if self.is_quick { full / 10 } else { full }
    }

    /// A quick run's figures are of another size: they are told, not held against the target.
    fn add(&mut self, record: Record, target: Option<Target>) -> Result<(), Failed> {
        let record = match target {
            Some(_) if self.is_quick => record.note("no target: a quick run"),
            Some(target) => record.target(target),
            None => record,
        };
        Ok(self.figures.add(record)?)
    }

    /// Memory of both ends at their peak, and their processor time in percent of a core.
    fn add_used(&mut self, name: &str, used: &[Used], bounds: Bounds) -> Result<(), Failed> {
        for (end, used) in ["host", "mount"].iter().zip(used) {
            let rss = figure(&format!("{name}_rss_{end}"), "MiB", used.rss_max_mib());
            self.add(rss, bounds.rss_mib.map(Target::AtMost))?;
            let cpu = figure(&format!("{name}_cpu_{end}"), "%", used.cpu_percent());
            self.add(cpu, bounds.cpu_percent.map(Target::AtMost))?;
        }
        Ok(())
    }
}

/// What both ends may use at most.
#[derive(Clone, Copy, Default)]
pub(crate) struct Bounds {
    rss_mib: Option<f64>,
    cpu_percent: Option<f64>,
}

/// "Memory, active" of TARGETS.md: megabytes, as the table has them.
pub(crate) const ACTIVE: Bounds = Bounds { rss_mib: Some(200e6 / 1_048_576.0), cpu_percent: None };

fn figure(name: &str, unit: &str, value: f64) -> Record {
    Record::new(PART, name, unit, &[value])
}

fn main() -> Result<ExitCode, Failed> {
    let Some(given) = Arguments::of_this_run(&RUNS.map(|(name, _)| name), HELP)? else {
        return Ok(ExitCode::SUCCESS);
    };
    undo::at_signals()?;
    let mut scale = Scale { is_quick: given.is_quick, figures: Figures::resume(PART)? };
    for name in given.names {
        let Some((_, run)) = RUNS.iter().find(|(known, _)| *known == name) else { continue };
        let started = Instant::now(); // clock: told to those who wait
        let ended = run(&mut scale);
        eprintln!("{name}: {:.0} s", started.elapsed().as_secs_f64());
        scale.figures.ended(Record::absent(PART, name, RUN, ""), ended)?;
    }
    Ok(scale.figures.verdict())
}
