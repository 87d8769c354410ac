//! Links between real sockets.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod netns;
mod tcp;
mod udp;

use std::thread;
use std::time::{Duration, Instant};

use wormhole_profiles::link::{Link, LinkReport};

/// What has not come by then never will.
const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `done` holds of the report, which the link writes a moment after a packet left.
fn reported(link: &Link, done: impl Fn(&LinkReport) -> bool) -> LinkReport {
    // clock: bounds the wait for another thread.
    let end = Instant::now() + DEADLINE;
    loop {
        let report = link.report();
        // clock: as above.
        if done(&report) || Instant::now() > end {
            return report;
        }
        thread::yield_now();
    }
}
