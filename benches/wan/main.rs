//! The named links, in real time: the built `wormhole-engine host` and `wormhole mount` with `profiles::link` between.
//!
//! `cargo build --release && cargo bench --bench wan [-- PROFILE...] [--runs N]` prints a line a figure with its verdict and
//! fails where a median misses its target. Not criterion: a pass takes seconds, and its median is held against a target.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

mod pass;

use std::{error::Error, process::ExitCode};

use pass::{Demand, Pass};
use profiles::link::Profile;
use wormhole_benches::{
    arguments::Arguments,
    figures::Figures,
    record::{Record, Target as Bound},
    undo,
};

const PART: &str = "wan";
/// Demand reads of a pass.
const DEMAND_READS: usize = 200;

/// What a link is asked for: how long a pass reads, and the share of the rate that must arrive.
struct Target {
    profile: Profile,
    seconds: u64,
    share_min: f64,
}

const TARGETS: [Target; 4] = [
    Target { profile: Profile::Lan, seconds: 5, share_min: 0.90 },
    Target { profile: Profile::WanGood, seconds: 12, share_min: 0.90 },
    Target { profile: Profile::WanPoor, seconds: 30, share_min: 0.85 },
    Target { profile: Profile::WanBad, seconds: 80, share_min: 0.60 },
];
/// A demand read during full read-ahead on WAN-Good, in milliseconds.
const DEMAND_P50_MS: f64 = 120.0;
const DEMAND_P99_MS: f64 = 250.0;

const HELP: &str = "\
The named links, by the built programs: `cargo build --release` first.

  cargo bench -p wormhole-benches --bench wan [-- PROFILE...] [--runs N]

PROFILE is lan (5 s a run), wan-good (25 s), wan-poor (30 s) or wan-bad (80 s); all of them without one, 3 runs each, 8 minutes.
Fails where a median misses its target; the figures go to wormhole-records/wan.jsonl in cargo's target folder.";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let known = TARGETS.map(|target| target.profile.name());
    let Some(given) = Arguments::of_this_run(&known, HELP)? else { return Ok(ExitCode::SUCCESS) };
    undo::at_signals()?;
    let mut figures = Figures::resume(PART)?;
    let target_of = |name: &&str| TARGETS.iter().find(|target| target.profile.name() == *name);
    for target in given.names.iter().filter_map(target_of) {
        measure(target, given.runs, &mut figures)?;
    }
    Ok(figures.verdict())
}

fn measure(target: &Target, runs: usize, figures: &mut Figures) -> Result<(), Box<dyn Error>> {
    let &Target { profile, seconds, share_min } = target;
    let (mut shares, mut first_bytes, mut demands) = (Vec::new(), Vec::new(), Vec::new());
    for run in 1..=runs {
        let mut pass = Pass::start(profile, seconds)?;
        first_bytes.push(pass.first_byte_ms()?);
        let share = pass.share_of_link(seconds)?;
        println!("{profile} run {run}: {:.1} % of the link; {}", share * 100.0, pass.link()?);
        shares.push(share * 100.0);
        if profile == Profile::WanGood {
            let Demand { p50_ms, p99_ms, share } = pass.demand_reads(DEMAND_READS)?;
            println!(
                "{profile} run {run}: {DEMAND_READS} demand reads p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, \
                 read-ahead meanwhile {:.1} %; {}",
                share * 100.0,
                pass.link()?
            );
            demands.push((p50_ms, p99_ms));
        }
        pass.end()?;
    }
    let figure =
        |name, unit, values: &[f64]| Record::new(PART, name, unit, values).link(profile.name()).cache("cold");
    let least = Bound::AtLeast(share_min * 100.0);
    figures.add(figure("share_of_link", "%", &shares).target(least))?;
    figures.add(figure("first_byte_cold", "ms", &first_bytes))?;
    if !demands.is_empty() {
        let (p50, p99): (Vec<f64>, Vec<f64>) = demands.into_iter().unzip();
        let note =
            format!("medians of {DEMAND_READS} reads of a page each, while another file is read in order");
        figures.add(
            figure("demand_read_p50", "ms", &p50).target(Bound::AtMost(DEMAND_P50_MS)).note(note.as_str()),
        )?;
        figures.add(
            figure("demand_read_p99", "ms", &p99).target(Bound::AtMost(DEMAND_P99_MS)).note(note.as_str()),
        )?;
    }
    Ok(())
}
