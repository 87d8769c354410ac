//! The report as Markdown: every cell holds a figure or the reason why there is none.

use std::fmt::Write as _;

use crate::record::Record;

use super::{
    document::{Document, is_rate, significant},
    plots::Plot,
    previous::change,
};

/// The budget of a read as TARGETS.md has it, for the stages that the mount counts.
const BUDGET: &str = "TARGETS.md: a miss 61 ms on a LAN (FUSE 5, message 1, request 20, host disk 10, response 20, cache write \
                      5), 221 ms on a WAN; a hit 7 ms (FUSE 5, message 1, look-up 1).";

/// The whole of it; `earlier` is the report before this one.
pub(super) fn report(document: &Document, earlier: Option<&(String, Document)>, plots: &[Plot]) -> String {
    let mut out = format!("# Benchmark report {}\n", document.environment.date);
    environment(&mut out, document);
    results(&mut out, document);
    targets(&mut out, document);
    stages(&mut out, document);
    alternatives(&mut out, document, plots);
    comparison(&mut out, document, earlier);
    anomalies(&mut out, document);
    out
}

fn environment(out: &mut String, document: &Document) {
    out.push_str("\n## Environment\n\n| | |\n|---|---|\n");
    for (name, value) in document.environment.lines() {
        let _ = writeln!(out, "| {name} | {value} |");
    }
    let _ = writeln!(out, "| commits of the figures | {} |", commits(document).join(", "));
    let links = links(document.records.iter());
    let _ = writeln!(out, "| network profiles | {} |", links.join(", "));
}

/// Of which checkouts the figures are, and how many of each: parts may have been run at different times.
fn commits(document: &Document) -> Vec<String> {
    let mut commits: Vec<(&str, usize)> = Vec::new();
    for record in &document.records {
        match commits.iter_mut().find(|(commit, _)| *commit == record.commit) {
            Some((_, count)) => *count += 1,
            None => commits.push((&record.commit, 1)),
        }
    }
    let name = |commit: &str| if commit.is_empty() { "not kept".to_owned() } else { commit.to_owned() };
    commits.into_iter().map(|(commit, count)| format!("{} ({count})", name(commit))).collect()
}

/// Each once, in the order in which they come.
fn links<'a>(records: impl Iterator<Item = &'a Record>) -> Vec<&'a str> {
    let mut links = Vec::new();
    for record in records {
        if !links.contains(&record.link.as_str()) {
            links.push(record.link.as_str());
        }
    }
    links
}

fn results(out: &mut String, document: &Document) {
    out.push_str(
        "\n## Results\n\nOf single operations, or of runs where a figure is of a whole run: n is how many. Of a rate p95 and p99 \
         are the upper end, as of a latency.\n\n\
         | benchmark | part | network | caches | unit | p50 | p95 | p99 | max | n | target | verdict |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for record in document.results() {
        let Record { name, part, link, unit, spread, .. } = record;
        let head = format!("| {name} | {part} | {link} | {} | {unit} ", or_dash(&record.cache));
        let cells = if record.is_measured() {
            let cells = [record.value, spread.p95, spread.p99, spread.max].map(significant);
            format!("| {} | {}", cells.join(" | "), spread.count)
        } else {
            format!("| no figure: {} | - | - | - | 0", cell(&record.note))
        };
        let target = record.target.map_or_else(|| "none set".to_owned(), |target| target.to_string());
        let _ = writeln!(out, "{head}{cells} | {target} | {} |", record.verdict());
    }
    for row in document.missing_rows() {
        let _ = writeln!(
            out,
            "| {row} | - | - | - | - | no figure: its part was not run | - | - | - | 0 | - | not measured |"
        );
    }
}

fn targets(out: &mut String, document: &Document) {
    let all: Vec<&Record> = document.results().into_iter().filter(|record| record.target.is_some()).collect();
    let with = |verdict: &str| -> Vec<&&Record> {
        all.iter().filter(|record| record.verdict() == verdict).collect()
    };
    let (met, missed, open) = (with("met"), with("missed"), with("not measured"));
    let _ = writeln!(
        out,
        "\n## Targets\n\n{} of {} met, {} missed, {} not measured.\n",
        met.len(),
        all.len(),
        missed.len(),
        open.len()
    );
    for record in missed {
        let _ = writeln!(out, "- missed: {record}");
    }
    for record in open {
        let _ = writeln!(out, "- not measured: {record}");
    }
}

fn stages(out: &mut String, document: &Document) {
    let _ = writeln!(out, "\n## Where a read's time goes\n\n{BUDGET}\n");
    if document.part("stages").next().is_none() {
        out.push_str("No figure: the comparison, which asks the mount for them, was not run.\n");
        return;
    }
    out.push_str(
        "As the mount counts them: `host` are single pages at random from the host, `l1` the first pages of files again from \
         memory. `wire` is request and response together.\n\n\
         | stage | network | p50 ms | p99 ms | max ms | reads | target ms | verdict |\n|---|---|---|---|---|---|---|---|\n",
    );
    for record in document.part("stages") {
        let Record { name, link, spread, .. } = record;
        let target = record.target.map_or_else(|| "none set".to_owned(), |target| target.to_string());
        let figures = if record.is_measured() {
            let [p50, p99, max] = [spread.p50, spread.p99, spread.max].map(significant);
            format!("{p50} | {p99} | {max} | {}", spread.count)
        } else {
            format!("no figure: {} | - | - | 0", cell(&record.note))
        };
        let _ = writeln!(out, "| {name} | {link} | {figures} | {target} | {} |", record.verdict());
    }
}

fn alternatives(out: &mut String, document: &Document, plots: &[Plot]) {
    out.push_str("\n## Comparison with the alternatives\n");
    for Plot { file, title } in plots {
        let _ = write!(out, "\n![{title}]({file})\n");
    }
    let links = links(document.part("compare"));
    if links.is_empty() {
        out.push_str("\nNo figure: the comparison was not run.\n");
    }
    for link in links {
        out.push_str(&tools_table(document, link));
    }
    out.push_str(
        "\nSyncthing and Dropbox are no mounts: the one copies whole folders before they can be used, the other needs its \
         makers' cloud, which is not here. Neither has a first byte or a random read to be held against.\n",
    );
}

/// All rows of the comparison over one link, tool by tool. The best of those that cross a network is bold.
pub(super) fn tools_table(document: &Document, link: &str) -> String {
    let records: Vec<&Record> = document.part("compare").filter(|record| record.link == link).collect();
    let (mut tools, mut rows): (Vec<&str>, Vec<(&str, &str, &str)>) = (Vec::new(), Vec::new());
    for record in &records {
        if !tools.contains(&record.tool.as_str()) {
            tools.push(&record.tool);
        }
        let row = (record.name.as_str(), record.cache.as_str(), record.unit.as_str());
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    let mut out = format!("\n### {link}\n\n");
    if link != "loopback" {
        out.push_str(
            "Across a link TCP gets the rate and the delay without slow start or congestion control: the rivals' figures are upper \
             bounds (profiles/README.md).\n\n",
        );
    }
    let _ = writeln!(out, "| | {} | best with a network |", tools.join(" | "));
    let _ = writeln!(out, "|---|{}---|", "---|".repeat(tools.len()));
    let mut reasons: Vec<String> = Vec::new();
    for (name, cache, unit) in rows {
        let of = |tool: &str| {
            records.iter().copied().find(|record| {
                (record.name.as_str(), record.cache.as_str(), record.unit.as_str()) == (name, cache, unit)
                    && record.tool == tool
            })
        };
        let best = best(tools.iter().filter_map(|tool| of(tool)), unit);
        let cells: Vec<String> = tools.iter().map(|tool| tool_cell(of(tool), best, &mut reasons)).collect();
        let verdict = match best {
            Some("wormhole") => "wormhole".to_owned(),
            Some(rival) => format!("**{rival}**"),
            None => "-".to_owned(),
        };
        let what = format!("{name} {cache}");
        let _ = writeln!(out, "| {}, {unit} | {} | {verdict} |", what.trim_end(), cells.join(" | "));
    }
    for (at, reason) in reasons.iter().enumerate() {
        let _ = write!(out, "\n[{}] {reason}\n", at + 1);
    }
    out
}

fn tool_cell(record: Option<&Record>, best: Option<&str>, reasons: &mut Vec<String>) -> String {
    let reason = match record {
        Some(record) if record.is_measured() => {
            let value = significant(record.value);
            return if best == Some(&record.tool) { format!("**{value}**") } else { value };
        }
        Some(record) => record.note.as_str(),
        None => "not asked for in this run",
    };
    let at = reasons.iter().position(|old| old == reason).unwrap_or_else(|| {
        reasons.push(reason.to_owned());
        reasons.len() - 1
    });
    format!("none [{}]", at + 1)
}

/// Who has the best figure of those with a network in them.
fn best<'a>(records: impl Iterator<Item = &'a Record>, unit: &str) -> Option<&'a str> {
    if unit == "count" {
        return None;
    }
    let crosses = |record: &&Record| !["bindfs", "local"].contains(&record.tool.as_str());
    let measured = records.filter(|record| record.is_measured()).filter(crosses);
    let order = |a: &&Record, b: &&Record| {
        if is_rate(unit) { a.value.total_cmp(&b.value) } else { b.value.total_cmp(&a.value) }
    };
    measured.max_by(order).map(|record| record.tool.as_str())
}

fn comparison(out: &mut String, document: &Document, earlier: Option<&(String, Document)>) {
    out.push_str("\n## Comparison with the previous report\n\n");
    let Some((name, earlier)) = earlier else {
        out.push_str("There is no earlier report of these sizes.\n");
        return;
    };
    let commit = &earlier.environment.commit;
    let _ = writeln!(out, "{name}, commit {commit}. A ratio beyond 10 % is flagged.\n");
    if earlier.environment.cpu != document.environment.cpu {
        let _ = writeln!(out, "Another machine: {}.\n", earlier.environment.cpu);
    }
    out.push_str("| benchmark | network | caches | unit | before | now | ratio | |\n|---|---|---|---|---|---|---|---|\n");
    for record in document.results() {
        let Record { name, link, unit, .. } = record;
        let Some(change) = change(record, earlier) else { continue };
        let [before, now] = [change.before, record.value].map(significant);
        let _ = writeln!(
            out,
            "| {name} | {link} | {} | {unit} | {before} | {now} | {:.2} | {} |",
            or_dash(&record.cache),
            change.ratio,
            change.verdict
        );
    }
}

fn anomalies(out: &mut String, document: &Document) {
    out.push_str("\n## Anomalies and notes\n\n");
    let lines = document.anomalies();
    if lines.is_empty() {
        out.push_str("None: no note, and no runs further apart than 20 % of their median.\n");
    }
    for line in lines {
        let _ = writeln!(out, "- {line}");
    }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// Text that stays in its cell.
fn cell(text: &str) -> String {
    text.replace('|', "/").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::document::tests::sample;

    #[test]
    fn all_headings_are_there_and_no_cell_is_empty() {
        let document = sample();
        let text = report(&document, Some(&("2026-11-22".into(), document.clone())), &[]);
        let headings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(
            headings,
            [
                "Environment",
                "Results",
                "Targets",
                "Where a read's time goes",
                "Comparison with the alternatives",
                "Comparison with the previous report",
                "Anomalies and notes"
            ]
        );
        assert!(text.starts_with("# Benchmark report 2026-11-23\n"));
        // The names of environment and heads are the only ones without a value here.
        let results = text.split("## Results").nth(1).unwrap();
        let cells = results
            .lines()
            .filter(|line| line.starts_with('|'))
            .flat_map(|line| line.trim_matches('|').split('|').skip(1).map(str::trim).collect::<Vec<_>>());
        // The last head of the previous report's table has no word.
        assert!(cells.filter(|cell| cell.is_empty()).count() <= 1, "{text}");
        assert!(text.contains("1 of 2 met, 1 missed, 0 not measured."), "{text}");
        assert!(text.contains("| first_byte_warm | - | - | - | - | no figure: its part was not run |"));
    }

    #[test]
    fn the_best_of_a_row_is_bold_and_who_is_absent_has_a_reason() {
        let table = tools_table(&sample(), "loopback");
        assert!(
            table.contains("| seq_read_1gb cold, MB/s | **900** | 400 | none [1] | wormhole |"),
            "{table}"
        );
        assert!(table.contains("[1] not installed: nfs-ganesha"), "{table}");
        let mut rival = sample();
        rival.records[1].value = 2000.0;
        let table = tools_table(&rival, "loopback");
        assert!(table.contains("| 900 | **2000** | none [1] | **sshfs** |"), "{table}");
    }
}
