//! The UDP relay: one thread, batches in (`recvmmsg`, GRO) and batches out (GSO).

use std::array;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn_udp::RecvMeta;

use super::config::LinkConfig;
use super::drops;
use super::flows::{Flows, Port, Route};
use super::line::{Burst, FlowId, Label, Line};
use super::pipe::{Direction, Fate, Pipe};
use super::poll::{Poller, Ready, Stopper, Trigger};
use super::report::{Board, DirectionReport};

/// Buffers that one `recvmmsg` fills, each with up to 64 packets: half a MiB, which a core's cache holds.
const RECEIVE_BUFFERS: usize = 8;
const RECEIVE_BUFFER_BYTES: usize = 1 << 16;
/// Calls of `recvmmsg` for a socket before others have their turn.
const RECEIVE_ROUNDS: usize = 4;
/// A wake that took so many packets was of a busy link: it sleeps out its quantum, as a network card holds back its
/// interrupts. One request and its reply never wait for that.
const BUSY_PACKETS: u64 = 4;
/// Packets in one send: the kernel's UDP_MAX_SEGMENTS of 64, which newer ones double.
const SEGMENTS_MAX: usize = 64;
/// How often idle flows are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// The token of the socket that clients send to; flows have theirs from 0 up.
const LISTENER: u64 = u64::MAX - 1;

/// One direction: what decides, what waits, what was counted.
#[derive(Debug)]
struct Way {
    pipe: Pipe,
    line: Line,
    counts: DirectionReport,
}

impl Way {
    fn new(config: &LinkConfig, direction: Direction) -> Self {
        // `check` has bounded it far below the address space.
        let capacity = usize::try_from(config.held_bytes_max()).unwrap_or(usize::MAX);
        Self {
            pipe: Pipe::new(config, direction),
            line: Line::new(capacity),
            counts: DirectionReport::default(),
        }
    }

    /// Takes a batch of packets of `stride` bytes each, the last of the rest.
    fn admit(&mut self, now: Duration, batch: Batch<'_>, path: Path) {
        // An empty datagram has no chunk, and is a packet.
        let empty = batch.bytes.is_empty().then_some(batch.bytes);
        for packet in empty.into_iter().chain(batch.bytes.chunks(batch.stride.max(1))) {
            let wire_bytes = packet.len() as u64 + u64::from(path.headers_bytes);
            if wire_bytes > u64::from(path.mtu_bytes) {
                self.counts.drops_mtu += 1;
                continue;
            }
            match self.pipe.offer(now, wire_bytes) {
                // The ring holds all that the pipe can: a refusal would be a queue longer than configured.
                Fate::Due(due) if self.line.push(packet, batch.label, due) => {}
                Fate::Due(_) | Fate::QueueFull => self.counts.drops_queue += 1,
                Fate::Lost => self.counts.drops_loss += 1,
            }
        }
    }
}

/// Packets as they were received together.
#[derive(Clone, Copy)]
struct Batch<'a> {
    bytes: &'a [u8],
    stride: usize,
    label: Label,
}

/// What a packet's size is held against.
#[derive(Clone, Copy, Debug)]
struct Path {
    headers_bytes: u32,
    mtu_bytes: u32,
}

/// The relay, on its own thread from [`UdpRelay::run`] on.
#[derive(Debug)]
pub(super) struct UdpRelay {
    poller: Poller,
    listener: Port,
    target: SocketAddr,
    flows: Flows,
    up: Way,
    down: Way,
    path: Path,
    quantum: Duration,
    /// When packets last left; the next leave a quantum later.
    released_at: Duration,
    /// Packets that came since the last wake.
    taken: u64,
    swept_at: Duration,
    refused: u64,
    /// Socket drops of flows that are closed.
    closed_drops: u64,
    board: Arc<Board>,
}

impl UdpRelay {
    pub(super) fn new(
        config: &LinkConfig,
        target: SocketAddr,
        stopper: Arc<Stopper>,
        board: Arc<Board>,
    ) -> io::Result<Self> {
        let listener = Port::bind(config.listen)?;
        let poller = Poller::new(stopper, config.lead_max())?;
        poller.add(listener.socket(), LISTENER, Trigger::Readable)?;
        // A flow outlives its packets: they are on the link for less than the queue and the delay take.
        let longest =
            config.rtt + Duration::from_secs_f64(config.queue_bytes() as f64 * 8.0 / config.rate_bps as f64);
        Ok(Self {
            poller,
            listener,
            target,
            flows: Flows::new(target, config.flows_max, config.flow_idle.max(longest)),
            up: Way::new(config, Direction::Up),
            down: Way::new(config, Direction::Down),
            path: Path { headers_bytes: LinkConfig::headers_bytes(target), mtu_bytes: config.mtu_bytes },
            quantum: config.quantum(),
            released_at: Duration::ZERO,
            taken: 0,
            swept_at: Duration::ZERO,
            refused: 0,
            closed_drops: 0,
            board,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Carries packets until it is stopped. An error of a single socket or packet is counted, not returned.
    pub(super) fn run(mut self) -> io::Result<()> {
        Poller::make_prompt()?;
        let mut ready: Vec<Ready> = Vec::new();
        let mut buffers = vec![0; RECEIVE_BUFFERS * RECEIVE_BUFFER_BYTES];
        loop {
            let deadline = self.deadline();
            self.publish();
            self.poller.publish_cpu(&self.board, deadline)?;
            if !self.poller.wait(deadline, &mut ready)? {
                return Ok(());
            }
            let woke_at = self.release();
            self.taken = 0;
            for socket in &ready {
                match socket.token {
                    LISTENER => self.receive_up(&mut buffers),
                    token => self.receive_down(FlowId(token), &mut buffers),
                }
            }
            self.sweep();
            if self.taken >= BUSY_PACKETS {
                self.poller.pause_until(woke_at + self.quantum);
            }
        }
    }

    /// When the thread must wake although no packet came.
    fn deadline(&self) -> Option<Duration> {
        let due = [self.up.line.next_due(), self.down.line.next_due()].into_iter().flatten().min();
        let release = due.map(|due| due.max(self.released_at + self.quantum));
        let sweep = (self.flows.open_count() > 0).then(|| self.swept_at + SWEEP_EVERY);
        [release, sweep].into_iter().flatten().min()
    }

    /// Hands on all that is due and returns the time of it.
    fn release(&mut self) -> Duration {
        let now = self.poller.now();
        let times = (now, self.poller.due_by(now));
        let Self { listener, target, flows, .. } = self;
        let up = release_way(&mut self.up, times, |burst, packets| {
            flows.find(burst.label.flow).map_or(0, |flow| {
                let route = Route { to: *target, from: None, ecn: burst.label.ecn };
                flow.port.send(packets, burst.segment_bytes, route)
            })
        });
        let down = release_way(&mut self.down, times, |burst, packets| {
            flows.find(burst.label.flow).map_or(0, |flow| {
                let route = Route { to: flow.client, from: flow.own_ip, ecn: burst.label.ecn };
                listener.send(packets, burst.segment_bytes, route)
            })
        });
        if up || down {
            self.released_at = now;
        }
        now
    }

    /// Takes what clients sent.
    fn receive_up(&mut self, buffers: &mut [u8]) {
        let listens_on_all = self.listener.address().ip().is_unspecified();
        for _ in 0..RECEIVE_ROUNDS {
            let now = self.release();
            let (mut slices, mut metas) = (slices(buffers), [RecvMeta::default(); RECEIVE_BUFFERS]);
            let Ok(count) = self.listener.receive(&mut slices, &mut metas) else { return };
            for (slice, meta) in slices.iter().zip(&metas[..count]) {
                let own_ip = meta.dst_ip.filter(|_| listens_on_all);
                let packets = packets_of(meta);
                self.taken += packets;
                let flow = match self.flows.of_client(meta.addr) {
                    Some(flow) => Some(flow),
                    None => self.open_flow(meta.addr, own_ip, now),
                };
                let Some(flow) = flow else {
                    (self.refused, self.up.counts.drops_other) =
                        (self.refused + packets, self.up.counts.drops_other + packets);
                    continue;
                };
                if let Some(flow) = self.flows.find(flow) {
                    flow.used_at = now;
                }
                let label = Label { flow, ecn: meta.ecn };
                self.up.admit(
                    now,
                    Batch { bytes: &slice[..meta.len], stride: meta.stride, label },
                    self.path,
                );
            }
            if count < RECEIVE_BUFFERS {
                return;
            }
        }
    }

    /// A way for a new client, where one may and can be opened.
    fn open_flow(&mut self, client: SocketAddr, own_ip: Option<IpAddr>, now: Duration) -> Option<FlowId> {
        // Out of descriptors is a flow refused: the others go on.
        let id = self.flows.open(client, own_ip, now).ok().flatten()?;
        let flow = self.flows.find(id)?;
        self.poller.add(flow.port.socket(), id.0, Trigger::Readable).ok()?;
        self.board.watch_sockets(self.inodes());
        Some(id)
    }

    /// Takes what the target sent to a client.
    fn receive_down(&mut self, id: FlowId, buffers: &mut [u8]) {
        for _ in 0..RECEIVE_ROUNDS {
            let now = self.release();
            let Some(flow) = self.flows.find(id) else { return };
            let (mut slices, mut metas) = (slices(buffers), [RecvMeta::default(); RECEIVE_BUFFERS]);
            let count = match flow.port.receive(&mut slices, &mut metas) {
                Ok(count) => count,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return,
                // The target refused an earlier packet, which the socket reports once.
                Err(_) => continue,
            };
            flow.used_at = now;
            for (slice, meta) in slices.iter().zip(&metas[..count]) {
                self.taken += packets_of(meta);
                let label = Label { flow: id, ecn: meta.ecn };
                self.down.admit(
                    now,
                    Batch { bytes: &slice[..meta.len], stride: meta.stride, label },
                    self.path,
                );
            }
            if count < RECEIVE_BUFFERS {
                return;
            }
        }
    }

    /// Closes idle flows, once in [`SWEEP_EVERY`].
    fn sweep(&mut self) {
        let now = self.poller.now();
        if now < self.swept_at + SWEEP_EVERY {
            return;
        }
        self.swept_at = now;
        let closed = self.flows.close_idle(now);
        if !closed.is_empty() {
            let inodes: Vec<u64> = closed.iter().map(Port::inode).collect();
            self.closed_drops += drops::of_sockets(&inodes);
            self.board.watch_sockets(self.inodes());
        }
    }

    fn inodes(&self) -> Vec<u64> {
        self.flows.inodes().chain([self.listener.inode()]).collect()
    }

    fn publish(&mut self) {
        for way in [&mut self.up, &mut self.down] {
            way.counts.queue_bytes_high = way.pipe.queue_bytes_high();
        }
        self.board.update(|report| {
            (report.up, report.down) = (self.up.counts, self.down.counts);
            (report.flows_open, report.flows_opened) = (self.flows.open_count(), self.flows.opened());
            (report.flows_refused, report.socket_drops) = (self.refused, self.closed_drops);
        });
    }
}

/// Sends what is due of one direction through `send`, which returns the packets that the kernel took.
fn release_way(
    way: &mut Way,
    (now, due_by): (Duration, Duration),
    mut send: impl FnMut(&Burst, &[u8]) -> usize,
) -> bool {
    let mut released = false;
    while let Some(burst) = way.line.burst(due_by, SEGMENTS_MAX) {
        let sent = send(&burst, way.line.contents(&burst));
        // Packets of a burst are alike; of a burst cut short, the last one's size is not worth a second look.
        let bytes = burst.len().min(sent * burst.segment_bytes);
        way.counts.released(sent, bytes, now.saturating_sub(burst.due));
        way.counts.drops_other += (burst.count - sent) as u64;
        way.line.pop(burst.count);
        released = true;
    }
    released
}

fn packets_of(meta: &RecvMeta) -> u64 {
    meta.len.div_ceil(meta.stride.max(1)).max(1) as u64
}

fn slices(buffers: &mut [u8]) -> [IoSliceMut<'_>; RECEIVE_BUFFERS] {
    let mut chunks = buffers.chunks_exact_mut(RECEIVE_BUFFER_BYTES);
    array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::super::config::Profile;
    use super::*;

    #[test]
    fn the_ring_holds_all_that_the_queue_lets_in() {
        for profile in Profile::ALL {
            for mtu_bytes in [1500, 65_535] {
                let config = LinkConfig { mtu_bytes, loss_ppm: 0, ..profile.into() };
                let mut way = Way::new(&config, Direction::Up);
                let label = Label { flow: FlowId(0), ecn: None };
                let payload = vec![0; 65_507];
                // One and a half times the rate, in packets of many sizes, looked at now and then.
                let (mut now, mut size) = (Duration::ZERO, 1);
                for turn in 0..20_000_u64 {
                    size = (size * 7919 + 13) % (u64::from(mtu_bytes) - 28);
                    let packet = &payload[..usize::try_from(size).unwrap()];
                    now += Duration::from_secs_f64(size as f64 * 8.0 / 1.5 / config.rate_bps as f64);
                    if turn % 5 == 0 {
                        release_way(&mut way, (now, now), |burst, _| burst.count);
                    } else {
                        // The relay releases what is due before it takes more.
                        while way.line.next_due().is_some_and(|due| due <= now) {
                            way.line.pop(1);
                        }
                    }
                    if let Fate::Due(due) = way.pipe.offer(now, size + 28) {
                        assert!(way.line.push(packet, label, due), "{profile}, MTU {mtu_bytes}, turn {turn}");
                    }
                }
                assert!(way.pipe.queue_bytes_high() > config.queue_bytes() - u64::from(mtu_bytes));
                assert!(way.counts.drops_other == 0 && way.counts.packets > 0);
            }
        }
    }
}
