//! A peer that speaks QUIC and can say hello, and from there on says what a test wants, in whatever order.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream, VarInt};
use tokio::time;
use wire::{
    Reply, Request, Ticket,
    codec::{self, ReplyDecoder},
    message::{Call, Class, Hello},
    version::PROTOCOL_VERSION,
};

use super::Link;
use crate::{
    congestion::CongestionControl,
    endpoint,
    settings::{self, PacketSize},
    socket, tls,
};

/// Bytes that a rogue takes before it must read: of all its streams, and of one.
const WINDOW_BYTES: u32 = 64 << 20;
/// The same of one that leaves its answers with the host.
const TIGHT_WINDOW_BYTES: u32 = 64 << 10;
/// How long a rogue waits for a reply.
const REPLY_PATIENCE: Duration = Duration::from_secs(10);
/// Milliseconds of patience in its hello.
const HELLO_DEADLINE_MS: u32 = 10_000;

/// Whether a rogue says hello before its test goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// It does, and is admitted: an authenticated peer.
    Hello,
    /// It does not: a stranger with a handshake.
    None,
}

/// A connection of such a peer. Dropping it ends the connection; none of its waits has a deadline of its own.
#[derive(Debug)]
pub struct Rogue {
    connection: Connection,
    /// Lives as long as the connection.
    _endpoint: Endpoint,
}

/// One stream of a rogue.
#[derive(Debug)]
pub struct RogueStream {
    send: SendStream,
    recv: Option<RecvStream>,
}

impl Rogue {
    /// Connects to the ticket's first address, which must be a number, from a socket of this machine.
    ///
    /// # Errors
    /// When there is no socket, no handshake or no welcome.
    pub async fn connect(ticket: &Ticket, greeting: Greeting) -> io::Result<Rogue> {
        Rogue::with_window(ticket, greeting, WINDOW_BYTES).await
    }

    /// The same, and the host keeps all but 64 KiB of the answers that are not read.
    ///
    /// # Errors
    /// As [`Rogue::connect`].
    pub async fn connect_tight(ticket: &Ticket, greeting: Greeting) -> io::Result<Rogue> {
        Rogue::with_window(ticket, greeting, TIGHT_WINDOW_BYTES).await
    }

    async fn with_window(ticket: &Ticket, greeting: Greeting, window_bytes: u32) -> io::Result<Rogue> {
        let host = first_address(ticket)?;
        let own = if host.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let (socket, _) = socket::bind(own.parse().map_err(io::Error::other)?)?;
        Rogue::dial(endpoint::client(socket, None)?, host, window_bytes, ticket, greeting).await
    }

    /// The same from `address` of a link.
    ///
    /// # Errors
    /// As [`Rogue::connect`].
    pub async fn over(
        link: &Link,
        address: SocketAddr,
        ticket: &Ticket,
        greeting: Greeting,
    ) -> io::Result<Rogue> {
        let endpoint = endpoint::client(link.socket(address), Some(link.endpoint_seed(address)))?;
        Rogue::dial(endpoint, first_address(ticket)?, WINDOW_BYTES, ticket, greeting).await
    }

    async fn dial(
        endpoint: Endpoint,
        host: SocketAddr,
        window_bytes: u32,
        ticket: &Ticket,
        greeting: Greeting,
    ) -> io::Result<Rogue> {
        let (crypto, _) = tls::client(&ticket.host_key, None).map_err(io::Error::other)?;
        let mut config = quinn::ClientConfig::new(crypto);
        let mut transport = settings::transport(PacketSize::Auto.resolve(host), CongestionControl::Cubic);
        transport.receive_window(VarInt::from_u32(window_bytes));
        transport.stream_receive_window(VarInt::from_u32(window_bytes));
        config.transport_config(Arc::new(transport));
        let connecting = endpoint.connect_with(config, host, "wormhole").map_err(io::Error::other)?;
        let rogue = Rogue { connection: connecting.await.map_err(io::Error::other)?, _endpoint: endpoint };
        if greeting == Greeting::Hello {
            rogue.greet(ticket).await?;
        }
        Ok(rogue)
    }

    async fn greet(&self, ticket: &Ticket) -> io::Result<()> {
        let mut stream = self.open().await?;
        stream.write(&self.hello(ticket)).await?;
        stream.finish();
        match stream.reply().await? {
            Reply::Welcome(_) => Ok(()),
            other => Err(io::Error::other(format!("not admitted: {other:?}"))),
        }
    }

    /// The bytes of a hello with a right proof for this connection, to be sent as it is or bent.
    pub fn hello(&self, ticket: &Ticket) -> Bytes {
        // A zero channel makes a wrong proof, which is what a connection without one deserves.
        let channel = tls::channel(&self.connection).unwrap_or_default();
        let hello = Hello {
            version_min: PROTOCOL_VERSION,
            version_max: PROTOCOL_VERSION,
            claims: ticket.claims.clone(),
            proof: ticket.secret.prove(&ticket.claims, &channel),
            label: "rogue".to_owned(),
        };
        let request = Request::Hello(hello);
        codec::encode_call(&Call {
            class: Class::Metadata,
            id: 1,
            deadline_ms: HELLO_DEADLINE_MS,
            packs: false,
            request,
        })
    }

    /// Opens a stream for a request; waits while the host allows no more of them.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn open(&self) -> io::Result<RogueStream> {
        let (send, recv) = self.connection.open_bi().await.map_err(io::Error::other)?;
        Ok(RogueStream { send, recv: Some(recv) })
    }

    /// Opens a stream that takes no answer, which no protocol of ours has; waits while the host allows none.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn open_uni(&self) -> io::Result<RogueStream> {
        let send = self.connection.open_uni().await.map_err(io::Error::other)?;
        Ok(RogueStream { send, recv: None })
    }

    /// Ends the connection with a code of the rogue's choice.
    pub fn close(&self, code: u32) {
        self.connection.close(VarInt::from_u32(code), b"rogue");
    }

    /// Waits for the end of the connection: the host's code where it gave one, and its words.
    pub async fn closed(&self) -> (Option<u64>, String) {
        match self.connection.closed().await {
            ConnectionError::ApplicationClosed(close) => {
                (Some(close.error_code.into_inner()), String::from_utf8_lossy(&close.reason).into_owned())
            }
            other => (None, other.to_string()),
        }
    }

    /// How the connection ended, once it has; in words.
    pub fn ended(&self) -> Option<String> {
        self.connection.close_reason().map(|reason| reason.to_string())
    }
}

impl RogueStream {
    /// Sends bytes; waits while the host takes none.
    ///
    /// # Errors
    /// When the host stopped the stream, or the connection has ended.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send.write_all(bytes).await.map_err(io::Error::other)
    }

    /// Says that no more is sent; nothing on a stream that has ended.
    pub fn finish(&mut self) {
        // Fails where the stream is reset, stopped or finished, which is as well.
        let _ = self.send.finish();
    }

    /// Takes back what was sent.
    pub fn reset(&mut self, code: u32) {
        // As above.
        let _ = self.send.reset(VarInt::from_u32(code));
    }

    /// Wants no more of the answer.
    pub fn stop(&mut self, code: u32) {
        if let Some(recv) = &mut self.recv {
            // As above.
            let _ = recv.stop(VarInt::from_u32(code));
        }
    }

    /// The next bytes of the answer, at most `max`; `None` at its end, and of a stream that has none.
    ///
    /// # Errors
    /// When the host reset the stream, or the connection has ended.
    pub async fn read(&mut self, max: usize) -> io::Result<Option<Bytes>> {
        let Some(recv) = &mut self.recv else { return Ok(None) };
        let chunk = recv.read_chunk(max, true).await.map_err(io::Error::other)?;
        Ok(chunk.map(|chunk| chunk.bytes))
    }

    /// The reply on this stream, without the data behind it.
    ///
    /// # Errors
    /// As [`RogueStream::read`]; also when the stream ends before it, it takes ten seconds, or the bytes are no reply.
    pub async fn reply(&mut self) -> io::Result<Reply> {
        let reply = async {
            let mut decoder = ReplyDecoder::new();
            while let Some(mut piece) = self.read(usize::MAX).await? {
                if let Some(reply) = decoder.feed(&mut piece).map_err(io::Error::other)? {
                    return Ok(reply);
                }
            }
            Err(io::ErrorKind::UnexpectedEof.into())
        };
        time::timeout(REPLY_PATIENCE, reply).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }
}

fn first_address(ticket: &Ticket) -> io::Result<SocketAddr> {
    let text = ticket.addresses.first().ok_or_else(|| io::Error::other("the ticket has no address"))?;
    text.parse().map_err(io::Error::other)
}
