//! Handshake, calls and reads over real sockets.

use std::time::Duration;

use transport::{BindError, CallError, Identity, Lane, Server, ServerConfig};
use wire::{ErrorCode, Reply, Request, ShareId, message::Class};

use crate::host::{
    Host, Reads, connect, loopback_config, now, on_loopback, pattern, pool, read, slot, soon, stat, target,
};

#[tokio::test]
async fn calls_and_reads_are_answered() {
    let host = Host::new();
    let (server, _, ticket) = on_loopback(&host);
    let client = connect(&ticket).await;
    assert_eq!(client.welcome().shares.len(), 1);
    assert_eq!(server.sessions(), 1);
    let reply = client.call(stat(), Class::Metadata, soon()).await.unwrap();
    assert!(matches!(reply, Reply::Attr(_)));
    let pool = pool();
    for (start, len) in [(0, 0), (0, 1), (4095, 4098), (12_345, 1 << 20)] {
        let filled = client.read(read(start, len, Class::Demand), slot(&pool)).await.unwrap();
        assert!(filled.as_ref() == pattern(start, len), "{len} bytes from {start}");
    }
    let stats = client.stats();
    assert!(stats.connected && stats.reconnects == 0 && stats.received_bytes > 1 << 20, "{stats:?}");
    client.close().await;
    host.until(|counts| counts.ended == 1).await;
    assert_eq!(pool.stats().lent_bytes, 0);
    server.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn many_reads_at_once_are_each_right() {
    let host = Host::new();
    let (_server, _, ticket) = on_loopback(&host);
    let client = connect(&ticket).await;
    let pool = pool();
    let mut reads = tokio::task::JoinSet::new();
    for n in 0..64_u64 {
        let (client, pool) = (client.clone(), pool.clone());
        let class = [Class::Demand, Class::Readahead, Class::Warmup, Class::Metadata][(n % 4) as usize];
        reads.spawn(async move {
            let slot = pool.lend(uring::SlotClass::Extent1M).await;
            let filled = client.read(read(n * 1_000_003, 1 << 20, class), slot).await.unwrap();
            filled.as_ref() == pattern(n * 1_000_003, 1 << 20)
        });
    }
    while let Some(right) = reads.join_next().await {
        assert!(right.unwrap());
    }
    assert_eq!(pool.stats().lent_bytes, 0);
}

#[tokio::test]
async fn the_hosts_error_comes_with_its_code() {
    let host = Host::new();
    let (_server, _, ticket) = on_loopback(&host);
    let client = connect(&ticket).await;
    let error = client.call(Request::Readlink(target()), Class::Metadata, soon()).await.unwrap_err();
    assert!(matches!(error, CallError::Host { code: ErrorCode::NotSupported, .. }), "{error}");
    let unknown = Request::Statfs(ShareId(99));
    let error = client.call(unknown, Class::Metadata, soon()).await.unwrap_err();
    assert!(matches!(error, CallError::Host { code: ErrorCode::Stale, .. }), "{error}");
}

#[tokio::test]
async fn a_reply_that_does_not_fit_is_never_taken_for_data() {
    let host = Host::new();
    let (_server, _, ticket) = on_loopback(&host);
    let client = connect(&ticket).await;
    let pool = pool();
    for reads in [Reads::WrongVersion, Reads::Short, Reads::Torn] {
        host.reads.send_replace(reads);
        let error = client.read(read(0, 4096, Class::Demand), slot(&pool)).await.unwrap_err();
        match reads {
            Reads::Torn => assert!(matches!(error, CallError::Host { code: ErrorCode::Io, .. }), "{error}"),
            _ => assert!(matches!(error, CallError::UnexpectedReply { .. }), "{error}"),
        }
    }
    let request =
        Request::Read { target: target(), version: crate::host::version(), extent: wire::Extent::new(0, 10) };
    host.reads.send_replace(Reads::Served);
    let error = client.call(request, Class::Demand, soon()).await.unwrap_err();
    assert!(matches!(error, CallError::UnexpectedReply { .. }), "{error}");
    assert_eq!(pool.stats().lent_bytes, 0);
}

#[tokio::test]
async fn a_deadline_ends_a_call_that_the_host_holds() {
    let host = Host::new();
    let (_server, _, ticket) = on_loopback(&host);
    let client = connect(&ticket).await;
    host.reads.send_replace(Reads::Held);
    let pool = pool();
    let mut call = read(0, 4096, Class::Demand);
    call.deadline = now() + Duration::from_millis(100);
    let error = client.read(call, slot(&pool)).await.unwrap_err();
    assert!(matches!(error, CallError::Deadline), "{error}");
    host.until(|counts| counts.withdrawn == 1).await;
    assert_eq!(pool.stats().lent_bytes, 0);
}

#[tokio::test]
async fn a_closed_client_fails_calls_at_once() {
    let host = Host::new();
    let (_server, _, ticket) = on_loopback(&host);
    let client = connect(&ticket).await;
    host.reads.send_replace(Reads::Held);
    let pool = pool();
    let held = tokio::spawn({
        let (client, slot) = (client.clone(), slot(&pool));
        async move { client.read(read(0, 4096, Class::Demand), slot).await.map(drop) }
    });
    host.until(|counts| counts.started == 1).await;
    client.close().await;
    client.close().await;
    assert!(matches!(held.await.unwrap(), Err(CallError::Closed)));
    let error = client.call(stat(), Class::Metadata, soon()).await.unwrap_err();
    assert!(matches!(error, CallError::Closed), "{error}");
    assert!(!client.stats().connected);
}

#[tokio::test]
async fn the_last_handle_ends_the_session() {
    let host = Host::new();
    let (server, _, ticket) = on_loopback(&host);
    let client = connect(&ticket).await;
    let other = client.clone();
    drop(client);
    other.call(stat(), Class::Metadata, soon()).await.unwrap();
    drop(other);
    host.until(|counts| counts.ended == 1).await;
    assert_eq!(server.sessions(), 0);
}

#[tokio::test]
async fn ipv4_and_ipv6_share_a_port() {
    let host = Host::new();
    let identity = Identity::generate().unwrap();
    let first = Server::bind(loopback_config(&identity), host.clone()).unwrap();
    let port = first.local_addrs()[0].port();
    let error = Server::bind(
        ServerConfig { listen: first.local_addrs(), ..ServerConfig::new(identity.clone()) },
        host.clone(),
    )
    .unwrap_err();
    assert!(matches!(error, BindError::Address { .. }), "{error}");
    let v6 = std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
    let second =
        Server::bind(ServerConfig { listen: vec![v6], ..ServerConfig::new(identity.clone()) }, host.clone());
    match second {
        Ok(second) => {
            let ticket = crate::host::ticket(&identity, &second.local_addrs());
            connect(&ticket).await.call(stat(), Class::Metadata, soon()).await.unwrap();
        }
        Err(BindError::Address { source, .. }) if source.kind() == std::io::ErrorKind::AddrNotAvailable => {
            eprintln!("skipped: this machine has no IPv6");
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_lane_serves_a_client_on_another_lane() {
    let host = Host::new();
    let serving = Lane::start("lane-host").unwrap();
    let mounting = Lane::start("lane-mount").unwrap();
    let (server, _, ticket) = {
        let _inside = serving.handle();
        let _guard = _inside.enter();
        on_loopback(&host)
    };
    let client = mounting.handle().block_on(connect(&ticket));
    // Called from a thread that is no lane.
    let outside = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    outside.block_on(client.call(stat(), Class::Metadata, soon())).unwrap();
    outside.block_on(server.shutdown(Duration::from_secs(5)));
    outside.block_on(host.until(|counts| counts.ended == 1));
    serving.stop();
    mounting.stop();
}
