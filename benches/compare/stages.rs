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
    let [min, p50, p95] = [stage.min_ns, stage.p50_ns, stage.p95_ns].map(ms);
    let [p99, max] = [stage.p99_ns, stage.max_ns].map(ms);
    let record = Record::spread(PART, &name, "ms", Spread { count: stage.count, min, p50, p95, p99, max });
    match stage.target_ns {
        Some(target) => record.target(Target::AtMost(ms(target))),
        None => record,
    }
}
