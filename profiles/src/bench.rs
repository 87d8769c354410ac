//! Criterion as every bench of the workspace starts it, with a flamegraph a bench where the feature `pprof` is on.

use criterion::Criterion;

/// A [`Criterion`] for `config = profiles::criterion()` in `criterion_group!`, or to call directly.
///
/// With the feature `pprof`, a run writes `target/criterion/<bench>/profile/flamegraph.svg` for each bench and measures
/// nothing: `--profile-time SECONDS` says how long each goes on, 5 s unless given. Without the feature, such a run only
/// leaves room for a profiler outside the process.
pub fn criterion() -> Criterion {
    #[cfg(feature = "pprof")]
    {
        flamegraph::ask_for_profiles();
        Criterion::default().with_profiler(flamegraph::Profiler::default())
    }
    #[cfg(not(feature = "pprof"))]
    Criterion::default()
}

#[cfg(feature = "pprof")]
mod flamegraph {
    use std::{
        env,
        ffi::OsString,
        fs,
        os::unix::process::CommandExt,
        path::Path,
        process::{self, Command},
    };

    use criterion::profiler;
    use sampler::{GraphFile, Sampler};

    /// How long each bench goes on unless the command line says.
    const PROFILE_SECONDS: &str = "5";
    /// Options of a run that is to be something else, or has its own time.
    const OTHER_RUNS: [&str; 6] = ["--profile-time", "--test", "--list", "--quick", "--help", "-h"];

    /// pprof as criterion's profiler; pprof's own adapter is for criterion 0.5.
    ///
    /// A failure costs the graph and is said on standard error; it never ends a bench.
    #[derive(Default)]
    pub(super) struct Profiler {
        running: Option<Sampler>,
    }

    impl profiler::Profiler for Profiler {
        fn start_profiling(&mut self, benchmark_id: &str, _benchmark_dir: &Path) {
            match Sampler::start() {
                Ok(sampler) => self.running = Some(sampler),
                Err(why) => complain(&format!("profile of {benchmark_id}: {why}")),
            }
        }

        fn stop_profiling(&mut self, benchmark_id: &str, benchmark_dir: &Path) {
            let Some(sampler) = self.running.take() else { return };
            if let Err(why) = write(&sampler, benchmark_id, benchmark_dir) {
                complain(&format!("profile of {benchmark_id}: {why}"));
            }
        }
    }

    fn write(sampler: &Sampler, title: &str, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
        fs::create_dir_all(folder)?;
        let file = GraphFile::at(folder.join("flamegraph.svg"))?;
        file.write(&sampler.flamegraph(title)?)?;
        complain(&format!("profile of {title}: {}", file.path().display()));
        Ok(())
    }

    /// Starts this bench program over with `--profile-time`, where cargo called it without one: criterion profiles when
    /// its command line says so, and at no other time.
    pub(super) fn ask_for_profiles() {
        let arguments: Vec<OsString> = env::args_os().skip(1).collect();
        if !wants_profiles(&arguments) {
            return;
        }
        complain(&format!(
            "a flamegraph of {PROFILE_SECONDS} s for each bench, and no figures (feature pprof)"
        ));
        let program = env::current_exe().map(|program| {
            Command::new(program).args(&arguments).args(["--profile-time", PROFILE_SECONDS]).exec()
        });
        // Where exec returns, it failed.
        let (Ok(why) | Err(why)) = program;
        complain(&format!("this bench cannot start over with --profile-time: {why}"));
        process::exit(1);
    }

    /// Whether these are the arguments of a plain `cargo bench`.
    fn wants_profiles(arguments: &[OsString]) -> bool {
        let is_other = |argument: &OsString| {
            let text = argument.to_string_lossy();
            OTHER_RUNS.contains(&text.split('=').next().unwrap_or_default())
        };
        arguments.iter().any(|argument| argument == "--bench") && !arguments.iter().any(is_other)
    }

    #[allow(clippy::print_stderr, reason = "a bench talks to the person who runs it")]
    fn complain(line: &str) {
        eprintln!("{line}");
    }

    #[cfg(test)]
    mod tests {
        use std::hint::black_box;
        use std::time::Duration;

        use criterion::profiler::Profiler as _;

        use super::*;

        #[test]
        fn a_bench_run_for_a_profile_leaves_a_flamegraph_with_samples() {
            let folder = env::temp_dir().join(format!("wormhole-profiles-{}", process::id()));
            let mut criterion =
                crate::criterion().output_directory(&folder).profile_time(Some(Duration::from_secs(1)));
            criterion.bench_function("sum", |bench| bench.iter(|| (0..black_box(10_000_u64)).sum::<u64>()));
            let graph = fs::read_to_string(folder.join("sum/profile/flamegraph.svg")).unwrap();
            fs::remove_dir_all(&folder).unwrap();
            assert!(graph.contains("<title>all (") && graph.contains("criterion::"), "{graph:.300}");
        }

        #[test]
        fn stopping_what_never_started_writes_nothing() {
            let folder = env::temp_dir().join(format!("wormhole-profiles-none-{}", process::id()));
            Profiler::default().stop_profiling("idle", &folder);
            assert!(!folder.exists());
        }

        #[test]
        fn a_plain_run_profiles_and_others_are_what_they_are() {
            let wants =
                |line: &str| wants_profiles(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>());
            assert!(wants("--bench") && wants("sequential --bench"));
            assert!(!wants("") && !wants("--bench --test") && !wants("--bench --list"));
            assert!(!wants("--bench --profile-time 10") && !wants("--bench --profile-time=10"));
        }
    }
}
