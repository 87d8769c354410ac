//! The link itself: datagrams between addresses, late, lost, twice or out of order.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    fmt, io,
    io::IoSliceMut,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{EcnCodepoint, RecvMeta, Transmit},
};
use tokio::time::{Instant, Sleep, sleep_until};

/// Datagrams that wait at one address; more are dropped, as a full queue does.
const WAITING_MAX: usize = 65_536;

/// What a link does to datagrams, each way alike; ppm are parts in a million.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Equal seeds, equal losses.
    pub seed: u64,
    /// From one end to the other.
    pub delay: Duration,
    /// How many vanish.
    pub loss_ppm: u32,
    /// How many come later by another delay and one to five milliseconds, so that others overtake them.
    pub reorder_ppm: u32,
    /// How many come twice.
    pub duplicate_ppm: u32,
    /// Bytes of UDP payload above which a datagram vanishes.
    pub mtu_bytes: usize,
    /// Where it is narrow; `None` carries anything at once.
    pub bottleneck: Option<Bottleneck>,
}

/// A link that sends one datagram after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bottleneck {
    /// Bytes a second each way, of UDP payload and [`HEADER_BYTES`] a datagram.
    pub bytes_per_s: u64,
    /// Bytes that may wait to be sent; more are dropped, the last first.
    pub queue_bytes: u64,
}

/// What IPv4 and UDP add to a datagram.
pub const HEADER_BYTES: u64 = 28;

impl Default for LinkConfig {
    fn default() -> LinkConfig {
        LinkConfig {
            seed: 1,
            delay: Duration::from_millis(1),
            loss_ppm: 0,
            reorder_ppm: 0,
            duplicate_ppm: 0,
            mtu_bytes: 1_472,
            bottleneck: None,
        }
    }
}

/// A network of addresses in memory. Clones are the same network.
#[derive(Clone)]
pub struct Link {
    state: Arc<Mutex<State>>,
}

struct State {
    config: LinkConfig,
    random: u64,
    sent: u64,
    dropped: u64,
    cut: HashSet<SocketAddr>,
    inboxes: HashMap<SocketAddr, Inbox>,
    sockets: u64,
}

#[derive(Default)]
struct Inbox {
    /// Which socket reads it: others of the same address are dead.
    socket: u64,
    waiting: BinaryHeap<Reverse<Datagram>>,
    reader: Option<Waker>,
    /// When the bottleneck towards here has sent all that waits for it.
    sent_at: Option<Instant>,
}

/// Ordered by the moment it arrives, then by when it was sent.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Datagram {
    due: Instant,
    number: u64,
    from: SocketAddr,
    ecn: Option<u8>,
    bytes: Vec<u8>,
}

impl Link {
    /// A network with nobody on it.
    pub fn new(config: LinkConfig) -> Link {
        let random = config.seed;
        let state = State {
            config,
            random,
            sent: 0,
            dropped: 0,
            cut: HashSet::new(),
            inboxes: HashMap::new(),
            sockets: 0,
        };
        Link { state: Arc::new(Mutex::new(state)) }
    }

    /// Changes what happens to datagrams from now on; the seed goes on where it is.
    pub fn shape(&self, change: impl FnOnce(&mut LinkConfig)) {
        change(&mut self.state.lock().config);
    }

    /// The process at `address` is gone at once: nothing reaches it, and nothing it still sends arrives, whatever is
    /// left of it in this one. A new socket there starts afresh.
    pub fn kill(&self, address: SocketAddr) {
        self.state.lock().inboxes.remove(&address);
    }

    /// From now on nothing reaches `address`; what is on its way arrives. One address alone makes a half-open link.
    pub fn cut(&self, address: SocketAddr) {
        self.state.lock().cut.insert(address);
    }

    /// Ends every cut.
    pub fn heal(&self) {
        self.state.lock().cut.clear();
    }

    /// Datagrams that were sent, and how many of them were dropped.
    pub fn datagrams(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.sent, state.dropped)
    }

    /// A socket at `address`; it takes the place of one that was there.
    pub(super) fn socket(&self, address: SocketAddr) -> Arc<dyn AsyncUdpSocket> {
        let mut state = self.state.lock();
        state.sockets += 1;
        let number = state.sockets;
        state.inboxes.insert(address, Inbox { socket: number, ..Inbox::default() });
        Arc::new(LinkSocket { link: self.clone(), address, number, timer: Mutex::new(None) })
    }

    /// What makes the endpoint at `address` repeatable.
    pub(super) fn endpoint_seed(&self, address: SocketAddr) -> [u8; 32] {
        let seed = self.state.lock().config.seed;
        blake3::derive_key("wormhole 2026-11 test endpoint", format!("{seed} {address}").as_bytes())
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, dropped) = self.datagrams();
        f.debug_struct("Link").field("sent", &sent).field("dropped", &dropped).finish_non_exhaustive()
    }
}

impl State {
    /// splitmix64.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn chance(&mut self, ppm: u32) -> bool {
        self.draw() % 1_000_000 < u64::from(ppm)
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, ecn: Option<EcnCodepoint>, bytes: &[u8]) {
        self.sent += 1;
        let LinkConfig { delay, loss_ppm, reorder_ppm, duplicate_ppm, mtu_bytes, bottleneck, .. } =
            self.config;
        // Drawn whatever the fate, so that one setting does not shift the chances of another.
        let lost = self.chance(loss_ppm);
        let late = self.chance(reorder_ppm);
        let twice = self.chance(duplicate_ppm);
        let extra = Duration::from_millis(1 + self.draw() % 5);
        if lost || bytes.len() > mtu_bytes || self.cut.contains(&to) {
            self.dropped += 1;
            return;
        }
        let number = self.sent;
        let Some(inbox) = self.inboxes.get_mut(&to) else { return };
        let Some(sent_at) = inbox.pass(bottleneck, bytes.len() as u64) else {
            self.dropped += 1;
            return;
        };
        let due = sent_at + if late { delay * 2 + extra } else { delay };
        let datagram = Datagram { due, number, from, ecn: ecn.map(|ecn| ecn as u8), bytes: bytes.into() };
        for _ in 0..if twice { 2 } else { 1 } {
            if inbox.waiting.len() < WAITING_MAX {
                inbox.waiting.push(Reverse(datagram.clone()));
            }
        }
        if let Some(reader) = inbox.reader.take() {
            reader.wake();
        }
    }
}

impl Inbox {
    /// When a datagram has passed the bottleneck; `None` when its queue is full.
    fn pass(&mut self, bottleneck: Option<Bottleneck>, bytes: u64) -> Option<Instant> {
        let now = Instant::now();
        let Some(Bottleneck { bytes_per_s, queue_bytes }) = bottleneck else { return Some(now) };
        let bytes = bytes + HEADER_BYTES;
        let time =
            |bytes: u64| Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / bytes_per_s.max(1));
        let idle_at = self.sent_at.map_or(now, |sent_at| sent_at.max(now));
        if idle_at - now > time(queue_bytes) {
            return None;
        }
        let sent_at = idle_at + time(bytes);
        self.sent_at = Some(sent_at);
        Some(sent_at)
    }
}

/// One address of the link.
struct LinkSocket {
    link: Link,
    address: SocketAddr,
    /// Tells it from sockets that were or will be at this address.
    number: u64,
    /// Runs to when the next datagram arrives.
    timer: Mutex<Option<Pin<Box<Sleep>>>>,
}

impl fmt::Debug for LinkSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkSocket({})", self.address)
    }
}

/// A link is always ready to take a datagram.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for LinkSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        let mut state = self.link.state.lock();
        if state.inboxes.get(&self.address).is_none_or(|inbox| inbox.socket != self.number) {
            return Ok(());
        }
        for datagram in transmit.contents.chunks(size) {
            state.send(self.address, transmit.destination, transmit.ecn, datagram);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.link.state.lock();
        let own = state.inboxes.get_mut(&self.address).filter(|inbox| inbox.socket == self.number);
        let Some(inbox) = own else { return Poll::Pending };
        let now = Instant::now();
        let mut count = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            if inbox.waiting.peek().is_none_or(|Reverse(next)| next.due > now) {
                break;
            }
            let Some(Reverse(datagram)) = inbox.waiting.pop() else { break };
            let len = datagram.bytes.len().min(buf.len());
            buf[..len].copy_from_slice(&datagram.bytes[..len]);
            *meta = RecvMeta {
                addr: datagram.from,
                len,
                stride: len,
                ecn: datagram.ecn.and_then(EcnCodepoint::from_bits),
                dst_ip: None,
            };
            count += 1;
        }
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        inbox.reader = Some(cx.waker().clone());
        let next = inbox.waiting.peek().map(|Reverse(next)| next.due);
        drop(state);
        let mut timer = self.timer.lock();
        *timer = next.map(|due| Box::pin(sleep_until(due)));
        if let Some(timer) = timer.as_mut()
            && timer.as_mut().poll(cx).is_ready()
        {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}
