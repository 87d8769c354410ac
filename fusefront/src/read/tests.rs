//! The read path against a real host over loopback.

use std::{fs, future::Future, os::unix::fs::FileExt, sync::mpsc};

use engine::{
    config::{HostConfig, ShareConfig},
    host::Host,
};
use transport::{ClientConfig, Lane};
use uring::{Pool, PoolConfig};
use wire::{Attr, Reply, Request, SharePath};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
const MIB: u64 = 1 << 20;

/// So long from now.
fn within(patience: Duration) -> Instant {
    Instant::now() + patience // clock: a bound on real I/O; no test waits for it but the one that must
}

/// A host of one file, and the read path to it.
struct Rig {
    path: ReadPath,
    client: Client,
    stats: Arc<Stats>,
    pool: Pool,
    lane: Lane,
    host: Option<Host>,
    folder: tempfile::TempDir,
    bytes: Vec<u8>,
    _state: tempfile::TempDir,
}

struct Here(Target);

impl Locate for Here {
    fn target(&self) -> Result<Target, VfsError> {
        Ok(self.0.clone())
    }
}

/// Bytes that repeat nowhere near: a wrong offset shows.
fn pattern(len: u64) -> Vec<u8> {
    (0..len / 8 + 1)
        .flat_map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes())
        .take(usize::try_from(len).unwrap())
        .collect()
}

fn wait<T: Send + 'static>(lane: &Lane, work: impl Future<Output = T> + Send + 'static) -> T {
    let (send, receive) = mpsc::channel();
    lane.handle().spawn(async move { send.send(work.await) });
    receive.recv_timeout(2 * PATIENCE).expect("the work ends within its deadline")
}

impl Rig {
    fn new(len: u64, memory_mib: usize) -> Rig {
        let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let bytes = pattern(len);
        fs::write(folder.path().join("file"), &bytes).unwrap();
        let share = ShareConfig::new(Name::new(b"share").unwrap(), folder.path().to_owned());
        let mut config = HostConfig::new(vec![share], state.path().join("state"));
        config.listen = vec!["127.0.0.1:0".parse().unwrap()];
        let host = Host::start(config).unwrap();
        let lane = Lane::start("read-test").unwrap();
        let (ticket, host_key) = (host.ticket(), host.ticket().host_key);
        let client = wait(&lane, Client::connect(ticket, ClientConfig::default())).unwrap();
        let pool = Pool::new(PoolConfig::with_capacity(memory_mib << 20)).unwrap();
        let stats = Arc::new(Stats::default());
        let limits = Limits::for_memory(pool.capacity_bytes() as u64);
        let config = ReadConfig { host_key, ahead_deadline: PATIENCE, limits, l2: None };
        let path = ReadPath::new(client.clone(), L1::new(pool.clone()), lane.handle(), config, stats.clone());
        Rig { path, client, stats, pool, lane, host: Some(host), folder, bytes, _state: state }
    }

    fn attr(&self) -> (Target, Attr) {
        let share = self.client.welcome().shares[0].id;
        let mut target = Target { share, path: SharePath::new(b"file").unwrap(), id: None };
        let (client, ask) = (self.client.clone(), Request::Stat(target.clone()));
        let deadline = within(PATIENCE);
        let reply = wait(&self.lane, async move { client.call(ask, Class::Metadata, deadline).await });
        let Ok(Reply::Attr(attr)) = reply else { panic!("a stat of the file: {reply:?}") };
        target.id = Some(attr.id);
        (target, attr)
    }

    fn open(&self) -> Arc<Reader> {
        let (target, attr) = self.attr();
        let file = OpenRead {
            share: Name::new(b"share").unwrap(),
            id: attr.id,
            version: attr.version(),
            settled: true,
        };
        self.path.open(self.path.content(&file, HandedOut::Nothing), Arc::new(Here(target)))
    }

    fn read_until(&self, reader: &Arc<Reader>, extent: Extent, deadline: Instant) -> Result<Bytes, VfsError> {
        if let Some(served) = self.path.read_cached(reader, extent) {
            return Ok(served.bytes().clone());
        }
        let (path, reader) = (self.path.clone(), reader.clone());
        wait(&self.lane, async move {
            path.read(reader, extent, deadline).await.map(|served| served.bytes().clone())
        })
    }

    fn read(&self, reader: &Arc<Reader>, start: u64, len: u64) -> Result<Bytes, VfsError> {
        self.read_until(reader, Extent::new(start, len), within(PATIENCE))
    }

    fn expect(&self, reader: &Arc<Reader>, start: u64, len: u64) {
        let bytes = self.read(reader, start, len).unwrap();
        let index = |at: u64| usize::try_from(at).unwrap().min(self.bytes.len());
        assert!(bytes == self.bytes[index(start)..index(start + len)], "{len} bytes at {start}");
    }

    /// Host bytes received so far.
    fn fetched(&self) -> u64 {
        self.stats.host_bytes()
    }
}

#[test]
fn every_length_at_every_edge() {
    const CHUNK: u64 = wire::CHUNK_BYTES;
    let rig = Rig::new(3 * MIB + 7, 32);
    for at in [
        0,
        1,
        4095,
        4096,
        CHUNK - 1,
        CHUNK,
        CHUNK + 1,
        MIB - 1,
        MIB,
        3 * MIB,
        3 * MIB + 6,
        3 * MIB + 7,
        9 * MIB,
    ] {
        for len in [1, 4096, CHUNK - 1, CHUNK, CHUNK + 1, MIB] {
            rig.expect(&rig.open(), at, len);
        }
    }
}

#[test]
fn sequential_reader_gets_each_byte_and_fetches_little_twice() {
    let len = 40 * MIB + 12_345;
    let rig = Rig::new(len, 32);
    let reader = rig.open();
    let mut at = 0;
    // The kernel's ramp: 128 KiB doubling to 1 MiB, then 1 MiB at a time, off the extents' edges.
    for step in [128 << 10, 256 << 10, 512 << 10].into_iter().chain(std::iter::repeat(MIB)) {
        if at >= len {
            break;
        }
        rig.expect(&reader, at, step);
        at += step;
    }
    assert!(rig.fetched() <= len + len / 20, "{} bytes fetched for {len}", rig.fetched());
    assert!(
        rig.stats.host_readahead_bytes.get() + rig.stats.l1_bytes.get() > len / 2,
        "most was there before it was asked for"
    );
}

#[test]
fn random_pages_cost_a_page_each() {
    let rig = Rig::new(64 * MIB, 32);
    let reader = rig.open();
    for n in 1..=200_u64 {
        rig.expect(&reader, n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (16 * 1024) * 4096, 4096);
    }
    assert!(rig.fetched() <= 2 * 200 * 4096, "{} bytes fetched", rig.fetched());
}

#[test]
fn second_reading_of_what_fits_asks_nobody() {
    let rig = Rig::new(8 * MIB, 32);
    for _ in 0..2 {
        let reader = rig.open();
        for extent in 0..8 {
            rig.expect(&reader, extent * MIB, MIB);
        }
    }
    assert!(rig.fetched() <= 9 * MIB, "{} bytes fetched", rig.fetched());
}

#[test]
fn many_readers_share_little_memory() {
    let rig = Rig::new(12 * MIB, 4);
    let readers: Vec<_> = (0..12).map(|_| rig.open()).collect();
    for step in 0..16 {
        for (n, reader) in readers.iter().enumerate() {
            rig.expect(reader, (n as u64) * MIB / 2 + step * 256 * 1024, 256 * 1024);
        }
    }
    assert!(rig.pool.stats().lent_bytes <= rig.pool.capacity_bytes());
}

#[test]
fn readers_of_one_block_cause_one_fetch() {
    let rig = Rig::new(MIB, 32);
    let reader = rig.open();
    let deadline = within(PATIENCE);
    let all = (0..16).map(|_| {
        let (path, reader) = (rig.path.clone(), reader.clone());
        async move { path.read(reader, Extent::new(0, MIB), deadline).await }
    });
    let tasks: Vec<_> = all.map(|read| rig.lane.handle().spawn(read)).collect();
    for task in tasks {
        let bytes = wait(&rig.lane, async move { task.await.unwrap() }).unwrap();
        assert!(*bytes == rig.bytes[..]);
    }
    assert_eq!(rig.fetched(), MIB);
}

#[test]
fn rewritten_file_is_stale_to_its_old_reader_alone() {
    let rig = Rig::new(4 * MIB, 32);
    let old = rig.open();
    rig.expect(&old, 0, 4096);
    fs::write(rig.folder.path().join("file"), vec![7; 5 << 20]).unwrap();
    assert_eq!(rig.read(&old, 2 * MIB, 4096), Err(VfsError::Stale));
    let new = rig.open();
    assert_eq!(rig.read(&new, 2 * MIB, 4096).unwrap(), vec![7_u8; 4096]);
    assert_eq!(
        rig.read(&new, 0, 4096).unwrap(),
        vec![7_u8; 4096],
        "the old version's block is not the new one's"
    );
}

#[test]
fn unsettled_version_is_not_shared_between_readers() {
    let rig = Rig::new(MIB, 32);
    let (target, attr) = rig.attr();
    let open = || {
        let share = Name::new(b"share").unwrap();
        let file = OpenRead { share, id: attr.id, version: attr.version(), settled: false };
        rig.path.open(rig.path.content(&file, HandedOut::Nothing), Arc::new(Here(target.clone())))
    };
    for expected in [MIB, 2 * MIB] {
        rig.expect(&open(), 0, MIB);
        assert_eq!(rig.fetched(), expected);
    }
}

#[test]
fn lost_host_is_an_error_at_the_deadline() {
    let mut rig = Rig::new(4 * MIB, 32);
    let reader = rig.open();
    rig.expect(&reader, 0, MIB);
    rig.host.take().unwrap().stop().unwrap();
    rig.expect(&reader, 0, MIB);
    let deadline = within(Duration::from_millis(300));
    let error = rig.read_until(&reader, Extent::new(3 * MIB, 4096), deadline).unwrap_err();
    assert!(matches!(error, VfsError::Deadline | VfsError::Lost { .. }), "{error}");
}

#[test]
fn closed_reader_calls_its_read_ahead_off_and_memory_comes_home() {
    let rig = Rig::new(64 * MIB, 32);
    let reader = rig.open();
    for extent in 0..4 {
        rig.expect(&reader, extent * MIB, MIB);
    }
    drop(reader);
    let (l1, pool) = (rig.path.l1().clone(), rig.pool.clone());
    let home = wait(&rig.lane, async move {
        let deadline = within(PATIENCE);
        // clock: as above
        while Instant::now() < deadline {
            l1.shrink(0);
            if pool.stats().lent_bytes == 0 {
                return true;
            }
            tokio::task::yield_now().await;
        }
        false
    });
    assert!(home, "{:?}", rig.pool.stats());
    let file = fs::File::open(rig.folder.path().join("file")).unwrap();
    let mut first = [0; 8];
    file.read_exact_at(&mut first, 0).unwrap();
    assert_eq!(first, rig.bytes[..8]);
}
