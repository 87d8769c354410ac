//! Who is let in, and what the others are told, and how soon.

use std::{net::UdpSocket, time::Duration};

use tokio::time;
use transport::{Client, ClientConfig, ConnectError, Identity};
use wire::auth::Secret;

use crate::host::{Host, connect, now, on_loopback, stat, ticket};

const PROMPT: Duration = Duration::from_secs(2);

#[tokio::test]
async fn another_host_key_is_a_wrong_host() {
    let host = Host::new();
    let (server, _, _) = on_loopback(&host);
    let other = Identity::generate().unwrap();
    let connecting = Client::connect(ticket(&other, &server.local_addrs()), ClientConfig::default());
    let error = time::timeout(PROMPT, connecting).await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectError::WrongHost { .. }), "{error}");
    assert_eq!(host.counts.borrow().admitted, 0);
}

#[tokio::test]
async fn a_wrong_host_is_told_soon_beside_a_silent_address() {
    let host = Host::new();
    let (server, _, _) = on_loopback(&host);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addresses = [silent.local_addr().unwrap(), server.local_addrs()[0]];
    let other = Identity::generate().unwrap();
    let connecting = Client::connect(ticket(&other, &addresses), ClientConfig::default());
    let error = time::timeout(PROMPT, connecting).await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectError::WrongHost { .. }), "{error}");
}

#[tokio::test]
async fn a_wrong_secret_is_refused() {
    let host = Host::new();
    let (server, _, mut ticket) = on_loopback(&host);
    ticket.secret = Secret::from_bytes([9; 32]);
    let connecting = Client::connect(ticket, ClientConfig::default());
    let error = time::timeout(PROMPT, connecting).await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectError::Refused), "{error}");
    assert_eq!(server.sessions(), 0);
    assert_eq!(host.counts.borrow().started, 0);
}

#[tokio::test]
async fn nobody_listening_is_unreachable_at_the_deadline() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let identity = Identity::generate().unwrap();
    let config = ClientConfig { connect_deadline: Duration::from_millis(300), ..ClientConfig::default() };
    let start = now();
    let error =
        Client::connect(ticket(&identity, &[silent.local_addr().unwrap()]), config).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert!(error.to_string().contains(&silent.local_addr().unwrap().to_string()), "{error}");
}

#[tokio::test]
async fn an_address_without_a_route_fails_at_once() {
    let identity = Identity::generate().unwrap();
    // The kernel refuses a link-local address that names no interface.
    let mut ticket = ticket(&identity, &[([127, 0, 0, 1], 9).into()]);
    ticket.addresses = vec!["[fe80::1]:9".to_owned()];
    let connecting = Client::connect(ticket, ClientConfig::default());
    let error = time::timeout(PROMPT, connecting).await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn the_second_address_is_tried_beside_a_silent_first() {
    let host = Host::new();
    let (server, identity, _) = on_loopback(&host);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addresses = [silent.local_addr().unwrap(), server.local_addrs()[0]];
    let client = time::timeout(PROMPT, connect(&ticket(&identity, &addresses))).await.unwrap();
    client.call(stat(), wire::message::Class::Metadata, crate::host::soon()).await.unwrap();
    assert_eq!(client.stats().peer, Some(server.local_addrs()[0]));
}
