//! Lanes: threads that run QUIC and nothing that blocks.

use std::{io, sync::mpsc, thread, time::Duration};

use parking_lot::Mutex;
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// How long a stopped lane waits for blocking helpers (name look-ups) before it leaves them behind.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// One thread with a tokio runtime of its own, on which an endpoint and its sessions live.
///
/// Current-thread, because a multi-thread runtime moves endpoint, session and stream between cores and answers less
/// than half the small requests. Nothing on a lane may block. Dropping a lane stops it.
#[derive(Debug)]
pub struct Lane {
    handle: Handle,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<()>,
    ended: mpsc::Receiver<()>,
}

impl Lane {
    /// Starts a thread called `name` (the kernel shows its first 15 bytes).
    ///
    /// # Errors
    /// When the kernel gives no thread or no descriptors for the runtime.
    pub fn start(name: &str) -> io::Result<Lane> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let (end, ended) = mpsc::sync_channel(1);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            // An error means that the lane was dropped, which stops it as well.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_timeout(STOP_PATIENCE);
            // Nobody waits when the lane was stopped from one of its own tasks.
            let _ = end.send(());
        })?;
        Ok(Lane { handle, running: Mutex::new(Some(Running { stop, ended })) })
    }

    /// Where tasks of this lane are spawned.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Drops every task and ends the thread; waits for at most two seconds. A second call does nothing.
    pub fn stop(&self) {
        let Some(Running { stop, ended }) = self.running.lock().take() else { return };
        // An error means that the thread is gone already.
        let _ = stop.send(());
        let inside = Handle::try_current().is_ok_and(|current| current.id() == self.handle.id());
        // From one of its own tasks the thread would wait for itself.
        if !inside && ended.recv_timeout(2 * STOP_PATIENCE).is_err() {
            tracing::warn!("a lane did not stop in time: one of its tasks blocks the thread");
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_run_on_the_named_thread() {
        let lane = Lane::start("lane-under-test").unwrap();
        let (send, receive) = mpsc::channel();
        lane.handle().spawn(async move { send.send(thread::current().name().map(str::to_owned)) });
        let name = receive.recv_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!(name.as_deref(), Some("lane-under-test"));
    }

    #[test]
    fn stop_drops_the_tasks_and_may_be_repeated() {
        let lane = Lane::start("lane").unwrap();
        let (held, dropped) = mpsc::channel::<()>();
        lane.handle().spawn(async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        lane.stop();
        lane.stop();
        assert_eq!(dropped.recv_timeout(Duration::from_secs(5)), Err(mpsc::RecvTimeoutError::Disconnected));
    }
}
