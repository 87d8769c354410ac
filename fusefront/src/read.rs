//! The read path: L1, else a fetch under way, else L2, else the host; and what to fetch ahead.
//!
//! A read is cut into aligned blocks (`plan`). Each is looked for in L1, then among the fetches under way
//! (`flight`), and fetched into a pool slot when it is in neither (`fetch`), from the disk of this machine where it is
//! there (`disk`); small reads of what the disk has go around all of that (`direct`). The same slot then is the L1 entry, what L2 writes and, where one block holds all that was asked for,
//! the FUSE reply: nothing is copied. A reply that straddles blocks is gathered, and counted.

mod ahead;
pub mod content;
mod direct;
mod disk;
mod fetch;
mod files;
mod flight;
mod gather;
mod goodput;
mod plan;
mod revalidate;
pub mod spent;
mod warm;

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use engine::cache::{BlockKey, ContentKey, L1, L2};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit, oneshot},
    time::{Instant, sleep, timeout_at},
};
use transport::{Client, ReadCall};
use uring::SlotClass;
use wire::{ByteLen, Class, Extent, FileId, Name, Version, message::Target};

use crate::{
    error::VfsError,
    readahead::{CursorId, Limits, Readahead, WindowBudget},
    stats::Stats,
};
use content::{Content, LedgerBudget, Named, Served, Standing};
pub use files::FileAhead;
use files::Moved;
pub use flight::ScanId;
use flight::{AheadFor, Flights, Found, Landed, Opened, Outcome, ReaderId};
use goodput::Goodput;
use spent::Spent;
pub use warm::Warming;

/// How soon a read that met a changing file is tried again, at first and at most.
const RETRY_PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// Where an open file is now: its path changes when it is renamed.
pub trait Locate: Send + Sync {
    /// What to name in a request.
    ///
    /// # Errors
    /// When the file has no path any more.
    fn target(&self) -> Result<Target, VfsError>;
}

/// What the read path needs to know of a mount.
pub struct ReadConfig {
    /// The host's public key: part of every cached block's name.
    pub host_key: [u8; 32],
    /// How long a fetch ahead of any reader may take; a demand read brings its own deadline.
    pub ahead_deadline: Duration,
    /// Read-ahead windows.
    pub limits: Limits,
    /// The cache on the disk of this machine, if there is to be one.
    pub l2: Option<L2>,
}

/// The file that contents are of.
#[derive(Clone, Debug)]
pub struct OpenRead {
    /// The share it is in.
    pub share: Name,
    /// Which file.
    pub id: FileId,
    /// Its version at open.
    pub version: Version,
    /// Whether the version tells every change ([`wire::Attr::settled`]). Blocks of one that does not are these
    /// contents' alone.
    pub settled: bool,
}

/// What was handed out of some contents before they are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandedOut {
    /// Nothing that is still in the kernel's page cache.
    Nothing,
    /// Something that no ledger knows of.
    Unknown,
}

/// The read path of one mount; clones are the same one.
#[derive(Clone)]
pub struct ReadPath(Arc<Inner>);

struct Inner {
    client: Client,
    l1: L1,
    lane: Handle,
    config: ReadConfig,
    stats: Arc<Stats>,
    flights: Flights,
    numbers: AtomicU64,
    /// Open files, for looking after their windows.
    readers: Mutex<HashMap<ReaderId, Weak<Reader>>>,
    windows: WindowBudget,
    goodput: Goodput,
    ledgers: Arc<LedgerBudget>,
    moved: Mutex<Moved>,
    /// One permit for each extent of memory: a read takes as many as it may come to hold, so that reads which hold one
    /// block and wait for the next cannot all wait for each other.
    demand: Semaphore,
}

/// One open file; dropping it calls its read-ahead off.
pub struct Reader {
    id: ReaderId,
    content: Arc<Content>,
    locate: Arc<dyn Locate>,
    readahead: Mutex<Readahead>,
    path: Arc<Inner>,
}

/// A read that somebody waits for.
struct Demand<'a> {
    reader: &'a Arc<Reader>,
    version: &'a Version,
    deadline: Instant,
}

/// One piece of a read: a block and the bytes of it that are wanted.
struct Piece {
    key: BlockKey,
    wanted: Extent,
    state: PieceState,
}

enum PieceState {
    Here { bytes: Bytes },
    Coming(oneshot::Receiver<Outcome>),
}

impl ReadPath {
    /// A read path on a session. Fetches run on `lane`, the runtime of `client`.
    pub fn new(client: Client, l1: L1, lane: Handle, config: ReadConfig, stats: Arc<Stats>) -> ReadPath {
        let ledgers = Arc::new(LedgerBudget::new(config.l2.clone()));
        let flights = Flights::default();
        let (numbers, readers) = (AtomicU64::new(0), Mutex::default());
        let windows = WindowBudget::for_memory(l1.capacity_bytes() as u64);
        let demand = Semaphore::new(l1.capacity_bytes() / SlotClass::Extent1M.bytes());
        ReadPath(Arc::new(Inner {
            client,
            l1,
            lane,
            config,
            stats,
            flights,
            numbers,
            readers,
            windows,
            goodput: Goodput::default(),
            ledgers,
            moved: Mutex::default(),
            demand,
        }))
    }

    /// The contents of a file at a version, to be opened by any number of readers; asks nobody.
    pub fn content(&self, file: &OpenRead, handed_out: HandedOut) -> Arc<Content> {
        let (named, key) = self.0.name(file);
        Arc::new(Content::new(named, key, (file.version, file.settled), handed_out, self.0.ledgers.clone()))
    }

    /// Lets contents of an unsettled version be read anew: what is cached of them stays with those who have it.
    pub fn renew(&self, content: &Content, file: &OpenRead) {
        content.rename(self.0.name(file).1, (file.version, file.settled));
    }

    /// Opens contents for reading; asks nobody.
    pub fn open(&self, content: Arc<Content>, locate: Arc<dyn Locate>) -> Arc<Reader> {
        let size_bytes = content.version().size.0;
        let reader = Arc::new(Reader {
            id: self.0.next_number(),
            content,
            locate,
            readahead: Mutex::new(Readahead::new(self.0.config.limits, self.0.windows.clone(), size_bytes)),
            path: self.0.clone(),
        });
        self.0.readers.lock().insert(reader.id, Arc::downgrade(&reader));
        reader
    }

    /// Takes back the read-ahead windows of places that nobody read since `before`.
    pub fn rest(&self, before: Instant) {
        // Taken out first: the last reference to a reader may go here, and its end takes the lock.
        let readers: Vec<_> = self.0.readers.lock().values().filter_map(Weak::upgrade).collect();
        for reader in readers {
            reader.readahead.lock().rest(before);
        }
    }

    /// The bytes if all of them are in L1, cut at the end of the file; never waits, so it may run on a FUSE thread.
    ///
    /// Each read comes here first, also one that then goes on to [`ReadPath::read`]: here read-ahead sees it.
    pub fn read_cached(&self, reader: &Arc<Reader>, extent: Extent) -> Option<Served> {
        let version = reader.content.current()?;
        let extent = extent.clip(version.size);
        reader.note(extent, &version);
        let mut pieces = Vec::with_capacity(2);
        for_each_block(extent, version.size, |at| {
            let (key, bytes) = self.0.cached_at(reader.content.key(), at)?;
            let wanted = part_of(&key, at, extent.end().0, version.size)?;
            pieces.push(Piece { key, wanted, state: PieceState::Here { bytes } });
            Some(wanted.end().0)
        })?;
        let bytes = self.0.assemble(&pieces)?;
        let served = reader.content.serve(&version, extent, bytes)?;
        self.0.mark_served(&pieces);
        self.0.stats.l1_bytes.add(served.len() as u64);
        if reader.wants_ahead() {
            let (path, reader) = (self.0.clone(), reader.clone());
            self.0.lane.spawn(async move { path.fetch_ahead(&reader, &version) });
        }
        Some(served)
    }

    /// The bytes, from wherever they are, cut at the end of the file: all of them or an error. Runs on the lane.
    ///
    /// When the file changed on the host, its contents move to the new version if all that was handed out of them is
    /// the same there. A dropped future leaves its fetches running: they fill the cache.
    ///
    /// # Errors
    /// [`VfsError::Stale`] when bytes handed out are not in the file any more, [`VfsError::Deadline`] at `deadline`,
    /// else what the host or the session said.
    pub async fn read(
        &self,
        reader: Arc<Reader>,
        extent: Extent,
        deadline: Instant,
    ) -> Result<Served, VfsError> {
        let content = &reader.content;
        let mut spent = Spent::default();
        let _memory = self.0.reserve(&extent, deadline, &mut spent).await?;
        let (mut pause, pause_max) = RETRY_PAUSE;
        loop {
            match content.standing() {
                Standing::Current => {}
                Standing::Stale => return Err(VfsError::Stale),
                Standing::Suspect => self.0.revalidate(content, &*reader.locate, deadline).await?,
            }
            let version = content.version();
            let demand = Demand { reader: &reader, version: &version, deadline };
            match self.0.read_at(&demand, extent.clip(version.size), &mut spent).await {
                Ok(Some(mut served)) => {
                    served.waited(spent);
                    return Ok(served);
                }
                // The contents came into doubt, or moved, while the bytes were on their way.
                Ok(None) => {}
                Err(VfsError::Stale) if content.version() == version => content.suspect(),
                Err(VfsError::Stale) => {}
                Err(error) => return Err(error),
            }
            // A file that changes faster than it can be asked about is asked more and more slowly.
            if Instant::now() + pause >= deadline {
                return Err(VfsError::Deadline);
            }
            sleep(pause).await;
            pause = (pause * 2).min(pause_max);
        }
    }

    /// Settles contents that seem to have changed: they move to the host's version when all that was handed out of them
    /// is the same there, else they are stale. Contents not in doubt are left as they are.
    ///
    /// # Errors
    /// [`VfsError::Stale`], [`VfsError::Deadline`], else what the host or the session said: then they stay in doubt.
    pub async fn revalidate(
        &self,
        content: &Arc<Content>,
        locate: &dyn Locate,
        deadline: Instant,
    ) -> Result<(), VfsError> {
        self.0.revalidate(content, locate, deadline).await
    }

    /// What all that is fetched ahead is lent from.
    pub fn windows(&self) -> &WindowBudget {
        &self.0.windows
    }

    /// How far ahead one reader may be served, as far as the path allows for it.
    pub fn window_bytes_max(&self) -> u64 {
        self.0.config.limits.window_bytes_max
    }

    /// Bytes a second of contents at which the host's answers arrive; zero before it is known.
    pub fn goodput_bytes_per_s(&self) -> u64 {
        self.0.goodput.bytes_per_s()
    }

    /// What the cache in memory holds and did.
    pub fn l1(&self) -> &L1 {
        &self.0.l1
    }

    /// The cache on the disk of this machine.
    pub fn l2(&self) -> Option<&L2> {
        self.0.config.l2.as_ref()
    }
}

impl Reader {
    /// The contents it reads.
    pub fn content(&self) -> &Arc<Content> {
        &self.content
    }

    fn note(&self, extent: Extent, version: &Version) {
        let forsaken = {
            let mut readahead = self.readahead.lock();
            readahead.resize(version.size.0);
            readahead.limit(self.path.goodput.ahead_bytes_max());
            readahead.on_read(extent, Instant::now())
        };
        if let Some(cursor) = forsaken {
            self.call_off(|of| of == cursor);
        }
    }

    fn wants_ahead(&self) -> bool {
        self.readahead.lock().wants_ahead()
    }

    /// Calls off what is on its way to places that nobody reads any more.
    fn call_off(&self, lost: impl Fn(CursorId) -> bool) {
        let ours = |of: &AheadFor| match *of {
            AheadFor::Cursor { reader, cursor } => reader == self.id && lost(cursor),
            AheadFor::Scan(_) => false,
        };
        let cancelled = self.path.flights.cancel(ours);
        self.path.stats.readahead_cancelled.add(cancelled);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.path.readers.lock().remove(&self.id);
        self.call_off(|_| true);
    }
}

impl Piece {
    /// Its bytes, when they are here; `None` also when the block is shorter than it must be.
    fn ready(&self) -> Option<Bytes> {
        let PieceState::Here { bytes } = &self.state else { return None };
        let start = usize::try_from(self.wanted.start.0 - self.block_start()).ok()?;
        let end = start.checked_add(usize::try_from(self.wanted.len.0).ok()?)?;
        (end <= bytes.len()).then(|| bytes.slice(start..end))
    }

    fn block_start(&self) -> u64 {
        self.key.index * self.key.class.bytes() as u64
    }
}

/// The bytes of a block from `at` on that a read up to `end` wants: not those before `at`, which a smaller block gave.
fn part_of(key: &BlockKey, at: u64, end: u64, size: ByteLen) -> Option<Extent> {
    key.extent(size).intersect(&Extent::new(at, end.saturating_sub(at)))
}

/// Walks `extent` block by block: `next` is told where it is and says where that block's part ends.
fn for_each_block(extent: Extent, size: ByteLen, mut next: impl FnMut(u64) -> Option<u64>) -> Option<()> {
    let end = extent.end().0.min(size.0);
    let mut at = extent.start.0;
    while at < end {
        let until = next(at)?;
        assert!(until > at, "each block brings the walk on");
        at = until;
    }
    Some(())
}

impl Inner {
    /// The largest block in L1 that holds the byte at `at`.
    fn cached_at(&self, content: ContentKey, at: u64) -> Option<(BlockKey, Bytes)> {
        SlotClass::ALL.into_iter().rev().find_map(|class| {
            let key = BlockKey::at(content, class, at);
            self.l1.get(&key).map(|bytes| (key, bytes))
        })
    }

    /// Waits until there is memory for the blocks of a demand read, should it need them all.
    async fn reserve(
        &self,
        extent: &Extent,
        deadline: Instant,
        spent: &mut Spent,
    ) -> Result<SemaphorePermit<'_>, VfsError> {
        let blocks = extent.blocks(SlotClass::Extent1M.bytes() as u64).count();
        // A read of more than all memory waits for all of it, and evicts its own first blocks on the way.
        let all = self.l1.capacity_bytes() / SlotClass::Extent1M.bytes();
        let permits = u32::try_from(blocks.min(all)).unwrap_or(u32::MAX);
        if let Ok(granted) = self.demand.try_acquire_many(permits) {
            return Ok(granted);
        }
        let since = Instant::now();
        let _waiting = self.stats.memory.hold(since);
        let granted = timeout_at(deadline, self.demand.acquire_many(permits)).await;
        spent.wait += since.elapsed();
        granted.ok().and_then(Result::ok).ok_or(VfsError::Deadline)
    }

    /// One attempt at a read of one version; `None` when the contents moved on meanwhile.
    async fn read_at(
        self: &Arc<Self>,
        demand: &Demand<'_>,
        extent: Extent,
        spent: &mut Spent,
    ) -> Result<Option<Served>, VfsError> {
        let &Demand { reader, version, deadline } = demand;
        let mut since = Instant::now();
        let mut pieces = self.start(demand, extent)?;
        // After the demand, so that its requests are first on the wire.
        self.fetch_ahead(reader, version);
        for piece in &mut pieces {
            let PieceState::Coming(outcome) = &mut piece.state else { continue };
            let Landed { bytes, transit } = match timeout_at(deadline, outcome).await {
                Err(_) => return Err(VfsError::Deadline),
                // A fetch begun for another reader, or ahead of any, whose time was up before ours.
                Ok(Ok(Err(VfsError::Deadline | VfsError::Lost { .. }))) if Instant::now() < deadline => {
                    self.fetch_again(demand, piece.key).await?
                }
                Ok(Ok(outcome)) => outcome?,
                // A fetch ahead that was called off in the moment we joined it: once more, on our own account.
                Ok(Err(_)) => self.fetch_again(demand, piece.key).await?,
            };
            since = transit.map_or(since, |transit| spent.add(since, &transit));
            piece.state = PieceState::Here { bytes };
        }
        // A block that is short of its place in the file is of a version before it grew.
        let Some(bytes) = self.assemble(&pieces) else {
            pieces.iter().for_each(|piece| self.l1.remove(&piece.key));
            return Ok(None);
        };
        let served = reader.content.serve(version, extent, bytes);
        if served.is_some() {
            self.mark_served(&pieces);
        }
        Ok(served)
    }

    /// Finds or starts every block of a demand read.
    fn start(self: &Arc<Self>, demand: &Demand<'_>, extent: Extent) -> Result<Vec<Piece>, VfsError> {
        let size = demand.version.size;
        let mut pieces = Vec::with_capacity(2);
        let mut failed = None;
        for_each_block(extent, size, |at| {
            let (key, state) = match self.block_for(demand, at, extent.end().0) {
                Ok(found) => found,
                Err(error) => {
                    failed = Some(error);
                    return None;
                }
            };
            let wanted = part_of(&key, at, extent.end().0, size)?;
            pieces.push(Piece { key, wanted, state });
            Some(wanted.end().0)
        });
        failed.map_or(Ok(pieces), Err)
    }

    fn block_for(
        self: &Arc<Self>,
        demand: &Demand<'_>,
        at: u64,
        end: u64,
    ) -> Result<(BlockKey, PieceState), VfsError> {
        let reader = demand.reader;
        let content = reader.content.key();
        for class in SlotClass::ALL.into_iter().rev() {
            let key = BlockKey::at(content, class, at);
            match self.flights.find(&key, |key| self.l1.get(key)) {
                Some(Found::Cached(bytes)) => return Ok((key, PieceState::Here { bytes })),
                Some(Found::Joined(outcome)) => return Ok((key, PieceState::Coming(outcome))),
                None => {}
            }
        }
        let size = demand.version.size.0;
        let whole = {
            let mut readahead = reader.readahead.lock();
            readahead.missed(at);
            readahead.whole(Extent::new(at, 1))
        };
        let key = BlockKey::at(content, plan::class_at(at, end.min(size), whole, size), at);
        let key = self.block_to_fetch(&reader.content, demand.version, (key, at));
        Ok((key, self.fetch_demand(demand, key)?))
    }

    /// The block from the cache or a fetch under way, else starts a fetch that somebody waits for.
    fn fetch_demand(self: &Arc<Self>, demand: &Demand<'_>, key: BlockKey) -> Result<PieceState, VfsError> {
        let target = demand.reader.locate.target()?;
        let (landing, outcome) = match self.flights.find_or_open(key, |key| self.l1.get(key)) {
            Opened::Found(Found::Cached(bytes)) => return Ok(PieceState::Here { bytes }),
            Opened::Found(Found::Joined(outcome)) => return Ok(PieceState::Coming(outcome)),
            Opened::Ours(landing, outcome) => (landing, outcome),
        };
        let (version, deadline) = (*demand.version, demand.deadline);
        let read =
            ReadCall { target, version, extent: key.extent(version.size), class: Class::Demand, deadline };
        let (path, content) = (self.clone(), demand.reader.content.clone());
        self.lane.spawn(async move { path.fetch(landing, &content, read, None).await });
        Ok(PieceState::Coming(outcome))
    }

    async fn fetch_again(self: &Arc<Self>, demand: &Demand<'_>, key: BlockKey) -> Outcome {
        match self.fetch_demand(demand, key)? {
            PieceState::Here { bytes } => Ok(Landed { bytes, transit: None }),
            PieceState::Coming(outcome) => match timeout_at(demand.deadline, outcome).await {
                Ok(Ok(outcome)) => outcome,
                _ => Err(VfsError::Deadline),
            },
        }
    }

    /// Names a file, and its blocks in memory.
    fn name(&self, file: &OpenRead) -> (Named, ContentKey) {
        let named =
            Named { host_key: self.config.host_key, share: file.share.as_bytes().into(), id: file.id };
        // An unsettled version may be met again by other bytes: blocks under a name nobody else has.
        let salt = if file.settled { 0 } else { self.next_number() };
        let key = named.at(&file.version, salt);
        (named, key)
    }

    fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Relaxed) + 1
    }

    fn mark_served(&self, pieces: &[Piece]) {
        for piece in pieces {
            let upto = piece.wanted.end().0 - piece.block_start();
            self.l1.served(&piece.key, usize::try_from(upto).unwrap_or(usize::MAX));
        }
    }
}

#[cfg(test)]
mod tests;
