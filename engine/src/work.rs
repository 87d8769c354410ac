//! Calls that may wait for a disk, on threads of their own and so many at most.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::{
    sync::Semaphore,
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use wire::ErrorCode;

use crate::error::Fault;

/// Threads that may wait for a disk at once: enough to keep an NVMe disk's metadata reads apart, and a hung network
/// file system costs that many stacks and no more.
const THREADS_MAX: usize = 32;

/// The bounded pool of blocking calls.
#[derive(Debug)]
pub(crate) struct Work {
    places: Arc<Semaphore>,
    /// In place of threads: calls run on the caller's, after as long as this disk takes.
    #[cfg(feature = "testing")]
    disk: Option<uring::testing::FaultyDisk>,
}

impl Work {
    pub(crate) fn new() -> Work {
        Work {
            places: Arc::new(Semaphore::new(THREADS_MAX)),
            #[cfg(feature = "testing")]
            disk: None,
        }
    }

    /// Without threads, which a paused clock does not wait for.
    #[cfg(feature = "testing")]
    pub(crate) fn simulated(disk: uring::testing::FaultyDisk) -> Work {
        Work { disk: Some(disk), ..Work::new() }
    }

    /// The disk that stands in for threads.
    #[cfg(feature = "testing")]
    pub(crate) fn simulated_disk(&self) -> Option<&uring::testing::FaultyDisk> {
        self.disk.as_ref()
    }

    /// Runs `call` on a thread that may block, and waits for it until `deadline`.
    ///
    /// Past the deadline, or when this future is dropped, the call goes on by itself and keeps its place until its end:
    /// a system call cannot be taken back.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        deadline: Instant,
        call: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let waiting = timeout_at(deadline, Arc::clone(&self.places).acquire_owned());
        let place = waiting
            .await
            .map_err(|_| Fault::late("free disk thread"))?
            .map_err(|_| Fault::new(ErrorCode::Stopping))?;
        let running = self.start(move || {
            let result = call();
            drop(place);
            result
        });
        match timeout_at(deadline, running).await {
            Ok(Ok(result)) => result,
            Ok(Err(join)) if join.is_panic() => std::panic::resume_unwind(join.into_panic()),
            Ok(Err(_)) => Err(Fault::new(ErrorCode::Stopping)),
            Err(_) => Err(Fault::late("answer of the disk")),
        }
    }

    fn start<T: Send + 'static>(&self, call: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        #[cfg(feature = "testing")]
        if let Some(disk) = self.disk.clone() {
            return tokio::spawn(async move {
                disk.pause().await;
                call()
            });
        }
        tokio::task::spawn_blocking(call)
    }

    /// Takes no further calls.
    pub(crate) fn close(&self) {
        self.places.close();
    }
}

/// Whoever waits for a long call; when it drops, the call ends with the step under way.
pub(crate) struct Asker(Arc<AtomicBool>);

/// How long to go on with a call of many steps.
pub(crate) struct Patience {
    deadline: Instant,
    gone: Arc<AtomicBool>,
}

impl Asker {
    pub(crate) fn new(deadline: Instant) -> (Asker, Patience) {
        let gone = Arc::new(AtomicBool::new(false));
        (Asker(gone.clone()), Patience { deadline, gone })
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

impl Patience {
    pub(crate) fn is_over(&self) -> bool {
        self.gone.load(Relaxed) || Instant::now() >= self.deadline
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, time::Duration};

    use super::*;

    #[tokio::test]
    async fn more_calls_than_threads_wait_until_their_deadline() {
        let work = Arc::new(Work::new());
        let gate = Arc::new(Barrier::new(THREADS_MAX + 1));
        let far = Instant::now() + Duration::from_secs(60); // clock: a bound of a real wait
        let mut running = Vec::new();
        for _ in 0..THREADS_MAX {
            let (work, gate) = (Arc::clone(&work), Arc::clone(&gate));
            running
                .push(tokio::spawn(async move { work.run(far, move || Ok(gate.wait().is_leader())).await }));
        }
        while work.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let soon = Instant::now() + Duration::from_millis(10); // clock: the deadline under test
        let late = work.run(soon, || Ok(())).await.unwrap_err();
        assert_eq!(late.code, ErrorCode::Busy);
        // All of them wait here, so this returns at once and lets them go.
        gate.wait();
        for call in running {
            assert!(call.await.unwrap().is_ok());
        }
        work.close();
        assert_eq!(work.run(far, || Ok(())).await.unwrap_err().code, ErrorCode::Stopping);
    }
}
