//! How a host stands at one moment, as `wormhole-engine status` shows it.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::{Deserialize, Serialize};
use transport::waits::Waits;
use uring::Backend;
use wire::bound::Bound;

use crate::{config::ShareConfig, stages::StageStatus, watch::usage::WatchUsage};

/// A host at one moment. Totals begin at zero when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Of the program.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// What its tickets say.
    pub addresses: Vec<String>,
    /// Where it listens.
    pub listening: Vec<SocketAddr>,
    /// What it serves.
    pub shares: Vec<ShareStatus>,
    /// What reads the disk: `io_uring`, or `blocking threads` and why.
    pub disk: String,
    /// Memory for reads in progress.
    pub memory: MemoryStatus,
    /// What is watched for the leases of mounts.
    #[serde(default)]
    pub watch: WatchStatus,
    /// Requests that wait until their answer fits into the bounds.
    pub requests_waiting: u64,
    /// The mounts that are connected, in the order they came.
    pub sessions: Vec<SessionStatus>,
    /// Where the time of reads went, of all mounts since the start.
    #[serde(default)]
    pub stages: Vec<StageStatus>,
    /// Every bound with its present use.
    pub limits: Vec<LimitStatus>,
    /// What happened since the start.
    pub totals: Totals,
}

/// A share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareStatus {
    /// Its name.
    pub name: String,
    /// The folder.
    pub folder: String,
    /// Patterns of what of it is not served.
    pub exclude: Vec<String>,
    /// Patterns of the files that are, where not all are.
    pub include: Vec<String>,
}

/// Memory for reads in progress, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStatus {
    /// The budget.
    pub capacity_bytes: u64,
    /// Lent to reads now.
    pub lent_bytes: u64,
    /// At most so much of it is taken from the system.
    pub resident_bytes: u64,
    /// Reads that wait for some.
    pub waiting: u64,
}

/// A mount that is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Its number, as the log has it.
    pub session: u64,
    /// What it calls itself.
    pub label: String,
    /// Where it is.
    pub peer: SocketAddr,
    /// The id of its ticket.
    pub ticket: String,
    /// What the ticket is called; empty where it is not in the list.
    pub ticket_label: String,
    /// For how long it has been connected, in seconds.
    pub connected_s: u64,
    /// Requests taken up.
    pub requests: u64,
    /// Bytes sent to it, packets and all.
    pub sent_bytes: u64,
    /// The round trip in microseconds.
    pub rtt_us: u64,
    /// Packets to it that were lost.
    pub lost_packets: u64,
    /// Its requests that are read, sent or not yet acked.
    pub requests_in_flight: u64,
    /// Bytes of answers to it that are read, sent or not yet acked.
    pub answer_bytes_in_flight: u64,
    /// What bounded it in the last seconds.
    #[serde(default)]
    pub bound: BoundStatus,
}

/// The folders watched for the leases of mounts, who are told of changes there at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchStatus {
    /// Folders watched, those on the way to leased ones included.
    pub watches: u64,
    /// Leases of all mounts.
    pub leases: u64,
    /// Messages to mounts since the start.
    pub pushes: u64,
    /// Leases called back since the start.
    pub revoked: u64,
    /// Leases refused since the start for want of a watch.
    pub refused: u64,
    /// Times since the start that the kernel dropped events, and all leases were called back.
    pub overflows: u64,
    /// Why nothing is watched; empty where it is.
    pub failed: String,
}

impl WatchStatus {
    pub(crate) fn of(usage: &WatchUsage) -> WatchStatus {
        let WatchUsage { watches, leases, failed, counts, .. } = usage;
        WatchStatus {
            watches: *watches as u64,
            leases: *leases as u64,
            pushes: counts.pushes,
            revoked: counts.revoked,
            refused: counts.refused,
            overflows: counts.overflows,
            failed: failed.map(|errno| format!("no inotify: {errno}")).unwrap_or_default(),
        }
    }
}

/// What bounded a session in the last seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundStatus {
    /// Its name: METRICS.md, `host_sessions_bound`; empty where it is not known yet.
    pub name: String,
    /// The same for people.
    pub words: String,
    /// Of the last seconds, the part in which each held, in thousandths; those that did not hold are left out. They
    /// overlap: a window that is full makes others wait.
    pub per_mille: BTreeMap<String, u64>,
}

impl BoundStatus {
    /// A bound, and the times it was found from.
    pub fn of(bound: Option<Bound>, waits: &Waits) -> BoundStatus {
        let parts = Bound::all().map(|bound| (bound.as_str().to_owned(), waits.per_mille(bound)));
        BoundStatus {
            name: bound.map_or("", Bound::as_str).to_owned(),
            words: bound.map(|bound| bound.to_string()).unwrap_or_default(),
            per_mille: parts.filter(|(_, part)| *part > 0).collect(),
        }
    }
}

/// A bound and how much of it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitStatus {
    /// What is bounded.
    pub name: String,
    /// The unit of both numbers.
    pub unit: String,
    /// The use now; of a bound for each mount, the largest of any. `None` where it is not a quantity in use.
    pub used: Option<u64>,
    /// The bound; `None` for no bound.
    pub max: Option<u64>,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Mounts let in.
    pub admitted: u64,
    /// Mounts turned away because of their ticket.
    pub refused: u64,
    /// Requests and mounts that were told to come again later.
    pub busy: u64,
    /// New connections that were over the rate of their address.
    pub handshakes_limited: u64,
    /// Requests and connections that broke the protocol.
    pub violations: u64,
}

impl ShareStatus {
    pub(crate) fn of(share: &ShareConfig) -> ShareStatus {
        ShareStatus {
            name: share.name.to_string(),
            folder: share.root.display().to_string(),
            exclude: share.exclude.clone(),
            include: share.include.clone(),
        }
    }
}

/// What reads the disk, in words.
pub(crate) fn disk(backend: &Backend) -> String {
    match backend {
        Backend::Uring => "io_uring".to_owned(),
        Backend::Blocking { reason } => format!("blocking threads, because of {reason}"),
    }
}
