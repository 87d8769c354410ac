//! `cargo ci fuzz`: libFuzzer on every target of `ci/fuzz`, for a fixed time or a number of executions.
//!
//! Needs a C++ compiler for libFuzzer itself and nothing else: the counters that guide it are code generation flags of the
//! stable compiler, which `ci/fuzz/rustc.sh` adds for our own crates alone. The outside crates are shared with other builds.

mod report;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::Failure;
use crate::repo::Repo;
use crate::step;
use report::Report;

/// Seconds for each target unless told otherwise: long enough for some hundred thousand executions of a decoder.
pub(crate) const SECONDS_EACH: u32 = 10;
/// Bytes of an input: a few entries of a listing, a few dozen operations. Longer ones find the same and run slower.
const INPUT_BYTES_MAX: u32 = 2048;
/// Seconds for one input, which takes milliseconds: more is a hang.
const INPUT_SECONDS_MAX: u32 = 20;
/// Memory of the whole fuzzer: an input that makes a decoder take more than its bounds is a finding.
const MEMORY_MIB_MAX: u32 = 512;

/// What `cargo ci fuzz` is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// One target; all of them without.
    target: Option<String>,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// Fuzz each target this many seconds.
    Seconds(u32),
    /// Fuzz each target this many executions.
    Runs(u64),
    /// Run one input of a target again.
    Again(PathBuf),
}

impl Plan {
    /// What `all` runs.
    pub(crate) fn short(seconds: u32) -> Self {
        Self { target: None, what: What::Seconds(seconds) }
    }

    /// Reads `[TARGET [FILE]] [--runs N | --seconds S]`; the error is the line to print before the usage.
    pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut plan = Self::short(SECONDS_EACH);
        let mut words = words;
        while let Some(word) = words.next() {
            match word.to_str() {
                Some("--runs") => plan.what = What::Runs(number("--runs", words.next())?),
                Some("--seconds") => plan.what = What::Seconds(number("--seconds", words.next())?),
                Some(name) if plan.target.is_none() && !name.starts_with('-') => {
                    plan.target = Some(name.to_owned());
                }
                Some(option) if option.starts_with('-') => {
                    return Err(format!("step \"fuzz\" does not take {word:?}"));
                }
                _ if !matches!(plan.what, What::Again(_)) => plan.what = What::Again(word.into()),
                _ => return Err(format!("step \"fuzz\" does not take {word:?}")),
            }
        }
        Ok(plan)
    }
}

fn number<N: std::str::FromStr>(option: &str, word: Option<OsString>) -> Result<N, String> {
    let word = word.ok_or_else(|| format!("{option} wants a number"))?;
    word.to_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("{option} wants a number, not {word:?}"))
}

/// Builds the fuzzer and runs what the plan says; goes on after a finding and fails at the end.
pub(crate) fn run(repo: &Repo, plan: &Plan) -> Result<(), Failure> {
    let targets = chosen(targets(repo)?, plan.target.as_deref())?;
    if !has_cxx() {
        let line = "no C++ compiler for libFuzzer: run ci/setup.sh, or name one in CXX";
        if required(env::var("WORMHOLE_REQUIRE").ok().as_deref()) {
            return Err(format!("fuzz: {line}").into());
        }
        eprintln!("ci: warning: fuzz is skipped: {line}");
        return Ok(());
    }
    let fuzzer = build(repo)?;
    if let What::Again(input) = &plan.what {
        let mut again = Command::new(fuzzer);
        again.env("WORMHOLE_FUZZ_TARGET", &targets[0]).env("RUST_BACKTRACE", "1").arg(input);
        return step::run(&mut again);
    }
    let mut broken = Vec::new();
    for target in &targets {
        if !fuzz(repo, &fuzzer, target, &plan.what)? {
            broken.push(target.as_str());
        }
    }
    if broken.is_empty() {
        return Ok(());
    }
    Err(format!("fuzz: findings in {}: the inputs are listed above", broken.join(", ")).into())
}

/// The targets by their corpus folders, which a test of `ci/fuzz` holds equal to what the fuzzer knows.
fn targets(repo: &Repo) -> Result<Vec<String>, Failure> {
    let folder = repo.root().join("ci/fuzz/corpus");
    let failed = |why: std::io::Error| format!("cannot list {}: {why}", folder.display());
    let mut targets = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed)? {
        targets.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    targets.sort();
    Ok(targets)
}

fn chosen(targets: Vec<String>, one: Option<&str>) -> Result<Vec<String>, Failure> {
    match one {
        None => Ok(targets),
        Some(name) if targets.iter().any(|target| target == name) => Ok(vec![name.to_owned()]),
        Some(name) => Err(format!("fuzz: no target {name:?}; there are: {}", targets.join(", ")).into()),
    }
}

/// Whether the compiler that the build of libFuzzer would call is there.
fn has_cxx() -> bool {
    let cxx = env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let mut version = Command::new(cxx);
    version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

/// Whether a skip must be a failure, by the value of `WORMHOLE_REQUIRE`.
fn required(value: Option<&str>) -> bool {
    value.is_some_and(|value| value.split(',').any(|what| what.trim() == "fuzz"))
}

/// The fuzzer's program.
fn build(repo: &Repo) -> Result<PathBuf, Failure> {
    step::run(
        step::cargo(repo)
            .args(["build", "--quiet", "--package", "wormhole-fuzz", "--features", "libfuzzer", "--bins"])
            .env("RUSTC_WORKSPACE_WRAPPER", repo.root().join("ci/fuzz/rustc.sh")),
    )?;
    Ok(repo.target().join("debug/wormhole-fuzz"))
}

/// Fuzzes one target and says how it went; whether nothing was found.
fn fuzz(repo: &Repo, fuzzer: &Path, target: &str, what: &What) -> Result<bool, Failure> {
    let products = repo.target().join("fuzz");
    let (grown, findings) = (products.join("corpus").join(target), products.join("findings").join(target));
    for folder in [&grown, &findings] {
        fs::create_dir_all(folder).map_err(|why| format!("cannot make {}: {why}", folder.display()))?;
    }
    let mut command = Command::new(fuzzer);
    // Its backtrace is for `again`: here it would push the panic's own line out.
    command.env("WORMHOLE_FUZZ_TARGET", target).env("RUST_BACKTRACE", "0");
    command.arg(match what {
        What::Runs(runs) => format!("-runs={runs}"),
        What::Seconds(seconds) => format!("-max_total_time={seconds}"),
        What::Again(_) => "-runs=0".to_owned(),
    });
    command.args([
        format!("-max_len={INPUT_BYTES_MAX}"),
        format!("-timeout={INPUT_SECONDS_MAX}"),
        format!("-rss_limit_mb={MEMORY_MIB_MAX}"),
        format!("-artifact_prefix={}/", findings.display()),
        "-print_final_stats=1".to_owned(),
    ]);
    // What it learns goes to the first folder and is kept for the next run; the committed ones are only read.
    command.arg(grown);
    for committed in ["corpus", "regressions"] {
        let folder = repo.root().join("ci/fuzz").join(committed).join(target);
        if folder.is_dir() {
            command.arg(folder);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let failed = |why: std::io::Error| format!("cannot run the fuzzer on {target}: {why}");
    let mut child = command.spawn().map_err(failed)?;
    let mut report = Report::default();
    if let Some(output) = child.stderr.take() {
        for line in BufReader::new(output).split(b'\n') {
            report.line(&String::from_utf8_lossy(&line.map_err(failed)?));
        }
    }
    let status = child.wait().map_err(failed)?;
    if status.success() {
        println!("ci: fuzz {target}: {}", report.summary());
        return Ok(true);
    }
    report.print_end();
    println!("ci: fuzz {target}: FOUND ({status}) after {}", report.summary());
    match report.input() {
        Some(input) => println!(
            "ci: again: cargo ci fuzz {target} {input}\nci: when it is mended, keep it: ci/fuzz/regressions/{target}/what_broke"
        ),
        None => println!("ci: no input was kept; the lines above say why it ended"),
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Plan, String> {
        Plan::parse(words.iter().map(OsString::from))
    }

    #[test]
    fn a_target_a_bound_and_an_input_are_read() {
        assert_eq!(parse(&[]), Ok(Plan::short(SECONDS_EACH)));
        assert_eq!(parse(&["--seconds", "3"]), Ok(Plan::short(3)));
        let runs = Plan { target: Some("ticket".into()), what: What::Runs(1_000_000) };
        assert_eq!(parse(&["ticket", "--runs", "1000000"]), Ok(runs.clone()));
        assert_eq!(parse(&["--runs", "1000000", "ticket"]), Ok(runs));
        let again = Plan { target: Some("ticket".into()), what: What::Again("/x/crash".into()) };
        assert_eq!(parse(&["ticket", "/x/crash"]), Ok(again));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert_eq!(parse(&["--runs"]), Err("--runs wants a number".into()));
        assert!(parse(&["--runs", "many"]).is_err());
        assert!(parse(&["--jobs", "2"]).is_err());
        assert!(parse(&["ticket", "a", "b"]).is_err());
    }

    #[test]
    fn an_unknown_target_names_the_known_ones() {
        let targets = || vec!["claims".to_owned(), "ticket".to_owned()];
        assert_eq!(chosen(targets(), Some("ticket")).unwrap(), ["ticket"]);
        let failure = chosen(targets(), Some("tickets")).unwrap_err().to_string();
        assert!(failure.contains("claims, ticket"), "{failure}");
    }

    #[test]
    fn a_skip_is_a_failure_where_fuzzing_is_required() {
        assert!(required(Some("uring,fuse,fuzz")));
        assert!(!required(Some("uring,fuse")));
        assert!(!required(None));
    }
}
