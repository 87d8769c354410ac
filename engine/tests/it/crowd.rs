//! A hundred mounts at one host.

use std::{fs, io::Write, thread, time::Instant};

use crate::{
    process::{Counters, Ready, command, free_address},
    rig::{Peer, pattern},
};

const MOUNTS: usize = 100;
const FILE_BYTES: usize = 8 << 20;
/// All the host may hold at its worst, its own code included.
const RSS_BYTES_MAX: u64 = 200 << 20;

/// What a process held in memory at its worst. Source: proc_pid_status(5).
fn rss_peak_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

#[test]
#[ignore = "takes longer than ten seconds in a debug build: cargo test --release -p wormhole-engine crowd -- --ignored"]
fn a_hundred_mounts_read_at_once_in_two_hundred_megabytes() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bytes = pattern(FILE_BYTES, 1);
    fs::write(dir.path().join("f"), &bytes).unwrap();
    let metrics = free_address();
    let host = Ready::start(command(state.path()).arg(dir.path()).args([
        "--metrics",
        &metrics.to_string(),
        "--log",
        "warn,wormhole_engine=info",
    ]));
    let start = Instant::now(); // clock: the report says how long it took
    thread::scope(|scope| {
        let mounts: Vec<_> = (0..MOUNTS)
            .map(|_| {
                let (ticket, bytes) = (host.ticket.clone(), &bytes);
                scope.spawn(move || {
                    let peer = Peer::connect(ticket).unwrap();
                    for _ in 0..2 {
                        assert!(peer.read_all("f").unwrap() == *bytes);
                    }
                    peer
                })
            })
            .collect();
        let peers: Vec<Peer> = mounts.into_iter().map(|mount| mount.join().unwrap()).collect();
        let sessions = Counters::of(metrics).value("host_sessions");
        assert!((sessions - MOUNTS as f64).abs() < 0.5, "{sessions} are connected at once");
        peers.iter().for_each(Peer::close);
    });
    let peak = rss_peak_bytes(host.process.0.id());
    let read = 2 * MOUNTS * FILE_BYTES;
    writeln!(
        std::io::stdout(),
        "{MOUNTS} mounts read {} MiB in {:?}; the host held {} MiB at its worst",
        read >> 20,
        start.elapsed(),
        peak >> 20
    )
    .unwrap();
    assert!(peak < RSS_BYTES_MAX, "{} MiB", peak >> 20);
    let counters = Counters::of(metrics);
    assert!((counters.value("host_read_bytes") - read as f64).abs() < 0.5);
    host.end();
}
