//! A host without threads of its own, for simulations: on the caller's runtime, over an in-memory link and a disk that
//! fails, with the times that the simulation gives its files.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
};

use transport::{
    BindError, Server, ServerConfig,
    testing::{self, Link},
};
use uring::{Pool, PoolConfig, RingConfig, RingStats, testing::FaultyDisk};
use wire::Ticket;

pub use crate::attr::times::{FileTimes, TimesGuard};
use crate::{
    config::ShareConfig,
    disk::Disk,
    error::HostError,
    files::OpenFiles,
    host,
    metrics::Metrics,
    service::Service,
    tickets::{Door, Tickets},
    turns::Turns,
    watch::Watches,
    work::Work,
};

/// What a simulated host is made of.
#[derive(Debug)]
pub struct HostParts {
    /// What it serves.
    pub shares: Vec<ShareConfig>,
    /// From which its tickets follow: equal keys, equal tickets.
    pub ticket_key: [u8; 32],
    /// The number of this run.
    pub boot: u64,
    /// Bytes of buffers for reads, in whole MiB.
    pub memory_bytes: usize,
    /// Files kept open between requests.
    pub files_open_max: usize,
    /// Serves reads, and says how long any other work on the disk takes.
    pub disk: FaultyDisk,
}

/// A host that runs where its caller does; dropped, it is gone.
pub struct SimulatedHost {
    service: Arc<Service>,
}

impl SimulatedHost {
    /// Makes a host; call it in a runtime. It serves nobody before [`SimulatedHost::serve`].
    ///
    /// # Errors
    /// As [`host::Host::start`].
    pub fn new(parts: HostParts) -> Result<SimulatedHost, HostError> {
        let HostParts { shares, ticket_key, boot, memory_bytes, files_open_max, disk } = parts;
        let disk = Disk {
            pool: Pool::new(PoolConfig::with_capacity(memory_bytes))?,
            ring: disk.ring(RingConfig::default()),
            files: OpenFiles::new(files_open_max),
            work: Work::simulated(disk),
            hashing: Turns::of_host(),
            metrics: Metrics::new(),
        };
        let service = Arc::new(Service {
            shares: host::open_shares(&shares)?,
            tickets: Tickets::in_memory(ticket_key),
            disk,
            watches: Watches::off(),
            boot,
            sessions: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        tokio::spawn(host::sweep(Arc::downgrade(&service)));
        Ok(SimulatedHost { service })
    }

    /// Serves at an address of the link.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub fn serve(&self, link: &Link, address: SocketAddr, config: ServerConfig) -> Result<Server, BindError> {
        testing::serve(link, address, config, Arc::clone(&self.service))
    }

    /// The ticket of everything, for a host with this key at these addresses.
    pub fn ticket(&self, host_key: [u8; 32], addresses: Vec<String>) -> Ticket {
        let tickets = &self.service.tickets;
        tickets.issue(tickets.first(), &Door { host_key, addresses })
    }

    /// Its buffers.
    pub fn pool(&self) -> Pool {
        self.service.disk.pool.clone()
    }

    /// What its disk does now.
    pub fn ring_stats(&self) -> RingStats {
        self.service.disk.ring.stats()
    }
}

impl fmt::Debug for SimulatedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedHost").field("disk", &self.ring_stats()).finish_non_exhaustive()
    }
}
