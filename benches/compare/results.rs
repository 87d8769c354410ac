//! What all passes gave: a record a figure, and the table that ranks the tools row by row.

use std::{collections::BTreeMap, error::Error, fmt::Write as _};

use wormhole_benches::{
    figures::Figures,
    latency::Latency,
    record::{Record, Spread, Target},
    route::Route,
};

use crate::{
    plan::Plan,
    tools::Tool,
    workload::{Figure, Outcome, Values, Workload},
};

const PART: &str = "compare";
const GIB: f64 = (1u64 << 30) as f64;
/// Bytes of a pass from which its cost a GiB means something: processor time counts in steps of 10 ms.
const BYTES_MIN: u64 = 10 << 20;

/// One row of one tool.
type Key = (&'static str, &'static str, &'static str);

#[derive(Default)]
struct Row {
    rates: Vec<f64>,
    times: Option<Latency>,
    notes: Vec<String>,
}

/// The figures of all tools.
pub(crate) struct Results {
    plan: Plan,
    rows: BTreeMap<(&'static str, Key), Row>,
    /// In the order of the table.
    order: Vec<Key>,
    has_wrong_bytes: bool,
}

impl Results {
    /// None yet.
    pub(crate) fn new(plan: &Plan) -> Results {
        let mut order: Vec<Key> = Vec::new();
        for workload in &plan.workloads {
            order.extend(workload.rows());
            order.extend(cost(*workload));
        }
        order.extend([("peak_rss_mount", "", "MiB"), ("peak_rss_host", "", "MiB")]);
        Results { plan: plan.clone(), rows: BTreeMap::new(), order, has_wrong_bytes: false }
    }

    /// A tool that cannot be had here.
    pub(crate) fn unavailable(&mut self, tool: Tool, why: &str) {
        for key in self.order.clone() {
            self.note(tool, key, why);
        }
    }

    /// A pass without figures.
    pub(crate) fn failed(&mut self, tool: Tool, workload: Workload, why: &str) {
        self.has_wrong_bytes |= workload == Workload::Verify && tool == Tool::Wormhole;
        for &key in workload.rows().iter().chain(cost(workload).iter()) {
            self.note(tool, key, why);
        }
    }

    /// The figures of a pass.
    pub(crate) fn add(&mut self, tool: Tool, workload: Workload, outcome: Outcome) {
        if outcome.is_cut {
            for &key in workload.rows() {
                self.note(tool, key, "cut: figures are of what was done in its time");
            }
        }
        for (name, mib) in [("peak_rss_mount", outcome.near_mib), ("peak_rss_host", outcome.far_mib)] {
            let row = self.rows.entry((tool.name(), (name, "", "MiB"))).or_default();
            if mib > row.rates.first().copied().unwrap_or(0.0) {
                row.rates = vec![mib];
            }
        }
        if let (Some(key), true) = (cost(workload), outcome.bytes >= BYTES_MIN) {
            let spent = outcome.cpu_s / (outcome.bytes as f64 / GIB);
            self.rows.entry((tool.name(), key)).or_default().rates.push(spent);
        }
        for Figure { name, cache, values } in outcome.figures {
            match values {
                Values::Rate(unit, value) => {
                    self.rows.entry((tool.name(), (name, cache, unit))).or_default().rates.push(value);
                }
                Values::Times(latency) => {
                    let row = self.rows.entry((tool.name(), (name, cache, "ms"))).or_default();
                    match &mut row.times {
                        Some(times) => times.add(&latency),
                        none => *none = Some(latency),
                    }
                }
            }
        }
    }

    fn note(&mut self, tool: Tool, key: Key, why: &str) {
        let notes = &mut self.rows.entry((tool.name(), key)).or_default().notes;
        if !notes.iter().any(|note| note == why) {
            notes.push(why.to_owned());
        }
    }

    /// Whether our own bytes were not those of the folder.
    pub(crate) fn found_wrong_bytes(&self) -> bool {
        self.has_wrong_bytes
    }

    /// Keeps a record of each row of each tool.
    pub(crate) fn record(&self) -> Result<(), Box<dyn Error>> {
        let mut figures = Figures::resume(PART)?;
        for &key in &self.order {
            for &tool in &self.plan.tools {
                figures.add(self.figure(tool, key))?;
            }
        }
        Ok(())
    }

    fn figure(&self, tool: Tool, key: Key) -> Record {
        let (name, cache, unit) = key;
        let row = self.rows.get(&(tool.name(), key));
        let spread = row.and_then(|row| match &row.times {
            Some(times) => times.spread_ms(),
            None => (!row.rates.is_empty()).then(|| Spread::of(&row.rates)),
        });
        let mut note = row.map_or_else(String::new, |row| row.notes.join("; "));
        let record = match spread {
            Some(spread) => {
                if self.plan.is_quick && !key.0.starts_with("peak") {
                    let quick = "quick: 256 MB, 2,000 small files";
                    note = if note.is_empty() { quick.into() } else { format!("{note}; {quick}") };
                }
                Record::spread(PART, name, unit, spread)
            }
            None => {
                if note.is_empty() {
                    note = absence(tool, name).into();
                }
                Record::absent(PART, name, unit, "")
            }
        };
        let record = record.tool(tool.name()).link(self.plan.route.name()).cache(cache).note(note);
        match target(name) {
            Some(target) if tool == Tool::Wormhole && !self.plan.is_across_wan() => record.target(target),
            _ => record,
        }
    }

    /// Tools side by side, and who is best of those that cross a network.
    pub(crate) fn table(&self) -> String {
        let mut out = format!("{:<34}", format!("{}, medians", self.plan.route));
        for tool in &self.plan.tools {
            let _ = write!(out, "{:>14}", tool.name());
        }
        out.push_str("  best first, of those with a network\n");
        for &key in &self.order {
            let _ = write!(out, "{:<34}", format!("{} {} {}", key.0, key.1, key.2));
            let records: Vec<Record> = self.plan.tools.iter().map(|&tool| self.figure(tool, key)).collect();
            for record in &records {
                let value = if record.is_measured() { significant(record.value) } else { "no figure".into() };
                let _ = write!(out, "{value:>14}");
            }
            let _ = writeln!(out, "  {}", self.ranking(key.2, &records));
        }
        for (tool, why) in self.reasons() {
            let _ = writeln!(out, "no figure of {tool}: {why}");
        }
        out
    }

    fn ranking(&self, unit: &str, records: &[Record]) -> String {
        if unit == "count" || self.plan.route != Route::Loopback && unit == "MiB" {
            return String::new();
        }
        let mut ranked: Vec<(&str, f64)> = (self.plan.tools.iter().zip(records))
            .filter(|(tool, record)| !tool.is_ceiling() && record.is_measured())
            .map(|(tool, record)| (tool.name(), record.value))
            .collect();
        ranked.sort_by(|a, b| if is_rate(unit) { b.1.total_cmp(&a.1) } else { a.1.total_cmp(&b.1) });
        let names: Vec<&str> = ranked.iter().map(|(name, _)| *name).collect();
        match names.first() {
            Some(&first) if first != "wormhole" && names.contains(&"wormhole") => {
                format!("RIVAL WINS: {}", names.join(" "))
            }
            _ => names.join(" "),
        }
    }

    fn reasons(&self) -> Vec<(&'static str, String)> {
        let mut reasons: Vec<(&'static str, String)> = Vec::new();
        for ((tool, (name, ..)), row) in &self.rows {
            for note in &row.notes {
                if row.rates.is_empty()
                    && row.times.is_none()
                    && !reasons.iter().any(|(_, old)| old.contains(note))
                {
                    reasons.push((tool, format!("{note} ({name} and others)")));
                }
            }
        }
        reasons
    }
}

/// The row of what a GiB costs both ends in processor time.
fn cost(workload: Workload) -> Option<Key> {
    match workload {
        Workload::Sequential => Some(("seq_read_1gb_cpu", "", "CPU-s/GiB")),
        Workload::Streams => Some(("four_streams_cpu", "", "CPU-s/GiB")),
        Workload::Small => Some(("small_files_cpu", "", "CPU-s/GiB")),
        Workload::SmallTogether => Some(("small_files_16_threads_cpu", "", "CPU-s/GiB")),
        _ => None,
    }
}

/// What TARGETS.md promises on a LAN or better, "Primary metrics" and "Baselines".
fn target(row: &str) -> Option<Target> {
    match row {
        "seq_read_1gb" => Some(Target::AtLeast(100.0)),
        "first_byte_cold" | "readdir_1000" => Some(Target::AtMost(100.0)),
        "first_byte_warm" | "stat_latency" => Some(Target::AtMost(10.0)),
        "peak_rss_mount" | "peak_rss_host" => Some(Target::AtMost(200.0)),
        _ => None,
    }
}

fn absence(tool: Tool, row: &str) -> &'static str {
    match tool {
        Tool::Local => "no process serves it",
        Tool::Bindfs if row == "peak_rss_host" => "no process at a far end",
        _ => "not reached in this run",
    }
}

fn is_rate(unit: &str) -> bool {
    unit.ends_with("/s") || unit == "IOPS"
}

/// Three digits of it.
fn significant(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
