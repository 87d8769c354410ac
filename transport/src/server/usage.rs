//! What a host's peers use up now.

use std::net::SocketAddr;

use quinn::Connection;
use wire::bound::Bound;

use super::{admission::Tally, watch::Watch};
use crate::{
    congestion::{self, Congestion},
    waits::Waits,
};

/// What is held and counted, of all sessions together. Requests that wait hold no bytes of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Mounts that are admitted.
    pub sessions: u64,
    /// Connections that are not admitted, or not yet.
    pub strangers: u64,
    /// Requests that are read, sent or not yet acked.
    pub requests_in_flight: u64,
    /// Requests that wait until their answer fits.
    pub requests_waiting: u64,
    /// Bytes of answers that are read, sent or not yet acked.
    pub answer_bytes_in_flight: u64,
    /// Requests and mounts that were told to come again later.
    pub busy_total: u64,
    /// New connections that were over the rate of their address.
    pub handshakes_limited_total: u64,
    /// Requests and connections that broke the protocol.
    pub violations_total: u64,
}

/// The way to one mount, as the host sees it.
#[derive(Clone, Copy, Debug)]
pub struct PathStats {
    /// The mount's address.
    pub peer: SocketAddr,
    /// The round trip in microseconds, smoothed.
    pub rtt_us: u64,
    /// Bytes of UDP payload the path is known to carry to the mount.
    pub mtu_bytes: u16,
    /// The congestion window towards the mount.
    pub cwnd_bytes: u64,
    /// What the congestion window follows.
    pub congestion: Congestion,
    /// Packets to the mount that were lost.
    pub lost_packets: u64,
    /// Times the path stopped to carry packets of the size found.
    pub black_holes: u64,
    /// Bytes of UDP payload sent.
    pub sent_bytes: u64,
    /// Requests of this mount that are read, sent or not yet acked.
    pub requests_in_flight: u64,
    /// Bytes of answers to it that are read, sent or not yet acked.
    pub answer_bytes_in_flight: u64,
    /// What bounded it in the last seconds.
    pub bound: Option<Bound>,
    /// For how long what held it up in the last seconds.
    pub waits: Waits,
}

impl PathStats {
    pub(super) fn new(connection: &Connection, tally: Tally, watch: &Watch) -> PathStats {
        let stats = connection.stats();
        PathStats {
            peer: connection.remote_address(),
            rtt_us: u64::try_from(stats.path.rtt.as_micros()).unwrap_or(u64::MAX),
            mtu_bytes: stats.path.current_mtu,
            cwnd_bytes: stats.path.cwnd,
            congestion: congestion::of(connection),
            lost_packets: stats.path.lost_packets,
            black_holes: stats.path.black_holes_detected,
            sent_bytes: stats.udp_tx.bytes,
            requests_in_flight: tally.requests,
            answer_bytes_in_flight: tally.answer_bytes,
            bound: watch.bound(),
            waits: watch.waits(),
        }
    }
}
