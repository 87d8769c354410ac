//! `--profile-cpu FILE`: where this process spends its CPU time, as a flamegraph, at exit and on SIGUSR1.

use std::{
    path::{self, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use nix::sys::resource::{UsageWho, getrusage};
use parking_lot::Mutex;
use sampler::{GraphFile, Sampler};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
    time::interval,
};

use super::failure::one_line;

/// CPU time that a profile holds: some 150,000 samples with the usual 250 a second, whose stacks are a few MB, and
/// 160 MB of temporary file if no two were the same.
const CPU_TIME_MAX: Duration = Duration::from_secs(600);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The profile of this process, or none.
#[derive(Clone, Debug)]
pub struct Profile {
    taken: Option<Arc<Taken>>,
}

#[derive(Debug)]
struct Taken {
    /// Until the profile is complete.
    sampler: Mutex<Option<Sampler>>,
    file: GraphFile,
    title: &'static str,
    /// CPU time of this process when it began.
    began: Duration,
}

impl Profile {
    /// Begins to sample, for a picture of this name in the file `path`; does nothing where no file is named. Call it once
    /// a process, before its first thread.
    ///
    /// # Errors
    /// When the file could not be written later, or this program has no profiler in it.
    pub fn start(path: Option<PathBuf>, title: &'static str) -> anyhow::Result<Profile> {
        let Some(path) = path else { return Ok(Profile { taken: None }) };
        // A daemon leaves the folder it was started in.
        let file = GraphFile::at(path::absolute(&path).unwrap_or(path)).context("--profile-cpu")?;
        let sampler = Mutex::new(Some(Sampler::start().context("--profile-cpu")?));
        Ok(Profile { taken: Some(Arc::new(Taken { sampler, file, title, began: cpu_time() })) })
    }

    /// Writes the file at each SIGUSR1, and when the profile is complete: after 600 s of processor time, sampling ends. Without
    /// a profile, SIGUSR1 is a line in the log, and not the end of the process. Spawn it on a runtime with signals and
    /// time; it ends with that.
    pub async fn serve(self) {
        let mut asked = match signal(SignalKind::user_defined1()) {
            Ok(asked) => asked,
            Err(error) => return tracing::warn!(%error, "SIGUSR1 cannot be taken"),
        };
        let mut look = interval(LOOK_EVERY);
        loop {
            let end = tokio::select! {
                _ = asked.recv() => End::Later,
                // Without a profile there is nothing to wake for.
                _ = look.tick(), if self.taken.is_some() => match &self.taken {
                    Some(taken) if taken.is_complete() => End::Now,
                    _ => continue,
                },
            };
            match self.taken.clone() {
                // It reads symbols for a second or two.
                Some(taken) => drop(spawn_blocking(move || taken.write(end)).await),
                None => tracing::warn!("SIGUSR1: no profile is taken; start with --profile-cpu FILE for one"),
            }
        }
    }

    /// Writes the file for the last time; waits for a disk that is slow. What goes wrong is logged.
    pub fn finish(&self) {
        if let Some(taken) = &self.taken {
            taken.write(End::Now);
        }
    }
}

/// Whether sampling goes on after a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Now,
    Later,
}

impl Taken {
    fn is_complete(&self) -> bool {
        self.sampler.lock().is_some() && cpu_time().saturating_sub(self.began) > CPU_TIME_MAX
    }

    fn write(&self, end: End) {
        let mut held = self.sampler.lock();
        // None: complete, and written then.
        let Some(sampler) = held.as_ref() else { return };
        match sampler.flamegraph(self.title).and_then(|picture| self.file.write(&picture)) {
            Ok(()) => tracing::info!(file = %self.file.path().display(), "profile written"),
            Err(error) => tracing::warn!("{}", one_line(&error.into())),
        }
        if end == End::Now {
            *held = None;
        }
    }
}

/// CPU time of this process so far, in user and kernel mode.
fn cpu_time() -> Duration {
    let seconds = |time: nix::sys::time::TimeVal| {
        let micros = u64::try_from(time.tv_usec()).unwrap_or(0);
        Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or(0)) + Duration::from_micros(micros)
    };
    // It fails for no process that asks about itself.
    getrusage(UsageWho::RUSAGE_SELF)
        .map_or(Duration::ZERO, |usage| seconds(usage.user_time()) + seconds(usage.system_time()))
}
