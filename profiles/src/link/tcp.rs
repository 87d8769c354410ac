//! The TCP relay: one thread, bounded buffers, and no end of its own to what the two ends say to each other.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::config::LinkConfig;
use super::pipe::{Direction, Pipe};
use super::poll::{Poller, Ready, Stopper, Trigger};
use super::report::{Board, DirectionReport};
use super::stream::{Segments, Stream};

/// The token of the listener; a connection's two sockets have twice its number, and that plus one.
const LISTENER: u64 = u64::MAX - 1;
/// Connections waiting to be accepted.
const BACKLOG: i32 = 128;
/// Bytes read of one connection before the others have their turn.
const READ_BYTES_MAX: usize = 128 << 10;
/// A socket's own buffer: it waits before the link, unseen by its queue, so it is small; a round trip of data between.
const SOCKET_BUFFER_MIN: u64 = 64 << 10;
const SOCKET_BUFFER_MAX: u64 = 256 << 10;
/// A wake that moved so much was of a busy link, and sleeps out its quantum.
const BUSY_BYTES: usize = 6000;

#[derive(Debug)]
struct Way {
    pipe: Pipe,
    counts: DirectionReport,
}

impl Way {
    fn new(config: &LinkConfig, direction: Direction) -> Self {
        Self { pipe: Pipe::new(config, direction), counts: DirectionReport::default() }
    }
}

/// One socket of a connection, and what it was last seen to be ready for.
#[derive(Debug)]
struct Side {
    socket: TcpStream,
    readable: bool,
    writable: bool,
}

impl Side {
    fn new(socket: TcpStream) -> Self {
        // The first attempt tells; edges tell of changes.
        Self { socket, readable: true, writable: true }
    }
}

#[derive(Debug)]
struct Connection {
    client: Side,
    server: Side,
    up: Stream,
    down: Stream,
}

/// What holds for all connections.
#[derive(Debug)]
struct Rules {
    segments: Segments,
    /// Bytes that one direction of a connection holds at most.
    held_bytes_max: usize,
    socket_buffer_bytes: usize,
    rtt: Duration,
    quantum: Duration,
    connections_max: usize,
}

/// The relay, on its own thread from [`TcpRelay::run`] on.
#[derive(Debug)]
pub(super) struct TcpRelay {
    poller: Poller,
    listener: TcpListener,
    address: SocketAddr,
    target: SocketAddr,
    rules: Rules,
    up: Way,
    down: Way,
    connections: BTreeMap<u64, Connection>,
    opened: u64,
    refused: u64,
    /// Who is served first; moves on with each turn, so that all have their share.
    first: u64,
    turned_at: Duration,
    board: Arc<Board>,
}

impl TcpRelay {
    pub(super) fn new(
        config: &LinkConfig,
        target: SocketAddr,
        stopper: Arc<Stopper>,
        board: Arc<Board>,
    ) -> io::Result<Self> {
        let headers_bytes = LinkConfig::tcp_headers_bytes(target);
        let payload_bytes = as_usize(u64::from(config.mtu_bytes - headers_bytes));
        let in_flight = super::config::bytes_in(config.rate_bps, config.rtt);
        let rules = Rules {
            segments: Segments { payload_bytes, headers_bytes },
            held_bytes_max: as_usize(config.held_bytes_max()),
            socket_buffer_bytes: as_usize(in_flight.clamp(SOCKET_BUFFER_MIN, SOCKET_BUFFER_MAX)),
            rtt: config.rtt,
            quantum: config.quantum(),
            connections_max: config.flows_max,
        };
        let socket = rules.socket(config.listen)?;
        socket.set_reuse_address(true)?;
        socket.bind(&config.listen.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        let poller = Poller::new(stopper, config.lead_max())?;
        poller.add(&listener, LISTENER, Trigger::Readable)?;
        let address = listener.local_addr()?;
        Ok(Self {
            poller,
            listener,
            address,
            target,
            rules,
            up: Way::new(config, Direction::Up),
            down: Way::new(config, Direction::Down),
            connections: BTreeMap::new(),
            opened: 0,
            refused: 0,
            first: 0,
            turned_at: Duration::ZERO,
            board,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Carries bytes until it is stopped. A connection that fails is reset on both sides, and the others go on.
    pub(super) fn run(mut self) -> io::Result<()> {
        Poller::make_prompt()?;
        let mut ready: Vec<Ready> = Vec::new();
        let mut scratch = vec![0; READ_BYTES_MAX];
        loop {
            let deadline = self.deadline();
            self.publish();
            self.poller.publish_cpu(&self.board, deadline)?;
            if !self.poller.wait(deadline, &mut ready)? {
                return Ok(());
            }
            for socket in &ready {
                match socket.token {
                    LISTENER => self.accept(),
                    token => self.mark(token, *socket),
                }
            }
            self.turned_at = self.poller.now();
            let moved = self.turn(&mut scratch);
            if moved >= BUSY_BYTES {
                self.poller.pause_until(self.turned_at + self.rules.quantum);
            }
        }
    }

    /// When the thread must wake although no socket is ready.
    fn deadline(&self) -> Option<Duration> {
        let next = self.connections.values().flat_map(|connection| {
            let Connection { client, server, up, down } = connection;
            [self.next_of(client, up, server, &self.up), self.next_of(server, down, client, &self.down)]
        });
        next.flatten().min().map(|next| next.max(self.turned_at + self.rules.quantum))
    }

    /// When a direction can go on by itself: with what is due, or with room for more.
    fn next_of(&self, from: &Side, stream: &Stream, to: &Side, way: &Way) -> Option<Duration> {
        let due = stream.next_due().filter(|_| to.writable);
        let reads = from.readable && stream.is_open() && stream.len() < self.rules.held_bytes_max;
        let room = reads.then(|| way.pipe.room_at(self.rules.segment_wire_bytes()));
        [due, room].into_iter().flatten().min()
    }

    fn mark(&mut self, token: u64, ready: Ready) {
        let Some(connection) = self.connections.get_mut(&(token / 2)) else { return };
        let side = if token.is_multiple_of(2) { &mut connection.client } else { &mut connection.server };
        side.readable |= ready.readable;
        side.writable |= ready.writable;
    }

    /// Takes all connections that wait.
    fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((client, _)) => {
                    let room = self.connections.len() < self.rules.connections_max;
                    if !room || self.open(client).is_err() {
                        self.refused += 1;
                    }
                }
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    // Out of descriptors most likely: the connection stays ready, and must not take the whole core.
                    self.poller.pause_until(self.poller.now() + self.rules.quantum);
                    return;
                }
            }
        }
    }

    fn open(&mut self, client: TcpStream) -> io::Result<()> {
        let server = self.rules.socket(self.target)?;
        match server.connect(&self.target.into()) {
            Err(why) if why.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => return Err(why),
            // A refusal shows as the first read's error.
            Ok(()) | Err(_) => {}
        }
        let server = TcpStream::from(server);
        client.set_nonblocking(true)?;
        client.set_nodelay(true)?;
        let id = self.opened;
        self.poller.add(&client, 2 * id, Trigger::Edges)?;
        self.poller.add(&server, 2 * id + 1, Trigger::Edges)?;
        self.opened += 1;
        // The link's own handshakes take no time. Across a line the first byte of a client comes after a round trip
        // and a half; a server that speaks first is heard after two.
        let (now, rtt) = (self.poller.now(), self.rules.rtt);
        let (up, down) = (Stream::new(now + rtt + rtt / 2, rtt), Stream::new(now + 2 * rtt, rtt));
        self.connections
            .insert(id, Connection { client: Side::new(client), server: Side::new(server), up, down });
        Ok(())
    }

    /// Gives each connection its turn, in another order than the last time; returns the bytes read.
    fn turn(&mut self, scratch: &mut [u8]) -> usize {
        let ids: Vec<u64> = self
            .connections
            .range(self.first..)
            .chain(self.connections.range(..self.first))
            .map(|(id, _)| *id)
            .collect();
        self.first = ids.get(1).copied().unwrap_or(0);
        let mut moved = 0;
        for id in ids {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            let Connection { client, server, up, down } = connection;
            let now = self.poller.now();
            let times = Times { now, due_by: self.poller.due_by(now) };
            let outcome =
                pass(&self.rules, times, (client, up, server), (&mut self.up, scratch)).and_then(|sent| {
                    moved += sent;
                    pass(&self.rules, times, (server, down, client), (&mut self.down, scratch))
                });
            match outcome {
                Ok(sent) => moved += sent,
                Err(_) => {
                    // Both ends see a reset, as they would of each other.
                    for side in [&connection.client, &connection.server] {
                        let _ = SockRef::from(&side.socket).set_linger(Some(Duration::ZERO));
                    }
                    self.connections.remove(&id);
                    continue;
                }
            }
            if connection.up.is_done() && connection.down.is_done() {
                self.connections.remove(&id);
            }
        }
        moved
    }

    fn publish(&mut self) {
        for way in [&mut self.up, &mut self.down] {
            way.counts.queue_bytes_high = way.pipe.queue_bytes_high();
        }
        self.board.update(|report| {
            (report.up, report.down) = (self.up.counts, self.down.counts);
            (report.flows_open, report.flows_opened) = (self.connections.len(), self.opened);
            report.flows_refused = self.refused;
        });
    }
}

impl Rules {
    fn segment_wire_bytes(&self) -> u64 {
        self.segments.payload_bytes as u64 + u64::from(self.segments.headers_bytes)
    }

    /// A socket of the link, towards clients or the target: it returns at once, and keeps little to itself.
    fn socket(&self, address: SocketAddr) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_recv_buffer_size(self.socket_buffer_bytes)?;
        socket.set_tcp_nodelay(true)?;
        // Loopback would have segments of 64 KiB, which fill such a buffer at once.
        let segment_bytes = u32::try_from(self.segments.payload_bytes).unwrap_or(u32::MAX);
        setsockopt(&socket, sockopt::TcpMaxSeg, &segment_bytes)?;
        Ok(socket)
    }
}

/// When a turn is, and what leaves in it.
#[derive(Clone, Copy)]
struct Times {
    now: Duration,
    due_by: Duration,
}

/// Moves one direction on: out what is due, in what the link has room for. Returns the bytes read.
fn pass(
    rules: &Rules,
    Times { now, due_by }: Times,
    (from, stream, to): (&mut Side, &mut Stream, &mut Side),
    (way, scratch): (&mut Way, &mut [u8]),
) -> io::Result<usize> {
    while to.writable {
        let due = stream.due(due_by, &mut way.counts);
        if due.is_empty() {
            break;
        }
        match to.socket.write(due) {
            Ok(count) => stream.delivered(count),
            Err(why) => to.writable = may_go_on(&why)?,
        }
    }
    if stream.ends(due_by) {
        // A socket whose other end is gone already has nothing to shut.
        let _ = to.socket.shutdown(Shutdown::Write);
    }
    if !from.readable || !stream.is_open() || way.pipe.room_bytes(now) < rules.segment_wire_bytes() {
        // A queue smaller than a segment takes one when it is empty.
        if way.pipe.waiting_bytes(now) > 0 || !from.readable || !stream.is_open() {
            return Ok(0);
        }
    }
    let segments_max = (way.pipe.room_bytes(now) / rules.segment_wire_bytes()).max(1);
    let room = as_usize(segments_max).saturating_mul(rules.segments.payload_bytes);
    let room = room.min(rules.held_bytes_max.saturating_sub(stream.len())).min(scratch.len());
    if room == 0 {
        return Ok(0);
    }
    match from.socket.read(&mut scratch[..room]) {
        Ok(0) => {
            stream.finish(now, &way.pipe);
            Ok(0)
        }
        Ok(count) => {
            stream.admit(now, &scratch[..count], rules.segments, (&mut way.pipe, &mut way.counts));
            Ok(count)
        }
        Err(why) => {
            from.readable = may_go_on(&why)?;
            Ok(0)
        }
    }
}

/// Whether the socket is still ready after an error that is none: `false` until its next edge.
fn may_go_on(why: &io::Error) -> io::Result<bool> {
    match why.kind() {
        io::ErrorKind::WouldBlock => Ok(false),
        io::ErrorKind::Interrupted => Ok(true),
        kind => Err(kind.into()),
    }
}

/// Bytes that `LinkConfig::check` has bounded far below the address space.
fn as_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
