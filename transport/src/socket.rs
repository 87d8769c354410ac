//! The UDP socket under an endpoint: large buffers, batches of a safe size.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::oneshot;

use crate::settings::BATCH_PACKETS_MAX;

/// What each direction of a socket may hold: 64 batches.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Tells when a socket is closed: the receiver fails once the last user of the socket is gone.
pub(crate) type Closed = oneshot::Receiver<()>;

/// A UDP socket bound to `address`; IPv6 sockets take IPv6 alone, so that each family has its own.
pub(crate) fn bind(address: SocketAddr) -> io::Result<(Arc<dyn AsyncUdpSocket>, Closed)> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    for (what, result) in [
        ("receive", socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)),
        ("send", socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)),
    ] {
        if let Err(error) = result {
            tracing::warn!(%error, "the socket's {what} buffer stays small; bulk data may be slower");
        }
    }
    socket.bind(&address.into())?;
    let inner = TokioRuntime.wrap_udp_socket(socket.into())?;
    let (open, closed) = oneshot::channel();
    Ok((Arc::new(BatchedSocket { inner, _open: open }), closed))
}

/// quinn's socket with batches of at most [`BATCH_PACKETS_MAX`] packets.
///
/// quinn builds batches of ten; of packets above 6,550 bytes such a batch exceeds one UDP send, which fails with an error
/// that nobody sees. Everything else is passed on.
#[derive(Debug)]
struct BatchedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    _open: oneshot::Sender<()>,
}

impl AsyncUdpSocket for BatchedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments().min(BATCH_PACKETS_MAX)
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
