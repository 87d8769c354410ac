//! The host: owns shares, ring, buffers, network thread and server; starts them, drains them, stops them.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64, mpsc},
    time::Duration,
};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::time::Instant;
use transport::{Identity, Lane, Server, ServerConfig};
use uring::{Backend, Pool, PoolConfig, Ring, RingConfig};
use wire::{Name, ShareId, Ticket, auth::Claims};

use crate::{
    advertise,
    config::{HostConfig, ShareConfig},
    disk::Disk,
    error::HostError,
    files::OpenFiles,
    metrics::{Metrics, show_backend},
    service::Service,
    share::Share,
    state::StateDir,
    tickets::Tickets,
    work::Work,
};

/// How often idle files are closed and idle memory is given back.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// A running host. Dropped without [`Host::stop`] it cuts its sessions.
pub struct Host {
    server: Arc<Server>,
    service: Arc<Service>,
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
        let state = StateDir::open(&config.state_dir)?;
        let identity = state.identity()?;
        let tickets = Tickets::new(state.ticket_key()?);
        let disk = open_disk(&config)?;
        let service =
            Arc::new(Service { shares, tickets, disk, boot: boot_number()?, sessions: AtomicU64::new(0) });
        let host_key = identity.public_key();
        let lane = Lane::start("wormhole-host").map_err(HostError::Thread)?;
        let server = bind(&lane, &config, identity, &service)?;
        let addresses = match config.advertise.is_empty() {
            true => advertise::addresses(&server.local_addrs())?,
            false => config.advertise,
        };
        let ticket = service.tickets.issue(service.tickets.first(), host_key, addresses);
        let backend = service.disk.ring.backend();
        show_backend(&backend);
        // Not when the ring starts: a host that fails later says one line, the one that matters.
        if let Backend::Blocking { reason } = &backend {
            tracing::warn!(%reason, "io_uring is refused; reading with blocking threads instead");
        }
        lane.handle().spawn(sweep(Arc::downgrade(&service)));
        Ok(Host {
            server: Arc::new(server),
            service,
            lane,
            ticket,
            stop_deadline: config.stop_deadline,
            _state: state,
        })
    }

    /// The ticket that opens every share and never ends; the same after a restart with the same state directory, its
    /// addresses apart.
    pub fn ticket(&self) -> Ticket {
        self.ticket.clone()
    }

    /// A ticket of other claims, for the same addresses.
    pub fn issue(&self, claims: Claims) -> Ticket {
        let Ticket { host_key, addresses, .. } = self.ticket.clone();
        self.service.tickets.issue(claims, host_key, addresses)
    }

    /// Where it listens, with the real ports.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.server.local_addrs()
    }

    /// The names of its shares.
    pub fn share_names(&self) -> Vec<Name> {
        self.service.shares.iter().map(|share| share.name.clone()).collect()
    }

    /// Mounts connected now.
    pub fn sessions(&self) -> usize {
        self.server.sessions()
    }

    /// What reads the disk, and why not io_uring where it is not.
    pub fn backend(&self) -> Backend {
        self.service.disk.ring.backend()
    }

    /// Ends the sessions, waits for reads in progress, and stops; at most twice [`HostConfig::stop_deadline`].
    ///
    /// # Errors
    /// What was still in progress at the deadline; the process should then exit.
    pub fn stop(self) -> Result<(), HostError> {
        let Host { server, service, lane, stop_deadline, .. } = self;
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
        let (drained, is_drained) = mpsc::channel();
        lane.handle().spawn(async move {
            let _ = drained.send(ring.shutdown().await);
        });
        let drained = is_drained.recv_timeout(stop_deadline + Duration::from_millis(500));
        drop(service);
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
        ..ServerConfig::new(identity)
    };
    Server::bind(server, Arc::clone(service)).map_err(HostError::Bind)
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

/// Closes idle files and gives idle memory back, until the host is gone.
pub(crate) async fn sweep(service: std::sync::Weak<Service>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(service) = service.upgrade() else { return };
        let Disk { pool, files, metrics, .. } = &service.disk;
        files.sweep(Instant::now());
        let lent = pool.stats().lent_bytes;
        if lent == 0 {
            pool.trim();
        }
        // Both are far below 2^53.
        metrics.files_open.set(files.len() as f64);
        metrics.lent_bytes.set(lent as f64);
    }
}
