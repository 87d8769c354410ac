//! The path between a host and what talks to it: loopback, or an emulated link by its name.

use std::{
    error::Error,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    str::FromStr,
};

use profiles::link::{Link, LinkConfig, LinkReport, Profile, Protocol, network_ip};

/// Where packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// From one end to the other, inside this machine.
    Loopback,
    /// Through a link of TARGETS.md.
    Link(Profile),
}

impl Route {
    /// The names of all.
    pub const NAMES: [&str; 5] = ["loopback", "lan", "wan-good", "wan-poor", "wan-bad"];

    /// As it is in a record.
    pub fn name(self) -> &'static str {
        match self {
            Route::Loopback => "loopback",
            Route::Link(profile) => profile.name(),
        }
    }

    /// Bytes a second that it carries at the most; `None` where nothing but the machine bounds it.
    pub fn bytes_per_s(self) -> Option<f64> {
        match self {
            Route::Loopback => None,
            Route::Link(profile) => Some(profile.rate_bps() as f64 / 8.0),
        }
    }

    /// An address and a free port for a service at its far end.
    ///
    /// # Errors
    /// Where this machine has no address but loopback ones, which Wormhole takes for a path inside one machine.
    pub fn service(self) -> Result<SocketAddr, Box<dyn Error>> {
        let ip = match self {
            Route::Loopback => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Route::Link(_) => network_ip().ok_or(
                "no address but loopback ones, which Wormhole takes for a path inside one machine: \
                 give this machine one, or take loopback",
            )?,
        };
        Ok(SocketAddr::new(ip, UdpSocket::bind((ip, 0))?.local_addr()?.port()))
    }

    /// Opens it towards a service; `None` on loopback, where clients talk to the service itself.
    ///
    /// # Errors
    /// What the link says.
    pub fn open(self, service: SocketAddr) -> Result<Option<Line>, Box<dyn Error>> {
        self.open_for(Protocol::Udp, service)
    }

    /// The same for what talks over TCP: `profiles/README.md` says what figures taken across it can claim.
    ///
    /// # Errors
    /// What the link says.
    pub fn open_tcp(self, service: SocketAddr) -> Result<Option<Line>, Box<dyn Error>> {
        self.open_for(Protocol::Tcp, service)
    }

    fn open_for(self, protocol: Protocol, service: SocketAddr) -> Result<Option<Line>, Box<dyn Error>> {
        match self {
            Route::Loopback => Ok(None),
            Route::Link(profile) => {
                let listen = (service.ip(), 0).into();
                let config = LinkConfig { listen, protocol, ..profile.into() };
                let link = Link::start(&config, service)?;
                Ok(Some(Line { link, told: LinkReport::default() }))
            }
        }
    }
}

impl FromStr for Route {
    type Err = String;

    fn from_str(text: &str) -> Result<Route, String> {
        if text.eq_ignore_ascii_case("loopback") {
            return Ok(Route::Loopback);
        }
        text.parse()
            .map(Route::Link)
            .map_err(|_| format!("no path {text:?}: take one of {}", Route::NAMES.join(", ")))
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A running link, which ends when it is dropped, and what it was told to have carried.
pub struct Line {
    link: Link,
    /// What it had carried when it was last asked.
    told: LinkReport,
}

impl Line {
    /// Where clients reach the service.
    pub fn address(&self) -> SocketAddr {
        self.link.address()
    }

    /// What it dropped towards clients since it was last asked.
    ///
    /// # Errors
    /// Where it was too slow to be a link: figures taken across it are of the machine.
    pub fn report(&mut self) -> Result<String, Box<dyn Error>> {
        let now = self.link.report();
        let before = std::mem::replace(&mut self.told, now.clone());
        if let Some(fault) = now.fault {
            return Err(format!("the link stopped: {fault}").into());
        }
        if now.socket_drops + now.down.drops_other > 0 {
            return Err(
                format!("{} packets were lost beside the link: it was too slow", now.socket_drops).into()
            );
        }
        let (down, old) = (now.down, before.down);
        let (queue, chance) = (down.drops_queue - old.drops_queue, down.drops_loss - old.drops_loss);
        let all = (down.packets - old.packets + queue + chance).max(1) as f64;
        Ok(format!(
            "dropped {:.2} % of its packets by the queue, {:.2} % by chance; late {:?} mean",
            100.0 * queue as f64 / all,
            100.0 * chance as f64 / all,
            down.late_mean()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_parse_from_their_names() {
        for name in Route::NAMES {
            assert_eq!(name.parse::<Route>().map(Route::name), Ok(name));
        }
        let unknown = "dsl".parse::<Route>().unwrap_err();
        assert_eq!(unknown, "no path \"dsl\": take one of loopback, lan, wan-good, wan-poor, wan-bad");
    }
}
