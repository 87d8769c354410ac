//! The named links of TARGETS.md, "Network profiles".

use std::time::Duration;

use super::{Bottleneck, LinkConfig};

/// Bytes of the usual packet.
const PACKET_BYTES: u64 = 1500;

/// How fast, how far and how lossy a link is; the same both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// As people call it.
    pub name: &'static str,
    /// Its rate.
    pub bits_per_s: u64,
    /// Of an idle link.
    pub round_trip_ms: u64,
    /// How many datagrams vanish, in a million.
    pub loss_ppm: u32,
}

impl Profile {
    /// A switch between two machines.
    pub const LAN: Profile =
        Profile { name: "LAN", bits_per_s: 1_000_000_000, round_trip_ms: 1, loss_ppm: 0 };
    /// A good line across a continent.
    pub const WAN_GOOD: Profile =
        Profile { name: "WAN-Good", bits_per_s: 100_000_000, round_trip_ms: 50, loss_ppm: 0 };
    /// A poor one, farther.
    pub const WAN_POOR: Profile =
        Profile { name: "WAN-Poor", bits_per_s: 10_000_000, round_trip_ms: 150, loss_ppm: 10_000 };
    /// What still is a line.
    pub const WAN_BAD: Profile =
        Profile { name: "WAN-Bad", bits_per_s: 1_000_000, round_trip_ms: 300, loss_ppm: 50_000 };

    /// Its rate in bytes a second.
    pub fn bytes_per_s(&self) -> u64 {
        self.bits_per_s / 8
    }

    /// The link. Its queue holds one round trip of data, or what a small switch has: 256 packets, but no more than 10 ms;
    /// eight packets at least.
    pub fn link(&self, seed: u64) -> LinkConfig {
        let bytes_per_s = self.bytes_per_s();
        let switch_bytes = (bytes_per_s / 100).min(256 * PACKET_BYTES);
        let round_trip_bytes = bytes_per_s * self.round_trip_ms / 1000;
        let queue_bytes = round_trip_bytes.max(switch_bytes).max(8 * PACKET_BYTES);
        LinkConfig {
            seed,
            delay: Duration::from_micros(self.round_trip_ms * 500),
            loss_ppm: self.loss_ppm,
            bottleneck: Some(Bottleneck { bytes_per_s, queue_bytes }),
            ..LinkConfig::default()
        }
    }
}
