//! Datagrams across a link of real sockets.

use std::collections::HashSet;
use std::io::{ErrorKind, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use wormhole_profiles::link::{Link, LinkConfig, Profile};

use crate::{DEADLINE, reported};

/// When nothing more is expected: longer than any delay of these links.
const QUIET: Duration = Duration::from_millis(500);

/// 2 ms, 1 Gbit/s, and a queue that none of these tests fills.
fn fast() -> LinkConfig {
    LinkConfig { rtt: Duration::from_millis(2), queue_bytes: Some(8 << 20), ..Profile::Lan.into() }
}

fn socket() -> UdpSocket {
    bound("127.0.0.1:0")
}

fn bound(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// A service that sends each packet back to where it came from.
struct Echo {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<HashSet<SocketAddr>>>,
}

impl Echo {
    fn start(address: &str) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            let mut peers = HashSet::new();
            while let Ok((len, peer)) = socket.recv_from(&mut buffer) {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                peers.insert(peer);
                socket.send_to(&buffer[..len], peer).unwrap();
            }
            peers
        });
        Self { address, stop, thread: Some(thread) }
    }

    /// Ends it; returns the addresses that it saw.
    fn stop(&mut self) -> HashSet<SocketAddr> {
        let Some(thread) = self.thread.take() else { return HashSet::new() };
        self.stop.store(true, Ordering::Relaxed);
        UdpSocket::bind((self.address.ip(), 0)).unwrap().send_to(&[], self.address).unwrap();
        thread.join().unwrap()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop();
    }
}

fn numbered(number: u32, len: usize) -> Vec<u8> {
    let mut packet = vec![0; len];
    packet[..4].copy_from_slice(&number.to_le_bytes());
    packet
}

fn number(packet: &[u8]) -> u32 {
    u32::from_le_bytes(packet[..4].try_into().unwrap())
}

#[test]
fn packets_go_both_ways_in_order_and_none_is_lost() {
    let echo = Echo::start("127.0.0.1:0");
    let link = Link::start(&fast(), echo.address).unwrap();
    let client = socket();
    client.connect(link.address()).unwrap();
    let mut buffer = [0; 2000];
    // In windows, so that no socket's buffer is what is tested.
    for window in 0..40 {
        for n in window * 50..(window + 1) * 50 {
            client.send(&numbered(n, 4 + (n as usize * 37) % 1400)).unwrap();
        }
        for n in window * 50..(window + 1) * 50 {
            let len = client.recv(&mut buffer).unwrap();
            assert_eq!((number(&buffer), len), (n, 4 + (n as usize * 37) % 1400));
        }
    }
    let report = reported(&link, |report| report.down.packets == 2000);
    assert_eq!((report.up.packets, report.down.packets, report.socket_drops), (2000, 2000, 0));
    assert_eq!(report.up.bytes, report.down.bytes);
    assert!(report.cpu > Duration::ZERO && report.flows_open == 1 && report.fault.is_none(), "{report}");
}

#[test]
fn a_round_trip_takes_what_is_configured_to_within_the_timers() {
    let echo = Echo::start("127.0.0.1:0");
    let rtt = Duration::from_millis(30);
    let link = Link::start(&LinkConfig { rtt, ..fast() }, echo.address).unwrap();
    let client = socket();
    client.connect(link.address()).unwrap();
    for _ in 0..3 {
        // clock: the time is what is tested, and only from below.
        let sent = Instant::now();
        client.send(&[7]).unwrap();
        client.recv(&mut [0; 16]).unwrap();
        // Each way may be early by what its timer was expected to be late.
        assert!(sent.elapsed() >= rtt - Duration::from_micros(100));
    }
}

#[test]
fn batches_stay_batches_and_keep_sizes_and_marks() {
    let target = socket();
    let link = Link::start(&fast(), target.local_addr().unwrap()).unwrap();
    let client = socket();
    let sender = UdpSocketState::new((&client).into()).unwrap();
    let receiver = UdpSocketState::new((&target).into()).unwrap();
    target.set_nonblocking(false).unwrap();
    let contents: Vec<u8> = (0..10).flat_map(|n| numbered(n, if n == 9 { 700 } else { 1452 })).collect();
    let transmit = Transmit {
        destination: link.address(),
        ecn: Some(EcnCodepoint::Ect0),
        contents: &contents,
        segment_size: Some(1452),
        src_ip: None,
    };
    sender.try_send((&client).into(), &transmit).unwrap();
    let (mut taken, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    while taken.len() < 10 {
        let mut meta = [RecvMeta::default()];
        let count = receiver.recv((&target).into(), &mut [IoSliceMut::new(&mut buffer)], &mut meta).unwrap();
        assert_eq!((count, meta[0].ecn), (1, Some(EcnCodepoint::Ect0)));
        let packets = buffer[..meta[0].len].chunks(meta[0].stride);
        taken.extend(packets.map(|packet| (number(packet), packet.len())));
    }
    let expected: Vec<(u32, usize)> = (0..10).map(|n| (n, if n == 9 { 700 } else { 1452 })).collect();
    assert_eq!(taken, expected);
    let report = reported(&link, |report| report.up.packets == 10);
    assert_eq!((report.up.packets, report.up.bytes), (10, contents.len() as u64));
}

#[test]
fn what_is_larger_than_the_mtu_vanishes() {
    for (address, mtu, largest) in
        [("127.0.0.1:0", 1500, 1472), ("[::1]:0", 1500, 1452), ("127.0.0.1:0", 9000, 8972)]
    {
        let echo = Echo::start(address);
        let config = LinkConfig { mtu_bytes: mtu, listen: address.parse().unwrap(), ..fast() };
        let link = Link::start(&config, echo.address).unwrap();
        let client = bound(address);
        client.connect(link.address()).unwrap();
        client.send(&numbered(1, largest + 1)).unwrap();
        client.send(&numbered(2, largest)).unwrap();
        let mut buffer = vec![0; 1 << 16];
        let len = client.recv(&mut buffer).unwrap();
        assert_eq!((number(&buffer), len), (2, largest));
        assert_eq!(link.report().up.drops_mtu, 1);
    }
}

/// The numbers that arrive of 3,000 packets.
fn arrived(seed: u64) -> Vec<u32> {
    let target = socket();
    target.set_read_timeout(Some(QUIET)).unwrap();
    let config = LinkConfig { seed, loss_ppm: 100_000, ..fast() };
    let link = Link::start(&config, target.local_addr().unwrap()).unwrap();
    let client = socket();
    client.connect(link.address()).unwrap();
    let (mut numbers, mut buffer) = (Vec::new(), [0; 64]);
    for window in 0..30 {
        for n in window * 100..(window + 1) * 100 {
            client.send(&numbered(n, 64)).unwrap();
        }
        let report =
            reported(&link, |report| report.up.packets + report.up.drops_loss == u64::from(window + 1) * 100);
        assert_eq!((report.up.drops_queue, report.up.drops_other, report.socket_drops), (0, 0, 0));
        while numbers.len() as u64 != report.up.packets {
            target.recv(&mut buffer).unwrap();
            numbers.push(number(&buffer));
        }
    }
    numbers
}

#[test]
fn loss_has_its_rate_and_repeats_with_its_seed() {
    let numbers = arrived(5);
    assert!(numbers.is_sorted());
    // 10 % of 3,000 with a standard deviation of 16.
    assert!((2620..=2780).contains(&numbers.len()), "{}", numbers.len());
    assert_eq!(numbers, arrived(5));
    assert_ne!(numbers, arrived(6));
}

#[test]
fn a_flood_is_cut_to_the_queue() {
    let target = socket();
    // 100 bytes a second: nothing but the first packet gets through in the time of a test.
    let config = LinkConfig { rate_bps: 800, queue_bytes: Some(5000), ..fast() };
    let link = Link::start(&config, target.local_addr().unwrap()).unwrap();
    let client = socket();
    client.connect(link.address()).unwrap();
    for n in 0..100 {
        client.send(&numbered(n, 972)).unwrap();
    }
    let report = reported(&link, |report| report.up.drops_queue >= 95);
    assert_eq!(report.up.drops_queue, 95);
    assert!((4900..=5000).contains(&report.up.queue_bytes_high), "{report}");
}

#[test]
fn many_clients_each_have_their_own_way() {
    let mut echo = Echo::start("127.0.0.1:0");
    let link = Link::start(&LinkConfig { flows_max: 60, ..fast() }, echo.address).unwrap();
    let clients: Vec<UdpSocket> = (0..60).map(|_| socket()).collect();
    for (n, client) in (0..).zip(&clients) {
        client.connect(link.address()).unwrap();
        client.send(&numbered(n, 100)).unwrap();
    }
    let mut buffer = [0; 200];
    for (n, client) in (0..).zip(&clients) {
        assert_eq!((client.recv(&mut buffer).unwrap(), number(&buffer)), (100, n));
    }
    let further = socket();
    further.set_read_timeout(Some(QUIET)).unwrap();
    further.send_to(&numbered(61, 100), link.address()).unwrap();
    assert!(matches!(
        further.recv(&mut buffer).unwrap_err().kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut
    ));
    let report = link.report();
    assert_eq!((report.flows_open, report.flows_opened, report.flows_refused), (60, 60, 1));
    assert_eq!(echo.stop().len(), 60);
}

#[test]
fn a_target_that_is_not_there_costs_packets_and_nothing_else() {
    // An address that no other test binds.
    let gone = bound("127.0.0.77:0").local_addr().unwrap();
    let link = Link::start(&fast(), gone).unwrap();
    let client = socket();
    client.connect(link.address()).unwrap();
    for n in 0..20 {
        client.send(&numbered(n, 100)).unwrap();
    }
    let report = reported(&link, |report| report.up.packets + report.up.drops_other == 20);
    assert_eq!((report.up.packets + report.up.drops_other, report.fault), (20, None));
    let echo = UdpSocket::bind(gone).unwrap();
    echo.set_read_timeout(Some(DEADLINE)).unwrap();
    client.send(&numbered(21, 100)).unwrap();
    let mut buffer = [0; 200];
    // The kernel may report the refusals of before on the first packet, which is lost then.
    client.send(&numbered(22, 100)).unwrap();
    assert!(
        number({
            let len = echo.recv(&mut buffer).unwrap();
            &buffer[..len]
        }) >= 21
    );
}

#[test]
fn a_link_that_cannot_be_says_why() {
    let taken = socket();
    let config = LinkConfig { listen: taken.local_addr().unwrap(), ..fast() };
    let why = Link::start(&config, taken.local_addr().unwrap()).unwrap_err();
    assert!(
        why.kind() == ErrorKind::AddrInUse && why.to_string().starts_with("link: listen on 127.0.0.1"),
        "{why}"
    );
    let why = Link::start(&LinkConfig { rate_bps: 0, ..fast() }, taken.local_addr().unwrap()).unwrap_err();
    assert_eq!(why.kind(), ErrorKind::InvalidInput);
}
