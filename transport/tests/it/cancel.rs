//! Reads nobody waits for any more, and the budgets they must give back.

use std::time::Duration;

use transport::{Server, ServerConfig, ServerLimits};
use wire::message::Class;

use crate::host::{Host, PATIENCE, Reads, connect, loopback_config, pattern, pool, read, slot, ticket};

const READ: u64 = 1 << 20;

/// A server that admits two bulk reads of 1 MiB at once.
fn server(host: &std::sync::Arc<Host>) -> (Server, wire::Ticket) {
    let identity = transport::Identity::generate().unwrap();
    let limits =
        ServerLimits { bulk_bytes_max: 2 << 20, answer_bytes_max: 4 << 20, ..ServerLimits::default() };
    let config = ServerConfig { limits, ..loopback_config(&identity) };
    let server = Server::bind(config, host.clone()).unwrap();
    let ticket = ticket(&identity, &server.local_addrs());
    (server, ticket)
}

#[tokio::test]
async fn a_dropped_read_stops_the_host_and_frees_slot_and_budget() {
    let host = Host::new();
    let (_server, ticket) = server(&host);
    let client = connect(&ticket).await;
    let pool = pool();
    host.reads.send_replace(Reads::Held);
    let mut reads = tokio::task::JoinSet::new();
    for n in 0..6 {
        let (client, slot) = (client.clone(), slot(&pool));
        reads.spawn(async move { client.read(read(n * READ, READ, Class::Readahead), slot).await });
    }
    // Two are admitted, four wait for the budget.
    host.until(|counts| counts.started == 2).await;
    reads.shutdown().await;
    assert_eq!(pool.stats().lent_bytes, 0);
    host.until(|counts| counts.withdrawn == 2).await;
    host.reads.send_replace(Reads::Served);
    // More bulk than the budget holds passes again.
    for n in 0..6 {
        let filled = client.read(read(n * READ, READ, Class::Readahead), slot(&pool)).await.unwrap();
        assert!(filled.as_ref() == pattern(n * READ, READ));
    }
}

#[tokio::test]
async fn a_demand_read_passes_bulk_that_waits() {
    let host = Host::new();
    let (_server, ticket) = server(&host);
    let client = connect(&ticket).await;
    let pool = pool();
    host.reads.send_replace(Reads::Held);
    let mut bulk = tokio::task::JoinSet::new();
    for n in 0..4 {
        let (client, slot) = (client.clone(), slot(&pool));
        let class = if n % 2 == 0 { Class::Warmup } else { Class::Readahead };
        bulk.spawn(async move { client.read(read(n * READ, READ, class), slot).await });
    }
    host.until(|counts| counts.started == 2).await;
    host.reads.send_replace(Reads::Served);
    let filled = client.read(read(5, READ, Class::Demand), slot(&pool)).await.unwrap();
    assert!(filled.as_ref() == pattern(5, READ));
    assert_eq!(host.counts.borrow().started, 3);
    // Those two were held before; the two behind them are served as they come.
    host.release.notify_waiters();
    while let Some(read) = bulk.join_next().await {
        assert_eq!(read.unwrap().unwrap().len(), READ as usize);
    }
}

#[tokio::test]
async fn the_hosts_own_deadline_ends_an_answer() {
    let host = Host::new();
    let identity = transport::Identity::generate().unwrap();
    let limits = ServerLimits { answer_deadline: Duration::from_millis(50), ..ServerLimits::default() };
    let config = ServerConfig { limits, ..loopback_config(&identity) };
    let server = Server::bind(config, host.clone()).unwrap();
    let client = connect(&ticket(&identity, &server.local_addrs())).await;
    host.reads.send_replace(Reads::Held);
    let pool = pool();
    let reading = client.read(read(0, 10, Class::Demand), slot(&pool));
    let error = tokio::time::timeout(PATIENCE, reading).await.unwrap().unwrap_err();
    assert!(matches!(error, transport::CallError::Deadline), "{error}");
    host.until(|counts| counts.withdrawn == 1).await;
}
