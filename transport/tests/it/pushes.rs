//! What the host says of its own accord: in order, bounded at both ends, and nothing but that on the one stream for it.

use std::{sync::Arc, time::Duration};

use tokio::time;
use transport::{
    Client, ClientConfig, Identity, Pushed, Pushes, Server, SessionEnd,
    testing::{RogueHost, RogueSession},
};
use wire::{
    Change, Changes, LeaseId, Name, Push, ShareId, Ticket,
    codec::encode_push,
    limits,
    message::{Class, ShareInfo, Welcome},
    version::PROTOCOL_VERSION,
};

use crate::host::{
    Host, PATIENCE, attr, connect, on_loopback, pattern, pool, read, slot, soon, stat, ticket,
};

async fn next(pushes: &Pushes) -> Pushed {
    time::timeout(PATIENCE, pushes.next()).await.expect("in time").expect("the client lives")
}

fn changed(lease: u64, names: usize) -> Push {
    let name = |n: usize| Name::new(format!("name-{n}").as_bytes()).unwrap();
    let changes =
        (0..names).map(|n| Change { name: name(n), what: Changes::CONTENT, linked: None }).collect();
    Push::Changed { lease: LeaseId(lease), changes }
}

/// A host with one mount that is told of its first session.
async fn scene() -> (Arc<Host>, Server, Client, Pushes) {
    let host = Host::new();
    let (server, _, ticket) = on_loopback(&host);
    let client = connect(&ticket).await;
    let pushes = client.pushes();
    assert_eq!(next(&pushes).await, Pushed::SessionBegun);
    (host, server, client, pushes)
}

#[tokio::test]
async fn pushes_come_in_order_beside_answers() {
    let (host, _server, client, pushes) = scene().await;
    let pool = pool();
    for lease in 1..=300_u64 {
        host.push(changed(lease, usize::try_from(lease % 40).unwrap()));
    }
    let filled = client.read(read(5, 1 << 20, Class::Demand), slot(&pool)).await.unwrap();
    assert!(filled.as_ref() == pattern(5, 1 << 20));
    for lease in 1..=300_u64 {
        let expected = changed(lease, usize::try_from(lease % 40).unwrap());
        assert_eq!(next(&pushes).await, Pushed::Push(expected));
    }
    // One stream for all, which stays.
    host.push(Push::RevokedAll);
    assert_eq!(next(&pushes).await, Pushed::Push(Push::RevokedAll));
    assert_eq!(client.stats().reconnects, 0);
}

#[tokio::test]
async fn a_mount_that_does_not_look_gets_all_revoked_and_answers_as_ever() {
    let (host, _server, client, pushes) = scene().await;
    for lease in 1..=20_000 {
        host.push(changed(lease, 50));
    }
    // 20 MB of them; the mount keeps two.
    let drained = async {
        let mut look = time::interval(Duration::from_millis(5));
        while !host.pushes.lock().unwrap().is_empty() {
            look.tick().await;
            client.call(stat(), Class::Metadata, soon()).await.unwrap();
        }
    };
    time::timeout(PATIENCE, drained).await.expect("the client takes them all");
    assert_eq!(next(&pushes).await, Pushed::Push(Push::RevokedAll));
    let mut last = 0;
    let mut count = 0;
    while last < 20_000 {
        let Pushed::Push(Push::Changed { lease, .. }) = next(&pushes).await else { panic!("a change") };
        assert!(lease.0 > last);
        (last, count) = (lease.0, count + 1);
    }
    assert!(count < 1_000, "{count} were kept");
}

#[tokio::test]
async fn a_lost_session_and_the_next_are_told_in_order() {
    let host = Host::new();
    let (server, identity, ticket) = on_loopback(&host);
    let client = connect(&ticket).await;
    let pushes = client.pushes();
    assert_eq!(next(&pushes).await, Pushed::SessionBegun);
    host.push(changed(1, 1));
    assert_eq!(next(&pushes).await, Pushed::Push(changed(1, 1)));
    let listen = server.local_addrs();
    server.shutdown(PATIENCE).await;
    drop(server);
    assert_eq!(next(&pushes).await, Pushed::SessionLost);
    let second = Host::with_shares(2, vec![1]);
    let config = transport::ServerConfig { listen, ..transport::ServerConfig::new(identity) };
    let _server = Server::bind(config, second.clone()).unwrap();
    assert_eq!(next(&pushes).await, Pushed::SessionBegun);
    second.push(changed(2, 1));
    assert_eq!(next(&pushes).await, Pushed::Push(changed(2, 1)));
    client.close().await;
    assert_eq!(pushes.next().await, None);
}

/// A rogue host's session with a mount of ours.
async fn rogue() -> (RogueHost, RogueSession, Client, Pushes) {
    let identity = Identity::generate().unwrap();
    let host = RogueHost::bind(&identity).unwrap();
    let ticket: Ticket = ticket(&identity, &[host.address()]);
    let share = ShareInfo { id: ShareId(1), name: Name::new(b"s").unwrap(), root: attr() };
    let welcome = Welcome { version: PROTOCOL_VERSION, session: 1, boot: 1, shares: vec![share] };
    let (session, client) =
        tokio::join!(host.welcome(welcome), Client::connect(ticket, ClientConfig::default()));
    let client = client.unwrap();
    let pushes = client.pushes();
    assert_eq!(next(&pushes).await, Pushed::SessionBegun);
    (host, session.unwrap(), client, pushes)
}

/// What the mount does with these bytes for pushes: the code and the words with which it leaves.
async fn end_of(bytes: &[u8], finish: bool) -> (Option<u64>, String) {
    let (_host, session, _client, _pushes) = rogue().await;
    let mut stream = session.open().await.unwrap();
    // It may leave before it has taken them all.
    let _ = stream.write(bytes).await;
    if finish {
        stream.finish();
    }
    time::timeout(PATIENCE, session.closed()).await.expect("the mount leaves")
}

#[tokio::test]
async fn a_host_that_pushes_nonsense_loses_the_session() {
    let (code, why) = end_of(&[9, 0, 0, 0, 0, 0, 0, 0], false).await;
    assert_eq!((code, why.as_str()), (Some(5), "a push of the host is none: push 9 is not known"));
    let oversized = [&[1, 0, 0, 0][..], &(limits::PUSH_BYTES_MAX as u32 + 1).to_le_bytes()].concat();
    assert_eq!(end_of(&oversized, false).await.0, Some(5));
    let whole = encode_push(&changed(1, 3));
    assert_eq!(end_of(&whole, true).await, (Some(5), "the host ended its pushes".to_owned()));
    assert_eq!(end_of(&whole[..20], true).await.0, Some(5));
    let mut state = 3_u64;
    for _ in 0..20 {
        let bytes: Vec<u8> = (0..500)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        assert_eq!(end_of(&bytes, true).await.0, Some(5));
    }
    let (_host, session, client, _pushes) = rogue().await;
    session.open().await.unwrap().reset();
    assert_eq!(session.closed().await.1, "the host broke off its pushes");
    let reason = async {
        while client.loss().is_none() {
            tokio::task::yield_now().await;
        }
    };
    time::timeout(PATIENCE, reason).await.unwrap();
    assert!(client.loss().unwrap().reason.contains("broke off its pushes"), "{:?}", client.loss());
}

#[tokio::test]
async fn a_host_has_one_stream_for_pushes() {
    let (_host, session, _client, pushes) = rogue().await;
    let mut first = session.open().await.unwrap();
    first.write(&encode_push(&Push::RevokedAll)).await.unwrap();
    assert_eq!(next(&pushes).await, Pushed::Push(Push::RevokedAll));
    let second = time::timeout(Duration::from_millis(200), session.open()).await;
    assert!(second.is_err(), "the mount allows one");
}

/// A length at the bound, and a body that is none.
#[tokio::test]
async fn the_longest_push_is_read_to_its_end_and_no_further() {
    let (_host, session, _client, _pushes) = rogue().await;
    let mut stream = session.open().await.unwrap();
    let names = vec![0_u8; limits::PUSH_BYTES_MAX];
    let claim = [&[1, 0, 0, 0][..], &u32::try_from(names.len()).unwrap().to_le_bytes()].concat();
    stream.write(&claim).await.unwrap();
    // Of a whole body of zeros, the lease is none.
    let _ = stream.write(&names).await;
    assert_eq!(time::timeout(PATIENCE, session.closed()).await.expect("it leaves").0, Some(5));
}

/// A mount that takes no pushes at all holds one task, and others are told and answered as ever.
#[tokio::test]
async fn a_mount_that_never_takes_pushes_holds_up_nobody() {
    let host = Host::new();
    let (server, _, ticket) = on_loopback(&host);
    let silent = transport::testing::Rogue::connect_tight(&ticket, transport::testing::Greeting::Hello);
    let silent = silent.await.unwrap();
    // It takes the first and keeps it: the rogue allows the host no stream.
    host.push(changed(1, 1_000));
    let taken = async {
        while !host.pushes.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    time::timeout(PATIENCE, taken).await.unwrap();
    let client = connect(&ticket).await;
    let pushes = client.pushes();
    assert_eq!(next(&pushes).await, Pushed::SessionBegun);
    for lease in 2..50 {
        host.push(changed(lease, 1));
        assert_eq!(next(&pushes).await, Pushed::Push(changed(lease, 1)));
    }
    let filled = client.read(read(5, 1 << 20, Class::Demand), slot(&pool())).await.unwrap();
    assert!(filled.as_ref() == pattern(5, 1 << 20));
    silent.close(0);
    host.until(|counts| counts.ended == 1).await;
    assert_eq!(host.last_end(), Some(SessionEnd::Left));
    assert_eq!(server.sessions(), 1);
}
