//! A mount from first to last: connect, attach to the tree, wait, detach, drain.

use std::{
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use engine::cache::{L1, L2};
use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use transport::{Client, ClientConfig, ConnectError, Lane, OnLoss};
use uring::{Pool, PoolConfig};
use wire::{Name, Timestamp, limits, message::Welcome};

use crate::{
    adapter::Adapter,
    bdi,
    config::{Access, MountConfig, OnDisconnect},
    control,
    error::MountError,
    keeper::Keeper,
    mountinfo::{self, MountInfo},
    mountpoint,
    read::{ReadConfig, ReadPath},
    readahead::Limits,
    stats::Stats,
    status::Report,
    unmount::{self, Detach},
    vfs::{
        Vfs, VfsParts,
        known::{KNOWN_BYTES_MAX, LastKnown},
        shares::{self, MountRoot},
    },
};

mod bound;
mod disk;
mod idle;
mod kernel;
mod lock;
mod offline;
mod prune;
mod report;

use kernel::Kernel;
use lock::Lock;
use offline::Notes;
use report::Reporter;
pub use report::cache as cache_status;

/// fuser's threads: one decodes while the other writes a reply; more showed no gain on two cores.
const FUSE_THREADS: usize = 2;
/// How long the session may take to say goodbye to the host.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
/// How long a mount that is dropped waits for its session to end.
const DROP_PATIENCE: Duration = Duration::from_secs(5);
/// The source shown in the mount table.
const SOURCE: &str = "wormhole";
/// Read-ahead windows: two full requests of the kernel at first, and as much as fills a path of 1 Gbit/s and 250 ms.
const WINDOW_BYTES_MIN: u64 = 2 << 20;
const WINDOW_BYTES_MAX: u64 = 32 << 20;
/// Bytes of one slab extent: budgets are whole ones.
const EXTENT_BYTES: u64 = 1 << 20;

/// A session with the host and all that serves it, not attached to the tree yet. Dropping it undoes everything.
pub struct Prepared {
    config: MountConfig,
    lock: Lock,
    lane: Lane,
    client: Client,
    pool: Pool,
    l1: L1,
    l2: Option<L2>,
    vfs: Vfs,
    notes: Option<Notes>,
}

/// A mounted share. Dropping it detaches the mount, and waits a little for its session to end.
pub struct Mounted {
    info: MountInfo,
    client: Client,
    lane: Option<Lane>,
    l2: Option<L2>,
    notes: Option<Notes>,
    ended: watch::Receiver<bool>,
    /// Closes when the session's thread ends.
    gone: mpsc::Receiver<()>,
    control: Option<control::Server>,
    /// What status and metrics show; gone once it ends.
    report: Option<Arc<dyn Fn() -> Report + Send + Sync>>,
    /// How long a drop waits for the session to end.
    drop_patience: Duration,
    stats: Arc<Stats>,
}

/// A refusal in words as clear as this machine can find: the host gives no reason, but the ticket says when it ends. Only
/// then, since this machine's clock may be wrong.
fn refusal(error: ConnectError, expires: u64) -> MountError {
    match (&error, not_expired(expires)) {
        (ConnectError::Refused, Err(expired)) => expired,
        _ => MountError::Connect(error),
    }
}

/// Whether a ticket's time is over, by this machine's clock.
fn not_expired(expires: u64) -> Result<(), MountError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if expires == 0 || expires > now {
        return Ok(());
    }
    Err(MountError::Expired { end: engine::tickets::date::utc(expires) })
}

/// Checks the mountpoint, then connects to the host. A dropped future leaves nothing behind.
///
/// # Errors
/// A [`MountError`] that says what to do.
pub async fn connect(mut config: MountConfig) -> Result<Prepared, MountError> {
    let (mountpoint, lock) = claim(&config.mountpoint)?;
    config.mountpoint = mountpoint;
    mountpoint::check_device()?;
    let pool = pool(config.memory_bytes)?;
    let lane = Lane::start("wormhole-quic").map_err(MountError::Thread)?;
    let label = mountpoint::label(&config.mountpoint, limits::NAME_BYTES_MAX);
    let on_loss = match config.on_disconnect {
        OnDisconnect::Block => OnLoss::Wait,
        OnDisconnect::Fail | OnDisconnect::Stale => OnLoss::Fail,
    };
    let key_log = config.key_log.clone();
    let client_config = ClientConfig { label, on_loss, key_log, ..ClientConfig::default() };
    let mut memory = offline::recall(&config).await;
    // Where the host may stay away: the disk cache is looked through while that is waited for.
    let opens_first = memory.is_some();
    let mut l2 = if opens_first { disk::open(config.cache.as_ref(), &pool).await } else { None };
    let client = offline::connect(&config, client_config, &lane, memory.as_mut()).await?;
    if !opens_first {
        l2 = disk::open(config.cache.as_ref(), &pool).await;
    }
    let root = choose(&client.welcome(), config.share.as_ref())?;
    let stats = Arc::new(Stats::default());
    let l1 = L1::new(pool.clone());
    if let (Some(_), Some(l2)) = (client.loss(), &l2) {
        disk::loaded(l2).await;
    }
    let read_config = ReadConfig {
        host_key: config.ticket.host_key,
        ahead_deadline: config.deadline,
        limits: windows(config.memory_bytes),
        l2: l2.clone(),
    };
    let reads = ReadPath::new(client.clone(), l1.clone(), lane.handle(), read_config, stats.clone());
    let parts = VfsParts { client: client.clone(), lane: lane.handle(), root, reads, stats };
    lane.handle().spawn(bound::watch(client.clone(), parts.stats.clone()));
    let vfs = Vfs::new(parts);
    lane.handle().spawn(idle::watch(vfs.clone()));
    let notes = memory.map(|memory| Notes::start(&vfs, &lane, memory));
    if config.on_disconnect == OnDisconnect::Stale {
        vfs.keep_last_known(LastKnown::new(KNOWN_BYTES_MAX));
    }
    let asking = vfs.clone();
    let statfs = async move { asking.refresh_statfs(Instant::now() + CLOSE_PATIENCE).await };
    // Shown as zeroes until the next try.
    if client.loss().is_none() && !matches!(lane.handle().spawn(statfs).await, Ok(Ok(()))) {
        tracing::warn!("the host did not tell the state of its file system");
    }
    Ok(Prepared { config, lock, lane, client, pool, l1, l2, vfs, notes })
}

/// The mountpoint, free of dead mounts of ours, and the right to mount there.
fn claim(path: &Path) -> Result<(PathBuf, Lock), MountError> {
    // Where nothing can be resolved, the check says why.
    let Ok(name) = mountpoint::name(path) else {
        return Ok((mountpoint::check(path)?, Lock::none()));
    };
    let lock = Lock::take(&control::dir(), &name)?;
    mountpoint::recover(&name)?;
    Ok((mountpoint::check(path)?, lock))
}

fn pool(memory_bytes: u64) -> Result<Pool, MountError> {
    let whole = memory_bytes - memory_bytes % EXTENT_BYTES;
    let capacity_bytes = usize::try_from(whole).unwrap_or(usize::MAX);
    Pool::new(PoolConfig::with_capacity(capacity_bytes)).map_err(MountError::Memory)
}

/// How far one reader may be served ahead: never more than a quarter of the memory, so that several can be.
fn windows(memory_bytes: u64) -> Limits {
    let max = (memory_bytes / 4).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX);
    Limits { window_bytes_min: WINDOW_BYTES_MIN, window_bytes_max: max - max % EXTENT_BYTES }
}

/// What to mount of the shares that the ticket opens: the one named, the only one, or a folder of all.
fn choose(welcome: &Welcome, wanted: Option<&Name>) -> Result<MountRoot, MountError> {
    let mut shares = shares::usable(welcome);
    match (wanted, shares.len()) {
        (Some(name), _) => match shares.iter().position(|share| share.name == *name) {
            Some(index) => Ok(MountRoot::Share(shares.swap_remove(index))),
            None => {
                let names = shares.iter().map(|share| share.name.to_string()).collect::<Vec<_>>().join(", ");
                Err(MountError::UnknownShare { name: name.to_string(), names })
            }
        },
        (None, 0) => Err(MountError::NoShare),
        (None, 1) => Ok(MountRoot::Share(shares.swap_remove(0))),
        (None, _) => Ok(MountRoot::Folder {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            made: now(),
        }),
    }
}

fn now() -> Timestamp {
    // clock: the times that a folder of the mount's own shows.
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp { secs: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() }
}

impl Prepared {
    /// Attaches the share to the tree. Blocks for as long as mount(2) takes.
    ///
    /// # Errors
    /// [`MountError::Attach`], [`MountError::NoFusermount`], [`MountError::Thread`].
    pub fn attach(self) -> Result<Mounted, MountError> {
        // The lock is held until the mount is in the table, where others find it.
        let Prepared { config, lock: _lock, lane, client, pool, l1, l2, vfs, notes } = self;
        let path = &config.mountpoint;
        let failed = |source: io::Error| MountError::Attach { path: path.clone(), source };
        let adapter = Adapter::new(vfs.clone(), lane.handle(), config.deadline);
        let session =
            Session::new(adapter, path, &fuse_config(&config)).map_err(|error| match error.kind() {
                // The mountpoint was there a moment ago, so what is missing is the helper.
                io::ErrorKind::NotFound => MountError::NoFusermount,
                _ => failed(error),
            })?;
        // From here on a failure drops the session, and with it the mount.
        let info = mountinfo::at(path)
            .map_err(failed)?
            .filter(MountInfo::is_ours)
            .ok_or_else(|| failed(io::Error::other("the new mount is not in the mount table")))?;
        let device = session.as_fd().try_clone_to_owned().map_err(failed)?;
        let kernel = Kernel::start(session.notifier(), device, vfs.in_use_later());
        vfs.attach_kernel(Box::new(kernel.map_err(MountError::Thread)?));
        let pruning = prune::start(vfs.clone(), session.notifier()).map_err(MountError::Thread)?;
        let session = session.spawn().map_err(failed)?;
        let (tell, ended) = watch::channel(false);
        let (alive, gone) = mpsc::channel();
        thread::Builder::new()
            .name("wormhole-session".to_owned())
            .spawn(move || {
                serve(session, &tell, alive);
                drop(pruning);
            })
            .map_err(MountError::Thread)?;
        let lane_handle = lane.handle();
        let began_with = notes.as_ref().and_then(|notes| notes.began_with);
        let mut mounted = Mounted {
            info,
            client: client.clone(),
            lane: Some(lane),
            l2,
            notes,
            ended,
            gone,
            control: None,
            report: None,
            drop_patience: DROP_PATIENCE,
            stats: vfs.stats().clone(),
        };
        let read_ahead_error =
            bdi::raise_read_ahead(&mounted.info.device).err().map(|error| error.to_string());
        if let Some(error) = &read_ahead_error {
            tracing::warn!(%error, "the kernel's read-ahead stays small; sequential reads are slower for it");
        }
        let reporter = Reporter::new(mounted.info.clone(), &config, (read_ahead_error, began_with));
        let keeper = Keeper::new(vfs.clone(), lane_handle, config.deadline, pool.stats().capacity_bytes);
        let report: Arc<dyn Fn() -> Report + Send + Sync> =
            Arc::new(move || reporter.report(&client, &vfs, &pool, &l1));
        mounted.report = Some(report.clone());
        let name = format!("{}-{}", std::process::id(), mounted.info.id);
        match control::Server::start(&control::dir(), &name, move || report(), Some(keeper)) {
            Ok(server) => mounted.control = Some(server),
            // A mount without a status is still a mount.
            Err(error) => tracing::warn!(%error, "`wormhole status` will not show this mount"),
        }
        Ok(mounted)
    }

    /// Where it will be mounted.
    pub fn mountpoint(&self) -> &Path {
        &self.config.mountpoint
    }

    /// The shares that will be mounted, as people are told of them: their names.
    pub fn share(&self) -> String {
        report::names(&self.vfs)
    }
}

fn fuse_config(config: &MountConfig) -> Config {
    let flags = config.flags;
    let mut fuse = Config::default();
    fuse.mount_options = vec![
        MountOption::FSName(SOURCE.to_owned()),
        // fuser passes its own `Subtype` to fusermount alone; this way root's mounts are called fuse.wormhole too.
        MountOption::CUSTOM("subtype=wormhole".to_owned()),
        MountOption::RO,
        MountOption::DefaultPermissions,
        MountOption::NoAtime,
        if flags.suid { MountOption::Suid } else { MountOption::NoSuid },
        if flags.dev { MountOption::Dev } else { MountOption::NoDev },
        if flags.noexec { MountOption::NoExec } else { MountOption::Exec },
    ];
    fuse.acl = match config.access {
        Access::Owner => SessionACL::Owner,
        Access::Everyone => SessionACL::All,
    };
    fuse.n_threads = Some(FUSE_THREADS);
    fuse
}

/// Waits for the kernel to end the session: the mount is gone from every tree and nothing of it is open.
fn serve(session: BackgroundSession, tell: &watch::Sender<bool>, alive: mpsc::Sender<()>) {
    match session.join() {
        Ok(()) => tracing::debug!("the kernel ended the session"),
        Err(error) => tracing::warn!(%error, "the FUSE session failed"),
    }
    tell.send_replace(true);
    drop(alive);
}

impl Mounted {
    /// Where it is.
    pub fn mountpoint(&self) -> &Path {
        &self.info.mountpoint
    }

    /// The mount as the kernel's table has it.
    pub fn info(&self) -> &MountInfo {
        &self.info
    }

    /// The mount at this moment; nothing is asked of host or kernel. `None` once it ends.
    pub fn report(&self) -> Option<Report> {
        self.report.as_ref().map(|report| report())
    }

    /// Its counters.
    pub fn stats(&self) -> Arc<Stats> {
        self.stats.clone()
    }

    /// The same for as long as it is mounted, for another task.
    pub fn reporter(&self) -> impl Fn() -> Option<Report> + Send + Sync + 'static {
        let report = self.report.as_ref().map(Arc::downgrade);
        move || report.as_ref()?.upgrade().map(|report| report())
    }

    /// Waits until nothing of the mount is left: unmounted by whomever, and closed by all. Has no deadline: that is
    /// what a mount is for.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        // An error means that the session's thread is gone, and the session with it.
        let _ = ended.wait_for(|&ended| ended).await;
    }

    /// Takes it off the tree.
    ///
    /// # Errors
    /// [`MountError::Busy`] when a program uses it and `how` does not allow for that, or why it cannot be done.
    pub fn detach(&self, how: Detach) -> Result<(), MountError> {
        unmount::detach(&self.info, how)
    }

    /// Whether it is still in the table, also where the session ended by an abort: that leaves a dead mount behind.
    fn is_attached(&self) -> bool {
        let is_listed = mountinfo::all().is_ok_and(|all| all.contains(&self.info));
        // The kernel gives number and device to the next mount as soon as this one has ended.
        is_listed && (!*self.ended.borrow() || mountpoint::is_dead_mount(&self.info))
    }

    /// Says goodbye to the host, and stops every thread. What still waits for an answer gets an I/O error.
    pub async fn finish(mut self) {
        self.control = None;
        self.report = None;
        self.drop_patience = Duration::ZERO;
        if let Some(lane) = &self.lane {
            let client = self.client.clone();
            let closing = lane.handle().spawn(async move { timeout(CLOSE_PATIENCE, client.close()).await });
            if !matches!(closing.await, Ok(Ok(()))) {
                tracing::debug!("the host was not told of the end of the session; it will notice");
            }
            tracing::debug!("said goodbye to the host");
        }
        if let Some(notes) = self.notes.take() {
            notes.finish().await;
        }
        if let Some(l2) = self.l2.take() {
            disk::close(&l2).await;
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.control = None;
        self.report = None;
        if self.is_attached()
            && let Err(error) = self.detach(Detach::Lazily)
        {
            tracing::warn!(%error, "the mount stays behind");
        }
        // In use by somebody: then it ends with him, or with this process.
        if self.gone.recv_timeout(self.drop_patience) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!("programs still use the detached mount");
        }
        if let Some(lane) = self.lane.take() {
            lane.stop();
            tracing::debug!("the lane has stopped");
        }
    }
}

#[cfg(test)]
mod tests;
