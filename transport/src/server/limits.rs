//! What a host lets its peers use up.

use std::{num::NonZeroU64, time::Duration};

/// What peers may use up.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Connections at once, those that have not said hello included.
    pub connections_max: usize,
    /// Connections at once that have not been admitted; from half of it, a peer must first prove its address.
    pub strangers_max: usize,
    /// From a peer's first packet to the end of the handshake.
    pub handshake_deadline: Duration,
    /// From there until the hello is whole, and for the host to decide about it.
    pub hello_deadline: Duration,
    /// From the first byte of a request to its last.
    pub request_deadline: Duration,
    /// The most that a request's own deadline may say: for the answer, and again for its delivery.
    pub answer_deadline: Duration,
    /// Requests of one session at once, those that wait included.
    pub requests_max: u32,
    /// Bytes of read-ahead and warm-up in one session that are read, sent or not yet acked. Half of the send window, so
    /// that a demand read never waits behind it.
    pub bulk_bytes_max: u32,
    /// The same for answers of all kinds and classes.
    pub answer_bytes_max: u32,
    /// Admitted mounts at once; one more is told Busy.
    pub sessions_max: usize,
    /// Requests of all sessions at once, those that wait included; one more is told Busy.
    pub host_requests_max: u32,
    /// Bytes of answers of all sessions that are read, sent or not yet acked.
    pub host_answer_bytes_max: u64,
    /// New connections a second from one address (IPv4, or the first 64 bits of IPv6), in the long run; 0 for no bound.
    pub handshakes_per_s: u32,
    /// New connections from one address at once.
    pub handshakes_burst: u32,
    /// Bytes of answers a second to one mount; `None` for no bound.
    pub session_bytes_per_s: Option<NonZeroU64>,
    /// Bytes of answers a second to all mounts together; `None` for no bound.
    pub host_bytes_per_s: Option<NonZeroU64>,
}

impl Default for ServerLimits {
    fn default() -> ServerLimits {
        ServerLimits {
            connections_max: 512,
            strangers_max: 64,
            handshake_deadline: Duration::from_secs(10),
            hello_deadline: Duration::from_secs(2),
            request_deadline: Duration::from_secs(10),
            answer_deadline: Duration::from_secs(60),
            requests_max: 1_024,
            bulk_bytes_max: 5_000_000,
            answer_bytes_max: 16 << 20,
            sessions_max: 256,
            host_requests_max: 16_384,
            host_answer_bytes_max: 48 << 20,
            handshakes_per_s: 20,
            handshakes_burst: 200,
            session_bytes_per_s: None,
            host_bytes_per_s: None,
        }
    }
}
