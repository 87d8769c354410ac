//! `cargo ci counts`: what repeats where times do not, against `benches/counts.csv`.
//!
//! Instructions of core paths (callgrind), bytes that each end copies and system calls that it makes for each MiB of a
//! sequential read. A figure 5 % above its line fails; `--write` makes the lines what is measured now.

mod paths;
mod table;
mod transfer;

use std::ffi::OsString;
use std::fs;
use std::process::{Command, Stdio};

use crate::demo;
use crate::failure::Failure;
use crate::repo::Repo;
use crate::step;
use table::{Row, Table};

/// The committed figures, from the root of the checkout.
const TABLE: &str = "benches/counts.csv";

/// What to do with what is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Fail where a figure rose.
    Check,
    /// Make it the committed one.
    Write,
}

impl Plan {
    /// Reads the words after `counts`.
    pub(crate) fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let plan = match words.next() {
            None => Self::Check,
            Some(word) if word == "--write" => Self::Write,
            Some(word) => return Err(format!("counts takes --write alone, not {word:?}")),
        };
        match words.next() {
            Some(extra) => Err(format!("counts takes one word at most, not {extra:?}")),
            None => Ok(plan),
        }
    }
}

/// Measures everything, prints it beside the committed figures, and fails where one rose too far.
pub(crate) fn run(repo: &Repo, plan: Plan) -> Result<(), Failure> {
    // First of all: the host looks twice at a file of the last minute, and building takes that long.
    let sample = transfer::Sample::make(repo)?;
    let has_tools = has_tools(repo)?;
    demo::build(repo)?;
    let mut measured = transfer::copies(repo, &sample)?;
    if has_tools {
        measured.extend(transfer::calls(repo, &sample)?);
        measured.extend(paths::count(repo)?);
    }
    let path = repo.root().join(TABLE);
    if plan == Plan::Write {
        if !has_tools {
            return Err("the table is only written whole: install valgrind and strace".to_owned().into());
        }
        fs::write(&path, Table(measured).to_string())
            .map_err(|why| format!("cannot write {}: {why}", path.display()))?;
        println!("counts: {TABLE} is written; say in the commit why it changed");
        return Ok(());
    }
    let text = fs::read_to_string(&path).map_err(|why| format!("cannot read {}: {why}", path.display()))?;
    judge(&Table::parse(&text).map_err(|why| format!("{TABLE}: {why}"))?, &measured, has_tools)
}

/// Prints each figure, and says which are too high.
fn judge(committed: &Table, measured: &[Row], is_whole: bool) -> Result<(), Failure> {
    for row in measured {
        println!("counts: {}", committed.verdict(row));
    }
    let faults = committed.faults(measured, is_whole);
    if faults.is_empty() {
        return Ok(());
    }
    Err(format!("counts: {}; `cargo ci counts --write` where that is meant", faults.join("; ")).into())
}

/// Whether callgrind and strace are here; in CI they have to be.
fn has_tools(repo: &Repo) -> Result<bool, Failure> {
    let setup = step::setup_for_counts(repo);
    let missing: Vec<_> = ["valgrind", "strace"].into_iter().filter(|tool| !starts(tool)).collect();
    if missing.is_empty() {
        return Ok(true);
    }
    let missing = missing.join(" and ");
    if step::in_ci() {
        setup?;
        return Err(format!("CI must count everything, and lacks {missing}: run ci/setup.sh").into());
    }
    eprintln!("ci: warning: no {missing}: instructions and system calls are not counted; run ci/setup.sh");
    Ok(false)
}

fn starts(tool: &str) -> bool {
    let mut command = Command::new(tool);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_checks_unless_told_to_write() {
        let parse = |words: &[&str]| Plan::parse(words.iter().map(OsString::from));
        assert_eq!(parse(&[]), Ok(Plan::Check));
        assert_eq!(parse(&["--write"]), Ok(Plan::Write));
        assert!(parse(&["--read"]).is_err() && parse(&["--write", "x"]).is_err());
    }

    #[test]
    fn a_figure_that_rose_is_named_with_the_way_out() {
        let committed = Table::parse("case,unit,value\nl1/hit,instructions,100\n").unwrap();
        let row = |value| [Row { case: "l1/hit".into(), unit: "instructions".into(), value }];
        assert_eq!(judge(&committed, &row(104.0), true), Ok(()));
        let failure = judge(&committed, &row(106.0), true).unwrap_err().to_string();
        assert!(failure.contains("l1/hit") && failure.contains("--write"), "{failure}");
    }
}
