use std::{num::NonZeroU64, time::Duration};

use tokio::task::JoinSet;

use super::*;

const MIB: u32 = 1 << 20;

fn limits() -> ServerLimits {
    ServerLimits { answer_bytes_max: 2 * MIB, ..ServerLimits::default() }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_request_leaves_the_queue_and_what_it_was_given() {
    let admission = Admission::new(&limits());
    let guest = admission.join();
    let one = guest.admit(Class::Demand, MIB).await.unwrap();
    let two = guest.admit(Class::Demand, MIB).await.unwrap();
    let mut third = Box::pin(guest.admit(Class::Demand, MIB));
    let mut fourth = Box::pin(guest.admit(Class::Demand, MIB));
    let step = Duration::from_millis(1);
    assert!(time::timeout(step, &mut third).await.is_err());
    assert!(time::timeout(step, &mut fourth).await.is_err());
    assert_eq!(guest.tally(), Tally { requests: 2, waiting: 2, answer_bytes: 2 << 20 });
    // The third is admitted and does not look any more: its part goes on to the fourth.
    drop(one);
    drop(third);
    let fourth = time::timeout(step, fourth).await.unwrap().unwrap();
    assert_eq!(guest.tally().waiting, 0);
    let fifth = Box::pin(guest.admit(Class::Demand, MIB));
    assert!(time::timeout(step, fifth).await.is_err(), "dropped while it waits");
    assert_eq!(guest.tally().waiting, 0);
    drop((two, fourth));
    assert_eq!(admission.total(), Tally::default());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_small_frees_the_rest_at_once() {
    let admission = Admission::new(&limits());
    let guest = admission.join();
    let mut one = guest.admit(Class::Demand, 2 * MIB).await.unwrap();
    one.shrink(100);
    let _two = time::timeout(Duration::from_millis(1), guest.admit(Class::Demand, MIB)).await.unwrap();
    assert_eq!(admission.total().answer_bytes, 100 + (1 << 20));
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_within_a_twentieth() {
    let per_s: u64 = 20 << 20;
    for (session, host) in [(NonZeroU64::new(per_s), None), (None, NonZeroU64::new(per_s))] {
        let limits =
            ServerLimits { session_bytes_per_s: session, host_bytes_per_s: host, ..ServerLimits::default() };
        let admission = Admission::new(&limits);
        let pace = tokio::spawn(admission.clone().keep_pace());
        let guest = Arc::new(admission.join());
        // clock: paused.
        let start = Instant::now();
        let mut readers = JoinSet::new();
        for _ in 0..8 {
            let guest = guest.clone();
            readers.spawn(async move {
                let mut bytes = 0;
                while start.elapsed() < Duration::from_secs(20) {
                    let mut permit = guest.admit(Class::Demand, 300_000).await.unwrap();
                    permit.shrink(300_000);
                    bytes += 300_000;
                }
                bytes
            });
        }
        let mut bytes = 0_u64;
        while let Some(read) = readers.join_next().await {
            bytes += read.unwrap();
        }
        let wanted = per_s * 20;
        assert!(bytes.abs_diff(wanted) <= wanted / 20, "{bytes} bytes, {wanted} wanted");
        pace.abort();
    }
}
