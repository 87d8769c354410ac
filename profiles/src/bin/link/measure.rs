//! `wormhole-link --measure`: what the link really does on this machine, before anything else is measured across it.

mod tcp;

use std::fmt::Write;
use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use wormhole_profiles::link::{Link, LinkConfig, LinkReport, Protocol};

const PINGS: usize = 200;
const PING_BYTES: usize = 64;
/// Each load lasts so long; its first third, in which the queue fills, does not count.
pub(crate) const LOAD: Duration = Duration::from_secs(3);
/// Packets in one send, as many as quinn's.
const SEGMENTS: usize = 10;
/// IPv4 and UDP.
const HEADERS_BYTES: usize = 28;
/// What the far end of the link holds while its thread is off its core.
const SINK_BUFFER_BYTES: usize = 4 << 20;

/// Measures a link of `config`: its idle round trip, then what it carries of 98 % and of 120 % of its rate (TCP: of all
/// that one connection brings), each for `lasting`.
pub(crate) fn run(config: &LinkConfig, lasting: Duration) -> anyhow::Result<String> {
    let config = LinkConfig { listen: "127.0.0.1:0".parse()?, ..config.clone() };
    if config.protocol == Protocol::Tcp {
        return tcp::run(&config, lasting);
    }
    let sink = Sink::start()?;
    let direct = round_trips(sink.address, Duration::ZERO)?;
    let link = Link::start(&config, sink.address)?;
    let mut text = round_trips(link.address(), config.rtt)?.describe(config.rtt, &direct);
    for percent in [98, 120] {
        text.push_str(&load(&link, &sink, &config, Load { percent, lasting })?);
    }
    writeln!(text, "{}", link.report())?;
    Ok(text)
}

/// Round trips, the shortest first; at least one.
struct Trips(Vec<Duration>);

impl Trips {
    fn new(mut trips: Vec<Duration>) -> anyhow::Result<Self> {
        anyhow::ensure!(!trips.is_empty(), "no ping came back");
        trips.sort_unstable();
        Ok(Self(trips))
    }

    fn percentile(&self, share: usize) -> Duration {
        self.0[(self.0.len() - 1) * share / 100]
    }

    /// One line, against a round trip of `configured` and those without the link.
    fn describe(&self, configured: Duration, direct: &Trips) -> String {
        let (median, without) = (self.percentile(50), direct.percentile(50));
        format!(
            "round trip: {configured:?} configured, p50 {median:?}, p99 {:?} ({} of {PINGS} came back); p50 without the \
             link {without:?}, so the link has {:?}\n",
            self.percentile(99),
            self.0.len(),
            median.saturating_sub(without)
        )
    }
}

/// What the link's thread used between two reports, against the time and the bytes.
fn cost(before: &LinkReport, after: &LinkReport) -> String {
    let cpu = (after.cpu - before.cpu).as_secs_f64();
    let gib = (after.up.bytes - before.up.bytes) as f64 / f64::from(1 << 30);
    format!(
        "cpu {:.1} % of a core, {:.2} CPU-s/GiB",
        100.0 * cpu / (after.elapsed - before.elapsed).as_secs_f64(),
        if gib > 0.0 { cpu / gib } else { 0.0 }
    )
}

/// The round trips of single packets where nothing else is on its way.
fn round_trips(address: SocketAddr, rtt: Duration) -> anyhow::Result<Trips> {
    let client = UdpSocket::bind("127.0.0.1:0")?;
    client.connect(address)?;
    client.set_read_timeout(Some(rtt * 2 + Duration::from_millis(100)))?;
    let mut trips = Vec::new();
    for _ in 0..PINGS {
        let sent = Instant::now();
        client.send(&[1; PING_BYTES])?;
        // One that is lost does not come back in time.
        if client.recv(&mut [0; PING_BYTES]).is_ok() {
            trips.push(sent.elapsed());
        }
    }
    Trips::new(trips)
}

/// Packets of the MTU at a share of the link's rate.
#[derive(Clone, Copy)]
struct Load {
    percent: u32,
    lasting: Duration,
}

/// Sends a load and says what arrived.
fn load(
    link: &Link,
    sink: &Sink,
    config: &LinkConfig,
    Load { percent, lasting }: Load,
) -> anyhow::Result<String> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let state = UdpSocketState::new((&socket).into())?;
    let payload = usize::try_from(config.mtu_bytes)? - HEADERS_BYTES;
    // A batch is what one UDP send holds, and no more than the queue takes at once.
    let queue_packets = usize::try_from(config.queue_bytes() / 2 / u64::from(config.mtu_bytes))?;
    let segments = (65_000 / payload).min(queue_packets).clamp(1, SEGMENTS);
    let contents = vec![0; payload * segments];
    let segment_size = (segments > 1).then_some(payload);
    let transmit =
        Transmit { destination: link.address(), ecn: None, contents: &contents, segment_size, src_ip: None };
    let batch_bits = ((payload + HEADERS_BYTES) * segments * 8) as f64;
    let every = Duration::from_secs_f64(batch_bits * 100.0 / (f64::from(percent) * config.rate_bps as f64));

    let started = Instant::now();
    let (mut next, mut counted_from) = (started, None);
    while started.elapsed() < lasting {
        if counted_from.is_none() && started.elapsed() >= lasting / 3 {
            counted_from = Some((Instant::now(), sink.wire_bits(), link.report()));
        }
        state.try_send((&socket).into(), &transmit).context("send a batch")?;
        next += every;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let (since, bits, before) = counted_from.context("the load was over before it counted")?;
    let (seconds, after) = (since.elapsed().as_secs_f64(), link.report());
    let carried = (sink.wire_bits() - bits) as f64 / seconds / 1e6;
    Ok(format!(
        "load of {percent} %: {carried:.3} of {:.3} Mbit/s carried, {:.0} packets/s, {} dropped by the queue, {} lost, \
         {}\n",
        config.rate_bps as f64 / 1e6,
        (after.up.packets - before.up.packets) as f64 / seconds,
        after.up.drops_queue - before.up.drops_queue,
        after.up.drops_loss - before.up.drops_loss,
        cost(&before, &after)
    ))
}

/// The service behind the link: it sends pings back and counts the rest.
struct Sink {
    address: SocketAddr,
    wire_bits: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    fn start() -> anyhow::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let state = UdpSocketState::new((&socket).into())?;
        state.set_recv_buffer_size((&socket).into(), SINK_BUFFER_BYTES)?;
        // The state made it return at once; a read that ends now and then sees the word to stop.
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let (address, wire_bits, stop) = (socket.local_addr()?, Arc::default(), Arc::default());
        let (counter, stopped) = (Arc::clone(&wire_bits), Arc::clone(&stop));
        let thread = thread::spawn(move || serve(&socket, &state, &counter, &stopped));
        Ok(Self { address, wire_bits, stop, thread: Some(thread) })
    }

    /// Bits that arrived, headers included.
    fn wire_bits(&self) -> u64 {
        self.wire_bits.load(Ordering::Relaxed)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, state: &UdpSocketState, wire_bits: &AtomicU64, stop: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        let mut meta = [RecvMeta::default()];
        let taken = state.recv(socket.into(), &mut [IoSliceMut::new(&mut buffer)], &mut meta);
        // A timeout: look at `stop` again.
        let Ok(1) = taken else { continue };
        let RecvMeta { len, stride, addr, .. } = meta[0];
        if len == PING_BYTES {
            let _ = socket.send_to(&buffer[..len], addr);
        }
        let packets = len.div_ceil(stride.max(1));
        wire_bits.fetch_add(((len + packets * HEADERS_BYTES) * 8) as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use wormhole_profiles::link::Profile;

    use super::*;

    #[test]
    fn a_link_is_measured_from_end_to_end() {
        let config = LinkConfig { rtt: Duration::from_micros(200), ..Profile::WanGood.into() };
        let text = run(&config, Duration::from_millis(300)).unwrap();
        assert!(text.starts_with("round trip: 200µs configured, p50 "), "{text}");
        assert!(text.contains("load of 120 %") && text.contains("CPU-s/GiB"), "{text}");
    }

    #[test]
    fn a_tcp_link_too() {
        let rtt = Duration::from_micros(200);
        let config = LinkConfig { rtt, protocol: Protocol::Tcp, ..Profile::WanGood.into() };
        let text = run(&config, Duration::from_millis(300)).unwrap();
        assert!(text.contains("200 of 200 came back") && text.contains("one connection: "), "{text}");
    }
}
