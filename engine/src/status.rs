//! How a host stands at one moment, as `wormhole-engine status` shows it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use transport::{PathStats, ServerLimits};
use uring::Backend;

use crate::{control::desk::Desk, tickets::Occupant};

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
    /// The mounts that are connected, in the order they came.
    pub sessions: Vec<SessionStatus>,
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
