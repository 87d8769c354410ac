//! What `wormhole cache` has a mount do with its disk cache: warm, pin, verify, clear; and what `wormhole watch` asks for.

mod pin;
mod warm;
mod watch;

use std::time::Duration;

use engine::cache::{L2, l2::VerifyProgress};
use tokio::{
    runtime::Handle,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    control::message::{Done, Event, Problem, Progress, Request},
    error::VfsError,
    vfs::{
        Vfs,
        known::LastKnown,
        walk::{WalkError, Walked},
    },
};

/// How long what earlier mounts left may take to be found, before it is counted.
const LOADED_WITHIN: Duration = Duration::from_secs(300);
const LOADED_LOOK: Duration = Duration::from_millis(20);

/// Does what is asked with the disk cache of one mount.
#[derive(Clone)]
pub struct Keeper {
    vfs: Vfs,
    lane: Handle,
    /// How long the host may take for one thing.
    deadline: Duration,
    /// Bytes of slab: a part of it is for what is on its way to the disk.
    memory_bytes: usize,
}

/// Where events go; what comes when there is no room is left out if it is progress.
type Tell = mpsc::Sender<Event>;

impl Keeper {
    /// For a mount.
    pub fn new(vfs: Vfs, lane: Handle, deadline: Duration, memory_bytes: usize) -> Keeper {
        Keeper { vfs, lane, deadline, memory_bytes }
    }

    /// Does it. A dropped future leaves what was done until then.
    ///
    /// # Errors
    /// Why it cannot go on, in words for people.
    pub async fn run(&self, request: Request, tell: Tell) -> Result<Done, String> {
        let no_cache = "this mount has no disk cache: mount with --cache-dir, and a --cache-size above 0";
        let disk = self.vfs.l2().ok_or(no_cache).cloned();
        match request {
            Request::Watch(path) => {
                let keeper = self.clone();
                self.on_lane(async move { watch::watch(&keeper, &path, &tell).await }).await
            }
            Request::Verify => {
                verify(&disk?, |progress| drop(tell.try_send(Event::Progress(progress)))).await
            }
            Request::Clear => {
                let disk = disk?;
                self.vfs.with_known(LastKnown::clear);
                clear(&disk).await
            }
            Request::Warm(paths) => {
                let disk = disk?;
                loaded(&disk).await?;
                let keeper = self.clone();
                self.on_lane(async move { warm::warm(&keeper, &disk, paths, &tell).await }).await
            }
            Request::Pin(paths) => {
                let disk = disk?;
                let keeper = self.clone();
                self.on_lane(async move { pin::pin(&keeper, &disk, paths, &tell).await }).await
            }
            Request::Unpin(paths) => {
                let disk = disk?;
                let keeper = self.clone();
                self.on_lane(async move { pin::unpin(&keeper, &disk, paths, &tell).await }).await
            }
        }
    }

    /// Runs where the session is; ends it when dropped.
    async fn on_lane(
        &self,
        task: impl Future<Output = Result<Done, String>> + Send + 'static,
    ) -> Result<Done, String> {
        let mut tasks = JoinSet::new();
        tasks.spawn_on(task, &self.lane);
        match tasks.join_next().await {
            Some(Ok(outcome)) => outcome,
            _ => Err("the mount ends".to_owned()),
        }
    }

    /// The file once its version tells every change: one that changed a moment ago is looked at again.
    async fn settled(&self, walked: &mut Walked) -> Result<(), VfsError> {
        /// Together a little over the two clock ticks of the coarsest file systems, which are 2 s.
        const PAUSES_MS: [u64; 6] = [20, 50, 100, 400, 900, 1200];
        for pause in PAUSES_MS {
            if walked.file.settled {
                break;
            }
            sleep(Duration::from_millis(pause)).await;
            self.vfs.walked_again(walked, Instant::now() + self.deadline).await?;
        }
        Ok(())
    }
}

/// Why nothing of a file is kept.
const NO_BIRTH: &str =
    "its file system on the host tells no birth times: what is kept of it could be another file's some day";

/// Reads and checks all of a disk cache, and drops what is bad.
///
/// # Errors
/// When what earlier mounts left is not found in time.
pub async fn verify(disk: &L2, told: impl Fn(Progress)) -> Result<Done, String> {
    loaded(disk).await?;
    let bytes_total = disk.stats().bytes;
    let progress = |at: VerifyProgress| {
        told(Progress { items: at.records, bytes: at.bytes, bytes_total });
    };
    let found = disk.verify_all(progress).await;
    Ok(Done {
        chunks: found.good,
        bytes: found.good_bytes,
        bad: found.bad,
        unread: found.unread,
        ..Done::default()
    })
}

/// Drops all of a disk cache.
///
/// # Errors
/// When the store is closed, or late.
pub async fn clear(disk: &L2) -> Result<Done, String> {
    loaded(disk).await?;
    let before = disk.stats();
    disk.clear().await.map_err(|error| error.to_string())?;
    Ok(Done { chunks: before.records, bytes: before.bytes, ..Done::default() })
}

/// Waits until all that earlier processes left is found.
///
/// # Errors
/// When that takes too long.
pub async fn loaded(disk: &L2) -> Result<(), String> {
    let until = Instant::now() + LOADED_WITHIN;
    while disk.stats().is_loading {
        if Instant::now() >= until {
            return Err("the cache is still being read: try again later".to_owned());
        }
        sleep(LOADED_LOOK).await;
    }
    Ok(())
}

async fn problem(tell: &Tell, path: Vec<u8>, reason: String) {
    // Nobody listens any more when the client went away; then this is dropped at its next wait.
    let _ = tell.send(Event::Problem(Problem { path, reason })).await;
}

fn words(error: &WalkError) -> String {
    match error {
        WalkError::Vfs(VfsError::NoSuchName) => "the host has no such file".to_owned(),
        other => other.to_string(),
    }
}

fn out_of_reach(error: &VfsError) -> String {
    format!("the host is out of reach ({error}): try again once `wormhole status` shows it connected")
}
