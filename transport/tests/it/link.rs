//! Sessions over a link that delays, loses, reorders, duplicates and breaks; on a paused clock.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time;
use transport::{
    CallError, Client, ClientConfig, ConnectError, Identity, Server, ServerConfig,
    testing::{self, Link, LinkConfig},
};
use wire::message::Class;

use crate::host::{Host, Reads, now, pattern, pool, read, slot, stat, ticket};

const HOST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 4433);
const MOUNT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)), 5000);

async fn over(config: LinkConfig, host: &Arc<Host>) -> (Link, Server, Client) {
    println!("link seed {}", config.seed);
    let link = Link::new(config);
    let identity = Identity::generate().unwrap();
    let server = testing::serve(&link, HOST, ServerConfig::new(identity.clone()), host.clone()).unwrap();
    let client = testing::connect(&link, MOUNT, ticket(&identity, &[HOST]), ClientConfig::default()).await;
    (link, server, client.unwrap())
}

fn lossy(seed: u64) -> LinkConfig {
    LinkConfig {
        seed,
        delay: Duration::from_millis(20),
        loss_ppm: 20_000,
        reorder_ppm: 50_000,
        duplicate_ppm: 20_000,
        ..LinkConfig::default()
    }
}

#[tokio::test(start_paused = true)]
async fn data_is_right_under_loss_reordering_and_duplication() {
    for seed in 1..=3 {
        let host = Host::new();
        let (link, _server, client) = over(lossy(seed), &host).await;
        let pool = pool();
        let mut reads = tokio::task::JoinSet::new();
        for n in 0..16_u64 {
            let (client, slot) = (client.clone(), slot(&pool));
            let mut call = read(n * 131_071, 200_000, Class::Demand);
            call.deadline = now() + Duration::from_secs(120);
            reads.spawn(async move { (n, client.read(call, slot).await.unwrap()) });
        }
        while let Some(read) = reads.join_next().await {
            let (n, filled) = read.unwrap();
            assert!(filled.as_ref() == pattern(n * 131_071, 200_000), "seed {seed}, read {n}");
        }
        assert!(link.datagrams().1 > 0);
        assert_eq!(client.stats().reconnects, 0);
        client.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_that_heals_resumes_the_call() {
    let host = Host::new();
    let (link, _server, client) = over(LinkConfig::default(), &host).await;
    let pool = pool();
    link.cut(HOST);
    link.cut(MOUNT);
    let mut call = read(3, 1 << 20, Class::Demand);
    call.deadline = now() + Duration::from_secs(60);
    let reading = tokio::spawn({
        let (client, slot) = (client.clone(), slot(&pool));
        async move { client.read(call, slot).await }
    });
    // Longer than the idle timeout: the session is lost.
    time::advance(Duration::from_secs(1)).await;
    host.until(|counts| counts.ended == 1).await;
    link.heal();
    let filled = reading.await.unwrap().unwrap();
    assert!(filled.as_ref() == pattern(3, 1 << 20));
    assert_eq!(client.stats().reconnects, 1);
}

#[tokio::test(start_paused = true)]
async fn a_short_cut_keeps_the_session() {
    let host = Host::new();
    let (link, _server, client) = over(LinkConfig::default(), &host).await;
    link.cut(HOST);
    let deadline = now() + Duration::from_secs(30);
    let calling = tokio::spawn({
        let client = client.clone();
        async move { client.call(stat(), Class::Metadata, deadline).await }
    });
    time::timeout(Duration::from_secs(2), std::future::pending::<()>()).await.unwrap_err();
    link.heal();
    calling.await.unwrap().unwrap();
    assert_eq!(client.stats().reconnects, 0);
}

#[tokio::test(start_paused = true)]
async fn a_half_open_link_for_good_fails_at_the_deadline() {
    for cut in [HOST, MOUNT] {
        let host = Host::new();
        let (link, _server, client) = over(LinkConfig::default(), &host).await;
        link.cut(cut);
        for patience in [2, 30] {
            let start = now();
            let deadline = start + Duration::from_secs(patience);
            let error = client.call(stat(), Class::Metadata, deadline).await.unwrap_err();
            match patience {
                2 => assert!(matches!(error, CallError::Deadline), "{error}"),
                _ => assert!(matches!(error, CallError::Lost { .. }), "{error}"),
            }
            assert_eq!(start.elapsed().as_secs(), patience);
        }
        assert!(!client.stats().connected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_host_is_noticed_within_six_seconds() {
    let host = Host::new();
    let (link, server, client) = over(LinkConfig::default(), &host).await;
    link.cut(HOST);
    link.cut(MOUNT);
    time::timeout(Duration::from_secs(6), std::future::pending::<()>()).await.unwrap_err();
    assert!(!client.stats().connected);
    assert_eq!(server.sessions(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_lasts() {
    let host = Host::new();
    let (_link, server, client) = over(LinkConfig::default(), &host).await;
    time::timeout(Duration::from_secs(600), std::future::pending::<()>()).await.unwrap_err();
    assert_eq!((server.sessions(), client.stats().reconnects), (1, 0));
    client.call(stat(), Class::Metadata, now() + Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_is_unreachable_at_the_deadline() {
    let link = Link::new(LinkConfig::default());
    let identity = Identity::generate().unwrap();
    let start = now();
    let connecting = testing::connect(&link, MOUNT, ticket(&identity, &[HOST]), ClientConfig::default());
    let error = connecting.await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    assert_eq!(start.elapsed().as_secs(), 10);
}

/// A mount far away takes long to fetch 1 MiB; a slow link is no reason to break the answer off.
#[tokio::test(start_paused = true)]
async fn a_slow_peer_gets_its_answer_and_holds_nobody_up() {
    let host = Host::new();
    let far = LinkConfig { seed: 5, delay: Duration::from_millis(400), ..LinkConfig::default() };
    let (_link, _server, client) = over(far, &host).await;
    let pool = pool();
    let mut call = read(0, 1 << 20, Class::Readahead);
    call.deadline = now() + Duration::from_secs(60);
    let slow = tokio::spawn({
        let (client, slot) = (client.clone(), slot(&pool));
        async move { client.read(call, slot).await }
    });
    host.until(|counts| counts.started == 1).await;
    let deadline = now() + Duration::from_secs(5);
    client.call(stat(), Class::Metadata, deadline).await.unwrap();
    assert!(slow.await.unwrap().unwrap().as_ref() == pattern(0, 1 << 20));
}

#[tokio::test(start_paused = true)]
async fn calls_wait_for_the_next_session_until_their_deadline() {
    let host = Host::new();
    let (link, server, client) = over(LinkConfig::default(), &host).await;
    host.reads.send_replace(Reads::Held);
    server.shutdown(Duration::from_secs(5)).await;
    let start = now();
    let error = client.call(stat(), Class::Metadata, start + Duration::from_secs(7)).await.unwrap_err();
    assert!(matches!(error, CallError::Lost { .. }), "{error}");
    assert_eq!(start.elapsed().as_secs(), 7);
    assert!(link.datagrams().0 > 0);
}

/// The same seed, the same run. Keys and connection ids are drawn anew, so the ends of a run may differ; its losses do not.
#[test]
fn a_seed_repeats_its_run() {
    // Each on a clock of its own: timers are rounded to its milliseconds, and the first run does not end on one.
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let host = Host::new();
            let start = now();
            let (link, _server, client) = over(lossy(42), &host).await;
            let pool = pool();
            let mut call = read(0, 1 << 20, Class::Demand);
            call.deadline = now() + Duration::from_secs(120);
            client.read(call, slot(&pool)).await.unwrap();
            let took = (start.elapsed(), link.datagrams());
            client.close().await;
            took
        })
    };
    assert_eq!(run(), run());
}
