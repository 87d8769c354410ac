//! What bounds the session of a mount, looked at each second.

use std::sync::Arc;

use engine::status::BoundStatus;
use tokio::time::{Instant, MissedTickBehavior, interval};
use transport::{
    Client,
    waits::{LOOK_EVERY, Recent, Waits},
};
use wire::bound::Bound;

use crate::stats::Stats;

/// Runs for as long as the lane does.
pub(super) async fn watch(client: Client, stats: Arc<Stats>) {
    let began = Instant::now();
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let now = Instant::now();
        let mut waits = Waits::new(now - began, stats.fetching.total(now));
        waits.add(Bound::Memory, stats.memory.total(now));
        waits.add(Bound::Requests, client.stats().requests_waited);
        stats.recent.lock().look(waits);
    }
}

/// What bounded it in the last seconds: what this end saw, or what the host says of its own.
pub(super) fn status(recent: &Recent, host: Option<Bound>) -> BoundStatus {
    let waits = recent.waits();
    let bound = match (waits.bound(), host) {
        // Requests are under way and nothing here holds them up. A host that sees few has said so before they came.
        (Bound::RoundTrip, Some(bound)) if bound != Bound::Application => bound,
        (bound, _) => bound,
    };
    BoundStatus::of(Some(bound), &waits)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn named(busy: u32, memory: u32, host: Option<Bound>) -> String {
        let mut waits = Waits::new(S * 10, S * busy);
        waits.add(Bound::Memory, S * memory);
        let mut recent = Recent::default();
        recent.look(waits);
        status(&recent, host).name
    }

    #[test]
    fn what_the_mount_sees_comes_before_what_the_host_says() {
        assert_eq!(named(1, 0, Some(Bound::Cubic)), "application");
        assert_eq!(named(9, 8, Some(Bound::Cubic)), "memory");
        assert_eq!(named(9, 0, Some(Bound::Cubic)), "congestion_cubic");
        assert_eq!(named(9, 0, Some(Bound::Application)), "round_trip");
        assert_eq!(named(9, 0, None), "round_trip");
    }
}
