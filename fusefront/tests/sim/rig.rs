//! Everything that one seed runs: host, link, disk, mount, and the model beside them.

use std::{
    collections::BTreeMap,
    fmt::Display,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use engine::{
    cache::L1,
    config::ShareConfig,
    testing::{HostParts, SimulatedHost},
};
use parking_lot::Mutex;
use tokio::{runtime::Handle, time::Instant};
use transport::{
    Client, ClientConfig, Identity, Server, ServerConfig,
    congestion::CongestionControl,
    testing::{self, Link, LinkConfig},
};
use uring::{
    Pool, PoolConfig,
    testing::{DiskFaults, FaultyDisk},
};
use wire::{Name, Timestamp};
use wormhole_fusefront::{
    read::{ReadConfig, ReadPath},
    readahead::Limits,
    stats::Stats,
    vfs::{Vfs, VfsParts, VfsStats, shares::MountRoot},
};

use crate::{
    check::Trouble,
    clock::{Clock, Grain, now, pass},
    kernel::PageCache,
    rng::Rng,
    world::World,
};

pub(crate) const HOST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 4433);
pub(crate) const MOUNT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 5000);

/// A file that is read and written more than others.
pub(crate) const HOT: &str = "f0";

/// What a seed makes of its run.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) seed: u64,
    pub(crate) grain: Grain,
    pub(crate) link: LinkConfig,
    /// Slow and short at most: what no program may notice but by the time.
    pub(crate) disk: DiskFaults,
    pub(crate) link_faults: bool,
    pub(crate) disk_faults: bool,
    pub(crate) restarts: bool,
    /// The mount's memory; with little of it a read may find no slot in time.
    pub(crate) mount_bytes: usize,
    pub(crate) host_bytes: usize,
    pub(crate) files_open_max: usize,
    /// Of every operation, as a mount has one.
    pub(crate) deadline: Duration,
    pub(crate) programs: u64,
    /// Entries of a folder that takes several pages to list; none in most runs.
    pub(crate) crowd: u64,
    /// Shares of the one folder; several are folders of the mount, and every file is a node in each.
    pub(crate) shares: u64,
}

impl Profile {
    pub(crate) fn of(seed: u64) -> Profile {
        let mut rng = Rng::new(seed, 0);
        let lossy = rng.percent(20);
        let ppm = |rng: &mut Rng, most: u64| if lossy { rng.below(most) as u32 } else { 0 };
        let grain = if rng.percent(40) { Grain::Tick } else { Grain::Fine };
        // Several round trips within a tick, or else no more than one.
        let delay = if grain == Grain::Tick && rng.percent(70) { 1 } else { 25 };
        let link = LinkConfig {
            seed,
            delay: rng.millis(1, delay),
            loss_ppm: ppm(&mut rng, 10_000),
            reorder_ppm: ppm(&mut rng, 50_000),
            duplicate_ppm: ppm(&mut rng, 20_000),
            mtu_bytes: if rng.percent(20) { 1_472 } else { 9_000 },
            bottleneck: None,
        };
        let slow = rng.percent(50);
        let disk = DiskFaults {
            short_ppm: if slow { 200_000 } else { 0 },
            late_ppm: if slow { 300_000 } else { 0 },
            late_max: rng.millis(1, 60),
            uncached_ppm: if slow { 600_000 } else { 200_000 },
            ..DiskFaults::default()
        };
        Profile {
            seed,
            grain,
            link,
            disk,
            link_faults: rng.percent(50),
            disk_faults: rng.percent(35),
            restarts: rng.percent(35),
            mount_bytes: if rng.percent(15) { 2 << 20 } else { 32 << 20 },
            host_bytes: if rng.percent(15) { 2 << 20 } else { 16 << 20 },
            files_open_max: rng.between(1, 8) as usize,
            deadline: Duration::from_secs(*rng.pick(&[5, 10, 30])),
            programs: rng.between(2, 5),
            crowd: if rng.percent(6) { 1_200 } else { 0 },
            shares: if rng.percent(25) { 2 } else { 1 },
        }
    }

    /// Whether operations may fail for want of slots or by the link's own losses at any time.
    fn is_tight(&self) -> bool {
        self.mount_bytes < 16 << 20 || self.host_bytes < 16 << 20 || self.link.loss_ppm > 0
    }
}

/// How often what came out.
pub(crate) type Tally = BTreeMap<String, u64>;

/// The end of a run.
pub(crate) struct Outcome {
    /// Of all steps: equal runs, equal digests.
    pub(crate) digest: blake3::Hash,
    pub(crate) tally: Tally,
}

/// The run of one seed.
pub(crate) struct Sim {
    pub(crate) profile: Profile,
    pub(crate) vfs: Vfs,
    pub(crate) world: Mutex<World>,
    pub(crate) pages: PageCache,
    pub(crate) link: Link,
    pub(crate) disk: FaultyDisk,
    trouble: Mutex<Trouble>,
    running: Mutex<Option<Running>>,
    /// The buffers of every host there was.
    host_pools: Mutex<Vec<Pool>>,
    identity: Identity,
    shares: Vec<ShareConfig>,
    client: Client,
    pool: Pool,
    l1: L1,
    stats: Arc<Stats>,
    digest: Mutex<blake3::Hasher>,
    tally: Mutex<Tally>,
    start: Instant,
    trace: bool,
}

struct Running {
    host: SimulatedHost,
    server: Server,
}

impl Sim {
    /// Starts everything on the current runtime, over files in `folder`, which `world` knows.
    pub(crate) async fn start(profile: Profile, folder: &Path, world: World) -> Sim {
        let link = Link::new(profile.link.clone());
        let disk = FaultyDisk::new(profile.seed);
        disk.set(profile.disk);
        let share = |n| ShareConfig::new(Name::new(share_name(n).as_bytes()).unwrap(), folder.to_owned());
        let shares: Vec<_> = (0..profile.shares).map(share).collect();
        let identity = Identity::generate().unwrap();
        let running = run_host(
            &Site { profile: &profile, shares: &shares, identity: &identity, link: &link, disk: &disk },
            1,
        );
        let ticket = running.host.ticket(identity.public_key(), vec![HOST.to_string()]);
        let host_key = ticket.host_key;
        let config = ClientConfig { connect_deadline: Duration::from_secs(60), ..ClientConfig::default() };
        let client = testing::connect(&link, MOUNT, ticket, config).await.unwrap();
        let pool = Pool::new(PoolConfig::with_capacity(profile.mount_bytes)).unwrap();
        let (l1, stats) = (L1::new(pool.clone()), Arc::new(Stats::default()));
        let limits = Limits { window_bytes_min: 1 << 20, window_bytes_max: 4 << 20 };
        let config = ReadConfig { host_key, ahead_deadline: Duration::from_secs(30), limits, l2: None };
        let lane = Handle::current();
        let reads = ReadPath::new(client.clone(), l1.clone(), lane.clone(), config, stats.clone());
        let root = match client.welcome().shares.as_slice() {
            [share] => MountRoot::Share(share.clone()),
            _ => MountRoot::Folder { uid: 0, gid: 0, made: Timestamp::default() },
        };
        let vfs = Vfs::new(VfsParts { client: client.clone(), lane, root, reads, stats: stats.clone() });
        let always = profile.is_tight().then(|| now() + Duration::from_secs(1 << 30));
        Sim {
            vfs,
            world: Mutex::new(world),
            pages: PageCache::default(),
            link,
            disk,
            trouble: Mutex::new(Trouble { late_until: always, broken_until: None }),
            host_pools: Mutex::new(vec![running.host.pool()]),
            running: Mutex::new(Some(running)),
            identity,
            shares,
            client,
            pool,
            l1,
            stats,
            start: now(),
            digest: Mutex::new(blake3::Hasher::new()),
            tally: Mutex::default(),
            trace: std::env::var_os("WORMHOLE_SIM_TRACE").is_some(),
            profile,
        }
    }

    /// Counts an outcome.
    pub(crate) fn count(&self, what: &str) {
        *self.tally.lock().entry(what.to_owned()).or_default() += 1;
    }

    /// Takes note of a step: it is part of what a seed must repeat.
    pub(crate) fn step(&self, what: impl Display) {
        let line = format!("{:?} {what}\n", self.elapsed());
        if self.trace {
            print!("{line}");
        }
        self.digest.lock().update(line.as_bytes());
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn trouble(&self) -> Trouble {
        *self.trouble.lock()
    }

    /// From now and for so long operations may come too late.
    pub(crate) fn expect_late(&self, time: Duration) {
        let mut trouble = self.trouble.lock();
        trouble.late_until = trouble.late_until.max(Some(now() + time));
    }

    /// From now and for so long operations may fail with the disk's errors.
    pub(crate) fn expect_broken(&self, time: Duration) {
        let mut trouble = self.trouble.lock();
        trouble.broken_until = trouble.broken_until.max(Some(now() + time));
    }

    /// The host's process dies without a word.
    pub(crate) fn kill_host(&self) {
        self.link.kill(HOST);
        *self.running.lock() = None;
    }

    /// The host stops in good order.
    pub(crate) async fn stop_host(&self) {
        let running = self.running.lock().take();
        if let Some(Running { host, server }) = running {
            server.shutdown(Duration::from_millis(1_500)).await;
            drop((server, host));
            self.link.kill(HOST);
        }
    }

    /// The host is there again, with the same keys.
    pub(crate) fn start_host(&self) {
        let mut pools = self.host_pools.lock();
        let boot = 1 + pools.len() as u64;
        let Sim { profile, shares, identity, link, disk, .. } = self;
        let running = run_host(&Site { profile, shares, identity, link, disk }, boot);
        pools.push(running.host.pool());
        *self.running.lock() = Some(running);
    }

    /// Ends every fault.
    pub(crate) fn heal(&self) {
        self.link.heal();
        self.link.shape(|link| *link = self.profile.link.clone());
        self.disk.heal();
        self.disk.set(self.profile.disk);
    }

    /// Takes everything apart and panics when something is left over; the programs have ended.
    pub(crate) async fn finish(self) -> Outcome {
        self.heal();
        // Longer than any fetch ahead may take.
        pass(Duration::from_secs(40)).await;
        let held = VfsStats { nodes: 1, open_files: 0, open_dirs: 0 };
        assert_eq!(self.vfs.held(), held, "the kernel forgot all but the root");
        assert_eq!((self.stats.fetches_in_flight.get(), self.stats.in_flight.get()), (0, 0), "in flight");
        self.l1.shrink(0);
        let mount = self.pool.stats();
        assert_eq!((mount.lent_bytes, mount.waiters), (0, 0), "slots of the mount");
        for (index, pool) in self.host_pools.lock().iter().enumerate() {
            let host = pool.stats();
            assert_eq!((host.lent_bytes, host.waiters), (0, 0), "slots of host {index}");
        }
        let ring = self.running.lock().as_ref().map(|running| running.host.ring_stats().in_flight);
        assert_eq!(ring, Some(0), "the host's ring");
        assert!(self.client.stats().connected, "the session comes back");
        self.client.close().await;
        self.stop_host().await;
        self.tally_totals();
        let Sim { vfs, client, l1, pool, digest, tally, link, .. } = self;
        drop((vfs, client, l1, pool, link));
        pass(Duration::from_secs(20)).await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0, "tasks");
        Outcome { digest: digest.into_inner().finalize(), tally: tally.into_inner() }
    }

    /// What a run went through, so that a report can tell a hard one from an idle one.
    fn tally_totals(&self) {
        let (disk, (sent, dropped)) = (self.disk.counts(), self.link.datagrams());
        let stats = &self.stats;
        let totals = [
            ("datagrams sent", sent),
            ("datagrams dropped", dropped),
            ("disk operations", disk.operations),
            ("disk errors", disk.errors),
            ("disk short", disk.short),
            ("disk late", disk.late),
            ("sessions after the first", self.client.stats().reconnects),
            ("hosts after the first", self.host_pools.lock().len() as u64 - 1),
            ("bytes read", stats.read_bytes.get()),
            ("bytes from L1", stats.l1_bytes.get()),
            ("bytes demanded of the host", stats.host_demand_bytes.get()),
            ("bytes read ahead", stats.host_readahead_bytes.get()),
            ("blocks evicted", self.l1.stats().evicted),
        ];
        let mut tally = self.tally.lock();
        for (what, n) in totals {
            *tally.entry(what.to_owned()).or_default() += n;
        }
    }
}

/// What a host is started from, each time.
struct Site<'a> {
    profile: &'a Profile,
    shares: &'a [ShareConfig],
    identity: &'a Identity,
    link: &'a Link,
    disk: &'a FaultyDisk,
}

fn run_host(site: &Site<'_>, boot: u64) -> Running {
    let Site { profile, shares, identity, link, disk } = *site;
    let host = SimulatedHost::new(HostParts {
        shares: shares.to_owned(),
        ticket_key: [7; 32],
        boot,
        memory_bytes: profile.host_bytes,
        files_open_max: profile.files_open_max,
        disk: disk.clone(),
    })
    .unwrap();
    let config = ServerConfig { congestion: CongestionControl::Cubic, ..ServerConfig::new(identity.clone()) };
    let server = host.serve(link, HOST, config).unwrap();
    Running { host, server }
}

/// The name of a share.
pub(crate) fn share_name(number: u64) -> String {
    format!("share-{number}")
}

/// The files that a run begins with.
pub(crate) fn first_files(world: &mut World, rng: &mut Rng, profile: &Profile) {
    for folder in ["d0", "d1"] {
        world.mkdir(folder);
    }
    for path in ["f0", "f1", "f2", "d0/f0", "d0/f1", "d1/f0"] {
        let len = file_len(rng);
        let bytes = rng.bytes(len);
        world.create(path, bytes);
    }
    world.symlink("s0", "f0");
    if profile.crowd > 0 {
        world.mkdir("crowd");
        let filler = "x".repeat(120);
        for n in 0..profile.crowd {
            world.create(&format!("crowd/{n}-{filler}"), Vec::new());
        }
    }
}

/// Mostly small, sometimes several extents.
pub(crate) fn file_len(rng: &mut Rng) -> usize {
    let most = match rng.below(100) {
        0..10 => 1,
        10..40 => 8 << 10,
        40..80 => 200 << 10,
        80..95 => 1 << 20,
        _ => 3 << 20,
    };
    rng.between(0, most) as usize
}

/// The clock of a seed's run.
pub(crate) fn clock(profile: &Profile) -> Arc<Clock> {
    Clock::new(profile.grain)
}
