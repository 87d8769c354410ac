//! The QUIC settings of a session and their reasons; ARCHITECTURE.md, "Decisions", has the figures.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use crate::congestion::{CongestionControl, SwitchingConfig};

/// How large packets may become.
///
/// The packet size is the one large lever of throughput: 1,452 bytes cost 1.3 CPU-s/GiB a side, 65,507 bytes 0.4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PacketSize {
    /// [`PacketSize::Loopback`] to a loopback address, [`PacketSize::Jumbo`] to any other.
    #[default]
    Auto,
    /// At most 1,452 bytes: for paths that swallow what is larger without a word.
    Ethernet,
    /// What the path carries up to 8,952 bytes (a 9,000 byte frame), in batches the kernel splits.
    Jumbo,
    /// What the path carries up to 65,507 bytes, one to a system call.
    Loopback,
}

impl PacketSize {
    /// The choice for one peer; never `Auto`.
    pub(crate) fn resolve(self, peer: SocketAddr) -> PacketSize {
        match self {
            PacketSize::Auto if peer.ip().to_canonical().is_loopback() => PacketSize::Loopback,
            PacketSize::Auto => PacketSize::Jumbo,
            chosen => chosen,
        }
    }
}

/// UDP payload that a socket takes in at most; quinn's default of 1,472 would cap what the peer finds.
pub(crate) const UDP_PAYLOAD_BYTES_MAX: u16 = 65_527;
/// Packets in one batch: 7 x 8,952 stays below the 65,507 bytes of one send, above which all is lost silently.
pub(crate) const BATCH_PACKETS_MAX: usize = 7;
/// Un-acked bytes of a session on the host.
pub(crate) const SEND_WINDOW_BYTES: u64 = 10_000_000;
/// How often a silent session says that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// After how much silence a session is over, as people are told.
pub(crate) const SILENCE: Duration = Duration::from_secs(5);
/// The same for QUIC, whose clock starts with the first packet after the peer's last: the keep-alive, up to
/// [`KEEP_ALIVE`] later. So a peer that dies is noticed 4.5 to 5.5 s after its last packet.
const IDLE_TIMEOUT_MS: u32 = 4_500;

/// What both ends set for a peer.
pub(crate) fn transport(packets: PacketSize, control: CongestionControl) -> TransportConfig {
    let mut config = TransportConfig::default();
    config.keep_alive_interval(Some(KEEP_ALIVE));
    config.max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))));
    config.send_window(SEND_WINDOW_BYTES);
    config.max_concurrent_uni_streams(VarInt::from_u32(0));
    config.datagram_receive_buffer_size(None);
    let mut discovery = MtuDiscoveryConfig::default();
    let mut initial_window = None;
    match packets {
        PacketSize::Ethernet => {
            discovery.upper_bound(1_452);
            config.initial_mtu(1_200);
        }
        PacketSize::Auto | PacketSize::Jumbo => {
            discovery.upper_bound(8_952);
            config.initial_mtu(1_200);
        }
        PacketSize::Loopback => {
            discovery.upper_bound(65_507);
            config.initial_mtu(1_452);
            // The receiver walks a probe's padding byte by byte, 0.7 ms for a large one: five probes, not twelve.
            discovery.minimum_change(2_048);
            // A batch of two would not fit one send.
            config.enable_segmentation_offload(false);
            // A packet larger than the window never leaves: the window is ten packets and more.
            initial_window = Some(1_000_000);
        }
    }
    config.congestion_controller_factory(Arc::new(SwitchingConfig::new(control, initial_window)));
    config.mtu_discovery_config(Some(discovery));
    config
}

/// Codes with which connections and streams end; the peer's log shows them. PROTOCOL.md, "Ends".
pub(crate) mod code {
    use quinn::VarInt;

    /// Nobody needs it any more; a dropped stream carries it as well.
    pub(crate) const DONE: VarInt = VarInt::from_u32(0);
    /// The host stops.
    pub(crate) const STOPPING: VarInt = VarInt::from_u32(1);
    /// Not admitted, or not any more.
    pub(crate) const REFUSED: VarInt = VarInt::from_u32(2);
    /// It took too long.
    pub(crate) const DEADLINE: VarInt = VarInt::from_u32(3);
    /// Not admitted now, for a reason that passes.
    pub(crate) const BUSY: VarInt = VarInt::from_u32(4);
    /// Too much of what was said was against the protocol.
    pub(crate) const INVALID: VarInt = VarInt::from_u32(5);
}
