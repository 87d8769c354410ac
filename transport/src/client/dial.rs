//! Dialling: from a ticket's addresses to one admitted session.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use quinn::{Connection, ConnectionError, Endpoint, TransportErrorCode, VarInt};
use tokio::{
    net::lookup_host,
    task::JoinSet,
    time::{self, Instant},
};
use wire::Ticket;

use super::{ClientConfig, session::Session};
use crate::{
    congestion::CongestionControl,
    endpoint,
    error::ConnectError,
    settings::{self, code},
    socket, tls,
};

/// How long an address may stay silent before the next is tried beside it. Source: RFC 8305, section 5.
const STAGGER: Duration = Duration::from_millis(250);
/// How long the other addresses have once one of them showed another host's key.
const AFTER_WRONG_HOST: Duration = Duration::from_millis(1_500);
/// How long one name may take to resolve: a slow name service must not keep the numeric addresses waiting for good.
const LOOK_UP: Duration = Duration::from_secs(3);
/// The first pause before a busy host is asked again; each further one is twice as long.
const BUSY_PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest.
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(1);
/// The TLS alert of a host that speaks another protocol. Source: RFC 7301, section 3.2.
const NO_APPLICATION_PROTOCOL: u8 = 120;
/// Addresses that the names of one ticket may resolve to.
const ADDRESSES_MAX: usize = 32;
/// The name in the handshake, which nobody looks at: hosts are known by their key.
const SERVER_NAME: &str = "wormhole";

/// What it takes to connect, as often as needed.
#[derive(Debug)]
pub(super) struct Dialer {
    ticket: Arc<Ticket>,
    config: ClientConfig,
    /// At most one for each address family.
    endpoints: Vec<Endpoint>,
    /// Whether they are sockets of this machine, whose routes can be asked about.
    real: bool,
}

impl Dialer {
    /// Makes the sockets: one for each family this machine has.
    pub(super) fn bind(ticket: Ticket, config: ClientConfig) -> Result<Dialer, ConnectError> {
        let open = |ip: std::net::IpAddr| -> io::Result<Endpoint> {
            let (socket, _) = socket::bind((ip, 0).into())?;
            endpoint::client(socket, None)
        };
        let v4 = open(Ipv4Addr::UNSPECIFIED.into());
        let v6 = open(Ipv6Addr::UNSPECIFIED.into());
        let endpoints = match (v4, v6) {
            (Err(error), Err(_)) => return Err(ConnectError::Local(error)),
            (v4, v6) => v4.into_iter().chain(v6).collect(),
        };
        Ok(Dialer { real: true, ..Dialer::over(ticket, config, endpoints) })
    }

    /// The same over endpoints that are there.
    pub(super) fn over(ticket: Ticket, config: ClientConfig, endpoints: Vec<Endpoint>) -> Dialer {
        Dialer { ticket: Arc::new(ticket), config, endpoints, real: false }
    }

    pub(super) fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Connects to the first address that admits; within `patience`.
    pub(super) async fn dial(&self, patience: Duration) -> Result<Session, ConnectError> {
        let start = Instant::now();
        let mut deadline = start + patience;
        let mut waiting = self.resolve(deadline).await?;
        let mut attempts = JoinSet::new();
        let mut worst = None;
        let mut next_start = start;
        // Each turn starts or ends one of a bounded number of attempts, or meets the deadline.
        loop {
            if waiting.is_empty() && attempts.is_empty() {
                return Err(worst.unwrap_or_else(|| self.unreachable(patience)));
            }
            tokio::select! {
                biased;
                Some(joined) = attempts.join_next() => match joined {
                    Ok(Ok(session)) => return Ok(session),
                    // The right host has spoken.
                    Ok(Err(error @ (ConnectError::Refused | ConnectError::VersionMismatch))) => return Err(error),
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "address failed");
                        next_start = Instant::now();
                        if matches!(error, ConnectError::WrongHost { .. }) {
                            deadline = deadline.min(next_start + AFTER_WRONG_HOST);
                        }
                        worst = telling(worst.take(), error);
                    }
                    Err(_) => worst = worst.or_else(|| Some(self.unreachable(patience))),
                },
                () = time::sleep_until(next_start), if !waiting.is_empty() => {
                    next_start = Instant::now() + STAGGER;
                    let Some(address) = waiting.pop_front() else { continue };
                    match self.attempt(address, deadline) {
                        Ok(attempt) => { attempts.spawn(attempt); }
                        Err(error) => {
                            tracing::debug!(%address, %error, "address not tried");
                            next_start = Instant::now();
                        }
                    }
                },
                () = time::sleep_until(deadline) => {
                    return Err(worst.unwrap_or_else(|| self.unreachable(patience)));
                }
            }
        }
    }

    /// The addresses that this machine has a route to, in the ticket's order.
    async fn resolve(&self, deadline: Instant) -> Result<VecDeque<SocketAddr>, ConnectError> {
        let mut found = VecDeque::new();
        let mut failed = None;
        for text in &self.ticket.addresses {
            match resolve_one(text, deadline).await {
                Ok(addresses) => found.extend(addresses),
                Err(source) => failed = Some(ConnectError::Resolve { address: text.clone(), source }),
            }
        }
        found.truncate(ADDRESSES_MAX);
        match failed {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    /// One attempt at one address; an error where this machine cannot even send there.
    fn attempt(
        &self,
        address: SocketAddr,
        deadline: Instant,
    ) -> io::Result<impl Future<Output = Result<Session, ConnectError>> + Send + 'static> {
        let of_family =
            |endpoint: &&Endpoint| endpoint.local_addr().is_ok_and(|own| own.is_ipv4() == address.is_ipv4());
        let endpoint = self.endpoints.iter().find(of_family);
        let endpoint = endpoint.ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
        if self.real {
            routed(endpoint.local_addr()?, address)?;
        }
        let key_log = self.config.key_log.clone();
        let (crypto, mismatch) = tls::client(&self.ticket.host_key, key_log).map_err(io::Error::other)?;
        let mut config = quinn::ClientConfig::new(crypto);
        // A mount sends requests alone: there is nothing to pace.
        let mut transport =
            settings::transport(self.config.packets.resolve(address), CongestionControl::Cubic);
        transport.receive_window(VarInt::from_u32(self.config.receive_window_bytes));
        // The one stream that a host opens carries its pushes.
        transport.max_concurrent_uni_streams(VarInt::from_u32(1));
        transport.max_concurrent_bidi_streams(VarInt::from_u32(0));
        config.transport_config(Arc::new(transport));
        let door = Door { endpoint: endpoint.clone(), config, address, mismatch };
        let (ticket, label) = (self.ticket.clone(), self.config.label.clone());
        Ok(async move {
            let mut pause = BUSY_PAUSE_MIN;
            // A host that a crowd knocks at has room a moment later; the deadline ends it.
            loop {
                let opened = match door.handshake(deadline).await {
                    Ok(connection) => Session::open(connection, &ticket, &label, deadline).await,
                    Err(error) => Err(error),
                };
                match opened {
                    Err(ConnectError::Busy) if Instant::now() + pause < deadline => {
                        time::sleep(door.spread(pause)).await;
                        pause = (pause * 2).min(BUSY_PAUSE_MAX);
                    }
                    opened => return opened,
                }
            }
        })
    }

    fn unreachable(&self, patience: Duration) -> ConnectError {
        ConnectError::Unreachable { addresses: self.ticket.addresses.clone(), deadline: patience }
    }

    /// Ends every connection.
    pub(super) fn close(&self) {
        for endpoint in &self.endpoints {
            endpoint.close(code::DONE, b"done");
        }
    }

    /// Until the ends of all connections are confirmed or timed out.
    pub(super) async fn idle(&self) {
        for endpoint in &self.endpoints {
            endpoint.wait_idle().await;
        }
    }
}

/// One address of the host, and how to knock there.
struct Door {
    endpoint: Endpoint,
    config: quinn::ClientConfig,
    address: SocketAddr,
    /// Whether another host's key was seen.
    mismatch: Arc<AtomicBool>,
}

impl Door {
    async fn handshake(&self, deadline: Instant) -> Result<Connection, ConnectError> {
        // A handshake gives up after QUIC's idle timeout, which is shorter than a patient deadline; the deadline ends it.
        loop {
            let connecting = self
                .endpoint
                .connect_with(self.config.clone(), self.address, SERVER_NAME)
                .map_err(|error| ConnectError::Local(io::Error::other(error)))?;
            match time::timeout_at(deadline, connecting).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(ConnectionError::TimedOut)) => {}
                Ok(Err(_)) if self.mismatch.load(Ordering::Relaxed) => {
                    return Err(ConnectError::WrongHost { address: self.address });
                }
                Ok(Err(error)) => return Err(handshake_error(self.address, &error)),
                Err(_) => return Err(nobody(self.address)),
            }
        }
    }

    /// Between three quarters of the pause and all of it, by our port, so that a crowd does not come back all at once.
    fn spread(&self, pause: Duration) -> Duration {
        let port = self.endpoint.local_addr().map_or(0, |own| own.port());
        pause * (192 + u32::from(port % 64)) / 256
    }
}

/// The addresses of `HOST:PORT`.
async fn resolve_one(text: &str, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    match time::timeout_at(deadline.min(Instant::now() + LOOK_UP), lookup_host(text)).await {
        Ok(found) => Ok(found?.take(ADDRESSES_MAX).collect()),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Fails where the system knows already that nothing can be sent to `address`; sends nothing.
fn routed(own: SocketAddr, address: SocketAddr) -> io::Result<()> {
    UdpSocket::bind((own.ip(), 0))?.connect(address)
}

fn nobody(address: SocketAddr) -> ConnectError {
    ConnectError::Unreachable { addresses: vec![address.to_string()], deadline: Duration::ZERO }
}

fn handshake_error(address: SocketAddr, error: &ConnectionError) -> ConnectError {
    match error {
        ConnectionError::Reset => nobody(address),
        ConnectionError::VersionMismatch => ConnectError::VersionMismatch,
        ConnectionError::ConnectionClosed(close)
            if close.error_code == TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL) =>
        {
            ConnectError::VersionMismatch
        }
        ConnectionError::ConnectionClosed(close)
            if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
        {
            ConnectError::Busy
        }
        ConnectionError::ApplicationClosed(close) if close.error_code == code::STOPPING => ConnectError::Busy,
        other => ConnectError::Broken { address, reason: other.to_string() },
    }
}

/// Of two failures, the one that tells the user more; silence of one address tells nothing.
fn telling(one: Option<ConnectError>, other: ConnectError) -> Option<ConnectError> {
    let rank = |error: &ConnectError| match error {
        ConnectError::WrongHost { .. } => 3,
        ConnectError::Broken { .. } => 2,
        ConnectError::Busy => 1,
        _ => 0,
    };
    one.into_iter().chain([other]).filter(|error| rank(error) > 0).max_by_key(rank)
}
