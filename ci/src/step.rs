//! The steps that run outside commands: each is printed, timed, and ends the run when it fails.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::failure::Failure;
use crate::repo::Repo;
use crate::require::{Abilities, Demand};

/// Installs what the machine lacks; silent when it lacks nothing.
pub(crate) fn setup(repo: &Repo) -> Result<(), Failure> {
    run(Command::new("sh").arg("ci/setup.sh").current_dir(repo.root()))
}

/// The same, and what `counts` counts with.
pub(crate) fn setup_for_counts(repo: &Repo) -> Result<(), Failure> {
    run(Command::new("sh").args(["ci/setup.sh", "counts"]).current_dir(repo.root()))
}

/// Formatting, clippy on every target, and the documentation's links; a warning fails.
pub(crate) fn lint(repo: &Repo) -> Result<(), Failure> {
    run(cargo(repo).args(["fmt", "--all", "--check"]))?;
    // Not `--all-targets`: that leaves out the benches which run by name alone (`bench = false`).
    let targets = ["--lib", "--bins", "--tests", "--examples", "--bench", "*"];
    run(cargo(repo).args(["clippy", "--quiet", "--workspace"]).args(targets).args(["--", "-D", "warnings"]))?;
    run(cargo(repo).args(["doc", "--quiet", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}

/// The tests of `engine/uring`, the only unsafe code, built with the address sanitizer.
///
/// The stable compiler has the sanitizer but wants `RUSTC_BOOTSTRAP` to switch it on. Naming a target keeps the flag
/// off build scripts and procedural macros; the own target folder keeps the other steps' products.
pub(crate) fn asan(repo: &Repo) -> Result<(), Failure> {
    let target = host_triple(repo)?;
    run(cargo(repo)
        .args(["test", "--quiet", "--package", "wormhole-uring", "--target", &target, "--target-dir"])
        .arg(repo.target().join("asan"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Zsanitizer=address --cfg wormhole_asan"))
}

/// Every test of the workspace. Prints nothing after the runner: its summary is the last word.
pub(crate) fn test(repo: &Repo) -> Result<(), Failure> {
    let in_ci = in_ci();
    match setup(repo) {
        Ok(()) => {}
        Err(failure) if in_ci => return Err(failure),
        Err(_) => eprintln!("ci: warning: setup is not complete; tests that need it will skip"),
    }
    let demand = Abilities::probe().demand(in_ci)?;

    // The mount's tests start the host's binary; cargo passes a package only the binaries of its own.
    run(cargo(repo).args(["build", "--quiet", "--package", "wormhole-engine"]))?;
    let mut tests = cargo(repo);
    let runner: &[&str] = if nextest_installed(repo) { &["nextest", "run"] } else { &["test"] };
    // One run names every failure: finding them one by one costs a build each.
    tests.args(runner).args(["--workspace", "--no-fail-fast"]).env("WORMHOLE_ENGINE_BIN", engine_bin(repo));
    match demand {
        Demand::Require(what) => {
            tests.env("WORMHOLE_REQUIRE", what);
        }
        Demand::Allow(Some(line)) => eprintln!("ci: warning: {line}"),
        Demand::Allow(None) => {}
    }
    // Before the others, whose summary ends the output.
    profiler(repo)?;
    announce(&tests);
    let status = tests.status().map_err(|why| format!("cannot run {}: {why}", words(&tests)))?;
    if status.success() { Ok(()) } else { Err(Failure::Shown) }
}

/// The tests of what the feature `pprof` adds.
fn profiler(repo: &Repo) -> Result<(), Failure> {
    let packages = ["wormhole-sampler", "wormhole-profiles", "wormhole-engine", "wormhole-fusefront"];
    let mut tests = cargo(repo);
    tests.args(["test", "--quiet", "--features", "pprof"]);
    tests.args(packages.iter().flat_map(|package| ["--package", package]));
    run(tests.args(["--lib", "--test", "it", "--", "profile", "sampler", "bench::"]))
}

/// Each case of `cargo bench` once, with the least it can do, by the profile of tests: shows that it runs, not how fast.
pub(crate) fn benches(repo: &Repo) -> Result<(), Failure> {
    let lacks_fuse = !Abilities::probe().fuse;
    if lacks_fuse && !in_ci() {
        eprintln!("ci: warning: benches mount for real, and /dev/fuse does not open: not run");
        return Ok(());
    }
    run(cargo(repo).args(["test", "--quiet", "--package", "wormhole-benches", "--benches"]))
}

/// Whether a CI machine runs this, where what is missing is a failure.
pub(crate) fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// The host's binary as `cargo build` makes it.
fn engine_bin(repo: &Repo) -> PathBuf {
    repo.target().join("debug/wormhole-engine")
}

/// A cargo of the toolchain that built us, in the root of the checkout.
pub(crate) fn cargo(repo: &Repo) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(repo.root());
    cargo
}

fn nextest_installed(repo: &Repo) -> bool {
    cargo(repo)
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The machine's own target triple, as rustc names it.
fn host_triple(repo: &Repo) -> Result<String, Failure> {
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let out = rustc
        .arg("-vV")
        .current_dir(repo.root())
        .output()
        .map_err(|why| format!("cannot run {}: {why}", words(&rustc)))?;
    parse_host(&String::from_utf8_lossy(&out.stdout))
        .ok_or_else(|| format!("{} names no host; is Rust installed?", words(&rustc)).into())
}

fn parse_host(rustc_verbose: &str) -> Option<String> {
    rustc_verbose.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

/// Prints a command, runs it to its end, prints how long it took.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    announce(command);
    let started = Instant::now();
    let status = command.status().map_err(|why| format!("cannot run {}: {why}", words(command)))?;
    let seconds = started.elapsed().as_secs_f64();
    if !status.success() {
        return Err(format!("failed after {seconds:.1} s ({status}): {}", words(command)).into());
    }
    println!("ci: ok, {seconds:.1} s");
    Ok(())
}

/// Prints a command, runs it to its end and returns what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String, Failure> {
    announce(command);
    let started = Instant::now();
    command.stderr(Stdio::inherit());
    let out = command.output().map_err(|why| format!("cannot run {}: {why}", words(command)))?;
    if !out.status.success() {
        return Err(format!("failed ({}): {}", out.status, words(command)).into());
    }
    println!("ci: ok, {:.1} s", started.elapsed().as_secs_f64());
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn announce(command: &Command) {
    println!("ci: {}", words(command));
}

/// A command as one would type it: the variables it sets, its name without folders, its arguments.
fn words(command: &Command) -> String {
    let mut words: Vec<String> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_string_lossy(), value?.to_string_lossy())))
        .map(
            |(name, value)| {
                if value.contains(' ') { format!("{name}='{value}'") } else { format!("{name}={value}") }
            },
        )
        .collect();
    let program = std::path::Path::new(command.get_program());
    words.push(program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned());
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_typed() {
        let mut command = Command::new("/opt/rust/bin/cargo");
        command.args(["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(words(&command), "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps");
    }

    #[test]
    fn the_host_triple_is_read_from_rustc() {
        let verbose = "rustc 1.95.0\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0\n";
        assert_eq!(parse_host(verbose).as_deref(), Some("x86_64-unknown-linux-gnu"));
        assert_eq!(parse_host("rustc 1.95.0\n"), None);
    }

    #[test]
    fn a_failing_command_is_named() {
        let failure = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err().to_string();
        assert!(failure.contains("exit status: 3") && failure.ends_with("sh -c exit 3"), "{failure}");
    }
}
