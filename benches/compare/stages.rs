//! Where the time of our reads went, as the mount counts it: the breakdown of TARGETS.md.

use std::error::Error;

use engine::stages::StageStatus;
use wormhole_benches::{
    daemons::Mount,
    figures::Figures,
    record::{Record, Spread, Target},
    route::Route,
};

use crate::workload::Workload;

const PART: &str = "stages";
const NOTE: &str = "p95 is not counted apart: p99 stands for it";

/// Keeps the stages of those workloads that show one kind of read: single pages from the host, files again from memory.
pub(crate) fn record(workload: Workload, mount: &Mount, route: Route) -> Result<(), Box<dyn Error>> {
    let kind = match workload {
        Workload::Random => "host",
        Workload::FirstByte => "l1",
        _ => return Ok(()),
    };
    let stages = mount.report()?.stages;
    let mut figures = Figures::resume(PART)?;
    for stage in if kind == "host" { &stages.host } else { &stages.l1 } {
        figures.add(of(kind, stage).link(route.name()))?;
    }
    Ok(())
}

fn of(kind: &str, stage: &StageStatus) -> Record {
    let ms = |nanos: u64| nanos as f64 / 1e6;
    let name = format!("{kind}_{}", stage.stage);
    if stage.count == 0 {
        return Record::absent(PART, &name, "ms", "no read passed it");
    }
    let (p50, p99, max) = (ms(stage.p50_ns), ms(stage.p99_ns), ms(stage.max_ns));
    let spread = Spread { count: stage.count, min: 0.0, p50, p95: p99, p99, max };
    let record = Record::spread(PART, &name, "ms", spread).note(NOTE);
    match stage.target_ns {
        Some(target) => record.target(Target::AtMost(ms(target))),
        None => record,
    }
}
