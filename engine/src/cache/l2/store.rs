//! The store's thread: it hashes and writes what is offered, makes room, and keeps the directory's rules.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use wire::chunk::ContentHash;

use super::dir::{Dir, Growth, Limits};
use super::error::L2Error;
use super::format::CHUNK;
use super::region::{Phase, Region};
use super::shared::Shared;
use super::write::{Chunk, Written};
use crate::cache::key::{ContentKey, FileKey};

/// Writes under way at most: enough for a disk, and few enough that eviction need not wait long for them.
pub(super) const WRITES_MAX: usize = 8;
/// Offers of one write at most, of small files.
const OFFERS_MAX: usize = 256;
/// How often the directory is looked at: others get room, and partly filled index pages are written, within this time.
const TICK: Duration = Duration::from_millis(400);
/// Ticks from one look for regions without an owner to the next: 4 s.
const ORPHANS_TICKS: u32 = 10;
/// How long offers are dropped unseen where there was no room for one.
const NO_ROOM_FOR: Duration = Duration::from_millis(50);
/// How long others go first after one of them asked for room.
const YIELD_FOR: Duration = Duration::from_secs(2);

/// What the handle asks for.
pub(super) enum Command {
    /// Answers once everything offered before is on the disk, its index too.
    Flush(oneshot::Sender<()>),
    /// Drops everything.
    Clear(oneshot::Sender<()>),
    /// Chunks of the first contents are of the second ones too, byte for byte.
    Rekey {
        old: ContentKey,
        new: ContentKey,
        chunks: Vec<u32>,
        reply: oneshot::Sender<u64>,
    },
    Pin {
        files: Vec<FileKey>,
        is_pinned: bool,
        reply: oneshot::Sender<Result<(), L2Error>>,
    },
    Close(oneshot::Sender<()>),
}

pub(super) struct Store {
    pub(super) shared: Arc<Shared>,
    pub(super) dir: Dir,
    pub(super) limits: Limits,
    /// Size of a new region.
    pub(super) region_bytes: u64,
    pub(super) writes: JoinSet<Written>,
    /// Indexes that are being read.
    pub(super) loads: JoinSet<()>,
    ticks: u32,
    pub(super) allow_direct: bool,
    wanted_until: Option<Instant>,
    no_room_until: Option<Instant>,
    pins_seen: Option<SystemTime>,
}

impl Store {
    pub(super) fn new(shared: Arc<Shared>, dir: Dir, limits: Limits, region_bytes: u64) -> Store {
        let allow_direct = dir.is_direct();
        Store {
            shared,
            dir,
            limits,
            region_bytes,
            writes: JoinSet::new(),
            loads: JoinSet::new(),
            ticks: 0,
            allow_direct,
            wanted_until: None,
            no_room_until: None,
            pins_seen: None,
        }
    }

    /// Serves until it is closed or the last handle is gone.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        self.load().await;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let closing = loop {
            let (is_writing, has_room) = (!self.writes.is_empty(), self.writes.len() < WRITES_MAX);
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(Command::Close(reply)) => break Some(reply),
                    Some(command) => self.obey(command).await,
                    None => break None,
                },
                Some(written) = self.writes.join_next(), if is_writing => self.written(written).await,
                _ = tick.tick() => self.look_around().await,
                () = self.shared.queue.wait(), if has_room => self.write_some().await,
            }
        };
        self.loads.shutdown().await;
        self.drain().await;
        self.shared.queue.close();
        self.forget_everything();
        if let Some(reply) = closing {
            // Who waited has left at his deadline.
            let _ = reply.send(());
        }
    }

    async fn obey(&mut self, command: Command) {
        // Whoever asked may have left; what was asked for is done all the same.
        match command {
            Command::Flush(reply) => {
                self.drain().await;
                let _ = reply.send(());
            }
            Command::Clear(reply) => {
                self.clear().await;
                let _ = reply.send(());
            }
            Command::Rekey { old, new, chunks, reply } => {
                let moved = self.rekey(old, new, &chunks).await;
                let _ = reply.send(moved);
            }
            Command::Pin { files, is_pinned, reply } => {
                let _ = reply.send(self.pin(&files, is_pinned));
            }
            Command::Close(reply) => drop(reply),
        }
    }

    /// Writes all that was offered, then the index.
    async fn drain(&mut self) {
        while !self.shared.queue.is_empty() {
            self.write_some().await;
        }
        self.settle_writes().await;
        self.flush_pages(false).await;
    }

    /// Waits for the writes under way, each of which has a deadline.
    pub(super) async fn settle_writes(&mut self) {
        while let Some(written) = self.writes.join_next().await {
            self.written(written).await;
        }
    }

    /// Hashes and places the next offers.
    async fn write_some(&mut self) {
        let offers = self.shared.queue.take(super::write::WRITE_BYTES_MAX, OFFERS_MAX);
        let mut chunks = Vec::new();
        for offer in offers {
            let parts = offer.bytes.len().div_ceil(CHUNK);
            for (i, number) in (0..parts).zip(offer.first..) {
                let range = i * CHUNK..((i + 1) * CHUNK).min(offer.bytes.len());
                let hash = ContentHash::of(&offer.bytes[range.clone()]);
                chunks.push(Chunk {
                    content: offer.content,
                    number,
                    whole: offer.bytes.clone(),
                    range,
                    hash,
                });
            }
        }
        self.write_chunks(chunks).await;
    }

    async fn write_chunks(&mut self, mut chunks: Vec<Chunk>) {
        while !chunks.is_empty() {
            if self.shared.health.no_writes() {
                break;
            }
            chunks = self.place(chunks);
            if !chunks.is_empty() && !self.make_room().await {
                break;
            }
        }
        self.shared.counters.dropped.add(chunks.len() as u64);
    }

    /// Begins another region, unless that failed a moment ago: it takes a look at everything each time.
    async fn make_room(&mut self) -> bool {
        if self.no_room_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        let is_made = self.next_active().await;
        let is_over = !is_made && self.shared.state.lock().loading == 0;
        self.no_room_until = is_over.then(|| Instant::now() + NO_ROOM_FOR);
        self.shared.health.found_room(!is_over);
        is_made
    }

    /// Regular business: what others need, what the disk has left, what waits to be written.
    async fn look_around(&mut self) {
        if self.shared.health.no_writes() {
            if self.shared.health.may_retry() {
                self.retry().await;
            }
            return;
        }
        if self.dir.is_gone() {
            self.forget_everything();
            self.shared.health.all_failed("its directory", &"deleted");
            return;
        }
        self.flush_pages(false).await;
        if self.dir.pins_changed(&mut self.pins_seen)
            && let Ok(pins) = self.dir.pins()
        {
            self.shared.state.lock().pins = pins;
        }
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks % ORPHANS_TICKS == 1
            && let Err(error) = self.adopt_orphans()
        {
            self.shared.health.write_failed("taking regions over", &crate::error::one_line(&error));
        }
        if let Err(error) = self.make_way().await {
            self.shared.health.write_failed("making room for others", &error);
        }
    }

    /// Gives the oldest region up where another process has less than its share, or the file system too little left.
    async fn make_way(&mut self) -> std::io::Result<()> {
        if self.dir.is_wanted()? {
            self.wanted_until = Some(Instant::now() + YIELD_FOR);
            if self.owned_bytes() > self.share_bytes()? {
                self.give_up_oldest().await;
            }
        }
        if self.dir.free_bytes()? < self.limits.free_floor_bytes {
            self.give_up_oldest().await;
        }
        Ok(())
    }

    fn pin(&mut self, files: &[FileKey], is_pinned: bool) -> Result<(), L2Error> {
        let failed = |source| L2Error::Dir { path: self.dir.path().to_owned(), source };
        if !self.dir.pin(files, is_pinned).map_err(failed)? {
            return Err(L2Error::Pins { most: super::dir::PINS_MAX });
        }
        let pins = self.dir.pins().map_err(failed)?;
        self.shared.state.lock().pins = pins;
        Ok(())
    }

    /// Tries a disk again that failed.
    async fn retry(&mut self) {
        if self.dir.is_gone() {
            let path = self.dir.path().to_owned();
            match Dir::open(&path, &self.shared.scratch, self.allow_direct) {
                Ok(dir) => {
                    self.forget_everything();
                    self.shared.state.lock().is_direct = dir.is_direct();
                    self.dir = dir;
                }
                Err(error) => {
                    return self
                        .shared
                        .health
                        .all_failed("opening it again", &crate::error::one_line(&error));
                }
            }
        }
        // The next read or write tells.
        self.shared.health.turn_on();
    }

    fn forget_everything(&mut self) {
        let mut state = self.shared.state.lock();
        *state = super::shared::State::empty(state.is_direct, std::mem::take(&mut state.pins));
    }

    pub(super) fn owned_bytes(&self) -> u64 {
        self.shared.state.lock().regions.iter().map(|(_, region)| region.bytes()).sum()
    }

    /// What this process may have while others want room too.
    fn share_bytes(&self) -> std::io::Result<u64> {
        Ok(self.limits.regions_bytes / self.dir.live()?)
    }

    /// A fresh region, if there may be one more.
    pub(super) fn grow(&mut self) -> Option<u16> {
        match self.try_grow() {
            Ok(region) => {
                let mut state = self.shared.state.lock();
                state.regions.add(Region::new(region?, Phase::Spare))
            }
            Err(error) => {
                self.shared.health.write_failed("making a region", &error);
                None
            }
        }
    }

    fn try_grow(&mut self) -> std::io::Result<Option<super::dir::RegionFile>> {
        let more = self.owned_bytes() + self.region_bytes;
        let others_first = self.wanted_until.is_some_and(|until| Instant::now() < until);
        if others_first && more > self.share_bytes()? {
            return Ok(None);
        }
        match self.dir.grow(self.region_bytes, self.limits)? {
            Growth::Region(region) => Ok(Some(region)),
            Growth::Floor => Ok(None),
            Growth::Full => {
                if more <= self.share_bytes()? {
                    self.dir.want()?;
                }
                Ok(None)
            }
        }
    }

    /// Waits for an operation of the disk, at most as long as one may take.
    pub(super) async fn write_at(
        &self,
        file: Arc<std::fs::File>,
        parts: Vec<Bytes>,
        offset: u64,
    ) -> Result<(), String> {
        super::write::write_all(&self.shared.ring, file, parts, offset).await
    }

    async fn clear(&mut self) {
        self.shared.queue.take(usize::MAX, usize::MAX);
        self.settle_writes().await;
        let numbers: Vec<_> =
            self.shared.state.lock().regions.iter().map(|(_, region)| region.number).collect();
        self.forget_everything();
        for number in numbers {
            if let Err(error) = self.dir.delete(number) {
                self.shared.health.write_failed("deleting a region", &error);
            }
        }
    }
}

/// Answers within a deadline, for the handle.
pub(super) async fn answered<T>(
    commands: &mpsc::Sender<Command>,
    deadline: Duration,
    command: impl FnOnce(oneshot::Sender<T>) -> Command,
) -> Result<T, L2Error> {
    let (reply, answer) = oneshot::channel();
    let asked = async {
        commands.send(command(reply)).await.map_err(|_| L2Error::Closed)?;
        answer.await.map_err(|_| L2Error::Closed)
    };
    timeout(deadline, asked).await.map_err(|_| L2Error::Deadline { deadline })?
}
