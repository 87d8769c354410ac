//! A host that welcomes every mount, answers nothing after that, and pushes what a test wants.

use std::{io, net::SocketAddr, sync::Arc};

use quinn::{Connection, ConnectionError, Endpoint, SendStream, VarInt};
use wire::{Reply, codec, message::Welcome};

use crate::{
    Identity,
    congestion::CongestionControl,
    endpoint,
    settings::{self, PacketSize},
    socket, tls,
};

/// Such a host on a port of its own; dropped, it is gone.
#[derive(Debug)]
pub struct RogueHost {
    endpoint: Endpoint,
    address: SocketAddr,
}

/// Its end of one mount's connection.
#[derive(Debug)]
pub struct RogueSession(Connection);

/// A stream of pushes, or of whatever the test takes for them.
#[derive(Debug)]
pub struct RoguePushes(SendStream);

impl RogueHost {
    /// Listens on loopback.
    ///
    /// # Errors
    /// When there is no socket.
    pub fn bind(identity: &Identity) -> io::Result<RogueHost> {
        let (socket, _) = socket::bind(([127, 0, 0, 1], 0).into())?;
        let address = socket.local_addr()?;
        let crypto = tls::server(identity, None).map_err(io::Error::other)?;
        let mut config = quinn::ServerConfig::with_crypto(crypto);
        let transport = settings::transport(PacketSize::Auto.resolve(address), CongestionControl::Cubic);
        config.transport_config(Arc::new(transport));
        let endpoint = endpoint::server(identity, config, socket, None)?;
        Ok(RogueHost { endpoint, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes the next mount in, whatever its ticket.
    ///
    /// # Errors
    /// When its connection fails before the welcome is on its way.
    pub async fn welcome(&self, welcome: Welcome) -> io::Result<RogueSession> {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let connection = self.endpoint.accept().await.ok_or_else(gone)?.await.map_err(io::Error::other)?;
        let (mut send, _recv) = connection.accept_bi().await.map_err(io::Error::other)?;
        let mut reply = [codec::encode_reply(&Reply::Welcome(welcome))];
        send.write_all_chunks(&mut reply).await.map_err(io::Error::other)?;
        send.finish().map_err(io::Error::other)?;
        Ok(RogueSession(connection))
    }
}

impl RogueSession {
    /// Opens a stream to the mount; waits while it allows no more of them.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn open(&self) -> io::Result<RoguePushes> {
        Ok(RoguePushes(self.0.open_uni().await.map_err(io::Error::other)?))
    }

    /// Waits for the end of the connection: the mount's code where it gave one, and its words.
    pub async fn closed(&self) -> (Option<u64>, String) {
        match self.0.closed().await {
            ConnectionError::ApplicationClosed(close) => {
                (Some(close.error_code.into_inner()), String::from_utf8_lossy(&close.reason).into_owned())
            }
            other => (None, other.to_string()),
        }
    }
}

impl RoguePushes {
    /// Sends bytes; waits while the mount takes none.
    ///
    /// # Errors
    /// When the mount stopped the stream, or the connection has ended.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await.map_err(io::Error::other)
    }

    /// Ends the stream.
    pub fn finish(&mut self) {
        // Fails where the stream has ended, which is as well.
        let _ = self.0.finish();
    }

    /// Breaks the stream off.
    pub fn reset(&mut self) {
        // As above.
        let _ = self.0.reset(VarInt::from_u32(7));
    }
}
