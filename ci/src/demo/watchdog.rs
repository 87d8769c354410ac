//! Work on a mount that may hang: given up when it makes no progress.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// Twice the deadline a mount gives an operation, so that a mount that answers late is still heard.
const STALL_MAX: Duration = Duration::from_secs(60);

/// Counts what was done, whatever its unit: only that it rises matters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<AtomicU64>);

impl Progress {
    pub(crate) fn add(&self, done: u64) {
        // Relaxed: nothing but the count itself is read by the other thread.
        self.0.fetch_add(done, Ordering::Relaxed);
    }

    fn seen(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Runs `work` on a thread of its own and returns its result.
///
/// Without progress for [`STALL_MAX`] this returns an error and leaves the thread behind in its system call; the
/// caller then kills the mount, which ends the call.
pub(crate) fn watched<T: Send + 'static>(
    what: impl fmt::Display,
    work: impl FnOnce(&Progress) -> Result<T, String> + Send + 'static,
) -> Result<T, Failure> {
    watched_for(STALL_MAX, what, work)
}

fn watched_for<T: Send + 'static>(
    stall_max: Duration,
    what: impl fmt::Display,
    work: impl FnOnce(&Progress) -> Result<T, String> + Send + 'static,
) -> Result<T, Failure> {
    let progress = Progress::default();
    let (done, result) = mpsc::sync_channel(1);
    let counted = progress.clone();
    // The receiver is gone only after a stall, and then nobody wants the result.
    thread::spawn(move || done.send(work(&counted)).ok());
    let mut seen = (progress.seen(), Instant::now());
    loop {
        match result.recv_timeout(stall_max.min(Duration::from_secs(1))) {
            Ok(result) => return result.map_err(Failure::from),
            Err(RecvTimeoutError::Disconnected) => return Err(format!("{what}: the thread panicked").into()),
            Err(RecvTimeoutError::Timeout) if progress.seen() != seen.0 => {
                seen = (progress.seen(), Instant::now())
            }
            Err(RecvTimeoutError::Timeout) if seen.1.elapsed() < stall_max => {}
            Err(RecvTimeoutError::Timeout) => {
                return Err(
                    format!("{what}: nothing moved for {} s; the mount hangs", stall_max.as_secs()).into()
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_of_the_work_comes_back() {
        assert_eq!(
            watched("adding", |progress| {
                progress.add(1);
                Ok(2)
            }),
            Ok(2)
        );
        assert_eq!(watched::<()>("failing", |_| Err("why".into())), Err(Failure::Line("why".into())));
    }

    #[test]
    fn work_that_hangs_is_given_up() {
        let (release, hang) = mpsc::channel::<()>();
        let given_up = watched_for(Duration::from_millis(1), "hanging", move |_| {
            hang.recv().ok();
            Ok(())
        });
        assert!(given_up.unwrap_err().to_string().starts_with("hanging: nothing moved"));
        drop(release);
    }
}
