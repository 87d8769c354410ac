//! A hundred mounts at one host.

use std::{
    fs,
    io::Write,
    thread,
    time::{Duration, Instant},
};

use wire::Extent;

use crate::{
    process::{Counters, Ready, command, command_at, free_address},
    rig::{Peer, pattern},
};

const MOUNTS: usize = 100;
/// Times that each reads the file.
const ROUNDS: usize = 2;
const FILE_BYTES: usize = 8 << 20;
/// All the host may hold at its worst, its own code included.
const RSS_BYTES_MAX: u64 = 200 << 20;

/// What a process held in memory at its worst. Source: proc_pid_status(5).
fn rss_peak_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

/// Reads the file in order, whole, and keeps none of it.
fn read_through(peer: &Peer, bytes: &[u8]) {
    let attr = peer.stat("f");
    for (index, expected) in bytes.chunks(1 << 20).enumerate() {
        let extent = Extent::new((index as u64) << 20, expected.len() as u64);
        assert!(peer.read("f", &attr, extent).unwrap() == expected, "wrong bytes in {extent}");
    }
}

#[test]
fn a_hundred_mounts_read_at_once_in_two_hundred_megabytes() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bytes = pattern(FILE_BYTES, 1);
    fs::write(dir.path().join("f"), &bytes).unwrap();
    let metrics = free_address();
    let host = Ready::start(command(state.path()).arg(dir.path()).args(["--metrics", &metrics.to_string()]));
    let start = Instant::now(); // clock: how long it took is told
    thread::scope(|scope| {
        let mounts: Vec<_> = (0..MOUNTS)
            .map(|_| {
                let (ticket, bytes) = (host.ticket.clone(), &bytes);
                scope.spawn(move || {
                    let peer = Peer::connect(ticket).unwrap();
                    for _ in 0..ROUNDS {
                        read_through(&peer, bytes);
                    }
                    peer
                })
            })
            .collect();
        let peers: Vec<Peer> = mounts.into_iter().map(|mount| mount.join().unwrap()).collect();
        let took = start.elapsed();
        let sessions = Counters::of(metrics).value("host_sessions");
        assert!((sessions - MOUNTS as f64).abs() < 0.5, "{sessions} are connected at once");
        let peak = rss_peak_bytes(host.process.0.id()) >> 20;
        let read = (ROUNDS * MOUNTS * FILE_BYTES) >> 20;
        writeln!(
            std::io::stdout(),
            "{MOUNTS} mounts came and read {read} MiB in {took:?}; the host held {peak} MiB at its worst"
        )
        .unwrap();
        for peer in peers {
            scope.spawn(move || peer.close());
        }
    });
    let peak = rss_peak_bytes(host.process.0.id());
    assert!(peak < RSS_BYTES_MAX, "{} MiB", peak >> 20);
    let counters = Counters::of(metrics);
    assert!((counters.value("host_read_bytes") - (ROUNDS * MOUNTS * FILE_BYTES) as f64).abs() < 0.5);
    assert!(counters.value("host_errors").abs() < 0.5, "no read failed");
    let log = host.end();
    assert_eq!(log.matches("mount left").count(), MOUNTS, "{log}");
}

#[test]
fn a_hundred_mounts_come_back_to_a_host_that_was_killed() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bytes = pattern(1 << 20, 2);
    fs::write(dir.path().join("f"), &bytes).unwrap();
    let host = Ready::start(command(state.path()).arg(dir.path()));
    let ticket = host.ticket.clone();
    let connect = || Peer::connect(ticket.clone()).unwrap();
    let peers: Vec<Peer> = thread::scope(|scope| {
        let connecting: Vec<_> = (0..MOUNTS).map(|_| scope.spawn(connect)).collect();
        connecting.into_iter().map(|peer| peer.join().unwrap()).collect()
    });
    host.process.kill();
    let again = Ready::start(command_at(&ticket.addresses[0], state.path()).arg(dir.path()));
    let start = Instant::now(); // clock: how long it took is told
    // Each within the rig's deadline.
    thread::scope(|scope| {
        for peer in &peers {
            scope.spawn(|| read_through(peer, &bytes));
        }
    });
    let took = start.elapsed();
    writeln!(std::io::stdout(), "{MOUNTS} mounts read on {took:?} after their host was back").unwrap();
    // Resets, not idle timeouts, told all of them.
    assert!(took < Duration::from_secs(4), "{took:?}");
    thread::scope(|scope| {
        for peer in &peers {
            scope.spawn(|| peer.close());
        }
    });
    again.end();
}
