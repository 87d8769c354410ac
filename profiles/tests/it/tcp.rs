//! Connections across a link of real sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use wormhole_profiles::link::{Link, LinkConfig, Profile, Protocol};

use crate::{DEADLINE, reported};

/// 4 ms, 200 Mbit/s.
fn config() -> LinkConfig {
    LinkConfig {
        protocol: Protocol::Tcp,
        rtt: Duration::from_millis(4),
        rate_bps: 200_000_000,
        ..Profile::Lan.into()
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// A service that takes `connections`, one thread each: it reads to the end and answers with all that it read.
fn parrot(connections: usize) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move || {
        let threads: Vec<JoinHandle<()>> = (0..connections)
            .map(|_| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                thread::spawn(move || {
                    let mut bytes = Vec::new();
                    stream.read_to_end(&mut bytes).unwrap();
                    stream.write_all(&bytes).unwrap();
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    };
    (address, thread::spawn(serve))
}

/// Bytes in which none that moved or changed would go unseen.
fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(step).take(len).collect()
}

/// Sends, closes its direction, and returns what comes back.
fn talk(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn bytes_pass_unchanged_and_each_direction_closes_on_its_own() {
    for loss_ppm in [0, 20_000] {
        let (target, service) = parrot(1);
        let link = Link::start(&LinkConfig { loss_ppm, ..config() }, target).unwrap();
        let bytes = pattern(3_000_001, 9);
        assert!(talk(link.address(), &bytes) == bytes);
        service.join().unwrap();
        let report = reported(&link, |report| report.flows_open == 0);
        assert_eq!((report.up.bytes, report.down.bytes), (3_000_001, 3_000_001));
        assert_eq!(report.up.drops_loss > 0, loss_ppm > 0);
        // Retransmissions come on top of the queue.
        let queue_bytes_max = config().queue_bytes() * if loss_ppm > 0 { 2 } else { 1 };
        assert!(report.up.queue_bytes_high <= queue_bytes_max, "{report}");
    }
}

#[test]
fn many_connections_share_the_link_and_none_is_starved() {
    let (target, service) = parrot(20);
    let link = Link::start(&config(), target).unwrap();
    let address = link.address();
    let clients: Vec<JoinHandle<()>> = (0..20)
        .map(|n| {
            thread::spawn(move || {
                let bytes = pattern(200_000, n);
                assert!(talk(address, &bytes) == bytes);
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    service.join().unwrap();
    let report = reported(&link, |report| report.flows_open == 0);
    assert_eq!((report.flows_opened, report.up.bytes), (20, 4_000_000));
}

#[test]
fn the_first_answer_takes_two_round_trips_and_later_ones_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let rtt = Duration::from_millis(30);
    let link = Link::start(&LinkConfig { rtt, ..config() }, listener.local_addr().unwrap()).unwrap();
    let service = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 1];
        while stream.read_exact(&mut buffer).is_ok() {
            stream.write_all(&buffer).unwrap();
        }
    });
    // clock: the time is what is tested, and only from below.
    let started = Instant::now();
    let mut client = connect(link.address());
    client.set_nodelay(true).unwrap();
    for trips in 2..5 {
        client.write_all(&[1]).unwrap();
        client.read_exact(&mut [0]).unwrap();
        // Each way may be early by what its timer was expected to be late.
        assert!(started.elapsed() >= rtt * trips - Duration::from_micros(100) * trips);
    }
    drop(client);
    service.join().unwrap();
}

#[test]
fn a_rate_is_not_exceeded() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let slow = LinkConfig { rate_bps: 20_000_000, ..config() };
    let link = Link::start(&slow, listener.local_addr().unwrap()).unwrap();
    // clock: the time is what is tested, and only from below.
    let started = Instant::now();
    let writer = thread::spawn({
        let address = link.address();
        move || connect(address).write_all(&pattern(1_000_000, 3)).unwrap()
    });
    let (mut stream, _) = listener.accept().unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert!(bytes.len() == 1_000_000 && started.elapsed() >= Duration::from_millis(400));
    writer.join().unwrap();
}

#[test]
fn a_target_that_refuses_resets_its_client_alone() {
    let gone = TcpListener::bind("127.0.0.78:0").unwrap().local_addr().unwrap();
    let link = Link::start(&config(), gone).unwrap();
    let mut client = connect(link.address());
    let why = client.read(&mut [0]).unwrap_err();
    assert_eq!(why.kind(), ErrorKind::ConnectionReset);
    let service = TcpListener::bind(gone).unwrap();
    let mut client = connect(link.address());
    let (mut served, _) = service.accept().unwrap();
    served.write_all(&[42]).unwrap();
    let mut byte = [0];
    client.read_exact(&mut byte).unwrap();
    assert_eq!((byte, link.report().fault), ([42], None));
}

#[test]
fn a_reset_of_one_end_reaches_the_other_and_room_is_made() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let link = Link::start(&LinkConfig { flows_max: 1, ..config() }, listener.local_addr().unwrap()).unwrap();
    let mut client = connect(link.address());
    client.write_all(&[1]).unwrap();
    let (mut served, _) = listener.accept().unwrap();
    served.set_read_timeout(Some(DEADLINE)).unwrap();
    served.read_exact(&mut [0]).unwrap();
    // A second one is refused while the first is there.
    assert!(matches!(connect(link.address()).read(&mut [0]), Ok(0) | Err(_)));
    assert_eq!(reported(&link, |report| report.flows_refused > 0).flows_refused, 1);
    // Unread bytes make closing a reset.
    served.write_all(&[2; 100]).unwrap();
    client.peek(&mut [0]).unwrap();
    drop(client);
    assert_eq!(served.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut next = connect(link.address());
    next.write_all(&[3]).unwrap();
    let (mut served, _) = listener.accept().unwrap();
    let mut byte = [0];
    served.read_exact(&mut byte).unwrap();
    assert_eq!(byte, [3]);
}
