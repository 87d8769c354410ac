//! A host and a mount in one thread, over the in-memory link on a paused clock: what the targets that need a session
//! share.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::runtime::{Builder, Runtime};
use transport::{
    Client, ClientConfig, Identity, Serve, Server, ServerConfig,
    testing::{self, Link, LinkConfig},
};
use wire::{
    SharePath, Ticket, TicketId,
    auth::{Claims, Mode, Secret},
};

/// Where the host is. Not a loopback address: a session there looks for packets of 64 KiB, and quinn reads the padding of
/// its probes a byte at a time, which took seven eighths of the time of the inputs that connect.
pub(crate) const HOST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 4433);
/// Where the mount is.
pub(crate) const MOUNT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 5000);

/// A runtime whose time passes only while everything waits.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime takes no resources")
}

/// A link between the two, without loss, for packets of up to so many bytes.
pub(crate) fn link(mtu_bytes: usize) -> Link {
    Link::new(LinkConfig { mtu_bytes, ..LinkConfig::default() })
}

/// A new key for the host.
pub(crate) fn identity() -> Identity {
    Identity::generate().expect("a key takes nothing but random bytes")
}

/// A server that answers through `serve`.
pub(crate) fn serve<S: Serve>(link: &Link, identity: &Identity, serve: Arc<S>) -> Server {
    let mut config = ServerConfig::new(identity.clone());
    // Time hardly passes here: the bound on handshakes would be all that is found.
    (config.limits.handshakes_per_s, config.limits.handshakes_burst) = (1_000_000, 1_000_000);
    testing::serve(link, HOST, config, serve).expect("the link has every address")
}

/// A mount's session with it.
pub(crate) async fn connect(link: &Link, identity: &Identity) -> Client {
    let ticket = ticket(identity);
    testing::connect(link, MOUNT, ticket, ClientConfig::default()).await.expect("the host lets everybody in")
}

/// A ticket for the host.
pub(crate) fn ticket(identity: &Identity) -> Ticket {
    let claims = Claims {
        id: TicketId([1; 8]),
        shares: Vec::new(),
        prefix: SharePath::root(),
        mode: Mode::ReadOnly,
        expires: 0,
    };
    let secret = Secret::derive(&[7; 32], &claims);
    Ticket { host_key: identity.public_key(), addresses: vec![HOST.to_string()], claims, secret }
}
