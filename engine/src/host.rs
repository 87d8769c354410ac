//! The host: owns shares, ring, buffers, network thread and server; starts them, drains them, stops them.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, atomic::AtomicU64, mpsc},
    time::Duration,
};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use tokio::time::Instant;
use transport::{Identity, Lane, Server, ServerConfig};
use uring::{Backend, Pool, PoolConfig, Ring, RingConfig};
use wire::{Name, ShareId, Ticket, TicketId, auth::Claims};

use crate::{
    advertise,
    config::{HostConfig, ShareConfig},
    control::{desk::Desk, server::Control},
    disk::Disk,
    error::{HostError, TicketError},
    files::OpenFiles,
    metrics::{self, Metrics, show_backend},
    service::Service,
    share::Share,
    state::StateDir,
    status::{HostStatus, ShareStatus},
    tickets::{Door, TicketInfo, TicketRequest, Tickets},
    turns::Turns,
    watch::Watches,
    work::Work,
};

/// How often idle files are closed and idle memory is given back.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// How long a starting host waits for the state directory.
const LOCK_DEADLINE: Duration = Duration::from_secs(1);
/// Between two looks at it.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A running host. Dropped without [`Host::stop`] it cuts its sessions.
pub struct Host {
    // `None` where the state directory's file system has no sockets.
    control: Option<Control>,
    desk: Arc<Desk>,
    lane: Lane,
    ticket: Ticket,
    stop_deadline: Duration,
    // Last: the lock goes when nothing serves any more.
    _state: StateDir,
}

impl Host {
    /// Starts serving. Blocks for the disk and the key, a few milliseconds; call it outside of an async runtime.
    ///
    /// # Errors
    /// A [`HostError`] that says what to do; then nothing is left running.
    pub fn start(config: HostConfig) -> Result<Host, HostError> {
        config.validate()?;
        let shares = open_shares(&config.shares)?;
        let state = open_state(&config.state_dir)?;
        let identity = state.identity()?;
        let tickets = Tickets::open(state.ticket_key()?, &config.state_dir)?;
        let disk = open_disk(&config)?;
        let service = Arc::new(Service {
            shares,
            tickets,
            disk,
            watches: Watches::new(config.watches_max),
            boot: boot_number()?,
            sessions: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        let host_key = identity.public_key();
        let lane = Lane::start("wormhole-host").map_err(HostError::Thread)?;
        let server = Arc::new(bind(&lane, &config, identity, &service)?);
        let addresses = match config.advertise.is_empty() {
            true => advertise::addresses(&server.local_addrs())?,
            false => config.advertise,
        };
        let desk = Arc::new(Desk {
            service: Arc::clone(&service),
            server,
            door: Door { host_key, addresses },
            shares: config.shares.iter().map(ShareStatus::of).collect(),
            limits: config.limits,
            files_open_max: config.files_open_max,
            started: Instant::now(),
        });
        service.tickets.begin(&desk.door.addresses, &desk.share_names())?;
        let ticket = service.tickets.issue(service.tickets.first(), &desk.door);
        let backend = service.disk.ring.backend();
        show_backend(&backend);
        // Not when the ring starts: a host that fails later says one line, the one that matters.
        if let Backend::Blocking { reason } = &backend {
            tracing::warn!(%reason, "io_uring is refused; reading with blocking threads instead");
        }
        lane.handle().spawn(Arc::clone(&service.watches).attend());
        lane.handle().spawn(sweep(Arc::downgrade(&service)));
        let control = open_control(&lane, &config.state_dir, &desk);
        Ok(Host { control, desk, lane, ticket, stop_deadline: config.stop_deadline, _state: state })
    }

    /// The ticket that opens every share and never ends; the same after a restart with the same state directory, its
    /// addresses apart, until it is revoked.
    pub fn ticket(&self) -> Ticket {
        self.ticket.clone()
    }

    /// A ticket of any claims, for the same addresses; it is not in the list.
    pub fn issue(&self, claims: Claims) -> Ticket {
        self.desk.service.tickets.issue(claims, &self.desk.door)
    }

    /// Makes a ticket that is in the list. Waits for the disk; call it outside of an async runtime.
    ///
    /// # Errors
    /// When it names what the host does not have, or cannot be written down.
    pub fn new_ticket(&self, request: &TicketRequest) -> Result<Ticket, TicketError> {
        self.lane.handle().block_on(self.desk.check_folder(request))?;
        self.desk.create(request)
    }

    /// The tickets of the list by their id, with the mounts that are connected with each.
    pub fn tickets(&self) -> Vec<TicketInfo> {
        let mut all: Vec<TicketInfo> = Vec::new();
        // At most `TICKETS_MAX` of them, a page at a time.
        loop {
            let page = self.desk.page(all.last().map(|info| info.id));
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }

    /// Ends a ticket for good, also one that is not in the list. Waits for the disk, and says how many sessions ended.
    ///
    /// # Errors
    /// When that could not be written down: then it holds until the host stops.
    pub fn revoke(&self, id: TicketId) -> Result<usize, TicketError> {
        let revoked = self.desk.service.tickets.revoke(&[id])?;
        Ok(revoked.iter().map(|revoked| revoked.sessions).sum())
    }

    /// Where it listens, with the real ports.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.desk.server.local_addrs()
    }

    /// The names of its shares.
    pub fn share_names(&self) -> Vec<Name> {
        self.desk.share_names()
    }

    /// Brings up to date the metrics that are not counted as they happen, and writes out those of stages; nothing once the
    /// host has stopped.
    pub fn sampler(&self) -> impl Fn() -> String + Send + Sync + 'static {
        let desk = Arc::downgrade(&self.desk);
        move || {
            let Some(desk) = desk.upgrade() else { return String::new() };
            sample(&desk.service);
            let paths = desk.server.paths();
            desk.service.disk.metrics.server.show(&desk.server.usage(), &paths);
            metrics::stages(&desk.server.stages())
        }
    }

    /// Mounts connected now.
    pub fn sessions(&self) -> usize {
        self.desk.server.sessions()
    }

    /// How it stands, as `wormhole-engine status` shows it.
    pub fn status(&self) -> HostStatus {
        self.desk.status()
    }

    /// What reads the disk, and why not io_uring where it is not.
    pub fn backend(&self) -> Backend {
        self.desk.service.disk.ring.backend()
    }

    /// Ends the sessions, waits for reads in progress, and stops; at most twice [`HostConfig::stop_deadline`].
    ///
    /// # Errors
    /// What was still in progress at the deadline; the process should then exit.
    pub fn stop(self) -> Result<(), HostError> {
        let Host { control, desk, lane, stop_deadline, _state, .. } = self;
        drop(control);
        let (server, service) = (Arc::clone(&desk.server), Arc::clone(&desk.service));
        let addresses = server.local_addrs();
        let ring = service.disk.ring.clone();
        let (done, finished) = mpsc::channel();
        lane.handle().spawn(async move {
            server.shutdown(stop_deadline).await;
            drop(server);
            // The receiver is gone past its deadline, and then nobody asks.
            let _ = done.send(());
        });
        // A margin over the server's own deadline: this one only guards against a lane that does not run.
        let ended = finished.recv_timeout(stop_deadline + Duration::from_millis(500));
        service.disk.work.close();
        save_tickets(&service.tickets);
        let (drained, is_drained) = mpsc::channel();
        lane.handle().spawn(async move {
            let _ = drained.send(ring.shutdown().await);
        });
        let drained = is_drained.recv_timeout(stop_deadline + Duration::from_millis(500));
        drop((desk, service));
        lane.stop();
        if ended.is_err() {
            return Err(HostError::StopDeadline { addresses });
        }
        match drained {
            Ok(result) => Ok(result?),
            Err(_) => Err(HostError::StopDeadline { addresses }),
        }
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("addresses", &self.local_addrs())
            .field("ticket", &self.ticket.claims.id)
            .finish_non_exhaustive()
    }
}

pub(crate) fn open_shares(shares: &[ShareConfig]) -> Result<Vec<Arc<Share>>, HostError> {
    let ids = (0..).map(ShareId);
    ids.zip(shares).map(|(id, share)| Share::open(id, share).map(Arc::new)).collect()
}

fn open_disk(config: &HostConfig) -> Result<Disk, HostError> {
    let capacity_bytes = config.memory_bytes >> 20 << 20;
    let ring = RingConfig { drain_deadline: config.stop_deadline, ..RingConfig::default() };
    Ok(Disk {
        pool: Pool::new(PoolConfig::with_capacity(capacity_bytes))?,
        ring: Ring::start(ring)?,
        files: OpenFiles::new(config.files_open_max),
        work: Work::new(),
        hashing: Turns::of_host(),
        metrics: Metrics::new(),
    })
}

fn bind(
    lane: &Lane,
    config: &HostConfig,
    identity: Identity,
    service: &Arc<Service>,
) -> Result<Server, HostError> {
    // Sockets register with the runtime they are made on.
    let _runtime = lane.handle().enter();
    let server = ServerConfig {
        listen: config.listen.clone(),
        limits: config.limits.clone(),
        key_log: config.key_log.clone(),
        ..ServerConfig::new(identity)
    };
    Server::bind(server, Arc::clone(service)).map_err(HostError::Bind)
}

/// The owner's socket. Without it the host serves all the same, and its owner stops it to revoke a ticket.
fn open_control(lane: &Lane, state_dir: &Path, desk: &Arc<Desk>) -> Option<Control> {
    match Control::start(lane, state_dir, Arc::clone(desk)) {
        Ok(control) => Some(control),
        Err(error) => {
            tracing::warn!(
                %error,
                "no control socket in the state directory: tickets can be made, listed and revoked only while the host is \
                 stopped; another --state-dir, on a local file system, mends that"
            );
            None
        }
    }
}

/// Opens the state directory. A command about tickets may have it for a moment; another host has it for good.
fn open_state(path: &Path) -> Result<StateDir, HostError> {
    let until = Instant::now() + LOCK_DEADLINE;
    loop {
        match StateDir::open(path) {
            Err(HostError::StateLocked { .. }) if Instant::now() < until => std::thread::sleep(LOCK_PAUSE),
            outcome => return outcome,
        }
    }
}

/// A number that tells this run of the host from every other.
fn boot_number() -> Result<u64, HostError> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| HostError::Kernel {
        what: "random numbers",
        source: std::io::Error::other("getrandom(2) failed"),
    })?;
    Ok(u64::from_le_bytes(bytes))
}

/// Writes down when tickets were last used, and whatever else could not be written before.
fn save_tickets(tickets: &Tickets) {
    if let Err(error) = tickets.save() {
        tracing::warn!(%error, "the list of tickets could not be written: the last use of some is not known after a restart");
    }
}

/// Closes idle files and gives idle memory back, until the host is gone.
pub(crate) async fn sweep(service: std::sync::Weak<Service>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(service) = service.upgrade() else { return };
        let Disk { pool, files, .. } = &service.disk;
        files.sweep(Instant::now());
        if pool.stats().lent_bytes == 0 {
            pool.trim();
        }
        sample(&service);
        save_lately(&service).await;
    }
}

/// Writes down what changed in the list of tickets, on a thread that may wait for the disk.
async fn save_lately(service: &Arc<Service>) {
    if !service.tickets.is_unsaved() {
        return;
    }
    let saving = Arc::clone(service);
    let save = move || {
        save_tickets(&saving.tickets);
        Ok(())
    };
    // Late or not at all: the next round tries again.
    let _ = service.disk.work.run(Instant::now() + SWEEP_EVERY, save).await;
}

/// Shows what is in use now.
fn sample(service: &Service) {
    let Disk { pool, files, metrics, .. } = &service.disk;
    metrics.watch.show(&service.watches.usage());
    // Both are far below 2^53.
    metrics.files_open.set(files.len() as f64);
    metrics.lent_bytes.set(pool.stats().lent_bytes as f64);
}
