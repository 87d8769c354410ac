//! A hundred mounts at one host.

use std::{
    fs,
    io::Write,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use wire::{Extent, Name, SharePath};

use crate::{
    process::{Counters, Ready, command, command_at, free_address},
    readers::{Meter, Plan, Swarm},
    rig::{Peer, path, pattern},
};

const MOUNTS: usize = 100;
const SHARES: usize = 10;
const FILE_BYTES: usize = 4 << 20;
/// What all of them read together: eighty reads each.
const CROWD_BYTES: u64 = 1 << 30;
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

/// Ten shares of one file each, the arguments for a host of them, and what each file holds.
fn ten_shares(dir: &Path) -> (Vec<String>, Arc<Vec<u8>>) {
    let bytes = pattern(FILE_BYTES, 1);
    let shares = (0..SHARES).map(|n| {
        let folder = dir.join(n.to_string());
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("f"), &bytes).unwrap();
        format!("s{n}={}", folder.display())
    });
    (shares.collect(), Arc::new(bytes))
}

#[test]
fn a_hundred_mounts_of_ten_shares_get_equal_parts_of_a_small_host() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (shares, expected) = ten_shares(dir.path());
    let metrics = free_address().to_string();
    let host = Ready::start(command(state.path()).args(&shares).args(["--metrics", &metrics]));
    let swarm = Swarm::new(128 << 20);
    let clients: Vec<_> = (0..MOUNTS).map(|_| swarm.connect(&host.ticket)).collect();
    let all = Arc::new(Meter::default());
    let start = Instant::now(); // clock: how long it took is told
    let readers: Vec<_> = (0..SHARES)
        .cycle()
        .zip(clients)
        .map(|(share, client)| {
            let share = Name::new(format!("s{share}").as_bytes()).unwrap();
            let plan = Plan { share, files: vec![path("f")], in_flight: 2, expected: expected.clone() };
            swarm.read(client, &plan, &all)
        })
        .collect();
    // From when all of them read.
    let before: Vec<u64> = readers.iter().map(|reader| reader.meter().bytes()).collect();
    let (begun, total) = (start.elapsed(), all.bytes());
    swarm.until_more(&all, CROWD_BYTES);
    let parts: Vec<u64> =
        readers.iter().zip(before).map(|(reader, before)| reader.meter().bytes() - before).collect();
    let (took, read) = (start.elapsed() - begun, all.bytes() - total);
    let (least, most) = (parts.iter().min().unwrap(), parts.iter().max().unwrap());
    let counters = Counters::of(metrics.parse().unwrap());
    assert!((counters.value("host_sessions") - MOUNTS as f64).abs() < 0.5, "all are connected at once");
    assert!(counters.value("host_errors").abs() < 0.5, "no read failed");
    swarm.end(readers);
    let peak = rss_peak_bytes(host.process.0.id());
    let fair = read / MOUNTS as u64;
    writeln!(
        std::io::stdout(),
        "{MOUNTS} mounts of {SHARES} shares read {} MiB in {took:?}: the least {} and the most {} KiB, {} KiB being \
         fair; the host held {} MiB at its worst",
        read >> 20,
        least >> 10,
        most >> 10,
        fair >> 10,
        peak >> 20
    )
    .unwrap();
    assert!(*least >= fair / 2, "{} of {} KiB", least >> 10, fair >> 10);
    assert!(peak < RSS_BYTES_MAX, "{} MiB", peak >> 20);
    let log = host.end();
    assert_eq!(log.matches("mount left").count(), MOUNTS, "{log}");
}

#[test]
fn a_mount_that_reads_one_file_is_not_starved_by_one_that_reads_500() {
    const FILES: usize = 500;
    const FAIR_BYTES: u64 = 64 << 20;
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = Arc::new(pattern(1 << 20, 3));
    let files: Vec<SharePath> = (0..FILES).map(|n| path(n.to_string())).collect();
    for file in &files {
        fs::write(dir.path().join(file.as_os_str()), &*expected).unwrap();
    }
    // The host's rate is what they share out, and not this machine's processors.
    let share = format!("s={}", dir.path().display());
    let host = Ready::start(command(state.path()).arg(share).args(["--bandwidth", "100MB/s"]));
    // A thread and a buffer for each mount, as two machines have.
    let (few, many) = (Swarm::new(64 << 20), Swarm::new(512 << 20));
    let all = Arc::new(Meter::default());
    let share = Name::new(b"s").unwrap();
    let one =
        Plan { share: share.clone(), files: files[..1].to_vec(), in_flight: 8, expected: expected.clone() };
    let reader = few.read(few.connect(&host.ticket), &one, &all);
    let rate = |bytes: u64| {
        let start = Instant::now(); // clock: a rate is told
        few.until_more(reader.meter(), bytes);
        reader_rate(bytes, start.elapsed())
    };
    let alone = rate(FAIR_BYTES);
    let plan = Plan { share, files, in_flight: 1, expected };
    let greedy = many.read(many.connect(&host.ticket), &plan, &all);
    many.until_more(greedy.meter(), 16 << 20);
    let before = (reader.meter().bytes(), greedy.meter().bytes());
    let beside = rate(FAIR_BYTES);
    let (own, others) = (reader.meter().bytes() - before.0, greedy.meter().bytes() - before.1);
    writeln!(
        std::io::stdout(),
        "one file at {alone:.0} MB/s alone, at {beside:.0} MB/s beside a mount that reads {FILES} and got {:.2} times \
         as much",
        others as f64 / own as f64
    )
    .unwrap();
    // Half of the host for each would be one time as much.
    assert!(others < 2 * own, "{} MiB beside {} MiB", own >> 20, others >> 20);
    many.end(vec![greedy]);
    few.end(vec![reader]);
    host.end();
}

fn reader_rate(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / took.as_secs_f64() / 1e6
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
