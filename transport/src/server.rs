//! The host's side: endpoints that take mounts in and answer them through [`Serve`].

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use quinn::{AsyncUdpSocket, Endpoint, VarInt, crypto::rustls::QuicServerConfig};
use tokio::{task::AbortHandle, time};

use crate::{
    congestion::CongestionControl,
    endpoint,
    error::BindError,
    identity::Identity,
    keylog::KeyLog,
    serve::Serve,
    settings::{self, PacketSize, code},
    socket, tls,
};

mod admission;
mod bucket;
mod door;
mod greeting;
mod limits;
mod occupancy;
mod push;
mod request;
mod session;
mod stages;
mod usage;
mod watch;

#[cfg(feature = "testing")]
pub use admission::{Admitted, Held, Queue};
pub use limits::ServerLimits;
use occupancy::Occupancy;
pub use stages::StageCounts;
pub use usage::{PathStats, Usage};

/// Bytes of a connection that has not been looked at yet, and of all such. They wait for no longer than it takes the lane
/// to come to them; quinn's defaults are 10 MB and 100 MB.
const INCOMING_BYTES_MAX: (u64, u64) = (64 << 10, 4 << 20);

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
    /// Where the secrets of sessions are written; nowhere unless somebody is to decrypt them.
    pub key_log: Option<KeyLog>,
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
            key_log: None,
        }
    }
}

/// A host that serves. Dropping it closes every session at once; [`Server::shutdown`] does so in good order.
#[derive(Debug)]
pub struct Server {
    endpoints: Mutex<Vec<(Endpoint, Option<socket::Closed>)>>,
    addresses: Vec<SocketAddr>,
    occupancy: Arc<Occupancy>,
    pace: AbortHandle,
}

/// What the tasks of a server share.
struct Shared<S> {
    serve: Arc<S>,
    packets: PacketSize,
    congestion: CongestionControl,
    crypto: Arc<QuicServerConfig>,
    occupancy: Arc<Occupancy>,
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
        let ServerConfig { identity, limits, packets, congestion, key_log, .. } = config;
        let occupancy = Arc::new(Occupancy::new(limits));
        let shared = Arc::new(Shared {
            serve,
            packets,
            congestion,
            crypto: tls::server(&identity, key_log).map_err(BindError::Key)?,
            occupancy: occupancy.clone(),
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
        let pace = tokio::spawn(occupancy.admission.clone().keep_pace()).abort_handle();
        Ok(Server { endpoints: Mutex::new(endpoints), addresses, occupancy, pace })
    }

    /// Where it listens, in the order of [`ServerConfig::listen`], with the real ports.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    /// Sessions that are admitted now.
    pub fn sessions(&self) -> usize {
        self.occupancy.sessions()
    }

    /// What peers use up now, and how often they were told to wait or broke the rules.
    pub fn usage(&self) -> Usage {
        self.occupancy.usage()
    }

    /// Where the time of requests went, of all sessions since the start.
    pub fn stages(&self) -> StageCounts {
        self.occupancy.stages.counts()
    }

    /// The way to each admitted mount, in no order.
    pub fn paths(&self) -> Vec<PathStats> {
        self.occupancy.paths()
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
        self.pace.abort();
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
        config.max_incoming(self.occupancy.limits.strangers_max);
        config.incoming_buffer_size(INCOMING_BYTES_MAX.0);
        config.incoming_buffer_size_total(INCOMING_BYTES_MAX.1);
        config
    }
}
