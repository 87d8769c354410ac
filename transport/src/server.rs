//! The host's side: endpoints that take mounts in and answer them through [`Serve`].

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use quinn::{AsyncUdpSocket, Connection, Endpoint, VarInt, crypto::rustls::QuicServerConfig};
use tokio::{sync::Semaphore, time};

use crate::{
    congestion::{self, Congestion, CongestionControl},
    endpoint,
    error::BindError,
    identity::Identity,
    serve::Serve,
    settings::{self, PacketSize, code},
    socket, tls,
};

mod request;
mod session;

/// The port a host listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 4433;

/// Where and as whom a host serves.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Each gets a socket of its own; port 0 picks one. IPv6 sockets take IPv6 alone.
    pub listen: Vec<SocketAddr>,
    /// The host's key.
    pub identity: Identity,
    /// What a peer may use up.
    pub limits: ServerLimits,
    /// How large packets may become.
    pub packets: PacketSize,
    /// What sets the pace.
    pub congestion: CongestionControl,
}

impl ServerConfig {
    /// Port [`DEFAULT_PORT`] of all addresses, IPv4 and IPv6, with the usual limits.
    pub fn new(identity: Identity) -> ServerConfig {
        ServerConfig {
            listen: vec![
                (Ipv4Addr::UNSPECIFIED, DEFAULT_PORT).into(),
                (Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into(),
            ],
            identity,
            limits: ServerLimits::default(),
            packets: PacketSize::Auto,
            congestion: CongestionControl::Auto,
        }
    }
}

/// What peers may use up.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Connections at once, those that have not said hello included.
    pub connections_max: usize,
    /// Connections at once that have not been admitted; from half of it, a peer must first prove its address.
    pub strangers_max: usize,
    /// From a peer's first packet to the end of the handshake.
    pub handshake_deadline: Duration,
    /// From there until the hello is whole, and for the host to decide about it.
    pub hello_deadline: Duration,
    /// From the first byte of a request to its last.
    pub request_deadline: Duration,
    /// The most that a request's own deadline may say: for the answer, and again for its delivery.
    pub answer_deadline: Duration,
    /// Requests of one session at once.
    pub requests_max: u32,
    /// Bytes of read-ahead and warm-up in one session that are read, sent or not yet acked. Half of the send window, so
    /// that a demand read never waits behind it.
    pub bulk_bytes_max: u32,
    /// The same for answers of all kinds and classes.
    pub answer_bytes_max: u32,
    /// Admitted mounts at once.
    pub sessions_max: usize,
    /// Requests of all sessions at once.
    pub host_requests_max: u32,
    /// Bytes of answers of all sessions that are read, sent or not yet acked.
    pub host_answer_bytes_max: u64,
    /// New connections a second from one address, in the long run.
    pub handshakes_per_s: u32,
    /// New connections from one address at once.
    pub handshakes_burst: u32,
    /// Bytes of answers a second to one mount; `None` for no bound.
    pub session_bytes_per_s: Option<NonZeroU64>,
    /// Bytes of answers a second to all mounts together; `None` for no bound.
    pub host_bytes_per_s: Option<NonZeroU64>,
}

impl Default for ServerLimits {
    fn default() -> ServerLimits {
        ServerLimits {
            connections_max: 512,
            strangers_max: 64,
            handshake_deadline: Duration::from_secs(10),
            hello_deadline: Duration::from_secs(2),
            request_deadline: Duration::from_secs(10),
            answer_deadline: Duration::from_secs(60),
            requests_max: 1_024,
            bulk_bytes_max: 5_000_000,
            answer_bytes_max: 16 << 20,
            sessions_max: 256,
            host_requests_max: 16_384,
            host_answer_bytes_max: 48 << 20,
            handshakes_per_s: 20,
            handshakes_burst: 200,
            session_bytes_per_s: None,
            host_bytes_per_s: None,
        }
    }
}

/// A host that serves. Dropping it closes every session at once; [`Server::shutdown`] does so in good order.
#[derive(Debug)]
pub struct Server {
    endpoints: Mutex<Vec<(Endpoint, Option<socket::Closed>)>>,
    addresses: Vec<SocketAddr>,
    sessions: Arc<AtomicUsize>,
    live: Arc<Live>,
}

/// Connections that are admitted, by their number; as many as sessions.
type Live = Mutex<HashMap<usize, Connection>>;

/// The way to one mount, as the host sees it.
#[derive(Clone, Copy, Debug)]
pub struct PathStats {
    /// The mount's address.
    pub peer: SocketAddr,
    /// The round trip in microseconds, smoothed.
    pub rtt_us: u64,
    /// Bytes of UDP payload the path is known to carry to the mount.
    pub mtu_bytes: u16,
    /// The congestion window towards the mount.
    pub cwnd_bytes: u64,
    /// What the congestion window follows.
    pub congestion: Congestion,
    /// Packets to the mount that were lost.
    pub lost_packets: u64,
    /// Times the path stopped to carry packets of the size found.
    pub black_holes: u64,
    /// Bytes of UDP payload sent.
    pub sent_bytes: u64,
}

/// What the tasks of a server share.
struct Shared<S> {
    serve: Arc<S>,
    limits: ServerLimits,
    packets: PacketSize,
    congestion: CongestionControl,
    crypto: Arc<QuicServerConfig>,
    sessions: Arc<AtomicUsize>,
    live: Arc<Live>,
    strangers: Arc<Semaphore>,
}

impl Server {
    /// Binds every address of `config` and starts to serve; call it in a lane's runtime.
    ///
    /// # Errors
    /// Any [`BindError`]; then nothing stays bound.
    pub fn bind<S: Serve>(config: ServerConfig, serve: Arc<S>) -> Result<Server, BindError> {
        let mut sockets = Vec::with_capacity(config.listen.len());
        for &address in &config.listen {
            let (socket, closed) =
                socket::bind(address).map_err(|source| BindError::Address { address, source })?;
            sockets.push((socket, Some(closed)));
        }
        Server::over(config, serve, sockets, None)
    }

    /// The same over sockets that are there.
    pub(crate) fn over<S: Serve>(
        config: ServerConfig,
        serve: Arc<S>,
        sockets: Vec<(Arc<dyn AsyncUdpSocket>, Option<socket::Closed>)>,
        seed: endpoint::Seed,
    ) -> Result<Server, BindError> {
        let ServerConfig { identity, limits, packets, congestion, .. } = config;
        let sessions = Arc::new(AtomicUsize::new(0));
        let live = Arc::<Live>::default();
        let shared = Arc::new(Shared {
            serve,
            strangers: Arc::new(Semaphore::new(limits.strangers_max)),
            limits,
            packets,
            congestion,
            crypto: tls::server(&identity).map_err(BindError::Key)?,
            sessions: sessions.clone(),
            live: live.clone(),
        });
        let mut endpoints = Vec::with_capacity(sockets.len());
        let mut addresses = Vec::with_capacity(sockets.len());
        for (socket, closed) in sockets {
            let failed = |source: io::Error| BindError::Address { address: ([0; 4], 0).into(), source };
            let address = socket.local_addr().map_err(failed)?;
            // Connections are accepted with the settings for their peer; these only carry the limits of the first packets.
            let default = shared.quic(address);
            let endpoint = endpoint::server(&identity, default, socket, seed).map_err(failed)?;
            tokio::spawn(session::accept(shared.clone(), endpoint.clone()));
            endpoints.push((endpoint, closed));
            addresses.push(address);
        }
        if endpoints.is_empty() {
            return Err(BindError::NoAddress);
        }
        Ok(Server { endpoints: Mutex::new(endpoints), addresses, sessions, live })
    }

    /// Where it listens, in the order of [`ServerConfig::listen`], with the real ports.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    /// Sessions that are admitted now.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// The way to each admitted mount, in no order.
    pub fn paths(&self) -> Vec<PathStats> {
        let live = self.live.lock();
        let path = |connection: &Connection| {
            let stats = connection.stats();
            PathStats {
                peer: connection.remote_address(),
                rtt_us: u64::try_from(stats.path.rtt.as_micros()).unwrap_or(u64::MAX),
                mtu_bytes: stats.path.current_mtu,
                cwnd_bytes: stats.path.cwnd,
                congestion: congestion::of(connection),
                lost_packets: stats.path.lost_packets,
                black_holes: stats.path.black_holes_detected,
                sent_bytes: stats.udp_tx.bytes,
            }
        };
        live.values().map(path).collect()
    }

    /// Takes nobody in any more, tells every mount that the host stops, and waits for the sockets to close.
    ///
    /// Waits for at most `deadline`; requests in flight are dropped, and their mounts ask again when the host is back.
    pub async fn shutdown(&self, deadline: Duration) {
        let endpoints = std::mem::take(&mut *self.endpoints.lock());
        for (endpoint, _) in &endpoints {
            endpoint.close(code::STOPPING, b"stopping");
        }
        let idle = async {
            for (endpoint, closed) in endpoints {
                endpoint.wait_idle().await;
                drop(endpoint);
                if let Some(closed) = closed {
                    // The socket's end of it only ever drops.
                    let _ = closed.await;
                }
            }
        };
        if time::timeout(deadline, idle).await.is_err() {
            tracing::debug!("mounts did not confirm the end of their sessions in time");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for (endpoint, _) in self.endpoints.lock().iter() {
            endpoint.close(code::STOPPING, b"stopping");
        }
    }
}

impl<S> Shared<S> {
    /// The settings for a connection with `peer`, as small as a stranger may have them.
    fn quic(&self, peer: SocketAddr) -> quinn::ServerConfig {
        let mut transport = settings::transport(self.packets.resolve(peer), self.congestion);
        transport.max_concurrent_bidi_streams(VarInt::from_u32(1));
        transport.stream_receive_window(VarInt::from_u32(session::STREAM_WINDOW_BYTES));
        transport.receive_window(VarInt::from_u32(session::STRANGER_WINDOW_BYTES));
        let mut config = quinn::ServerConfig::with_crypto(self.crypto.clone());
        config.transport_config(Arc::new(transport));
        config.max_incoming(self.limits.strangers_max);
        config
    }
}
