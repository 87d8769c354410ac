//! How much of a narrow, long or lossy link a session fills, on a paused clock: the same figures at each run, but for
//! the order in which BBR probes.

use std::{net::SocketAddr, time::Duration};

use tokio::{task::JoinSet, time};
use transport::{
    Client, ClientConfig, Identity, Server, ServerConfig,
    congestion::Congestion,
    testing::{self, Link, Profile},
};
use uring::Pool;
use wire::{Reply, Request, message::Class};

use crate::host::{Host, LISTED, now, pool, read, slot, target, ticket};

const HOST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 4433);
const MOUNT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)), 5000);

async fn over(profile: &Profile, seed: u64) -> (Link, Server, Client) {
    let link = Link::new(profile.link(seed));
    let identity = Identity::generate().unwrap();
    let server = testing::serve(&link, HOST, ServerConfig::new(identity.clone()), Host::new()).unwrap();
    let config = ClientConfig { connect_deadline: Duration::from_secs(30), ..ClientConfig::default() };
    let client = testing::connect(&link, MOUNT, ticket(&identity, &[HOST]), config).await.unwrap();
    (link, server, client)
}

/// Reads in order, `depth` reads of `len` at once, for `time`; the share of the link that the data took in its last
/// three quarters.
async fn share_of_link(profile: &Profile, (depth, len): (u64, u64), time: Duration) -> f64 {
    let (link, _server, client) = over(profile, 7).await;
    let pool = pool();
    let start = now();
    let mut reads = JoinSet::new();
    let mut next = 0;
    let mut spawn = |reads: &mut JoinSet<u64>| {
        reads.spawn(bulk_read(client.clone(), pool.clone(), next * len, len));
        next += 1;
    };
    (0..depth).for_each(|_| spawn(&mut reads));
    let mut bytes = 0;
    while let Some(read) = reads.join_next().await {
        let at = start.elapsed();
        if at >= time {
            break;
        }
        if at >= time / 4 {
            bytes += read.unwrap();
        }
        spawn(&mut reads);
    }
    let (sent, dropped) = link.datagrams();
    println!("FIGURE {dropped} of {sent} datagrams lost");
    bytes as f64 / (time.as_secs_f64() * 0.75) / profile.bytes_per_s() as f64
}

async fn bulk_read(client: Client, pool: Pool, start: u64, len: u64) -> u64 {
    let mut call = read(start, len, Class::Readahead);
    call.deadline = now() + Duration::from_secs(600);
    client.read(call, slot(&pool)).await.unwrap().len() as u64
}

fn say(what: &str, share: f64) -> f64 {
    println!("FIGURE {what}: {:.1} % of the link", share * 100.0);
    share
}

#[tokio::test(start_paused = true)]
async fn listings_are_packed_where_the_path_is_long() {
    for profile in [Profile::LAN, Profile::WAN_GOOD] {
        let (_link, _server, client) = over(&profile, 7).await;
        let before = client.stats().received_bytes;
        let request = Request::List { target: target(), cookie: 0, bytes_max: 128 << 10, lease: None };
        let deadline = now() + Duration::from_secs(60);
        let reply = client.call(request, Class::Metadata, deadline).await.unwrap();
        let Reply::Listing(listing) = reply else { panic!("{reply:?}") };
        assert_eq!((listing.entries.len() as u64, listing.end), (LISTED, true));
        let received = client.stats().received_bytes - before;
        // An entry with its attributes takes 126 bytes unpacked.
        assert!(received < LISTED * 60, "{received} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clean_long_link_is_filled() {
    let share = share_of_link(&Profile::WAN_GOOD, (16, 512 << 10), Duration::from_secs(12)).await;
    assert!(say("WAN-Good", share) >= 0.90);
}

#[tokio::test(start_paused = true)]
async fn a_lan_is_filled() {
    let share = share_of_link(&Profile::LAN, (16, 512 << 10), Duration::from_secs(1)).await;
    assert!(say("LAN", share) >= 0.90);
}

#[tokio::test(start_paused = true)]
async fn a_lossy_link_is_filled() {
    let share = share_of_link(&Profile::WAN_POOR, (16, 128 << 10), Duration::from_secs(60)).await;
    assert!(say("WAN-Poor", share) >= 0.85);
}

#[tokio::test(start_paused = true)]
async fn a_bad_link_is_more_than_half_filled() {
    let share = share_of_link(&Profile::WAN_BAD, (8, 128 << 10), Duration::from_secs(240)).await;
    assert!(say("WAN-Bad", share) >= 0.60);
}

#[tokio::test(start_paused = true)]
async fn loss_by_chance_hands_over_and_a_clean_path_keeps_cubic() {
    let (link, server, client) = over(&Profile::WAN_POOR, 7).await;
    let congestion = || server.paths()[0].congestion;
    assert_eq!(congestion(), Congestion::Cubic);
    let pool = pool();
    let mut next = 0..;
    let mut read_until = async |wanted: Congestion| {
        let deadline = now() + Duration::from_secs(120);
        while congestion() != wanted {
            assert!(now() < deadline, "{wanted:?} in time");
            let reads =
                (&mut next).take(4).map(|n| bulk_read(client.clone(), pool.clone(), n << 17, 128 << 10));
            reads.collect::<JoinSet<_>>().join_all().await;
        }
    };
    read_until(Congestion::Bbr).await;
    // No loss from now on but by a full queue.
    link.shape(|link| link.loss_ppm = 0);
    read_until(Congestion::Cubic).await;
    let stays = now() + Duration::from_secs(60);
    while now() < stays {
        bulk_read(client.clone(), pool.clone(), 0, 512 << 10).await;
        assert_eq!(congestion(), Congestion::Cubic);
    }
}

#[tokio::test(start_paused = true)]
async fn a_demand_read_is_not_held_up_by_bulk() {
    let (_link, _server, client) = over(&Profile::WAN_GOOD, 7).await;
    let pool = pool();
    let mut bulk = JoinSet::new();
    for n in 0..16 {
        let (client, pool) = (client.clone(), pool.clone());
        bulk.spawn(async move {
            for round in 0_u64.. {
                bulk_read(client.clone(), pool.clone(), (round * 16 + n) << 19, 512 << 10).await;
            }
        });
    }
    let mut times = Vec::new();
    time::sleep(Duration::from_secs(3)).await; // clock: paused
    for n in 0..100 {
        let start = now();
        client.read(read(n << 30, 128 << 10, Class::Demand), slot(&pool)).await.unwrap();
        times.push(start.elapsed());
        time::sleep(Duration::from_millis(50)).await; // clock: paused
    }
    bulk.shutdown().await;
    times.sort_unstable();
    println!("FIGURE demand read under bulk: p50 {:?}, p99 {:?}", times[50], times[98]);
    assert!(times[50] < Duration::from_millis(120) && times[98] < Duration::from_millis(250), "{times:?}");
}
