//! `cargo ci report`: runs what measures, part by part, and composes the report of it (`benches/report`).

use std::ffi::OsString;
use std::fs;
use std::time::Instant;

use crate::failure::Failure;
use crate::repo::Repo;
use crate::step;

/// What a report is made of, in the order in which it runs.
const PARTS: [Part; 5] = [
    Part { name: "suite", benches: &[], records: &[], links: &[] },
    Part { name: "scenarios", benches: &["scenarios"], records: &["scenarios"], links: &[] },
    Part { name: "scale", benches: &["scale"], records: &["scale"], links: &[] },
    Part { name: "wan", benches: &["wan"], records: &["wan"], links: &[] },
    Part {
        name: "compare",
        benches: &["compare"],
        records: &["compare", "stages"],
        links: &["loopback", "lan"],
    },
];

#[derive(Debug, PartialEq, Eq)]
struct Part {
    name: &'static str,
    /// Programs by name; none for those that `cargo bench` runs by itself.
    benches: &'static [&'static str],
    /// Its files of records, begun anew.
    records: &'static [&'static str],
    /// Links that it is run over, one after the other.
    links: &'static [&'static str],
}

/// What `cargo ci report` is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    parts: Vec<&'static Part>,
    is_quick: bool,
    is_run: bool,
    refreshes_readme: bool,
}

impl Plan {
    /// Reads `[PART...] [--quick] [--no-run] [--readme]`; the error is the line to print before the usage.
    pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut plan = Self { parts: Vec::new(), is_quick: false, is_run: true, refreshes_readme: false };
        for word in words {
            match word.to_str() {
                Some("--quick") => plan.is_quick = true,
                Some("--no-run") => plan.is_run = false,
                Some("--readme") => plan.refreshes_readme = true,
                name => match PARTS.iter().find(|part| Some(part.name) == name) {
                    Some(part) => plan.parts.push(part),
                    None => return Err(format!("step \"report\" does not take {word:?}")),
                },
            }
        }
        if plan.parts.is_empty() {
            plan.parts = PARTS.iter().collect();
        }
        Ok(plan)
    }
}

/// Runs the parts; a part that fails or misses a target does not keep the others from running, and the report is composed in
/// any case. Fails at the end where one did.
pub(crate) fn run(repo: &Repo, plan: &Plan) -> Result<(), Failure> {
    let mut failed = Vec::new();
    if plan.is_run {
        step::run(step::cargo(repo).args(["build", "--release"]))?;
        for part in &plan.parts {
            let started = Instant::now();
            forget(repo, part)?;
            for words in commands(part, plan.is_quick) {
                if let Err(why) = step::run(step::cargo(repo).args(&words)) {
                    eprintln!("ci: report: {why}");
                    failed.push(part.name);
                }
            }
            println!("ci: report: {} {:.0} s", part.name, started.elapsed().as_secs_f64());
        }
    }
    let mut compose = bench("report");
    compose.extend(plan.is_quick.then(|| "--quick".to_owned()));
    compose.extend(plan.refreshes_readme.then(|| "--readme".to_owned()));
    step::run(step::cargo(repo).args(&compose))?;
    failed.dedup();
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!("report: composed, but failed or missed a target: {}", failed.join(", ")).into())
}

/// A record of a former run must not pass for one of this.
fn forget(repo: &Repo, part: &Part) -> Result<(), Failure> {
    for name in part.records {
        let path = repo.target().join("wormhole-records").join(format!("{name}.jsonl"));
        match fs::remove_file(&path) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("remove {}: {why}", path.display()).into());
            }
            _ => {}
        }
    }
    Ok(())
}

fn bench(name: &str) -> Vec<String> {
    ["bench", "--quiet", "--package", "wormhole-benches", "--bench", name, "--"].map(str::to_owned).to_vec()
}

/// The words after `cargo` of each run of a part.
fn commands(part: &Part, is_quick: bool) -> Vec<Vec<String>> {
    if part.benches.is_empty() {
        let mut words =
            ["bench", "--quiet", "--package", "wormhole-benches", "--"].map(str::to_owned).to_vec();
        words.extend(is_quick.then(|| "--quick".to_owned()));
        return vec![words];
    }
    let links: Vec<Option<&str>> = if part.links.is_empty() || is_quick {
        vec![None]
    } else {
        part.links.iter().copied().map(Some).collect()
    };
    let mut commands = Vec::new();
    for name in part.benches {
        for link in &links {
            let mut words = bench(name);
            words.extend(is_quick.then(|| "--quick".to_owned()));
            words.extend(link.iter().flat_map(|link| ["--link".to_owned(), (*link).to_owned()]));
            commands.push(words);
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Plan, String> {
        Plan::parse(words.iter().map(OsString::from))
    }

    #[test]
    fn without_parts_all_of_them_run() {
        let plan = parse(&["--quick"]).unwrap();
        assert_eq!(plan.parts.len(), PARTS.len());
        assert!(plan.is_quick && plan.is_run && !plan.refreshes_readme);
        let plan = parse(&["compare", "--no-run", "--readme"]).unwrap();
        assert_eq!(plan.parts, [&PARTS[4]]);
        assert!(!plan.is_run && plan.refreshes_readme);
        assert_eq!(parse(&["disk"]), Err("step \"report\" does not take \"disk\"".into()));
    }

    #[test]
    fn the_comparison_runs_on_loopback_and_across_a_link_and_quick_on_loopback_alone() {
        let lines = |is_quick| -> Vec<String> {
            commands(&PARTS[4], is_quick).iter().map(|words| words.join(" ")).collect()
        };
        let start = "bench --quiet --package wormhole-benches --bench compare --";
        assert_eq!(lines(false), [format!("{start} --link loopback"), format!("{start} --link lan")]);
        assert_eq!(lines(true), [format!("{start} --quick")]);
    }
}
