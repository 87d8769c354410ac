//! What leases cost and how fast a change is told; figures for ARCHITECTURE.md, "What a lease costs".
//!
//! `cargo test --release -p wormhole-engine --test it -- --ignored --nocapture --test-threads 1 what_leases_cost`

use std::{fs, time::Instant};

use tokio::time;
use transport::{Pushed, Pushes};
use wire::{Class, Grant, LeaseId, Push, Reply, Request};

use crate::rig::{Peer, Rig, path};

const DIRS: u64 = 10_000;
const CHANGES: usize = 1_000;

/// Bytes resident and CPU time of this process, host and mount together.
fn used() -> (u64, f64) {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().unwrap()).sum();
    (statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096, ticks / 100.0)
}

fn lease_all(peer: &Peer, dirs: std::ops::Range<u64>) {
    // As many at once as a mount has under way at most.
    for some in dirs.collect::<Vec<_>>().chunks(256) {
        let wishes = some.iter().map(|dir| {
            let target = peer.target(&path(format!("{}/{dir}", dir % 100)), None);
            (Request::Lease { target, lease: LeaseId(dir + 1) }, Class::Metadata)
        });
        for reply in peer.call_all(wishes).wait() {
            assert!(matches!(reply, Ok(Reply::Leased { grant: Grant::Granted, .. })), "{reply:?}");
        }
    }
}

async fn told(pushes: &Pushes) -> Push {
    loop {
        match pushes.next().await.unwrap() {
            Pushed::Push(push) => return push,
            Pushed::SessionBegun => {}
            Pushed::SessionLost => panic!("lost"),
        }
    }
}

#[test]
#[allow(clippy::print_stdout, reason = "it is a measurement")]
#[ignore = "takes the machine for itself"]
fn what_leases_cost() {
    let rig = Rig::new(|root| {
        for dir in 0..DIRS {
            fs::create_dir_all(root.join(format!("{}/{dir}", dir % 100))).unwrap();
        }
    });
    lease_all(&rig.peer, 0..100);
    let (bytes, cpu) = used();
    let start = Instant::now(); // clock: a measurement
    lease_all(&rig.peer, 100..DIRS);
    let (elapsed, count) = (start.elapsed(), DIRS - 100);
    let (more_bytes, more_cpu) = used();
    println!(
        "{count} leases in {elapsed:?}, {:.1} us of CPU and {} bytes each, {} watches",
        (more_cpu - cpu) * 1e6 / count as f64,
        (more_bytes - bytes) / count,
        rig.host.status().watch.watches,
    );
    let pushes = rig.peer.pushes();
    let mut took: Vec<_> = (0..CHANGES as u64)
        .map(|n| {
            let dir = n * 7 % DIRS;
            let file = rig.dir.path().join(format!("{}/{dir}/f{n}", dir % 100));
            let start = Instant::now(); // clock: a measurement
            fs::write(file, b"x").unwrap();
            // The rest of the change before may come first.
            let of_this = |push: &Push| matches!(push, Push::Changed { lease, .. } if lease.0 == dir + 1);
            while !of_this(&rig.peer.run(told(&pushes))) {}
            let took = start.elapsed();
            // The rest of what the write said, at the pace.
            rig.peer.run(async {
                let more = time::Duration::from_millis(15); // clock: longer than the pace
                while time::timeout(more, told(&pushes)).await.is_ok() {}
            });
            took
        })
        .collect();
    took.sort();
    println!(
        "told after {:?} p50, {:?} p99, {:?} at most",
        took[CHANGES / 2],
        took[CHANGES * 99 / 100],
        took[CHANGES - 1]
    );
    let (_, before) = used();
    let idle = Instant::now(); // clock: a measurement
    let wait = time::Duration::from_secs(5);
    rig.peer.run(async { time::sleep(wait).await }); // clock: a measurement
    println!("idle: {:.2} % of a core", (used().1 - before) / idle.elapsed().as_secs_f64() * 100.0);
    let start = Instant::now(); // clock: a measurement
    fs::rename(rig.dir.path().join("0"), rig.dir.path().join("moved")).unwrap();
    let leases = loop {
        if let Push::Revoked(leases) = rig.peer.run(told(&pushes)) {
            break leases;
        }
    };
    println!("{} leases below a moved folder called back after {:?}", leases.len(), start.elapsed());
    rig.end();
}
