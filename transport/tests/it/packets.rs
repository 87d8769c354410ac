//! The packet size rule: full batches at each size, and no black hole.

use transport::{Client, ClientConfig, Identity, PacketSize, Server, ServerConfig};
use wire::message::Class;

use crate::host::{Host, loopback_config, pattern, pool, read, slot, ticket};

/// Reads 64 MiB, eight at a time, with both ends set to `packets`.
async fn full_batches(packets: PacketSize, mtu_bytes: u16) {
    let host = Host::new();
    let identity = Identity::generate().unwrap();
    let config = ServerConfig { packets, ..loopback_config(&identity) };
    let server = Server::bind(config, host.clone()).unwrap();
    let config = ClientConfig { packets, ..ClientConfig::default() };
    let client = Client::connect(ticket(&identity, &server.local_addrs()), config).await.unwrap();
    let pool = pool();
    for round in 0..8 {
        let mut reads = tokio::task::JoinSet::new();
        for n in 0..8 {
            let (client, slot) = (client.clone(), slot(&pool));
            let start = (round * 8 + n) << 20;
            reads.spawn(async move {
                let filled = client.read(read(start, 1 << 20, Class::Demand), slot).await.unwrap();
                filled.as_ref() == pattern(start, 1 << 20)
            });
        }
        while let Some(right) = reads.join_next().await {
            assert!(right.unwrap());
        }
    }
    let mount = client.stats();
    assert_eq!((mount.black_holes, mount.mtu_bytes), (0, mtu_bytes), "{mount:?}");
    let paths = server.paths();
    assert_eq!(paths.len(), 1);
    assert_eq!((paths[0].black_holes, paths[0].mtu_bytes), (0, mtu_bytes), "{paths:?}");
    // Batches that vanish would be sent again and again.
    assert!(paths[0].lost_packets < 64, "{paths:?}");
}

#[tokio::test]
async fn full_batches_of_1452_bytes_arrive() {
    full_batches(PacketSize::Ethernet, 1_452).await;
}

#[tokio::test]
async fn full_batches_of_8952_bytes_arrive() {
    full_batches(PacketSize::Jumbo, 8_952).await;
}

#[tokio::test]
async fn packets_of_65507_bytes_arrive() {
    full_batches(PacketSize::Auto, 65_507).await;
}
