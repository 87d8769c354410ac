//! What mounts may use up, as typed: `[limits]` of a configuration, and the flags of the same meaning.

use clap::Args;
use serde::Deserialize;
use transport::ServerLimits;

use super::{
    text,
    units::{Count, Rate, Size},
};

/// A bound for something that is counted.
type Bound = Count<1, 1_000_000>;
/// Bytes of answers under way: one full answer at least.
type Bytes = Size<{ 2 << 20 }, { 4 << 30 }>;

/// Bounds, where they are given.
#[derive(Clone, Copy, Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "Limits")]
pub struct LimitOptions {
    /// Mounts at once [default: 256]
    #[arg(id = "max-mounts", long = "max-mounts", value_name = "COUNT", env = "WORMHOLE_MAX_MOUNTS")]
    #[serde(deserialize_with = "text::value")]
    pub mounts: Option<Count<1, 65_536>>,

    /// Bytes a second to all mounts together, such as 100MB/s or 1Gbit/s [default: none, no bound]
    #[arg(long, value_name = "RATE", env = "WORMHOLE_BANDWIDTH")]
    #[serde(deserialize_with = "text::value")]
    pub bandwidth: Option<Rate>,

    /// Bytes a second to each mount [default: none, no bound]
    #[arg(long, value_name = "RATE", env = "WORMHOLE_MOUNT_BANDWIDTH")]
    #[serde(deserialize_with = "text::value")]
    pub mount_bandwidth: Option<Rate>,

    /// Requests of all mounts at once [default: 16384]
    #[arg(
        id = "max-requests",
        long = "max-requests",
        value_name = "COUNT",
        env = "WORMHOLE_MAX_REQUESTS",
        hide_short_help = true
    )]
    #[serde(deserialize_with = "text::value")]
    pub requests: Option<Bound>,

    /// Requests of each mount at once [default: 1024]
    #[arg(
        id = "max-mount-requests",
        long = "max-mount-requests",
        value_name = "COUNT",
        env = "WORMHOLE_MAX_MOUNT_REQUESTS",
        hide_short_help = true
    )]
    #[serde(deserialize_with = "text::value")]
    pub mount_requests: Option<Bound>,

    /// Bytes of answers under way to all mounts [default: three quarters of --memory]
    #[arg(
        id = "max-bytes",
        long = "max-bytes",
        value_name = "SIZE",
        env = "WORMHOLE_MAX_BYTES",
        hide_short_help = true
    )]
    #[serde(deserialize_with = "text::value")]
    pub bytes: Option<Bytes>,

    /// Bytes of answers under way to each mount [default: 16MiB]
    #[arg(
        id = "max-mount-bytes",
        long = "max-mount-bytes",
        value_name = "SIZE",
        env = "WORMHOLE_MAX_MOUNT_BYTES",
        hide_short_help = true
    )]
    #[serde(deserialize_with = "text::value")]
    pub mount_bytes: Option<Size<{ 2 << 20 }, { 1 << 30 }>>,

    /// New connections a second from one address, in the long run [default: 20]
    #[arg(long, value_name = "COUNT", env = "WORMHOLE_HANDSHAKES_PER_S", hide_short_help = true)]
    #[serde(deserialize_with = "text::value")]
    pub handshakes_per_s: Option<Bound>,

    /// New connections from one address at once [default: 200]
    #[arg(long, value_name = "COUNT", env = "WORMHOLE_HANDSHAKES_BURST", hide_short_help = true)]
    #[serde(deserialize_with = "text::value")]
    pub handshakes_burst: Option<Bound>,
}

impl LimitOptions {
    /// These, and `others` where these are silent.
    pub fn or(self, others: LimitOptions) -> LimitOptions {
        LimitOptions {
            mounts: self.mounts.or(others.mounts),
            bandwidth: self.bandwidth.or(others.bandwidth),
            mount_bandwidth: self.mount_bandwidth.or(others.mount_bandwidth),
            requests: self.requests.or(others.requests),
            mount_requests: self.mount_requests.or(others.mount_requests),
            bytes: self.bytes.or(others.bytes),
            mount_bytes: self.mount_bytes.or(others.mount_bytes),
            handshakes_per_s: self.handshakes_per_s.or(others.handshakes_per_s),
            handshakes_burst: self.handshakes_burst.or(others.handshakes_burst),
        }
    }

    /// The bounds of a host with so much memory for reads in progress.
    pub fn resolve(&self, memory_bytes: usize) -> ServerLimits {
        let mut limits = ServerLimits::default();
        if let Some(Count(mounts)) = self.mounts {
            limits.sessions_max = mounts as usize;
            // Room for those that have not proved their ticket yet.
            limits.connections_max = limits.connections_max.max(mounts as usize + limits.strangers_max);
        }
        if let Some(Rate(rate)) = self.bandwidth {
            limits.host_bytes_per_s = rate;
        }
        if let Some(Rate(rate)) = self.mount_bandwidth {
            limits.session_bytes_per_s = rate;
        }
        limits.host_requests_max = self.requests.map_or(limits.host_requests_max, |Count(count)| count);
        // One mount alone may use what all may.
        limits.requests_max = match self.mount_requests {
            Some(Count(count)) => count,
            None => limits.requests_max.min(limits.host_requests_max),
        };
        limits.host_answer_bytes_max = self.bytes.map_or(memory_bytes as u64 / 4 * 3, |Size(bytes)| bytes);
        let host_bytes = u32::try_from(limits.host_answer_bytes_max).unwrap_or(u32::MAX);
        limits.answer_bytes_max = match self.mount_bytes {
            // Its bound is far below.
            Some(Size(bytes)) => u32::try_from(bytes).unwrap_or(u32::MAX),
            None => limits.answer_bytes_max.min(host_bytes),
        };
        limits.bulk_bytes_max = limits.bulk_bytes_max.min(limits.answer_bytes_max);
        limits.handshakes_per_s = self.handshakes_per_s.map_or(limits.handshakes_per_s, |Count(count)| count);
        limits.handshakes_burst = self.handshakes_burst.map_or(limits.handshakes_burst, |Count(count)| count);
        limits
    }
}
