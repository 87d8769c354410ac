//! One pass: a fresh mount, the workload on it under a deadline, what both ends used, and the end of the mount.

use std::{
    error::Error,
    io,
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use wormhole_benches::proc::{Sampler, Used};

use crate::{
    inputs::Inputs,
    plan::Plan,
    services::Services,
    stages,
    tools::{Session, Tool},
    workload::{Figure, Outcome, Values, Workload},
};

/// A workload stops itself after so long, between two operations.
const PATIENCE: Duration = Duration::from_secs(12);
/// To compare everything, which is done once.
const PATIENCE_VERIFY: Duration = Duration::from_secs(30);
const PATIENCE_QUICK: Duration = Duration::from_secs(8);
/// Beyond that an operation hangs: its mount is killed, which ends the operation.
const HANG: Duration = Duration::from_secs(30);
/// To notice that the mount is gone.
const GONE: Duration = Duration::from_secs(10);

type Failed = Box<dyn Error>;

/// A workload on a tool, and what both need.
pub(crate) struct Pass<'a> {
    pub(crate) tool: Tool,
    pub(crate) workload: Workload,
    pub(crate) plan: &'a Plan,
    pub(crate) services: &'a Services,
    pub(crate) inputs: &'a Inputs,
}

impl Pass<'_> {
    /// Mounts, runs, unmounts.
    ///
    /// # Errors
    /// Why there is no figure.
    pub(crate) fn run(&self) -> Result<Outcome, Failed> {
        let session = Session::start(self.tool, self.services)?;
        let sampler = Sampler::start(&[&session.near, &session.far])?;
        let outcome = guarded(&session, self.workload, self.plan, self.inputs);
        let used = sampler.stop();
        if let (Some(mount), true) = (session.mount(), outcome.is_ok()) {
            stages::record(self.workload, mount, self.plan.route)?;
        }
        session.end()?;
        let mut outcome = outcome?;
        outcome.cpu_s = used.iter().map(|used| used.cpu.as_secs_f64()).sum();
        outcome.near_mib = used.first().map_or(0.0, Used::rss_max_mib);
        outcome.far_mib = used.get(1).map_or(0.0, Used::rss_max_mib);
        Ok(outcome)
    }
}

fn guarded(session: &Session, workload: Workload, plan: &Plan, inputs: &Inputs) -> Result<Outcome, Failed> {
    let patience = match workload {
        _ if plan.is_quick => PATIENCE_QUICK,
        Workload::Verify => PATIENCE_VERIFY,
        _ => PATIENCE,
    };
    let (at, source, paths) = (session.path().to_owned(), inputs.root().to_owned(), inputs.paths());
    let (tell, told) = channel();
    // Not joined where it hangs beyond help: it may wait in the kernel for ever.
    thread::Builder::new().name(workload.name().into()).spawn(move || {
        // Nobody listens any more where it came too late.
        let _ = tell.send(workload.run(&at, &source, &paths, patience));
    })?;
    // Two passes of a sequential read have the time each.
    match told.recv_timeout(2 * patience + HANG) {
        Ok(outcome) => Ok(outcome?),
        Err(RecvTimeoutError::Disconnected) => Err("the workload panicked".into()),
        Err(RecvTimeoutError::Timeout) => {
            session.kill();
            let ended = told.recv_timeout(GONE).map(|outcome: io::Result<_>| drop(outcome));
            let how = if ended.is_ok() { "killed" } else { "killed, and its reader still waits" };
            Err(format!("hung: no answer in {:?}; {how}", 2 * patience + HANG).into())
        }
    }
}

impl Outcome {
    /// For those who watch.
    pub(crate) fn line(&self) -> String {
        let figures: Vec<String> = self.figures.iter().map(Figure::line).collect();
        let cut = if self.is_cut { " (cut: not finished in its time)" } else { "" };
        format!("{}; {:.2} CPU-s{cut}", figures.join(", "), self.cpu_s)
    }
}

impl Figure {
    fn line(&self) -> String {
        match &self.values {
            Values::Rate(unit, value) => format!("{} {value:.0} {unit}", self.cache),
            Values::Times(latency) => {
                let spread = latency.spread_ms();
                spread.map_or_else(String::new, |spread| {
                    format!("p50 {:.3} p99 {:.3} ms", spread.p50, spread.p99)
                })
            }
        }
    }
}
