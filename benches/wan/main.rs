//! The named links, in real time: the built `wormhole-engine host` and `wormhole mount` with `profiles::link` between.
//!
//! `cargo build --release && cargo bench --bench wan [-- PROFILE...] [--runs N]` prints a line a figure with its verdict and
//! fails where a median misses its target. Not criterion: a pass takes seconds, and its median is held against a target.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

mod pass;

use std::{env, error::Error, process::ExitCode};

use pass::{Demand, Pass};
use profiles::link::Profile;

const RUNS: usize = 3;
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

struct Arguments {
    profiles: Vec<Profile>,
    runs: usize,
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut given = Arguments { profiles: Vec::new(), runs: RUNS };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            // cargo's own.
            "--bench" => {}
            "--runs" => given.runs = words.next().ok_or("--runs N")?.parse::<usize>()?.max(1),
            name => given.profiles.push(name.parse()?),
        }
    }
    if given.profiles.is_empty() {
        given.profiles = Profile::ALL.to_vec();
    }
    Ok(given)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let Arguments { profiles, runs } = arguments()?;
    let mut all_met = true;
    for Target { profile, seconds, share_min } in TARGETS {
        if !profiles.contains(&profile) {
            continue;
        }
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
        all_met &= verdict(&format!("{profile} in order"), shares, Bound::AtLeast(share_min * 100.0), "%");
        verdict(&format!("{profile} first byte"), first_bytes, Bound::None, "ms");
        if !demands.is_empty() {
            let (p50, p99): (Vec<f64>, Vec<f64>) = demands.into_iter().unzip();
            all_met &= verdict(&format!("{profile} demand p50"), p50, Bound::Below(DEMAND_P50_MS), "ms");
            all_met &= verdict(&format!("{profile} demand p99"), p99, Bound::Below(DEMAND_P99_MS), "ms");
        }
    }
    Ok(if all_met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    Below(f64),
    None,
}

/// Prints the median beside its target; whether it meets it.
fn verdict(what: &str, mut values: Vec<f64>, bound: Bound, unit: &str) -> bool {
    values.sort_by(f64::total_cmp);
    let (least, most) = (values[0], values[values.len() - 1]);
    let median = values[values.len() / 2];
    let (is_met, said) = match bound {
        Bound::AtLeast(least) => (median >= least, format!("target >= {least} {unit}: ")),
        Bound::Below(most) => (median < most, format!("target < {most} {unit}: ")),
        Bound::None => (true, String::new()),
    };
    let word = match (bound, is_met) {
        (Bound::None, _) => "told",
        (_, true) => "met",
        (_, false) => "MISSED",
    };
    println!("{what}: median {median:.1} {unit} [{least:.1}-{most:.1}], n {}; {said}{word}", values.len());
    is_met
}
