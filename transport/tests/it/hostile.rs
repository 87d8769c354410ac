//! Peers that attack: those with a ticket, and those without. Over real sockets.
//!
//! Each test lets a well-behaved mount read beside the attack; its answers are right and in time, the server does not panic
//! (its tasks answer on), and what the attack held is given back in the end. What is held is bounded by what the
//! server accounts for; the resident memory of a whole host is measured in `engine/tests/it`.

use std::{io, net::UdpSocket, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    task::JoinSet,
    time::{self, Instant},
};
use transport::{
    Client, Identity, Server, ServerConfig, ServerLimits, Usage,
    testing::{Greeting, Rogue, RogueStream},
};
use uring::Pool;
use wire::{
    Extent, Request, Ticket, codec,
    message::{Call, Class},
};

use crate::host::{
    Host, PATIENCE, Reads, connect, loopback_config, now, pattern, pool, read, slot, soon, stat, target,
    ticket, until_idle, version,
};

/// A host, a mount that keeps to the rules, and what it takes to attack.
struct Scene {
    host: Arc<Host>,
    server: Server,
    ticket: Ticket,
    honest: Client,
    pool: Pool,
}

impl Scene {
    async fn new() -> Scene {
        Scene::limited(ServerLimits::default()).await
    }

    async fn limited(limits: ServerLimits) -> Scene {
        let host = Host::new();
        let identity = Identity::generate().unwrap();
        let config = ServerConfig { limits, ..loopback_config(&identity) };
        let server = Server::bind(config, host.clone()).unwrap();
        let ticket = ticket(&identity, &server.local_addrs());
        let honest = connect(&ticket).await;
        Scene { host, server, ticket, honest, pool: pool() }
    }

    async fn rogue(&self) -> Rogue {
        Rogue::connect_tight(&self.ticket, Greeting::Hello).await.unwrap()
    }

    /// The mount reads and asks while the attack goes on; what the host held at most.
    async fn honest_work(&self, rounds: u64) -> Usage {
        let mut most = Usage::default();
        for n in 0..rounds {
            let (start, len) = (n * 4_099, 64 << 10);
            let filled = self.honest.read(read(start, len, Class::Demand), slot(&self.pool)).await.unwrap();
            assert!(filled.as_ref() == pattern(start, len), "round {n}");
            self.honest.call(stat(), Class::Metadata, soon()).await.unwrap();
            let usage = self.server.usage();
            most.answer_bytes_in_flight = most.answer_bytes_in_flight.max(usage.answer_bytes_in_flight);
            most.requests_in_flight = most.requests_in_flight.max(usage.requests_in_flight);
            most.requests_waiting = most.requests_waiting.max(usage.requests_waiting);
        }
        most
    }

    /// After the attack nothing of it is left, and the mount is where it was.
    async fn aftermath(self) {
        self.honest_work(2).await;
        assert_eq!(self.honest.stats().reconnects, 0, "the honest session lasted");
        until_idle(&self.server).await;
        let alone = async {
            let mut counts = self.host.counts.subscribe();
            counts.wait_for(|counts| counts.admitted == counts.ended + 1).await.unwrap();
        };
        time::timeout(PATIENCE, alone).await.expect("every other session ends");
        let usage = self.server.usage();
        assert_eq!((usage.sessions, usage.requests_in_flight), (1, 0), "{usage:?}");
        assert_eq!(self.pool.stats().lent_bytes, 0);
    }
}

fn call(request: Request) -> Bytes {
    codec::encode_call(&Call { class: Class::Demand, id: 1, deadline_ms: 20_000, packs: false, request })
}

fn big_read(number: u64) -> Bytes {
    let extent = Extent::new((number % 1_000) << 20, 1 << 20);
    call(Request::Read { target: target(), version: version(), extent })
}

/// A stream with a whole request on it.
async fn ask(rogue: &Rogue, request: &[u8]) -> io::Result<RogueStream> {
    let mut stream = rogue.open().await?;
    stream.write(request).await?;
    stream.finish();
    Ok(stream)
}

fn random(state: &mut u64) -> u8 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 56) as u8
}

#[tokio::test]
async fn random_bytes_end_the_session_that_sends_them() {
    let scene = Scene::new().await;
    let mut state = 11;
    for round in 0..3 {
        let rogue = scene.rogue().await;
        let attack = async {
            // It ends when the host closes the connection.
            for length in (1..).map(|n: usize| n * 37 % 4_000) {
                let bytes: Vec<u8> = (0..length).map(|_| random(&mut state)).collect();
                let Ok(mut stream) = rogue.open().await else { return };
                if stream.write(&bytes).await.is_ok() {
                    stream.finish();
                }
                // Whatever comes of it.
                let _ = stream.read(usize::MAX).await;
            }
        };
        let (ended, _) = tokio::join!(time::timeout(PATIENCE, attack), scene.honest_work(10));
        ended.expect("the host ends it");
        assert_eq!(rogue.closed().await.0, Some(5), "round {round}");
    }
    assert!(scene.server.usage().violations_total >= 3 * 16);
    scene.aftermath().await;
}

#[tokio::test]
async fn of_a_thousand_half_open_streams_a_quarter_may_stay_until_their_time_is_up() {
    let limits = ServerLimits { request_deadline: Duration::from_secs(2), ..ServerLimits::default() };
    let scene = Scene::limited(limits).await;
    let rogue = scene.rogue().await;
    let mut streams = Vec::new();
    for n in 0..1_000 {
        let mut stream = rogue.open().await.unwrap();
        // A host that has enough of them stops it.
        let _ = stream.write(&big_read(n)[..20]).await;
        streams.push(stream);
    }
    let most = scene.honest_work(20).await;
    assert!(most.requests_in_flight <= 2, "{most:?}");
    // The host breaks those off that it let begin, and its streams are free again.
    let (mut busy, mut broken_off) = (0, 0);
    for stream in &mut streams {
        match stream.reply().await {
            Ok(reply) => {
                assert_eq!(reply, wire::Reply::error(wire::ErrorCode::Busy));
                busy += 1;
            }
            Err(_) => broken_off += 1,
        }
    }
    assert!(busy >= 700 && broken_off >= 200, "{busy} busy, {broken_off} broken off");
    drop(streams);
    let mut stream = ask(&rogue, &call(stat())).await.unwrap();
    stream.reply().await.unwrap();
    rogue.close(0);
    scene.aftermath().await;
}

#[tokio::test]
async fn one_byte_at_a_time_is_a_request_in_the_end_or_none() {
    let scene = Scene::new().await;
    let rogue = scene.rogue().await;
    let drip = async {
        let mut dripping = Vec::new();
        for _ in 0..50 {
            dripping.push(rogue.open().await.unwrap());
        }
        for byte in call(stat()) {
            for stream in &mut dripping {
                stream.write(&[byte]).await.unwrap();
            }
            tokio::task::yield_now().await;
        }
        for stream in &mut dripping {
            stream.finish();
            stream.reply().await.unwrap();
        }
    };
    let (ended, _) = tokio::join!(time::timeout(PATIENCE, drip), scene.honest_work(20));
    ended.expect("in time");
    rogue.close(0);
    scene.aftermath().await;
}

#[tokio::test]
async fn requests_that_claim_the_longest_hold_four_mebibytes_and_no_more() {
    let limits = ServerLimits { request_deadline: Duration::from_secs(3), ..ServerLimits::default() };
    let scene = Scene::limited(limits).await;
    let rogue = scene.rogue().await;
    let attack = async {
        let mut header = call(stat())[..24].to_vec();
        header[4..8].copy_from_slice(&65_536_u32.to_le_bytes());
        let begun: Vec<u8> = [&header[..], &[0; 40_000]].concat();
        let mut streams = JoinSet::new();
        for _ in 0..400 {
            let mut stream = rogue.open().await.unwrap();
            let begun = begun.clone();
            streams.spawn(async move {
                // 16 MB in all: a host that takes no more of it says so on the stream.
                let _ = stream.write(&begun).await;
                stream.reply().await
            });
        }
        let mut busy = 0;
        while let Some(reply) = streams.join_next().await {
            // Of the others the time was up.
            if let Ok(reply) = reply.unwrap() {
                assert_eq!(reply, wire::Reply::error(wire::ErrorCode::Busy));
                busy += 1;
            }
        }
        busy
    };
    let (busy, _) = tokio::join!(time::timeout(PATIENCE, attack), scene.honest_work(20));
    let busy = busy.expect("in time");
    // 4 MiB are 104 of them.
    assert!((200..400).contains(&busy), "{busy} were told to come again");
    // A length above the limit ends the stream at its header.
    let mut header = call(stat())[..24].to_vec();
    header[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut stream = rogue.open().await.unwrap();
    stream.write(&header).await.unwrap();
    assert_eq!(stream.reply().await.unwrap(), wire::Reply::error(wire::ErrorCode::Invalid));
    rogue.close(0);
    scene.aftermath().await;
}

#[tokio::test]
async fn a_hundred_thousand_requests_at_once_wait_in_their_own_queue() {
    let scene = Scene::new().await;
    let rogue = scene.rogue().await;
    let attack = async {
        let mut asked = 0_u32;
        let request = call(stat());
        let mut answers = JoinSet::new();
        while asked < 100_000 {
            // As many as the host allows at once; what it answers is read, or there would be no more.
            while let Some(answer) = answers.try_join_next() {
                let answer: io::Result<()> = answer.unwrap();
                answer.unwrap();
            }
            let mut stream = ask(&rogue, &request).await.unwrap();
            asked += 1;
            answers.spawn(async move {
                while stream.read(usize::MAX).await?.is_some() {}
                Ok(())
            });
        }
        answers.join_all().await;
    };
    let honest = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..30 {
            let start = now();
            scene.honest_work(1).await;
            slowest = slowest.max(start.elapsed());
        }
        slowest
    };
    let (ended, slowest) = tokio::join!(time::timeout(6 * PATIENCE, attack), honest);
    ended.expect("in time");
    println!("a read of 64 KiB and a stat beside it took at most {slowest:?}");
    rogue.close(0);
    scene.aftermath().await;
}

#[tokio::test]
async fn answers_that_are_never_read_hold_one_mounts_part() {
    let scene = Scene::new().await;
    let mut rogues = Vec::new();
    for _ in 0..3 {
        let rogue = scene.rogue().await;
        let mut streams = Vec::new();
        for n in 0..200 {
            streams.push(ask(&rogue, &big_read(n)).await.unwrap());
        }
        rogues.push((rogue, streams));
    }
    let most = scene.honest_work(30).await;
    let limits = ServerLimits::default();
    assert!(most.answer_bytes_in_flight <= limits.host_answer_bytes_max, "{most:?}");
    assert!(most.requests_waiting >= 500, "{most:?}");
    for path in scene.server.paths() {
        assert!(path.answer_bytes_in_flight <= limits.answer_bytes_max.into(), "{path:?}");
    }
    // A whole extent passes as well.
    let filled = scene.honest.read(read(5, 1 << 20, Class::Demand), slot(&scene.pool)).await.unwrap();
    assert!(filled.as_ref() == pattern(5, 1 << 20));
    drop(filled);
    // The silent death of one of them is noticed like any other.
    drop(rogues);
    scene.aftermath().await;
}

#[tokio::test]
async fn streams_of_one_way_end_nothing_but_get_nowhere() {
    let scene = Scene::new().await;
    let rogue = scene.rogue().await;
    let opened = time::timeout(Duration::from_millis(200), rogue.open_uni()).await;
    assert!(opened.is_err(), "the host allows none");
    rogue.close(0);
    scene.aftermath().await;
}

#[tokio::test]
async fn storms_of_stops_and_resets_leave_nothing_behind() {
    let scene = Scene::new().await;
    let rogue = scene.rogue().await;
    let attack = async {
        for n in 0..3_000_u64 {
            let mut stream = rogue.open().await.unwrap();
            let bytes = big_read(n);
            match n % 4 {
                0 => {
                    stream.write(&bytes[..10]).await.unwrap();
                    stream.reset(7);
                    stream.stop(7);
                }
                1 => {
                    stream.write(&bytes).await.unwrap();
                    stream.finish();
                    stream.stop(7);
                }
                2 => {
                    stream.write(&bytes).await.unwrap();
                    stream.stop(7);
                    stream.reset(7);
                }
                _ => stream.reset(7),
            }
        }
    };
    let (ended, _) = tokio::join!(time::timeout(2 * PATIENCE, attack), scene.honest_work(30));
    ended.expect("in time");
    let mut stream = ask(&rogue, &call(stat())).await.unwrap();
    stream.reply().await.unwrap();
    rogue.close(0);
    scene.aftermath().await;
}

#[tokio::test]
async fn a_mount_that_is_dismissed_in_the_middle_of_an_attack_is_gone() {
    let scene = Scene::new().await;
    scene.host.reads.send_replace(Reads::Held);
    let rogue = scene.rogue().await;
    let mut streams = Vec::new();
    for n in 0..100 {
        streams.push(ask(&rogue, &big_read(n)).await.unwrap());
    }
    scene.host.until(|counts| counts.started >= 10).await;
    scene.host.dismissal.send_replace(Some("revoked".to_owned()));
    let end = time::timeout(PATIENCE, rogue.closed()).await.unwrap();
    assert_eq!(end, (Some(2), "revoked".to_owned()));
    scene.host.until(|counts| counts.ended == 2).await;
    until_idle(&scene.server).await;
    assert_eq!(scene.server.usage().sessions, 0);
}

#[tokio::test]
async fn a_flood_of_handshakes_is_limited_and_the_mount_reads_on() {
    let limits = ServerLimits {
        handshakes_per_s: 5,
        handshakes_burst: 10,
        hello_deadline: Duration::from_millis(500),
        ..ServerLimits::default()
    };
    let scene = Scene::limited(limits).await;
    let attack = async {
        let mut knocking = JoinSet::new();
        for _ in 0..200 {
            let ticket = scene.ticket.clone();
            knocking.spawn(async move { Rogue::connect(&ticket, Greeting::None).await });
        }
        // They stay until all have knocked.
        knocking.join_all().await.into_iter().filter(io::Result::is_ok).count()
    };
    let (opened, _) = tokio::join!(attack, scene.honest_work(30));
    assert!(opened < 100, "{opened} of 200 got through the handshake");
    let usage = scene.server.usage();
    assert!(usage.handshakes_limited_total > 100, "{usage:?}");
    scene.aftermath().await;
}

#[tokio::test]
async fn garbage_datagrams_are_dropped() {
    let scene = Scene::new().await;
    let address = scene.server.local_addrs()[0];
    let flood = tokio::task::spawn_blocking(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut state = 3;
        for n in 0..20_000_usize {
            let mut bytes: Vec<u8> = (0..1 + n % 64).map(|_| random(&mut state)).collect();
            if n % 2 == 0 {
                // The first byte of a first packet, its version, and a length that QUIC takes for one.
                bytes.resize(1_200, 0x5a);
                bytes[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
            }
            // A full queue drops it, which is as well.
            let _ = socket.send_to(&bytes, address);
        }
    });
    scene.honest_work(50).await;
    flood.await.unwrap();
    scene.aftermath().await;
}

#[tokio::test]
async fn a_hello_that_drips_is_over_after_its_time() {
    let scene = Scene::new().await;
    let mut rogues = Vec::new();
    for _ in 0..20 {
        let rogue = Rogue::connect(&scene.ticket, Greeting::None).await.unwrap();
        let stream = rogue.open().await.unwrap();
        rogues.push((rogue, stream));
    }
    let start: Instant = now();
    let drip = async {
        let hello = rogues[0].0.hello(&scene.ticket);
        let mut pace = time::interval(Duration::from_millis(100));
        for byte in hello {
            pace.tick().await;
            for (_, stream) in &mut rogues {
                // The host ends it before the hello is whole.
                let _ = stream.write(&[byte]).await;
            }
            if start.elapsed() > Duration::from_secs(3) {
                break;
            }
        }
        for (rogue, _) in &rogues {
            assert_eq!(rogue.closed().await, (Some(3), "no hello".to_owned()));
        }
    };
    let (ended, _) = tokio::join!(time::timeout(PATIENCE, drip), scene.honest_work(20));
    ended.expect("in time");
    assert!(start.elapsed() < Duration::from_secs(6));
    assert_eq!(scene.host.counts.borrow().admitted, 1);
    scene.aftermath().await;
}
