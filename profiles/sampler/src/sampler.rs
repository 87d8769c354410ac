//! Samples of this process's stacks, through pprof.
//!
//! The kernel sends SIGPROF for CPU time used, to the thread that used it. The handler walks the thread's stack by the
//! unwind tables that every program carries, so that no frame pointers are needed and stacks go through libc, the
//! standard library and hand-written assembly.

use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use pprof::{
    ProfilerGuard, ProfilerGuardBuilder,
    flamegraph::{self, Options},
};

use crate::SamplerError;

/// Samples a second of CPU time: prime, so that they fall in step with no timer of the program. The kernel gives one a
/// tick at most, 250 with `CONFIG_HZ=250`.
const SAMPLES_PER_SECOND: i32 = 997;
/// How long the first sample may take; a tick of CPU time is 10 ms at most.
const FIRST_SAMPLE_DEADLINE: Duration = Duration::from_secs(5);
/// Frames of a lower share of all samples, in percent, are not drawn: they would be too narrow to see.
const DRAWN_PERCENT_MIN: f64 = 0.05;

/// The profiler of this process, on until it is dropped; one a process.
///
/// It keeps 18 MB of counters for stacks, and further ones in a temporary file: about 1 KiB for each stack that it has
/// not met before, so that whoever leaves it on bounds the CPU time.
pub struct Sampler {
    guard: ProfilerGuard<'static>,
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sampler").finish_non_exhaustive()
    }
}

impl Sampler {
    /// Begins to sample. The first call in a process uses a tick of CPU time on its own, and is best made before the
    /// process has threads.
    ///
    /// # Errors
    /// [`SamplerError::Start`], [`SamplerError::Silent`].
    pub fn start() -> Result<Sampler, SamplerError> {
        static IS_PREPARED: AtomicBool = AtomicBool::new(false);
        if !IS_PREPARED.load(Ordering::Acquire) {
            prepare()?;
            IS_PREPARED.store(true, Ordering::Release);
        }
        Ok(Sampler { guard: guard(&[])? })
    }

    /// A flamegraph (SVG) of all samples since the start, a tower a thread. Sampling pauses meanwhile, a second or two.
    ///
    /// # Errors
    /// [`SamplerError::Empty`], [`SamplerError::Draw`].
    pub fn flamegraph(&self, title: &str) -> Result<Vec<u8>, SamplerError> {
        let draw = |error: pprof::Error| SamplerError::Draw { why: error.to_string() };
        let report = self.guard.report().build().map_err(draw)?;
        if report.data.is_empty() {
            return Err(SamplerError::Empty);
        }
        let mut options = Options::default();
        title.clone_into(&mut options.title);
        options.colors = flamegraph::Palette::Multi(flamegraph::color::MultiPalette::Rust);
        // A function has the same colour in every picture.
        options.hash = true;
        options.min_width = DRAWN_PERCENT_MIN;
        let mut picture = Vec::new();
        report.flamegraph_with_options(&mut picture, &mut options).map_err(draw)?;
        Ok(picture)
    }
}

/// Takes one sample, and throws it away.
///
/// The handler loads the unwind tables at the first sample, which allocates and asks the loader: it must not interrupt
/// code that holds a lock of either. So that sample is taken here, from a loop that holds none, and until then none is
/// taken inside libc or the loader. Later samples allocate nothing.
fn prepare() -> Result<(), SamplerError> {
    let guard = guard(&["libc", "ld-linux", "ld64", "libpthread", "vdso"])?;
    let began = Instant::now();
    while began.elapsed() < FIRST_SAMPLE_DEADLINE {
        let sum = (0..black_box(1_000_000_u64)).fold(0, |sum, next| sum ^ black_box(next));
        black_box(sum);
        let report = guard.report().build_unresolved();
        if !report.map_err(|error| SamplerError::Start { why: error.to_string() })?.data.is_empty() {
            return Ok(());
        }
    }
    Err(SamplerError::Silent)
}

fn guard(without: &[&str]) -> Result<ProfilerGuard<'static>, SamplerError> {
    let builder = ProfilerGuardBuilder::default().frequency(SAMPLES_PER_SECOND).blocklist(without);
    builder.build().map_err(|error| SamplerError::Start { why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn burn_cpu_time(wanted: Duration) {
        let began = Instant::now(); // clock: samples are of CPU time that was really used
        while began.elapsed() < wanted {
            black_box((0..black_box(10_000_u64)).fold(0, |sum, next| sum ^ black_box(next)));
        }
    }

    #[test]
    fn the_picture_names_who_used_the_cpu() {
        let sampler = Sampler::start().unwrap();
        let busy = std::thread::Builder::new().name("busy".to_owned());
        busy.spawn(|| burn_cpu_time(Duration::from_millis(300))).unwrap().join().unwrap();
        let picture = String::from_utf8(sampler.flamegraph("a test").unwrap()).unwrap();
        assert!(picture.starts_with("<?xml") && picture.contains("<svg"), "{picture:.200}");
        assert!(picture.contains("a test") && picture.contains("burn_cpu_time"), "no frame of ours");
        // From the thread's tower up to the frame, every caller is there.
        assert!(picture.contains("<title>busy (") && picture.contains("thread_start"), "stacks end early");
        assert!(matches!(Sampler::start(), Err(SamplerError::Start { .. })), "one a process");
        drop(sampler);
        assert!(Sampler::start().is_ok(), "and another one later");
    }
}
