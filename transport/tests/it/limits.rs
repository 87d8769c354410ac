//! What a host says when it will not: busy, refused, dismissed; and what its mounts make of it. On a paused clock.

use std::{net::SocketAddr, num::NonZeroU64, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{task::JoinSet, time};
use transport::{
    CallError, Client, ClientConfig, ConnectError, Identity, OnLoss, Server, ServerConfig, ServerLimits,
    testing::{self, Greeting, Link, LinkConfig, Rogue},
};
use wire::{
    ErrorCode, Request, Ticket,
    auth::Secret,
    codec,
    message::{Call, Class},
};

use crate::host::{Host, Reads, now, pattern, pool, read, slot, stat, ticket, until_idle};

const HOST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 4433);

fn mount(number: u8) -> SocketAddr {
    ([10, 0, 1, number], 5000).into()
}

/// A host on a link, with a ticket for it.
fn serve(limits: ServerLimits, host: &Arc<Host>) -> (Link, Server, Ticket) {
    let link = Link::new(LinkConfig::default());
    let identity = Identity::generate().unwrap();
    let config = ServerConfig { limits, ..ServerConfig::new(identity.clone()) };
    let server = testing::serve(&link, HOST, config, host.clone()).unwrap();
    (link, server, ticket(&identity, &[HOST]))
}

async fn connect(link: &Link, number: u8, ticket: &Ticket) -> Result<Client, ConnectError> {
    testing::connect(link, mount(number), ticket.clone(), ClientConfig::default()).await
}

#[tokio::test(start_paused = true)]
async fn a_busy_host_is_asked_again_until_the_deadline() {
    let host = Host::new();
    let (link, _server, ticket) = serve(ServerLimits::default(), &host);
    let client = connect(&link, 1, &ticket).await.unwrap();
    let pool = pool();
    host.reads.send_replace(Reads::Busy);
    let start = now();
    let mut call = read(0, 4_096, Class::Demand);
    call.deadline = start + Duration::from_secs(10);
    let error = client.read(call, slot(&pool)).await.unwrap_err();
    assert!(matches!(error, CallError::Host { code: ErrorCode::Busy, .. }), "{error}");
    assert_eq!(start.elapsed().as_secs(), 10);
    // 10 ms doubling to 500 ms, each at least three quarters of that.
    let asked = host.counts.borrow().started;
    assert!((20..40).contains(&asked), "{asked} times");
    let mut call = read(7, 4_096, Class::Demand);
    call.deadline = now() + Duration::from_secs(10);
    let reading = tokio::spawn({
        let (client, slot) = (client.clone(), slot(&pool));
        async move { client.read(call, slot).await }
    });
    host.until(|counts| counts.started > asked + 3).await;
    host.reads.send_replace(Reads::Served);
    assert!(reading.await.unwrap().unwrap().as_ref() == pattern(7, 4_096));
}

#[tokio::test(start_paused = true)]
async fn a_full_host_is_busy_and_lets_the_next_in_when_one_leaves() {
    let host = Host::new();
    let (link, server, ticket) = serve(ServerLimits { sessions_max: 2, ..ServerLimits::default() }, &host);
    let first = connect(&link, 1, &ticket).await.unwrap();
    let _second = connect(&link, 2, &ticket).await.unwrap();
    let error = connect(&link, 3, &ticket).await.unwrap_err();
    assert!(matches!(error, ConnectError::Busy), "{error}");
    assert_eq!(host.counts.borrow().admitted, 2, "the ticket was not even looked at");
    let usage = server.usage();
    assert!(usage.busy_total > 0 && usage.sessions == 2, "{usage:?}");
    let third = tokio::spawn({
        let (link, ticket) = (link.clone(), ticket.clone());
        async move { connect(&link, 3, &ticket).await }
    });
    time::advance(Duration::from_millis(700)).await;
    first.close().await;
    third.await.unwrap().unwrap();
    assert_eq!(server.usage().sessions, 2);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_knocks_too_often_gets_in_later_and_others_at_once() {
    let host = Host::new();
    let limits = ServerLimits { handshakes_per_s: 1, handshakes_burst: 3, ..ServerLimits::default() };
    let (link, server, ticket) = serve(limits, &host);
    // Three on its word, three with a proof, and of each the one that overdraws.
    let mut mounts = Vec::new();
    for _ in 0..8 {
        mounts.push(connect(&link, 1, &ticket).await.unwrap());
    }
    let start = now();
    connect(&link, 1, &ticket).await.unwrap();
    let waited = start.elapsed();
    assert!(waited > Duration::from_millis(500) && waited < Duration::from_secs(5), "{waited:?}");
    assert!(server.usage().handshakes_limited_total > 3);
    let start = now();
    connect(&link, 2, &ticket).await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
}

/// All bytes that a host answers to a hello, how the connection ends, and how long after the hello.
async fn refusal(
    link: &Link,
    number: u8,
    ticket: &Ticket,
    hello: Option<&[u8]>,
) -> (Vec<Bytes>, (Option<u64>, String), Duration) {
    let rogue = Rogue::over(link, mount(number), ticket, Greeting::None).await.unwrap();
    let mut stream = rogue.open().await.unwrap();
    let bytes = hello.map_or_else(|| rogue.hello(ticket), Bytes::copy_from_slice);
    let start = now();
    stream.write(&bytes).await.unwrap();
    stream.finish();
    let mut answer = Vec::new();
    while let Ok(Some(bytes)) = stream.read(usize::MAX).await {
        answer.push(bytes);
    }
    let elapsed = start.elapsed();
    (answer, rogue.closed().await, elapsed)
}

#[tokio::test(start_paused = true)]
async fn refusals_tell_nothing_by_their_bytes_nor_by_their_time() {
    let host = Host::new();
    let (link, server, good) = serve(ServerLimits::default(), &host);
    let mut wrong = good.clone();
    wrong.secret = Secret::from_bytes([9; 32]);
    let mut other = good.clone();
    other.claims.expires = 1;
    let request = codec::encode_call(&Call {
        class: Class::Metadata,
        id: 1,
        deadline_ms: 5_000,
        packs: false,
        request: stat(),
    });
    let nonsense = [0xff; 100];
    // How the ticket is wrong, and how long the host takes to find out.
    let causes: [(&Ticket, Option<&[u8]>, u64); 7] = [
        (&wrong, None, 0),
        (&wrong, None, 3),
        (&other, None, 17),
        (&other, None, 49),
        (&good, Some(&nonsense), 0),
        (&good, Some(&request), 0),
        (&good, Some(b""), 0),
    ];
    let mut seen = Vec::new();
    for (number, (ticket, hello, takes_ms)) in (1..).zip(causes) {
        *host.admit_takes.lock().unwrap() = Duration::from_millis(takes_ms);
        seen.push(refusal(&link, number, ticket, hello).await);
    }
    for one in &seen {
        // Timers tick in milliseconds, so two are told apart by less than that or not at all.
        assert_eq!((&one.0, &one.1), (&seen[0].0, &seen[0].1));
        assert!(one.2.abs_diff(seen[0].2) <= Duration::from_millis(1), "{seen:?}");
    }
    assert_eq!(seen[0].1, (Some(2), "not admitted".to_owned()));
    assert_eq!(server.usage().strangers, 0);
}

#[tokio::test(start_paused = true)]
async fn a_dismissed_mount_is_told_why_and_its_calls_fail_at_once() {
    for on_loss in [OnLoss::Wait, OnLoss::Fail] {
        let host = Host::new();
        let (link, server, ticket) = serve(ServerLimits::default(), &host);
        let config = ClientConfig { on_loss, ..ClientConfig::default() };
        let client = testing::connect(&link, mount(1), ticket, config).await.unwrap();
        let pool = pool();
        host.reads.send_replace(Reads::Held);
        let start = now();
        let mut call = read(0, 4_096, Class::Demand);
        call.deadline = start + Duration::from_secs(30);
        let reading = tokio::spawn({
            let (client, slot) = (client.clone(), slot(&pool));
            async move { client.read(call, slot).await }
        });
        host.until(|counts| counts.started == 1).await;
        host.dismissal.send_replace(Some("ticket\u{1b}[2J revoked".to_owned()));
        let refused = |error: CallError| {
            let CallError::Host { code: ErrorCode::Refused, detail } = error else { panic!("{error}") };
            assert_eq!(detail, "the host ended this session: ticket[2J revoked");
        };
        refused(reading.await.unwrap().unwrap_err());
        refused(client.call(stat(), Class::Metadata, now() + Duration::from_secs(30)).await.unwrap_err());
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        let loss = client.loss().expect("it has no session").to_string();
        assert!(loss.contains("the host ended this session: ticket"), "{loss}");
        host.until(|counts| counts.ended == 1).await;
        assert_eq!(server.usage().sessions, 0);
        assert_eq!(pool.stats().lent_bytes, 0);
        // A host that changes its mind is found again.
        host.dismissal.send_replace(None);
        host.reads.send_replace(Reads::Served);
        // It asks again after 30 s.
        time::timeout(Duration::from_secs(31), std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(host.counts.borrow().admitted, 2);
        client.call(stat(), Class::Metadata, now() + Duration::from_secs(1)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_mount_that_reads_one_file_has_half_beside_one_that_asks_for_500_reads() {
    const LEN: u64 = 128 << 10;
    let host = Host::new();
    let limits = ServerLimits { host_bytes_per_s: NonZeroU64::new(8 << 20), ..ServerLimits::default() };
    let (link, server, ticket) = serve(limits, &host);
    let greedy = connect(&link, 1, &ticket).await.unwrap();
    let modest = connect(&link, 2, &ticket).await.unwrap();
    let mut queued = JoinSet::new();
    let greedy_pool = pool();
    for n in 0..500 {
        let (client, slot) = (greedy.clone(), greedy_pool.try_lend(uring::SlotClass::Chunk128K).unwrap());
        let mut call = read(n * LEN, LEN, Class::Demand);
        call.deadline = now() + Duration::from_secs(60);
        queued.spawn(async move { client.read(call, slot).await.unwrap().len() });
    }
    host.until(|counts| counts.started > 10).await;
    let (start, pool) = (now(), pool());
    for n in 0..100 {
        let mut call = read(n * LEN, LEN, Class::Demand);
        call.deadline = now() + Duration::from_secs(60);
        let filled = modest.read(call, slot(&pool)).await.unwrap();
        assert!(filled.as_ref() == pattern(n * LEN, LEN));
    }
    // 12.5 MiB at half of the rate are 3.1 s; the other's 62.5 MiB alone would be 7.8 s before them.
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(4), "{elapsed:?}");
    let mut served = 0;
    while let Some(read) = queued.try_join_next() {
        read.unwrap();
        served += 1;
    }
    assert!(served >= 90, "{served} of the other's meanwhile");
    queued.shutdown().await;
    until_idle(&server).await;
}

#[tokio::test(start_paused = true)]
async fn rates_of_host_and_mount_hold_end_to_end() {
    let host = Host::new();
    let mib = 1 << 20;
    let limits = ServerLimits {
        session_bytes_per_s: NonZeroU64::new(4 * mib),
        host_bytes_per_s: NonZeroU64::new(6 * mib),
        ..ServerLimits::default()
    };
    let (link, server, ticket) = serve(limits, &host);
    let (pool, start) = (pool(), now());
    let mut mounts = JoinSet::new();
    // Twelve reads of a mount alone, then two beside each other.
    for (number, reads) in [(1, 12), (2, 6)] {
        let client = connect(&link, number, &ticket).await.unwrap();
        let pool = pool.clone();
        mounts.spawn(async move {
            for n in 0..reads {
                let mut call = read(n * mib, mib, Class::Demand);
                call.deadline = now() + Duration::from_secs(60);
                let filled = client.read(call, slot(&pool)).await.unwrap();
                assert!(filled.as_ref() == pattern(n * mib, mib));
            }
            client
        });
    }
    let clients = mounts.join_all().await;
    // 18 MiB: the first mount's 12 need 3 s at its rate, both together 3 s; bursts and the way are below a second.
    let elapsed = start.elapsed();
    assert!(elapsed > Duration::from_millis(2_300) && elapsed < Duration::from_secs(5), "{elapsed:?}");
    let deadline = now() + Duration::from_secs(5);
    for client in &clients {
        client.call(Request::Stat(crate::host::target()), Class::Metadata, deadline).await.unwrap();
    }
    until_idle(&server).await;
    assert!(server.paths().iter().all(|path| path.requests_in_flight == 0));
}
