//! A host that stops and comes back.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time;
use transport::{CallError, Client, ClientConfig, Identity, OnLoss, Server, ServerConfig};
use wire::{ErrorCode, Reply, Request, ShareId, message::Class};

use crate::host::{
    Host, PATIENCE, Reads, connect, loopback_config, now, on_loopback, pattern, pool, read, slot, soon, stat,
};

/// A server at the same address with the same key.
fn again(identity: &Identity, listen: Vec<SocketAddr>, host: &Arc<Host>) -> Server {
    let config = ServerConfig { listen, ..ServerConfig::new(identity.clone()) };
    Server::bind(config, host.clone()).unwrap()
}

async fn asked_about(client: &Client, share: u16) -> u64 {
    match client.call(Request::Statfs(ShareId(share)), Class::Metadata, soon()).await.unwrap() {
        Reply::Statfs(statfs) => statfs.blocks,
        reply => panic!("{reply:?}"),
    }
}

#[tokio::test]
async fn a_read_in_flight_survives_a_restart_of_the_host() {
    let host = Host::new();
    let (server, identity, ticket) = on_loopback(&host);
    let client = connect(&ticket).await;
    host.reads.send_replace(Reads::Held);
    let pool = pool();
    let reading = tokio::spawn({
        let (client, slot) = (client.clone(), slot(&pool));
        async move { client.read(read(77, 1 << 20, Class::Demand), slot).await }
    });
    host.until(|counts| counts.started == 1).await;
    server.shutdown(PATIENCE).await;
    host.until(|counts| counts.ended == 1).await;
    let second_host = Host::with_shares(2, vec![1]);
    let _second = again(&identity, server.local_addrs(), &second_host);
    let filled = reading.await.unwrap().unwrap();
    assert!(filled.as_ref() == pattern(77, 1 << 20));
    assert_eq!(client.welcome().boot, 2);
    assert_eq!(client.stats().reconnects, 1);
}

/// The first life ends without a word, as after a crash: the second resets the session at the mount's next packet.
#[test]
fn a_crashed_host_resets_its_old_sessions_at_once() {
    let identity = Identity::generate().unwrap();
    let host = Host::new();
    let first_life = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mount = transport::Lane::start("mount").unwrap();
    let server = {
        let _guard = first_life.enter();
        Server::bind(loopback_config(&identity), host.clone()).unwrap()
    };
    let ticket = crate::host::ticket(&identity, &server.local_addrs());
    let (made, client) = std::sync::mpsc::channel();
    mount.handle().spawn(async move { made.send(connect(&ticket).await) });
    first_life.block_on(host.until(|counts| counts.admitted == 1));
    let client = first_life.block_on(async {
        // The server answers while the mount finishes its handshake.
        time::timeout(PATIENCE, async {
            loop {
                match client.try_recv() {
                    Ok(client) => return client,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        })
        .await
        .unwrap()
    });
    // Drops the driver's task first, so that nothing more is sent; then the socket.
    let addresses = server.local_addrs();
    drop(first_life);
    drop(server);
    let second_life = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    second_life.block_on(async {
        let second_host = Host::with_shares(2, vec![1]);
        let _second = again(&identity, addresses, &second_host);
        let start = now();
        client.call(stat(), Class::Metadata, soon()).await.unwrap();
        // Without a reset it would take the idle timeout of 5 s.
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        assert_eq!(client.welcome().boot, 2);
    });
    mount.stop();
}

#[tokio::test]
async fn without_patience_a_call_fails_with_its_session_and_works_on_the_next() {
    let host = Host::new();
    let (server, identity, ticket) = on_loopback(&host);
    let config = ClientConfig { on_loss: OnLoss::Fail, ..ClientConfig::default() };
    let client = Client::connect(ticket, config).await.unwrap();
    host.reads.send_replace(Reads::Held);
    let pool = pool();
    let reading = tokio::spawn({
        let (client, slot) = (client.clone(), slot(&pool));
        async move { client.read(read(77, 1 << 20, Class::Demand), slot).await }
    });
    host.until(|counts| counts.started == 1).await;
    server.shutdown(PATIENCE).await;
    let start = now();
    let error = reading.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Lost { .. }), "{error}");
    let error = client.call(stat(), Class::Metadata, soon()).await.unwrap_err();
    assert!(matches!(error, CallError::Lost { .. }), "{error}");
    assert!(start.elapsed() < PATIENCE / 2);
    assert!(client.loss().is_some());
    let _second = again(&identity, server.local_addrs(), &Host::with_shares(2, vec![1]));
    let back = async {
        while client.call(stat(), Class::Metadata, soon()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    time::timeout(PATIENCE, back).await.expect("the client connects again");
    assert_eq!(client.loss(), None);
}

#[tokio::test]
async fn shares_keep_their_numbers_when_the_host_renumbers() {
    let host = Host::with_shares(1, vec![1, 2]);
    let (server, identity, ticket) = on_loopback(&host);
    let client = connect(&ticket).await;
    assert_eq!(asked_about(&client, 1).await, 1);
    server.shutdown(PATIENCE).await;
    let _second = again(&identity, server.local_addrs(), &Host::with_shares(2, vec![2, 1]));
    assert_eq!(asked_about(&client, 1).await, 2);
    assert_eq!(asked_about(&client, 2).await, 1);
    let ids: Vec<u16> = client.welcome().shares.iter().map(|share| share.id.0).collect();
    assert_eq!(ids, [1, 2]);
}

#[tokio::test]
async fn a_share_that_is_gone_is_stale() {
    let host = Host::with_shares(1, vec![1, 2]);
    let (server, identity, ticket) = on_loopback(&host);
    let client = connect(&ticket).await;
    server.shutdown(PATIENCE).await;
    let _second = again(&identity, server.local_addrs(), &Host::with_shares(2, vec![1]));
    assert_eq!(asked_about(&client, 1).await, 1);
    let error = client.call(Request::Statfs(ShareId(2)), Class::Metadata, soon()).await.unwrap_err();
    assert!(matches!(error, CallError::Host { code: ErrorCode::Stale, .. }), "{error}");
}

#[tokio::test]
async fn a_ticket_refused_after_a_restart_fails_calls_at_once() {
    let host = Host::new();
    let (server, identity, ticket) = on_loopback(&host);
    let client = connect(&ticket).await;
    server.shutdown(PATIENCE).await;
    let mut other = Host::new();
    Arc::get_mut(&mut other).unwrap().ticket_key = [8; 32];
    let _second = again(&identity, server.local_addrs(), &other);
    let start = now();
    let error = client.call(stat(), Class::Metadata, soon()).await.unwrap_err();
    assert!(matches!(error, CallError::Host { code: ErrorCode::Refused, .. }), "{error}");
    assert!(start.elapsed() < PATIENCE / 2);
}
