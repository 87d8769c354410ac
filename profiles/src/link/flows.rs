//! One socket towards the target for each client, opened by its first packet and closed when it is idle.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};

use super::drops;
use super::line::FlowId;

/// Room in each direction of a socket for what comes while the thread is off its core: 30 ms at 1 Gbit/s.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// A UDP socket that sends and takes batches.
#[derive(Debug)]
pub(super) struct Port {
    socket: UdpSocket,
    state: UdpSocketState,
    address: SocketAddr,
    inode: u64,
}

/// Where a batch goes, and how it is marked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) to: SocketAddr,
    /// The own address to answer from, for a socket that listens on all of them.
    pub(super) from: Option<IpAddr>,
    pub(super) ecn: Option<EcnCodepoint>,
}

impl Port {
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        let state = UdpSocketState::new((&socket).into())?;
        // Above the system's limit for root, up to it for others; a smaller one shows as socket drops.
        if setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BUFFER_BYTES).is_err() {
            state.set_recv_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES)?;
        }
        if setsockopt(&socket, sockopt::SndBufForce, &SOCKET_BUFFER_BYTES).is_err() {
            state.set_send_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES)?;
        }
        let (address, inode) = (socket.local_addr()?, drops::inode_of(&socket));
        Ok(Self { socket, state, address, inode })
    }

    fn towards(target: SocketAddr) -> io::Result<Self> {
        let any: IpAddr =
            if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let port = Self::bind(SocketAddr::new(any, 0))?;
        port.socket.connect(target)?;
        Ok(port)
    }

    pub(super) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn inode(&self) -> u64 {
        self.inode
    }

    /// Sends packets of `segment_bytes` each, the last of the rest; returns how many the kernel took.
    pub(super) fn send(&self, contents: &[u8], segment_bytes: usize, route: Route) -> usize {
        let at_once = self.state.max_gso_segments();
        if contents.len() <= segment_bytes || at_once <= 1 {
            return self.send_singly(contents, segment_bytes, route);
        }
        let mut sent = 0;
        for batch in contents.chunks(segment_bytes * at_once) {
            if self.try_send(batch, Some(segment_bytes), route) {
                sent += batch.len().div_ceil(segment_bytes);
            } else if self.state.max_gso_segments() <= 1 {
                // The device segments nothing, and the socket now knows.
                sent += self.send_singly(batch, segment_bytes, route);
            }
        }
        sent
    }

    fn send_singly(&self, contents: &[u8], segment_bytes: usize, route: Route) -> usize {
        // An empty datagram has no chunk, and is a packet.
        let empty = contents.is_empty().then_some(contents);
        let packets = empty.into_iter().chain(contents.chunks(segment_bytes.max(1)));
        packets.filter(|packet| self.try_send(packet, None, route)).count()
    }

    fn try_send(&self, contents: &[u8], segment_size: Option<usize>, route: Route) -> bool {
        let Route { to: destination, from: src_ip, ecn } = route;
        let transmit = Transmit { destination, ecn, contents, segment_size, src_ip };
        self.state.try_send((&self.socket).into(), &transmit).is_ok()
    }

    /// Takes what is there, a batch of packets into each buffer; `WouldBlock` where nothing is.
    pub(super) fn receive(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> io::Result<usize> {
        self.state.recv((&self.socket).into(), buffers, metas)
    }
}

/// A client and its socket towards the target.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) client: SocketAddr,
    /// The link's address that the client sent to, where it listens on several.
    pub(super) own_ip: Option<IpAddr>,
    pub(super) port: Port,
    pub(super) used_at: Duration,
}

/// All clients, at most `max` at once.
#[derive(Debug)]
pub(super) struct Flows {
    target: SocketAddr,
    max: usize,
    idle: Duration,
    by_client: HashMap<SocketAddr, FlowId>,
    open: HashMap<FlowId, Flow>,
    opened: u64,
}

impl Flows {
    pub(super) fn new(target: SocketAddr, max: usize, idle: Duration) -> Self {
        Self { target, max, idle, by_client: HashMap::new(), open: HashMap::new(), opened: 0 }
    }

    pub(super) fn open_count(&self) -> usize {
        self.open.len()
    }

    pub(super) fn opened(&self) -> u64 {
        self.opened
    }

    pub(super) fn find(&mut self, id: FlowId) -> Option<&mut Flow> {
        self.open.get_mut(&id)
    }

    pub(super) fn of_client(&self, client: SocketAddr) -> Option<FlowId> {
        self.by_client.get(&client).copied()
    }

    /// Opens a way for a new client; `None` where there are as many as may be.
    pub(super) fn open(
        &mut self,
        client: SocketAddr,
        own_ip: Option<IpAddr>,
        now: Duration,
    ) -> io::Result<Option<FlowId>> {
        if self.open.len() >= self.max {
            return Ok(None);
        }
        let port = Port::towards(self.target)?;
        let id = FlowId(self.opened);
        self.opened += 1;
        self.by_client.insert(client, id);
        self.open.insert(id, Flow { client, own_ip, port, used_at: now });
        Ok(Some(id))
    }

    /// Closes those idle for too long and returns their sockets, for a last look at what they dropped.
    pub(super) fn close_idle(&mut self, now: Duration) -> Vec<Port> {
        let idle = self.idle;
        let closed: Vec<Flow> = self
            .open
            .extract_if(|_, flow| now.saturating_sub(flow.used_at) > idle)
            .map(|(_, flow)| flow)
            .collect();
        for flow in &closed {
            self.by_client.remove(&flow.client);
        }
        closed.into_iter().map(|flow| flow.port).collect()
    }

    /// The inodes of all their sockets.
    pub(super) fn inodes(&self) -> impl Iterator<Item = u64> {
        self.open.values().map(|flow| flow.port.inode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(port: u16) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
    }

    #[test]
    fn flows_are_bounded_and_idle_ones_make_room() {
        let second = Duration::from_secs(1);
        let mut flows = Flows::new(client(9), 2, 10 * second);
        let a = flows.open(client(1), None, Duration::ZERO).unwrap().unwrap();
        let b = flows.open(client(2), None, Duration::ZERO).unwrap().unwrap();
        assert!(flows.open(client(3), None, second).unwrap().is_none());
        assert_eq!((flows.of_client(client(1)), flows.of_client(client(3))), (Some(a), None));
        flows.find(b).unwrap().used_at = 5 * second;
        assert_eq!(flows.close_idle(11 * second).len(), 1);
        assert_eq!((flows.of_client(client(1)), flows.open_count(), flows.opened()), (None, 1, 2));
        let c = flows.open(client(3), None, 11 * second).unwrap().unwrap();
        assert!(c != a && flows.find(a).is_none());
    }
}
