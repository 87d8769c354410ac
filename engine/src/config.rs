//! What a host is to do: valid once it exists.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    time::Duration,
};

use transport::{KeyLog, ServerLimits};
use wire::{Name, limits, ticket::is_address};

/// The port a host listens on unless told otherwise.
pub const PORT_DEFAULT: u16 = 4433;
/// Bytes of buffers for reads in progress unless told otherwise.
pub const MEMORY_BYTES_DEFAULT: usize = 64 << 20;
/// The least: a few reads of the largest size at once.
pub const MEMORY_BYTES_MIN: usize = 8 << 20;
/// The most: a typing error in the size must not take the machine down.
pub const MEMORY_BYTES_MAX: usize = 64 << 30;

/// Tickets that are remembered at once.
pub const TICKETS_MAX: usize = 10_000;

/// A folder to serve, and the name mounts see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareConfig {
    /// Its name, unique in the host.
    pub name: Name,
    /// The folder.
    pub root: PathBuf,
    /// Patterns of what is not served, in the syntax of gitignore(5), relative to the folder.
    pub exclude: Vec<String>,
    /// Patterns of the files that are served, where not all are; folders always are. Empty for all.
    pub include: Vec<String>,
}

impl ShareConfig {
    /// All of a folder.
    pub fn new(name: Name, root: impl Into<PathBuf>) -> ShareConfig {
        ShareConfig { name, root: root.into(), exclude: Vec::new(), include: Vec::new() }
    }
}

/// What a host serves, where, and within which bounds.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// One to [`limits::SHARES_MAX`], with different names.
    pub shares: Vec<ShareConfig>,
    /// UDP addresses; port 0 picks one.
    pub listen: Vec<SocketAddr>,
    /// `HOST:PORT` for the ticket, in the order to try them; empty for the machine's own addresses.
    pub advertise: Vec<String>,
    /// Where the keys are kept.
    pub state_dir: PathBuf,
    /// Bytes of buffers for reads in progress, rounded down to whole MiB.
    pub memory_bytes: usize,
    /// Files kept open between requests, each for a minute at most after its last use.
    pub files_open_max: usize,
    /// Folders watched for the leases of mounts; `None` for half of what the kernel gives this user
    /// (`fs.inotify.max_user_watches`), whoever uses the rest.
    pub watches_max: Option<usize>,
    /// How long a stopping host waits for its sessions and for reads in progress, each.
    pub stop_deadline: Duration,
    /// What mounts may use up.
    pub limits: ServerLimits,
    /// Where the secrets of sessions are written; nowhere unless somebody is to decrypt them.
    pub key_log: Option<KeyLog>,
}

/// Why options do not make a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nothing, or too much, to serve.
    #[error(
        "{count} shares: a host serves 1 to {} folders; serve the others with a second host (--listen, --state-dir)",
        limits::SHARES_MAX
    )]
    Shares {
        /// How many were given.
        count: usize,
    },
    /// Two shares of one name.
    #[error("two shares are called {name}: give one another name with NAME=DIR")]
    SameName {
        /// The name.
        name: Name,
    },
    /// Nowhere to listen.
    #[error("no address to listen on")]
    NoListen,
    /// Not an address a ticket can hold.
    #[error("{address:?} is no address for a ticket: write HOST:PORT, an IPv6 address in brackets")]
    Advertise {
        /// As it was given.
        address: String,
    },
    /// More addresses than a ticket holds.
    #[error("{count} addresses to advertise: a ticket holds {}", limits::ADDRESSES_MAX)]
    AdvertiseCount {
        /// How many were given.
        count: usize,
    },
    /// A bound that cannot be kept.
    #[error("{value} {what}: give {min} to {max}")]
    Limit {
        /// What it bounds, with its unit.
        what: &'static str,
        /// What was given.
        value: u64,
        /// The least.
        min: u64,
        /// The most, which may be another setting.
        max: u64,
    },
    /// Too small or too large.
    #[error("{bytes} bytes of memory: give {MEMORY_BYTES_MIN} to {MEMORY_BYTES_MAX}")]
    Memory {
        /// What was given.
        bytes: usize,
    },
}

impl HostConfig {
    /// A host of `shares` with its keys in `state_dir`, on the default port, within the default bounds.
    pub fn new(shares: Vec<ShareConfig>, state_dir: PathBuf) -> HostConfig {
        HostConfig {
            shares,
            listen: listen_everywhere(PORT_DEFAULT),
            advertise: Vec::new(),
            state_dir,
            memory_bytes: MEMORY_BYTES_DEFAULT,
            files_open_max: files_open_max_default(),
            watches_max: None,
            // Sessions, then reads, then a second for threads: below the five seconds a service manager is promised.
            stop_deadline: Duration::from_millis(1_500),
            limits: ServerLimits {
                host_answer_bytes_max: MEMORY_BYTES_DEFAULT as u64 / 4 * 3,
                ..ServerLimits::default()
            },
            key_log: None,
        }
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// The first field that breaks its rule.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let count = self.shares.len();
        if !(1..=limits::SHARES_MAX).contains(&count) {
            return Err(ConfigError::Shares { count });
        }
        for (index, share) in self.shares.iter().enumerate() {
            if self.shares[..index].iter().any(|other| other.name == share.name) {
                return Err(ConfigError::SameName { name: share.name.clone() });
            }
        }
        if self.listen.is_empty() {
            return Err(ConfigError::NoListen);
        }
        if let Some(address) = self.advertise.iter().find(|address| !is_address(address)) {
            return Err(ConfigError::Advertise { address: address.clone() });
        }
        let count = self.advertise.len();
        if count > limits::ADDRESSES_MAX {
            return Err(ConfigError::AdvertiseCount { count });
        }
        if !(MEMORY_BYTES_MIN..=MEMORY_BYTES_MAX).contains(&self.memory_bytes) {
            return Err(ConfigError::Memory { bytes: self.memory_bytes });
        }
        self.validate_limits()
    }

    /// A bound of zero would serve nobody; one of a mount beyond the host's bounds nothing.
    fn validate_limits(&self) -> Result<(), ConfigError> {
        let ServerLimits { connections_max, strangers_max, sessions_max, .. } = self.limits;
        let ServerLimits { requests_max, host_requests_max, bulk_bytes_max, .. } = self.limits;
        let ServerLimits { answer_bytes_max, host_answer_bytes_max, .. } = self.limits;
        let ServerLimits { handshakes_per_s, handshakes_burst, .. } = self.limits;
        let count = |number: usize| number as u64;
        let rules = [
            ("connections at once", count(connections_max), 1, u64::MAX),
            ("connections before a ticket is proved", count(strangers_max), 1, count(connections_max)),
            ("mounts at once", count(sessions_max), 1, count(connections_max)),
            ("requests of all mounts at once", host_requests_max.into(), 1, u64::MAX),
            ("requests of each mount at once", requests_max.into(), 1, host_requests_max.into()),
            ("bytes of answers to all mounts", host_answer_bytes_max, limits::READ_BYTES_MAX, u64::MAX),
            (
                "bytes of answers to each mount",
                answer_bytes_max.into(),
                limits::READ_BYTES_MAX,
                host_answer_bytes_max,
            ),
            (
                "bytes of read-ahead to each mount",
                bulk_bytes_max.into(),
                limits::READ_BYTES_MAX,
                answer_bytes_max.into(),
            ),
            ("new connections a second from one address", handshakes_per_s.into(), 1, u64::MAX),
            ("new connections at once from one address", handshakes_burst.into(), 1, u64::MAX),
        ];
        let broken = rules.into_iter().find(|(_, value, min, max)| !(min..=max).contains(&value));
        match broken {
            Some((what, value, min, max)) => Err(ConfigError::Limit { what, value, min, max }),
            None => Ok(()),
        }
    }
}

/// Every address of the machine: IPv4, and IPv6 where the kernel has it.
pub fn listen_everywhere(port: u16) -> Vec<SocketAddr> {
    let mut listen = vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)];
    // A kernel without IPv6 refuses the socket itself; that must not keep a host from its IPv4 port.
    if UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok() {
        listen.push(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port));
    }
    listen
}

/// A quarter of what the process may open, at most 256: the rest is for lookups, listings and sessions.
fn files_open_max_default() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(256, |limit| usize::try_from(limit / 4).unwrap_or(256)).clamp(8, 256)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(names: &[&str]) -> HostConfig {
        let share = |name: &&str| ShareConfig::new(Name::new(name.as_bytes()).unwrap(), "/");
        HostConfig::new(names.iter().map(share).collect(), "/nowhere".into())
    }

    #[test]
    fn the_defaults_make_a_host() {
        assert_eq!(config(&["a", "b"]).validate(), Ok(()));
    }

    #[test]
    fn bounds_that_cannot_be_kept_are_refused() {
        let broken = |change: fn(&mut ServerLimits)| {
            let mut config = config(&["a"]);
            change(&mut config.limits);
            config.validate().unwrap_err().to_string()
        };
        assert_eq!(broken(|limits| limits.sessions_max = 0), "0 mounts at once: give 1 to 512");
        assert_eq!(
            broken(|limits| limits.requests_max = limits.host_requests_max + 1),
            "16385 requests of each mount at once: give 1 to 16384"
        );
        assert_eq!(
            broken(|limits| limits.answer_bytes_max = 65 << 20),
            "68157440 bytes of answers to each mount: give 1048576 to 50331648"
        );
        assert!(broken(|limits| limits.handshakes_burst = 0).starts_with("0 new connections at once"));
    }

    #[test]
    fn each_rule_is_checked() {
        assert_eq!(config(&[]).validate(), Err(ConfigError::Shares { count: 0 }));
        assert_eq!(config(&["a"; 11]).validate(), Err(ConfigError::Shares { count: 11 }));
        let name = Name::new(b"a").unwrap();
        assert_eq!(config(&["a", "b", "a"]).validate(), Err(ConfigError::SameName { name }));
        let with = |change: fn(&mut HostConfig)| {
            let mut config = config(&["a"]);
            change(&mut config);
            config.validate().unwrap_err()
        };
        assert_eq!(with(|c| c.listen.clear()), ConfigError::NoListen);
        assert_eq!(with(|c| c.memory_bytes = 1), ConfigError::Memory { bytes: 1 });
        assert_eq!(with(|c| c.advertise = vec!["x".into()]), ConfigError::Advertise { address: "x".into() });
        assert_eq!(with(|c| c.advertise = vec!["h:1".into(); 17]), ConfigError::AdvertiseCount { count: 17 });
    }
}
