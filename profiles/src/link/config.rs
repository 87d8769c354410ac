//! What a link is like: the named profiles, and every value that can be set beside them.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use nix::net::if_::InterfaceFlags;

/// Bytes of an IPv4 and a UDP header: they use the link and count towards its MTU.
const HEADERS_V4: u32 = 20 + 8;
/// The same with an IPv6 header.
const HEADERS_V6: u32 = 40 + 8;
/// IP and a TCP header with timestamps, as Linux sends them.
const TCP_HEADERS_V4: u32 = 20 + 32;
const TCP_HEADERS_V6: u32 = 40 + 32;
/// A busy link is looked after so often at the most, and not less often than that: a hundredth of its round trip
/// between the two. At 1 Gbit/s 100 us are eight packets of 1,500 bytes.
const QUANTUM_MIN: Duration = Duration::from_micros(100);
const QUANTUM_MAX: Duration = Duration::from_millis(1);
/// A packet leaves early by so much at most, and by no more than a sixteenth of the delay.
const LEAD_MAX: Duration = Duration::from_micros(50);
/// The least default queue: a link of few bytes in flight still takes one burst of a sender.
const QUEUE_PACKETS_MIN: u64 = 32;
/// What a small switch has for a port, and for how long a packet waits in it at most. A queue of one round trip would be
/// 83 packets on a LAN: a card sends no faster than its line, so what would wait in its own queue is dropped here.
const SWITCH_PACKETS: u64 = 256;
const SWITCH_WAIT_MAX: Duration = Duration::from_millis(10);
/// What one direction may hold in memory, queue and packets on their way together.
const HELD_BYTES_MAX: u64 = 512 << 20;
/// The largest IP packet.
const MTU_BYTES_MAX: u32 = 65_535;

/// A link of TARGETS.md, "Network profiles", by its name: `lan`, `wan-good`, `wan-poor`, `wan-bad`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// 1 ms, 1 Gbit/s, no loss.
    Lan,
    /// 50 ms, 100 Mbit/s, no loss.
    WanGood,
    /// 150 ms, 10 Mbit/s, 1 % loss.
    WanPoor,
    /// 300 ms, 1 Mbit/s, 5 % loss.
    WanBad,
}

impl Profile {
    /// All of them, the best first.
    pub const ALL: [Profile; 4] = [Profile::Lan, Profile::WanGood, Profile::WanPoor, Profile::WanBad];

    /// The name that [`Profile::from_str`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Lan => "lan",
            Profile::WanGood => "wan-good",
            Profile::WanPoor => "wan-poor",
            Profile::WanBad => "wan-bad",
        }
    }

    /// Round trip of an idle link.
    pub fn rtt(self) -> Duration {
        Duration::from_millis(match self {
            Profile::Lan => 1,
            Profile::WanGood => 50,
            Profile::WanPoor => 150,
            Profile::WanBad => 300,
        })
    }

    /// Bits a second in each direction, IP and UDP headers included.
    pub fn rate_bps(self) -> u64 {
        match self {
            Profile::Lan => 1_000_000_000,
            Profile::WanGood => 100_000_000,
            Profile::WanPoor => 10_000_000,
            Profile::WanBad => 1_000_000,
        }
    }

    /// Packets lost of a million, in each direction.
    pub fn loss_ppm(self) -> u32 {
        match self {
            Profile::Lan | Profile::WanGood => 0,
            Profile::WanPoor => 10_000,
            Profile::WanBad => 50_000,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no [`Profile`] has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no link profile {0:?}: take lan, wan-good, wan-poor or wan-bad")]
pub struct UnknownProfile(String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Self, UnknownProfile> {
        let known = Profile::ALL.into_iter().find(|profile| profile.name().eq_ignore_ascii_case(text));
        known.ok_or_else(|| UnknownProfile(text.to_owned()))
    }
}

/// What a link carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Datagrams: delayed, queued, lost one by one.
    Udp,
    /// Byte streams: delayed and slowed, never damaged. `profiles/README.md` says what its figures can claim.
    Tcp,
}

/// A link to start; one of a [`Profile`] by `LinkConfig::from(profile)`, changed by struct update.
///
/// ```
/// use std::time::Duration;
/// use profiles::link::{LinkConfig, Profile};
///
/// let config = LinkConfig { rtt: Duration::from_millis(20), ..Profile::WanGood.into() };
/// ```
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Where clients reach the link; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What it carries.
    pub protocol: Protocol,
    /// Round trip of an idle link; each direction has half of it.
    pub rtt: Duration,
    /// Bits a second in each direction, IP and UDP (or TCP) headers included; not 0.
    pub rate_bps: u64,
    /// Packets lost of a million, in each direction, each on its own; below 1,000,000.
    pub loss_ppm: u32,
    /// The largest IP packet, headers included; a larger one vanishes, as in a path that black-holes. 576 to 65,535.
    pub mtu_bytes: u32,
    /// What waits for the link at most, in each direction; `None`: rate x round trip, and no less than a small switch
    /// has: 256 packets, but no more than 10 ms, and 32 packets in any case.
    pub queue_bytes: Option<u64>,
    /// Which packets are lost: the same seed loses the same ones of the same sequence.
    pub seed: u64,
    /// Clients at once; the packets of further ones are dropped and counted.
    pub flows_max: usize,
    /// A client's way through the link is closed after this long without a packet.
    pub flow_idle: Duration,
}

impl From<Profile> for LinkConfig {
    fn from(profile: Profile) -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            protocol: Protocol::Udp,
            rtt: profile.rtt(),
            rate_bps: profile.rate_bps(),
            loss_ppm: profile.loss_ppm(),
            mtu_bytes: 1500,
            queue_bytes: None,
            seed: 1,
            // A TCP connection takes two of the 1,024 descriptors that a process has by default.
            flows_max: 400,
            flow_idle: Duration::from_secs(30),
        }
    }
}

impl LinkConfig {
    /// The delay of one direction.
    pub fn delay(&self) -> Duration {
        self.rtt / 2
    }

    /// The queue of one direction, the default worked out.
    pub fn queue_bytes(&self) -> u64 {
        let packets = |count: u64| count * u64::from(self.mtu_bytes);
        let switch = bytes_in(self.rate_bps, SWITCH_WAIT_MAX).min(packets(SWITCH_PACKETS));
        let least = switch.max(packets(QUEUE_PACKETS_MIN));
        self.queue_bytes.unwrap_or_else(|| bytes_in(self.rate_bps, self.rtt).max(least))
    }

    /// The time between two looks at a busy link.
    pub(super) fn quantum(&self) -> Duration {
        (self.rtt / 100).clamp(QUANTUM_MIN, QUANTUM_MAX)
    }

    /// How early a packet may leave, to make up for timers that are late.
    pub(super) fn lead_max(&self) -> Duration {
        (self.delay() / 16).min(LEAD_MAX)
    }

    /// What one direction holds at most: the queue, what is on its way, and the packets at either end.
    pub(super) fn held_bytes_max(&self) -> u64 {
        let on_the_way = bytes_in(self.rate_bps, self.delay());
        self.queue_bytes().saturating_add(on_the_way).saturating_add(4 * u64::from(self.mtu_bytes))
    }

    /// What IP and UDP add to a payload between addresses like `peer`.
    pub(super) fn headers_bytes(peer: SocketAddr) -> u32 {
        if peer.ip().to_canonical().is_ipv4() { HEADERS_V4 } else { HEADERS_V6 }
    }

    /// The same of TCP.
    pub(super) fn tcp_headers_bytes(peer: SocketAddr) -> u32 {
        if peer.ip().to_canonical().is_ipv4() { TCP_HEADERS_V4 } else { TCP_HEADERS_V6 }
    }

    /// Refuses what cannot be emulated.
    pub(super) fn check(&self) -> io::Result<()> {
        let wrong = |what: String| Err(io::Error::new(io::ErrorKind::InvalidInput, format!("link: {what}")));
        if self.rate_bps == 0 {
            return wrong("a rate of 0 carries nothing: give bits a second".to_owned());
        }
        if self.loss_ppm >= 1_000_000 {
            return wrong(format!(
                "a loss of {} ppm lets nothing through: stay below 1000000",
                self.loss_ppm
            ));
        }
        if !(576..=MTU_BYTES_MAX).contains(&self.mtu_bytes) {
            return wrong(format!("an MTU of {} bytes: take 576 to {MTU_BYTES_MAX}", self.mtu_bytes));
        }
        if self.held_bytes_max() > HELD_BYTES_MAX {
            let (held, limit) = (self.held_bytes_max() >> 20, HELD_BYTES_MAX >> 20);
            return wrong(format!(
                "queue and round trip hold {held} MiB a direction, the limit is {limit}: lower rate, round trip or queue"
            ));
        }
        Ok(())
    }
}

/// The first IPv4 address of this machine that is not a loopback one; `None` where it has none.
///
/// A program that knows a fast path to its own machine by the address, as Wormhole does, takes a link between loopback
/// addresses for that path: large packets, no segmentation, large bursts. With this one as `listen` and in the target,
/// it sees a network.
pub fn network_ip() -> Option<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().ok()?;
    let addresses = interfaces.filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP));
    let mut ips = addresses.filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()));
    ips.find(|ip| !ip.is_loopback() && !ip.is_link_local()).map(IpAddr::V4)
}

/// What a rate carries in a time.
pub(super) fn bytes_in(rate_bps: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate_bps) * time.as_nanos() / 8_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_those_of_the_targets_and_parse_from_their_names() {
        for profile in Profile::ALL {
            assert_eq!(profile.name().parse(), Ok(profile));
        }
        assert_eq!("WAN-Poor".parse(), Ok(Profile::WanPoor));
        let unknown = "dsl".parse::<Profile>().unwrap_err();
        assert_eq!(unknown.to_string(), "no link profile \"dsl\": take lan, wan-good, wan-poor or wan-bad");
    }

    #[test]
    fn the_queue_holds_a_round_trip_and_no_less_than_a_switch() {
        assert_eq!(LinkConfig::from(Profile::Lan).queue_bytes(), 384_000);
        assert_eq!(LinkConfig::from(Profile::WanGood).queue_bytes(), 625_000);
        assert_eq!(LinkConfig::from(Profile::WanBad).queue_bytes(), 48_000);
        let set = LinkConfig { queue_bytes: Some(3000), ..Profile::WanBad.into() };
        assert_eq!(set.queue_bytes(), 3000);
    }

    #[test]
    fn the_network_address_is_of_this_machine() {
        if let Some(ip) = network_ip() {
            assert!(!ip.is_loopback());
            std::net::UdpSocket::bind((ip, 0)).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_emulated_is_refused() {
        let base = LinkConfig::from(Profile::Lan);
        base.check().unwrap();
        for wrong in [
            LinkConfig { rate_bps: 0, ..base.clone() },
            LinkConfig { loss_ppm: 1_000_000, ..base.clone() },
            LinkConfig { mtu_bytes: 100, ..base.clone() },
            LinkConfig { mtu_bytes: 70_000, ..base.clone() },
            LinkConfig { rate_bps: 100_000_000_000, rtt: Duration::from_secs(1), ..base.clone() },
            LinkConfig { queue_bytes: Some(u64::MAX), ..base },
        ] {
            assert_eq!(wrong.check().unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
