//! How much of a narrow, long or lossy link a reader through the read path fills, on the paused clock: host, QUIC, memory
//! and read-ahead as they are.

use std::{collections::VecDeque, fs, sync::Arc, time::Duration};

use engine::{
    cache::L1,
    config::ShareConfig,
    testing::{HostParts, SimulatedHost},
};
use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{Instant, sleep},
};
use transport::{
    Client, ClientConfig, Identity, Server, ServerConfig,
    testing::{self, Link, Profile},
};
use uring::{Pool, PoolConfig, testing::FaultyDisk};
use wire::{
    Attr, Class, Extent, Name, Reply, Request, SharePath,
    message::{ShareInfo, Target},
};
use wormhole_fusefront::{
    error::VfsError,
    read::{HandedOut, Locate, OpenRead, ReadConfig, ReadPath, Reader},
    readahead::Limits,
    stats::Stats,
};

use crate::rig::{HOST, MOUNT};

const MIB: u64 = 1 << 20;
/// What the kernel asks for at once, and how many such requests a reader in order has under way.
const REQUEST_BYTES: u64 = 128 << 10;
const REQUESTS: usize = 2;

/// One file on a host behind a link, and a read path to it.
struct Rig {
    reads: ReadPath,
    stats: Arc<Stats>,
    client: Client,
    share: ShareInfo,
    attr: Attr,
    _parts: (SimulatedHost, Server, tempfile::TempDir),
}

struct At(Target);

impl Locate for At {
    fn target(&self) -> Result<Target, VfsError> {
        Ok(self.0.clone())
    }
}

impl Rig {
    async fn start(profile: &Profile, file_bytes: u64) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        fs::File::create(folder.path().join("file")).unwrap().set_len(file_bytes).unwrap();
        let link = Link::new(profile.link(7));
        let identity = Identity::generate().unwrap();
        let host = SimulatedHost::new(HostParts {
            shares: vec![ShareConfig::new(Name::new(b"share").unwrap(), folder.path())],
            ticket_key: [7; 32],
            boot: 1,
            memory_bytes: 64 << 20,
            files_open_max: 8,
            disk: FaultyDisk::new(7),
        })
        .unwrap();
        let server = host.serve(&link, HOST, ServerConfig::new(identity.clone())).unwrap();
        let ticket = host.ticket(identity.public_key(), vec![HOST.to_string()]);
        let host_key = ticket.host_key;
        let config = ClientConfig { connect_deadline: Duration::from_secs(60), ..ClientConfig::default() };
        let client = testing::connect(&link, MOUNT, ticket, config).await.unwrap();
        let memory = 112 << 20;
        let (l1, stats) =
            (L1::new(Pool::new(PoolConfig::with_capacity(memory)).unwrap()), Arc::<Stats>::default());
        let config = ReadConfig {
            host_key,
            ahead_deadline: Duration::from_secs(30),
            limits: Limits::for_memory(memory as u64),
            l2: None,
        };
        let reads = ReadPath::new(client.clone(), l1, Handle::current(), config, stats.clone());
        let share = client.welcome().shares[0].clone();
        let target = Target { share: share.id, path: SharePath::new(b"file").unwrap(), id: None };
        let asked = client.call(Request::Stat(target), Class::Metadata, soon()).await.unwrap();
        let Reply::Attr(attr) = asked else { panic!("{asked:?}") };
        Rig { reads, stats, client, share, attr, _parts: (host, server, folder) }
    }

    fn open(&self) -> Arc<Reader> {
        let Attr { id, .. } = self.attr;
        let file =
            OpenRead { share: self.share.name.clone(), id, version: self.attr.version(), settled: true };
        let path = SharePath::new(b"file").unwrap();
        let at = At(Target { share: self.share.id, path, id: Some(id) });
        self.reads.open(self.reads.content(&file, HandedOut::Nothing), Arc::new(at))
    }

    /// One request as FUSE brings it.
    fn read(&self, reader: &Arc<Reader>, extent: Extent) -> JoinHandle<u64> {
        let (reads, reader) = (self.reads.clone(), reader.clone());
        tokio::spawn(async move {
            if let Some(served) = reads.read_cached(&reader, extent) {
                return served.len() as u64;
            }
            reads.read(reader, extent, soon()).await.unwrap().len() as u64
        })
    }

    /// Reads the file in order for `time`, and says how much of the link its data took in the last three quarters.
    async fn share_of_link(&self, profile: &Profile, time: Duration) -> f64 {
        let (reader, start) = (self.open(), Instant::now()); // clock: paused
        let mut asked = VecDeque::new();
        let (mut next, mut bytes) = (0, 0);
        while start.elapsed() < time {
            while asked.len() < REQUESTS {
                asked.push_back(self.read(&reader, Extent::new(next, REQUEST_BYTES)));
                next += REQUEST_BYTES;
            }
            let came = asked.pop_front().unwrap().await.unwrap();
            assert_eq!(came, REQUEST_BYTES, "the file is long enough");
            if start.elapsed() >= time / 4 {
                bytes += came;
            }
        }
        while let Some(read) = asked.pop_front() {
            read.await.unwrap();
        }
        let share = bytes as f64 / (time.as_secs_f64() * 0.75) / profile.bytes_per_s() as f64;
        let goodput = self.reads.goodput_bytes_per_s();
        println!(
            "FIGURE {}: {:.1} % of the link, believed to carry {goodput} B/s",
            profile.name,
            share * 100.0
        );
        share
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30) // clock: paused
}

#[tokio::test(start_paused = true)]
async fn a_reader_in_order_fills_the_link() {
    for (profile, seconds, at_least) in
        [(Profile::WAN_GOOD, 12, 0.90), (Profile::WAN_POOR, 60, 0.85), (Profile::WAN_BAD, 240, 0.60)]
    {
        let rig = Rig::start(&profile, 1 << 30).await;
        let share = rig.share_of_link(&profile, Duration::from_secs(seconds)).await;
        assert!(share >= at_least, "{}: {share}", profile.name);
        rig.client.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_elsewhere_is_soon_answered_while_a_run_fills_the_link() {
    let rig = Arc::new(Rig::start(&Profile::WAN_GOOD, 1 << 40).await);
    let run = tokio::spawn({
        let rig = rig.clone();
        async move { rig.share_of_link(&Profile::WAN_GOOD, Duration::from_secs(30)).await }
    });
    sleep(Duration::from_secs(3)).await; // clock: paused
    let reader = rig.open();
    let mut times = Vec::new();
    for n in 0..100 {
        let start = Instant::now(); // clock: paused
        // No two of them near each other.
        rig.read(&reader, Extent::new((1 << 34) + n * n * 64 * MIB, REQUEST_BYTES)).await.unwrap();
        times.push(start.elapsed());
        sleep(Duration::from_millis(50)).await; // clock: paused
    }
    times.sort_unstable();
    println!("FIGURE demand read during read-ahead: p50 {:?}, p99 {:?}", times[50], times[98]);
    assert!(times[50] < Duration::from_millis(120) && times[98] < Duration::from_millis(250), "{times:?}");
    run.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_seek_on_a_slow_link_does_not_wait_for_what_it_left() {
    let rig = Rig::start(&Profile::WAN_POOR, 1 << 40).await;
    rig.share_of_link(&Profile::WAN_POOR, Duration::from_secs(20)).await;
    let reader = rig.open();
    let start = Instant::now(); // clock: paused
    for n in 0..16 {
        rig.read(&reader, Extent::new((1 << 35) + n * REQUEST_BYTES, REQUEST_BYTES)).await.unwrap();
    }
    // 2 MiB take 1.7 s of the link; what was asked for ahead of the other reader may take as long again.
    let took = start.elapsed();
    println!("FIGURE 2 MiB after a seek: {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(rig.stats.fetches_in_flight.get() > 0, "and the new place is read ahead of");
}
