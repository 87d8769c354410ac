//! Each thing that can bound a session is made to, and is named by the host and, from its word, by the mount.

use std::{net::SocketAddr, num::NonZeroU64, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time};
use transport::{
    Client, ClientConfig, HeldUp, Identity, Server, ServerConfig, ServerLimits,
    testing::{self, Bottleneck, LinkConfig, Profile},
};
use wire::{bound::Bound, message::Class};

use crate::host::{Host, now, pool, read, slot, ticket};

const HOST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 4433);
const MOUNT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)), 5000);

struct Scene {
    host: Arc<Host>,
    server: Server,
    client: Client,
    /// Reads under way at once, and their length and class.
    load: (u64, u64, Class),
}

impl Scene {
    async fn new(link: LinkConfig, limits: ServerLimits, receive_window_bytes: u32) -> Scene {
        let link = testing::Link::new(link);
        let identity = Identity::generate().unwrap();
        let host = Host::new();
        let mut config = ServerConfig::new(identity.clone());
        config.limits = limits;
        let server = testing::serve(&link, HOST, config, host.clone()).unwrap();
        let config = ClientConfig {
            receive_window_bytes,
            connect_deadline: Duration::from_secs(30),
            ..ClientConfig::default()
        };
        let client = testing::connect(&link, MOUNT, ticket(&identity, &[HOST]), config).await.unwrap();
        Scene { host, server, client, load: (16, 512 << 10, Class::Demand) }
    }

    /// Keeps the load up for `time`, then says what the host and the mount take for its bound.
    async fn bound_after(&self, time: Duration) -> (Bound, Option<Bound>) {
        let (depth, len, class) = self.load;
        let pool = pool();
        let end = now() + time;
        let mut readers = JoinSet::new();
        for reader in 0..depth {
            let (client, pool) = (self.client.clone(), pool.clone());
            readers.spawn(async move {
                for n in 0.. {
                    let mut call = read((n * depth + reader) * len, len, class);
                    call.deadline = end + Duration::from_secs(600);
                    client.read(call, slot(&pool)).await.unwrap();
                }
            });
        }
        time::sleep_until(end).await; // clock: paused
        let path = self.server.paths()[0];
        println!("FIGURE {:?}: {:?}", path.bound, path.waits);
        (path.bound.unwrap(), self.client.stats().host_bound)
    }

    async fn assert_bound(&self, seconds: u64, expected: Bound) {
        let (host, mount) = self.bound_after(Duration::from_secs(seconds)).await;
        assert_eq!((host, mount), (expected, Some(expected)));
    }
}

/// A link with room for whatever is sent, and this far.
fn wide(round_trip_ms: u64) -> LinkConfig {
    LinkConfig { delay: Duration::from_micros(round_trip_ms * 500), ..LinkConfig::default() }
}

const WINDOW: u32 = 16 << 20;

#[tokio::test(start_paused = true)]
async fn a_full_link_is_the_congestion_window_of_cubic() {
    let scene = Scene::new(Profile::WAN_GOOD.link(7), ServerLimits::default(), WINDOW).await;
    scene.assert_bound(20, Bound::Cubic).await;
}

#[tokio::test(start_paused = true)]
async fn loss_by_chance_is_the_congestion_window_of_bbr() {
    let mut scene = Scene::new(Profile::WAN_POOR.link(7), ServerLimits::default(), WINDOW).await;
    scene.load = (16, 64 << 10, Class::Demand);
    // Cubic is tried again now and then.
    for _ in 0..10 {
        if scene.bound_after(Duration::from_secs(12)).await.0 == Bound::Bbr {
            return;
        }
    }
    panic!("BBR was never named");
}

#[tokio::test(start_paused = true)]
async fn a_mount_that_takes_little_is_its_receive_window() {
    let scene = Scene::new(wide(100), ServerLimits::default(), 256 << 10).await;
    scene.assert_bound(10, Bound::ReceiveWindow).await;
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_named_by_whose_it_is() {
    let rate = NonZeroU64::new(2_000_000);
    let of_mount = ServerLimits { session_bytes_per_s: rate, ..ServerLimits::default() };
    Scene::new(wide(1), of_mount, WINDOW).await.assert_bound(10, Bound::SessionRate).await;
    let of_host = ServerLimits { host_bytes_per_s: rate, ..ServerLimits::default() };
    Scene::new(wide(1), of_host, WINDOW).await.assert_bound(10, Bound::HostRate).await;
}

#[tokio::test(start_paused = true)]
async fn answers_under_way_are_named_by_whose_they_are() {
    let of_mount = ServerLimits { answer_bytes_max: 1 << 20, ..ServerLimits::default() };
    Scene::new(wide(100), of_mount, WINDOW).await.assert_bound(10, Bound::SessionAnswers).await;
    let of_host = ServerLimits { host_answer_bytes_max: 8 << 20, ..ServerLimits::default() };
    Scene::new(wide(100), of_host, WINDOW).await.assert_bound(10, Bound::HostAnswers).await;
}

#[tokio::test(start_paused = true)]
async fn one_small_read_after_the_other_is_the_round_trip() {
    let mut scene = Scene::new(wide(50), ServerLimits::default(), WINDOW).await;
    scene.load = (1, 4 << 10, Class::Demand);
    scene.assert_bound(10, Bound::RoundTrip).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_host_has_too_little_of_is_named() {
    for (held_up, expected) in [
        (HeldUp { memory: Duration::from_millis(900), ..HeldUp::default() }, Bound::Memory),
        (HeldUp { disk: Duration::from_millis(900), ..HeldUp::default() }, Bound::Disk),
    ] {
        let mut scene = Scene::new(wide(50), ServerLimits::default(), WINDOW).await;
        *scene.host.held_up_each_look.lock().unwrap() = held_up;
        scene.load = (1, 4 << 10, Class::Demand);
        scene.assert_bound(10, expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_asks_for_nothing_waits_for_its_programs() {
    let narrow = LinkConfig {
        bottleneck: Some(Bottleneck { bytes_per_s: 1_000_000, queue_bytes: 64 << 10 }),
        ..wide(10)
    };
    let scene = Scene::new(narrow, ServerLimits::default(), WINDOW).await;
    scene.bound_after(Duration::from_secs(10)).await;
    time::sleep(Duration::from_secs(60)).await; // clock: paused
    assert_eq!(scene.server.paths()[0].bound, Some(Bound::Application));
}
