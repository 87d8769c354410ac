//! The addresses that a ticket names.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};
use wire::limits;

use crate::error::HostError;

/// Where mounts are told to find a host that listens on `bound`, best first.
///
/// An address the user chose is taken as it is; a wildcard stands for the machine's own addresses.
pub(crate) fn addresses(bound: &[SocketAddr]) -> Result<Vec<String>, HostError> {
    let wildcard = bound.iter().any(|address| address.ip().is_unspecified());
    let own = if wildcard { own_addresses()? } else { Vec::new() };
    let chosen = choose(bound, &own);
    if chosen.is_empty() { Err(HostError::NoAddress) } else { Ok(chosen) }
}

fn choose(bound: &[SocketAddr], own: &[IpAddr]) -> Vec<String> {
    let mut addresses = BTreeSet::new();
    for address in bound {
        if !address.ip().is_unspecified() {
            addresses.insert((rank(address.ip()), SocketAddr::new(address.ip(), address.port())));
            continue;
        }
        for ip in own.iter().filter(|ip| ip.is_ipv4() == address.is_ipv4() && !is_link_local(**ip)) {
            addresses.insert((rank(*ip), SocketAddr::new(*ip, address.port())));
        }
    }
    addresses.into_iter().take(limits::ADDRESSES_MAX).map(|(_, address)| address.to_string()).collect()
}

/// Loopback last: it reaches a host from its own machine alone. IPv4 first among equals.
fn rank(ip: IpAddr) -> u8 {
    match (ip.is_loopback(), ip) {
        (false, IpAddr::V4(_)) => 0,
        (false, IpAddr::V6(_)) => 1,
        (true, IpAddr::V4(_)) => 2,
        (true, IpAddr::V6(_)) => 3,
    }
}

/// Of no use without the name of an interface, which differs from machine to machine.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn own_addresses() -> Result<Vec<IpAddr>, HostError> {
    let interfaces = getifaddrs().map_err(|errno| HostError::Interfaces(errno.into()))?;
    Ok(interfaces
        .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP))
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_wildcard_stands_for_the_machines_addresses_loopback_last() {
        let own: Vec<IpAddr> = ["127.0.0.1", "::1", "fe80::1", "169.254.3.4", "2001:db8::7", "10.0.0.2"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        assert_eq!(
            choose(&bound(&["0.0.0.0:4433", "[::]:5544"]), &own),
            ["10.0.0.2:4433", "[2001:db8::7]:5544", "127.0.0.1:4433", "[::1]:5544"]
        );
        assert_eq!(choose(&bound(&["0.0.0.0:1"]), &own), ["10.0.0.2:1", "127.0.0.1:1"]);
    }

    #[test]
    fn a_chosen_address_is_taken_as_it_is() {
        assert_eq!(choose(&bound(&["127.0.0.1:9"]), &[]), ["127.0.0.1:9"]);
        assert_eq!(choose(&bound(&["[fe80::1]:9"]), &[]), ["[fe80::1]:9"]);
    }

    #[test]
    fn a_ticket_is_never_given_more_than_it_holds() {
        let own: Vec<IpAddr> = (1..=40).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        assert_eq!(choose(&bound(&["0.0.0.0:1"]), &own).len(), limits::ADDRESSES_MAX);
    }

    #[test]
    fn this_machine_has_an_address() {
        assert!(!addresses(&bound(&["0.0.0.0:1"])).unwrap().is_empty());
    }
}
