//! Sessions that read without pause, and how much each of them got.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, task::JoinHandle, time::Instant};
use transport::{Client, ClientConfig, Lane, ReadCall};
use uring::{Pool, PoolConfig, SlotClass};
use wire::{Class, Extent, Name, Reply, Request, SharePath, Ticket, message::Target};

/// Far beyond what any step of a test takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of one read: small enough that shares show after a few of them.
const READ_BYTES: u64 = 128 << 10;

/// One network thread and the buffers of many mounts.
pub(crate) struct Swarm {
    lane: Lane,
    pool: Pool,
}

/// What a reader reads, again and again.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) share: Name,
    pub(crate) files: Vec<SharePath>,
    /// Reads of one file at once.
    pub(crate) in_flight: usize,
    /// What every file holds.
    pub(crate) expected: Arc<Vec<u8>>,
}

/// One session that reads.
pub(crate) struct Reader {
    client: Client,
    meter: Arc<Meter>,
    tasks: Vec<JoinHandle<()>>,
}

/// What one reader, or all of them, got so far.
#[derive(Default)]
pub(crate) struct Meter {
    bytes: AtomicU64,
    grown: Notify,
    over: AtomicBool,
}

impl Meter {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.grown.notify_one();
    }
}

impl Swarm {
    pub(crate) fn new(memory_bytes: usize) -> Swarm {
        let pool = Pool::new(PoolConfig::with_capacity(memory_bytes)).unwrap();
        Swarm { lane: Lane::start("swarm").unwrap(), pool }
    }

    /// Runs something on the network thread.
    pub(crate) fn run<T>(&self, what: impl Future<Output = T>) -> T {
        self.lane.handle().block_on(what)
    }

    /// Starts something on the network thread.
    pub(crate) fn spawn(&self, what: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.lane.handle().spawn(what)
    }

    /// A session; it reads nothing yet.
    pub(crate) fn connect(&self, ticket: &Ticket) -> Client {
        let config = ClientConfig { label: "reader".into(), ..ClientConfig::default() };
        self.run(Client::connect(ticket.clone(), config)).unwrap()
    }

    /// Lets it read, and counts for it and for `all`.
    pub(crate) fn read(&self, client: Client, plan: &Plan, all: &Arc<Meter>) -> Reader {
        let meter = Arc::new(Meter::default());
        let share = client.welcome().shares.iter().find(|share| share.name == plan.share).unwrap().id;
        let target = |file: &SharePath| Target { share, path: file.clone(), id: None };
        // All of them before any is read.
        let looked: Vec<_> = plan.files.iter().map(|file| self.run(look(&client, target(file)))).collect();
        let mut tasks = Vec::new();
        for looked in looked {
            let next = Arc::new(AtomicU64::new(0));
            for _ in 0..plan.in_flight {
                let worker = Worker {
                    client: client.clone(),
                    pool: self.pool.clone(),
                    file: looked.clone(),
                    next: next.clone(),
                    expected: plan.expected.clone(),
                    meters: [meter.clone(), all.clone()],
                };
                tasks.push(self.spawn(worker.run()));
            }
        }
        Reader { client, meter, tasks }
    }

    /// Waits until `meter` shows `bytes` more than now.
    pub(crate) fn until_more(&self, meter: &Meter, bytes: u64) {
        let goal = meter.bytes() + bytes;
        self.run(async {
            loop {
                let grown = meter.grown.notified();
                if meter.bytes() >= goal {
                    return;
                }
                tokio::time::timeout(PATIENCE, grown).await.expect("the readers get on");
            }
        });
    }

    /// Stops the readers and ends their sessions. A read that failed, or brought wrong bytes, fails the test here.
    pub(crate) fn end(&self, readers: Vec<Reader>) {
        for reader in &readers {
            reader.meter.over.store(true, Ordering::Relaxed);
        }
        self.run(async {
            for reader in readers {
                for task in reader.tasks {
                    task.await.unwrap();
                }
                reader.client.close().await;
            }
        });
    }
}

impl Reader {
    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }
}

/// A file and its version, as a read names them.
type Looked = (Target, wire::Attr);

async fn look(client: &Client, target: Target) -> Looked {
    let deadline = Instant::now() + PATIENCE; // clock: a bound of a real wait
    match client.call(Request::Stat(target.clone()), Class::Metadata, deadline).await {
        Ok(Reply::Attr(attr)) => (Target { id: Some(attr.id), ..target }, attr),
        other => panic!("{}: {other:?}", target.path),
    }
}

struct Worker {
    client: Client,
    pool: Pool,
    file: Looked,
    next: Arc<AtomicU64>,
    expected: Arc<Vec<u8>>,
    meters: [Arc<Meter>; 2],
}

impl Worker {
    async fn run(self) {
        let (target, attr) = &self.file;
        let pieces = attr.size.0.div_ceil(READ_BYTES);
        while !self.meters[0].over.load(Ordering::Relaxed) {
            let piece = self.next.fetch_add(1, Ordering::Relaxed) % pieces;
            let extent = Extent::new(piece * READ_BYTES, READ_BYTES).clip(attr.size);
            let slot = self.pool.lend(SlotClass::Chunk128K).await;
            let deadline = Instant::now() + PATIENCE; // clock: a bound of a real wait
            let (target, version) = (target.clone(), attr.version());
            let read = ReadCall { target, version, extent, class: Class::Demand, deadline };
            let filled = self.client.read(read, slot).await.unwrap();
            let range = usize::try_from(extent.start.0).unwrap()..usize::try_from(extent.end().0).unwrap();
            assert!(filled.as_ref() == &self.expected[range], "wrong bytes in {extent}");
            self.meters.iter().for_each(|meter| meter.add(extent.len.0));
        }
    }
}
