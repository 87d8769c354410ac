//! Wormhole beside what else mounts a folder of another machine: same files, same reads, same path, in turn.
//!
//! Not criterion: a pass is a fresh mount of one tool, and what counts is how the tools stand to each other.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to people")]

mod inputs;
mod install;
mod pass;
mod plan;
mod results;
mod services;
mod stages;
mod tools;
mod workload;

use std::{env, error::Error, process::ExitCode};

use inputs::Inputs;
use pass::Pass;
use plan::Plan;
use results::Results;
use services::Services;
use wormhole_benches::{corpus::settle_together, undo};

const HELP: &str = "\
Wormhole beside sshfs, rclone, NFS, plain FUSE and the local folder; `cargo build --release` first.

  cargo bench -p wormhole-benches --bench compare -- [WORKLOAD...] [--tools A,B] [--link NAME] [--runs N] [--quick]

WORKLOAD  sequential streams random random_16 first_byte stat list small small_16 verify; all of them without one
--tools   wormhole,sshfs,sshfs-gcm,rclone-sftp,rclone-webdav,nfs,bindfs,local
--link    loopback (default), lan, wan-good, wan-poor, wan-bad: profiles/README.md says what TCP across a link can claim
--runs    passes of each, in turn: run 1 of all tools, then run 2 (default 3, with --quick 1)
--quick   256 MB and 2,000 small files in place of 1 GB and 10,000

Each pass is a fresh mount with empty caches; the host's page cache is warm. Missing programs are installed by apt-get where
this runs as root; a tool that cannot be had is a row with the reason. All of it 4 minutes with --quick, 15 in full.
Figures: a table, and wormhole-records/compare.jsonl in cargo's target folder. At most 12 s a pass (--quick: 8), then it is cut.";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let Some(plan) = Plan::parse(env::args().skip(1))? else {
        println!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    undo::at_signals()?;
    println!("about {} minutes", plan.minutes());
    let inputs = settle_together(|| Inputs::prepare(&plan))?;
    let mut results = Results::new(&plan);
    inputs.clear_page_cache();
    let mut services = Services::new(inputs.root(), plan.route)?;
    let mut ready = Vec::new();
    for &tool in &plan.tools {
        match services.start(tool) {
            Ok(()) => ready.push(tool),
            Err(why) => results.unavailable(tool, &why.to_string()),
        }
    }
    for run in 1..=plan.runs {
        for &workload in &plan.workloads {
            // Checked once: nobody doubts a run by its number.
            if workload == workload::Workload::Verify && run > 1 {
                continue;
            }
            for &tool in &ready {
                inputs.warm(workload)?;
                let pass = Pass { tool, workload, plan: &plan, services: &services, inputs: &inputs };
                measure(run, &pass, &mut results);
            }
        }
    }
    results.record()?;
    println!("\n{}", results.table());
    Ok(if results.found_wrong_bytes() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs a pass, and says how it went.
fn measure(run: usize, pass: &Pass<'_>, results: &mut Results) {
    let &Pass { tool, workload, .. } = pass;
    match pass.run() {
        Ok(outcome) => {
            eprintln!("run {run} {} {}: {}", workload.name(), tool.name(), outcome.line());
            results.add(tool, workload, outcome);
        }
        Err(why) => {
            eprintln!("run {run} {} {}: no figure: {why}", workload.name(), tool.name());
            results.failed(tool, workload, &why.to_string());
        }
    }
}
