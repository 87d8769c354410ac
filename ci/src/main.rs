//! `cargo ci <step>`: the project's checks and its demonstration, one command each; std only.
//!
//! A step runs outside commands through [`step`] or looks at the tree itself; the first failure ends the run.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool talks to people")]

mod counts;
mod demo;
mod deps;
mod dist;
mod failure;
mod finding;
mod fuzz;
mod repo;
mod report;
mod require;
mod source;
mod step;
mod tidy;

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use crate::failure::Failure;
use crate::repo::Repo;

const USAGE: &str = "\
cargo ci <step>: Wormhole's checks, one command each

  demo [FOLDER]  host FOLDER (default: a made sample), mount it, compare every byte, print MB/s, clean up
  test           every test of the workspace (cargo nextest when installed, else cargo test)
  lint           formatting, clippy and documentation; a warning fails
  tidy           the lines of the style guide that a machine can check
  deps           which crate may import which, and who may name tokio_uring, quinn and fuser
  asan           the tests of the one crate with unsafe code, under the address sanitizer
  fuzz [TARGET [FILE]] [--runs N | --seconds S]
                 libFuzzer on every target of ci/fuzz, 10 s each; FILE runs one input again
  counts [--write]
                 instructions, copied bytes and system calls of core paths; 5 % above benches/counts.csv fails
  benches        each case of cargo bench once, unmeasured, so that none rots
  report [PART...] [--quick] [--no-run] [--readme]
                 run what measures (suite, scenarios, scale, wan, compare), compose benches/reports/<date>
  dist           target/dist: release programs, completions, manual pages, sample configurations
  setup          what this machine lacks: C and C++ compiler, fusermount3, /dev/fuse (ci/setup.sh)
  all            setup, lint, tidy, deps, asan, demo, counts, benches, then test: what CI runs

Start with `cargo ci demo`; before a commit run `cargo ci all`. ci/README.md says what each step proves.
";

/// One step of `cargo ci`; `All` is the others in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Demo { folder: Option<PathBuf> },
    Test,
    Lint,
    Tidy,
    Deps,
    Asan,
    Fuzz(fuzz::Plan),
    Counts(counts::Plan),
    Benches,
    Report(report::Plan),
    Dist,
    Setup,
    All,
    Help,
}

impl Step {
    /// Reads the words after `cargo ci`; the error is the line to print before the usage.
    fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let Some(name) = words.next() else { return Ok(Self::Help) };
        let step = match name.to_str() {
            Some("demo") => Self::Demo { folder: words.next().map(PathBuf::from) },
            Some("test") => Self::Test,
            Some("lint") => Self::Lint,
            Some("tidy") => Self::Tidy,
            Some("deps") => Self::Deps,
            Some("asan") => Self::Asan,
            Some("fuzz") => return fuzz::Plan::parse(words).map(Self::Fuzz),
            Some("counts") => return counts::Plan::parse(words).map(Self::Counts),
            Some("report") => return report::Plan::parse(words).map(Self::Report),
            Some("benches") => Self::Benches,
            Some("dist") => Self::Dist,
            Some("setup") => Self::Setup,
            Some("all") => Self::All,
            Some("help" | "--help" | "-h") => Self::Help,
            _ => return Err(format!("unknown step {name:?}")),
        };
        match words.next() {
            Some(extra) => Err(format!("step {name:?} does not take {extra:?}")),
            None => Ok(step),
        }
    }

    fn run(&self, repo: &Repo) -> Result<(), Failure> {
        match self {
            Self::Demo { folder } => demo::run(repo, folder.as_deref()),
            Self::Test => step::test(repo),
            Self::Lint => step::lint(repo),
            Self::Tidy => tidy::run(repo),
            Self::Deps => deps::run(repo),
            Self::Asan => step::asan(repo),
            Self::Fuzz(plan) => fuzz::run(repo, plan),
            Self::Counts(plan) => counts::run(repo, *plan),
            Self::Benches => step::benches(repo),
            Self::Report(plan) => report::run(repo, plan),
            Self::Dist => dist::run(repo),
            Self::Setup => step::setup(repo),
            Self::All => all(repo),
            Self::Help => {
                print!("{USAGE}");
                Ok(())
            }
        }
    }
}

/// What CI runs; `test` comes last and prints nothing after its runner, whose summary ends the output.
fn all(repo: &Repo) -> Result<(), Failure> {
    let before_test = [
        ("setup", Step::Setup),
        ("lint", Step::Lint),
        ("tidy", Step::Tidy),
        ("deps", Step::Deps),
        ("asan", Step::Asan),
        ("demo", Step::Demo { folder: None }),
        ("counts", Step::Counts(counts::Plan::Check)),
        ("benches", Step::Benches),
    ];
    let mut took = Vec::new();
    for (name, step) in before_test {
        println!("ci: == {name}");
        let started = Instant::now();
        step.run(repo)?;
        took.push(format!("{name} {:.1} s", started.elapsed().as_secs_f64()));
    }
    println!("ci: passed: {}", took.join(", "));
    println!("ci: == test");
    Step::Test.run(repo)
}

fn main() -> ExitCode {
    let step = match Step::parse(env::args_os().skip(1)) {
        Ok(step) => step,
        Err(line) => {
            eprint!("ci: {line}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match Repo::locate().and_then(|repo| step.run(&repo)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Shown) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("ci: {failure}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Step, String> {
        Step::parse(words.iter().map(OsString::from))
    }

    #[test]
    fn no_word_and_help_teach() {
        assert_eq!(parse(&[]), Ok(Step::Help));
        assert_eq!(parse(&["help"]), Ok(Step::Help));
    }

    #[test]
    fn demo_takes_one_folder_at_most() {
        assert_eq!(parse(&["demo"]), Ok(Step::Demo { folder: None }));
        assert_eq!(parse(&["demo", "/x"]), Ok(Step::Demo { folder: Some("/x".into()) }));
        assert!(parse(&["demo", "/x", "/y"]).is_err());
    }

    #[test]
    fn unknown_step_and_extra_word_are_refused() {
        assert_eq!(parse(&["tests"]), Err("unknown step \"tests\"".into()));
        assert!(parse(&["lint", "now"]).is_err());
        assert_eq!(parse(&["benches"]), Ok(Step::Benches));
    }

    #[test]
    fn every_step_is_in_the_usage() {
        for name in [
            "demo", "test", "lint", "tidy", "deps", "asan", "fuzz", "counts", "report", "dist", "setup",
            "all",
        ] {
            assert!(USAGE.contains(&format!("\n  {name} ")), "{name} is not explained");
        }
    }
}
