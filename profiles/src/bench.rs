//! Criterion as every bench of the workspace starts it, with a flamegraph a bench where the feature `pprof` is on.

use criterion::Criterion;

/// A [`Criterion`] for `config = profiles::criterion()` in `criterion_group!`, or to call directly.
///
/// With the feature `pprof`, a run with `--profile-time SECONDS` writes
/// `target/criterion/<bench>/profile/flamegraph.svg`; without it, such a run only leaves room for a profiler outside
/// the process. A plain run measures the same either way: the sampler is on during `--profile-time` alone.
pub fn criterion() -> Criterion {
    #[cfg(feature = "pprof")]
    return Criterion::default().with_profiler(flamegraph::Sampler::default());
    #[cfg(not(feature = "pprof"))]
    Criterion::default()
}

#[cfg(feature = "pprof")]
mod flamegraph {
    use std::fs::{self, File};
    use std::path::Path;

    use criterion::profiler::Profiler;
    use pprof::{ProfilerGuard, ProfilerGuardBuilder};

    /// Samples a second, of each thread that runs: prime, so that it falls in step with no timer of the program.
    const SAMPLES_PER_SECOND: i32 = 997;

    /// pprof as criterion's profiler; pprof's own adapter is for criterion 0.5.
    ///
    /// A failure costs the graph and is said on standard error; it never ends a bench.
    #[derive(Default)]
    pub(super) struct Sampler {
        running: Option<ProfilerGuard<'static>>,
    }

    impl Profiler for Sampler {
        fn start_profiling(&mut self, benchmark_id: &str, _benchmark_dir: &Path) {
            // The walk of the stack is not safe inside these: they hold locks or keep no frame pointer.
            let blocked = ["libc", "libgcc", "pthread", "vdso"];
            match ProfilerGuardBuilder::default().frequency(SAMPLES_PER_SECOND).blocklist(&blocked).build() {
                Ok(guard) => self.running = Some(guard),
                Err(why) => complain(benchmark_id, "no samples", &why),
            }
        }

        fn stop_profiling(&mut self, benchmark_id: &str, benchmark_dir: &Path) {
            let Some(guard) = self.running.take() else { return };
            if let Err(why) = write(&guard, benchmark_dir) {
                complain(benchmark_id, "no flamegraph", why.as_ref());
            }
        }
    }

    fn write(guard: &ProfilerGuard<'_>, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
        let report = guard.report().build()?;
        fs::create_dir_all(folder)?;
        report.flamegraph(File::create(folder.join("flamegraph.svg"))?)?;
        Ok(())
    }

    #[allow(clippy::print_stderr, reason = "a bench talks to the person who runs it")]
    fn complain(benchmark_id: &str, what: &str, why: &dyn std::error::Error) {
        eprintln!("profile of {benchmark_id}: {what}: {why}");
    }

    #[cfg(test)]
    mod tests {
        use std::hint::black_box;
        use std::time::Duration;
        use std::{env, process};

        use super::*;

        #[test]
        fn a_bench_run_for_a_profile_leaves_a_flamegraph_with_samples() {
            let folder = env::temp_dir().join(format!("wormhole-profiles-{}", process::id()));
            let mut criterion =
                crate::criterion().output_directory(&folder).profile_time(Some(Duration::from_secs(1)));
            criterion.bench_function("sum", |bench| bench.iter(|| (0..black_box(10_000_u64)).sum::<u64>()));
            let graph = fs::read_to_string(folder.join("sum/profile/flamegraph.svg")).unwrap();
            fs::remove_dir_all(&folder).unwrap();
            assert!(graph.contains("<title>all ("), "{graph:.300}");
        }

        #[test]
        fn stopping_what_never_started_writes_nothing() {
            let folder = env::temp_dir().join(format!("wormhole-profiles-none-{}", process::id()));
            Sampler::default().stop_profiling("idle", &folder);
            assert!(!folder.exists());
        }
    }
}
