//! Warming: every extent that the disk does not hold is brought, a bounded number at a time; then what is there is counted.

use std::collections::{HashMap, VecDeque};

use engine::cache::{ContentKey, L2};
use tokio::{task::JoinSet, time::Instant};
use wire::{CHUNK_BYTES, Extent, limits::READ_BYTES_MAX};

use super::{Keeper, NO_BIRTH, Tell, out_of_reach, problem, words};
use crate::{
    control::message::{Done, Event, Progress},
    error::VfsError,
    read::Warming,
    vfs::walk::{Step, Walk, Walked},
};

/// Extents on their way at once: 1 Gbit/s over 100 ms is 12 MB. At most an eighth of the memory.
const IN_FLIGHT_MAX: usize = 16;
/// Files after which the disk is asked to write what it has, so that their errors can be told by name.
const LOT_FILES: usize = 512;
/// Files whose presence is looked at again at the end: 24 bytes each.
const KEPT_FILES_MAX: usize = 4 << 20;

/// A file of the lot at hand.
struct Entry {
    path: Vec<u8>,
    key: ContentKey,
    bytes: u64,
    error: Option<String>,
}

struct Warm<'a> {
    keeper: &'a Keeper,
    disk: &'a L2,
    tell: &'a Tell,
    lot: Vec<Entry>,
    flights: JoinSet<Landed>,
    /// What is there, as far as the lots went.
    kept: VecDeque<(ContentKey, u64)>,
    progress: Progress,
    done: Done,
}

/// An extent of a file of the lot, brought or not.
struct Landed {
    index: usize,
    len: u64,
    outcome: Result<u64, VfsError>,
}

/// Warms what `paths` name. Runs on the lane; a dropped future ends it.
pub(super) async fn warm(
    keeper: &Keeper,
    disk: &L2,
    paths: Vec<Vec<u8>>,
    tell: &Tell,
) -> Result<Done, String> {
    let mut warm = Warm {
        keeper,
        disk,
        tell,
        lot: Vec::new(),
        flights: JoinSet::new(),
        kept: VecDeque::new(),
        progress: Progress::default(),
        done: Done::default(),
    };
    for path in paths {
        let mut walk = Walk::new(&keeper.vfs, &path, keeper.deadline);
        while let Some(step) = walk.next().await.map_err(|error| out_of_reach(&error))? {
            match step {
                Step::File(walked) => warm.file(walked).await?,
                Step::Problem { path, error } => warm.missing(path, words(&error)).await,
            }
        }
    }
    warm.settle().await?;
    warm.count().await;
    Ok(warm.done)
}

impl Warm<'_> {
    async fn file(&mut self, mut walked: Walked) -> Result<(), String> {
        if walked.file.id.birth == 0 {
            self.missing(walked.path, NO_BIRTH.to_owned()).await;
            return Ok(());
        }
        if let Err(error) = self.keeper.settled(&mut walked).await {
            self.missing(walked.path, of_file(&error)?).await;
            return Ok(());
        }
        let bytes = walked.file.version.size.0;
        let Some(file) = self.keeper.vfs.reads().warming(&walked.file, walked.target) else {
            let changing = "it is being written on the host: warm it again when that is done";
            self.missing(walked.path, changing.to_owned()).await;
            return Ok(());
        };
        if self.lot.len() >= LOT_FILES {
            self.settle().await?;
        }
        let index = self.lot.len();
        self.lot.push(Entry { path: walked.path, key: file.key(), bytes, error: None });
        self.progress.items += 1;
        self.progress.bytes_total += bytes;
        for block in Extent::new(0, bytes).blocks(READ_BYTES_MAX) {
            let extent = Extent::new(block * READ_BYTES_MAX, READ_BYTES_MAX).clip(walked.file.version.size);
            while self.flights.len() >= self.in_flight_max() {
                self.land().await?;
            }
            if self.lot[index].error.is_some() {
                break;
            }
            self.bring(index, file.clone(), extent);
        }
        Ok(())
    }

    fn in_flight_max(&self) -> usize {
        let extent = usize::try_from(READ_BYTES_MAX).unwrap_or(usize::MAX);
        (self.keeper.memory_bytes / 8 / extent).clamp(1, IN_FLIGHT_MAX)
    }

    fn bring(&mut self, index: usize, file: Warming, extent: Extent) {
        let reads = self.keeper.vfs.reads().clone();
        let deadline = Instant::now() + self.keeper.deadline;
        self.flights.spawn(async move {
            let outcome = reads.warm(&file, extent, deadline).await;
            Landed { index, len: extent.len.0, outcome }
        });
    }

    /// Waits for one extent.
    async fn land(&mut self) -> Result<(), String> {
        let Some(landed) = self.flights.join_next().await else { return Ok(()) };
        let Ok(Landed { index, len, outcome }) = landed else {
            return Err("the mount ends".to_owned());
        };
        match outcome {
            Ok(fetched) => self.done.fetched_bytes += fetched,
            Err(error) => {
                let reason = of_file(&error)?;
                self.lot[index].error.get_or_insert(reason);
            }
        }
        self.progress.bytes += len;
        // There will be more where there is no room for this.
        let _ = self.tell.try_send(Event::Progress(self.progress));
        Ok(())
    }

    /// Waits for the lot at hand, has it written, and tells what is not there.
    async fn settle(&mut self) -> Result<(), String> {
        while !self.flights.is_empty() {
            self.land().await?;
        }
        let flushed = self.disk.flush(self.keeper.deadline).await;
        let failed = flushed.err().map(|error| error.to_string()).or_else(|| self.disk.stats().degraded);
        for entry in std::mem::take(&mut self.lot) {
            if self.disk.covered(entry.key, Extent::new(0, entry.bytes)) == entry.bytes {
                self.done.files += 1;
                self.done.bytes += entry.bytes;
                self.done.chunks += entry.bytes.div_ceil(CHUNK_BYTES);
                self.kept.push_back((entry.key, entry.bytes));
                if self.kept.len() > KEPT_FILES_MAX {
                    self.kept.pop_front();
                }
                continue;
            }
            let reason = entry.error.or_else(|| failed.clone()).unwrap_or_else(|| {
                "the cache has no room for it: raise --cache-size, or unpin something".to_owned()
            });
            self.missing(entry.path, reason).await;
        }
        Ok(())
    }

    /// Takes back what had to make room for what was warmed later.
    async fn count(&mut self) {
        let mut gone: HashMap<ContentKey, u64> = HashMap::new();
        for &(key, bytes) in &self.kept {
            if self.disk.covered(key, Extent::new(0, bytes)) != bytes {
                *gone.entry(key).or_default() += 1;
                self.done.files -= 1;
                self.done.bytes -= bytes;
                self.done.chunks -= bytes.div_ceil(CHUNK_BYTES);
            }
        }
        let files: u64 = gone.values().sum();
        if files > 0 {
            let reason =
                format!("{files} files had to make room again for others: warm less, or raise --cache-size");
            problem(self.tell, Vec::new(), reason).await;
            self.done.missing += files;
        }
    }

    async fn missing(&mut self, path: Vec<u8>, reason: String) {
        self.done.missing += 1;
        problem(self.tell, path, reason).await;
    }
}

/// Why one file is not to be had; the error is for want of a host.
fn of_file(error: &VfsError) -> Result<String, String> {
    match error {
        VfsError::Lost { .. } | VfsError::Closed => Err(out_of_reach(error)),
        VfsError::Stale => Ok("it changed on the host meanwhile: warm it again".to_owned()),
        other => Ok(other.to_string()),
    }
}
