//! Processes that die without a word: a mount, and the host itself.

use std::{
    fs,
    io::{Read, Write},
    process::{Command, Stdio},
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use wire::Ticket;

use crate::{
    process::{Counters, Lines, Ready, Running, command, command_at, free_address},
    rig::{Peer, pattern},
};

/// The ticket for [`a_mount_in_a_process_of_its_own`].
const TICKET: &str = "WORMHOLE_TEST_TICKET";
/// What it does once it is connected: `wait` or `read`.
const TASK: &str = "WORMHOLE_TEST_TASK";

/// Not a test of its own: what [`mount`] runs, to be killed.
#[test]
#[ignore = "the other tests here start it in a process of its own"]
fn a_mount_in_a_process_of_its_own() {
    let Ok(ticket) = std::env::var(TICKET) else { return };
    let peer = Peer::connect(Ticket::parse(&ticket).unwrap()).unwrap();
    writeln!(std::io::stdout(), "\nconnected").unwrap();
    if std::env::var(TASK).unwrap() == "read" {
        // Until it is killed, or the host is gone with the test.
        while peer.read_all("f").is_ok() {}
    }
    // Ends with the test's process at the latest.
    let _ = std::io::stdin().read(&mut [0]);
}

/// A mount that can be killed.
fn mount(ticket: &Ticket, task: &str) -> Running {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "death::a_mount_in_a_process_of_its_own", "--ignored", "--nocapture"])
        .envs([(TICKET, ticket.to_string()), (TASK, task.to_owned())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut running = Running(child.spawn().unwrap());
    Lines::of(running.0.stdout.take().unwrap()).until("connected");
    running
}

fn ended(counters: &Counters) -> [f64; 4] {
    ["left", "lost", "closed", "broken"]
        .map(|how| counters.value(&format!("host_sessions_ended{{how=\"{how}\"}}")))
}

#[test]
fn a_killed_mount_is_lost_within_six_seconds_and_one_that_leaves_has_left() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join("f"), pattern(4 << 20, 3)).unwrap();
    let metrics = free_address();
    let mut host =
        Ready::start(command(state.path()).arg(dir.path()).args(["--metrics", &metrics.to_string()]));
    assert_eq!(ended(&Counters::of(metrics)), [0.0; 4]);
    for (round, task) in [(1.0, "wait"), (2.0, "read")] {
        let mount = mount(&host.ticket, task);
        host.log.until("mount connected");
        assert!(Counters::of(metrics).value("host_sessions") > 0.5, "it is connected");
        mount.kill();
        let killed = Instant::now(); // clock: the time to notice is what is promised
        let line = host.log.until("mount lost");
        let noticed = killed.elapsed();
        assert!(noticed < Duration::from_secs(6), "a mount told to {task}: {noticed:?}");
        assert!(line.contains("no answer for 5 s"), "{line}");
        let counters = Counters::of(metrics);
        assert_eq!(ended(&counters), [0.0, round, 0.0, 0.0]);
        assert!(counters.value("host_sessions").abs() < 0.5, "nobody is connected");
    }
    Peer::connect(host.ticket.clone()).unwrap().close();
    let line = host.log.until("mount left");
    assert!(!line.contains("no answer"), "{line}");
    assert_eq!(ended(&Counters::of(metrics)), [1.0, 2.0, 0.0, 0.0]);
    host.end();
}

#[test]
fn a_killed_host_comes_back_on_its_port_with_its_ticket_and_reads_go_on() {
    const MIB: usize = 24;
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bytes = pattern(MIB << 20, 9);
    fs::write(dir.path().join("f"), &bytes).unwrap();
    let first = Ready::start(command(state.path()).arg(dir.path()));
    let ticket = first.ticket.clone();
    let peer = Peer::connect(ticket.clone()).unwrap();
    let (progress, progressed) = channel();
    let reader = thread::spawn(move || {
        let attr = peer.stat("f");
        let mut read = Vec::new();
        // Until the test has seen enough.
        while progress.send(()).is_ok() {
            let start = (read.len() % (MIB << 20)) as u64;
            if start == 0 {
                read.clear();
            }
            // With the rig's deadline: the host must be back within it.
            read.extend(peer.read("f", &attr, wire::Extent::new(start, 1 << 20)).unwrap());
            assert!(read == bytes[..read.len()], "wrong bytes at {start}");
        }
        peer.close();
    });
    let mut host = first;
    for (blocks, down) in [(1, 0), (5, 0), (40, 2)] {
        for _ in 0..blocks {
            progressed.recv_timeout(Duration::from_secs(30)).unwrap();
        }
        host.process.kill();
        while progressed.try_recv().is_ok() {}
        thread::sleep(Duration::from_secs(down)); // clock: how long the host is away is what is varied
        let again = Instant::now(); // clock: two seconds are promised
        host = Ready::start(command_at(&ticket.addresses[0], state.path()).arg(dir.path()));
        assert!(again.elapsed() < Duration::from_secs(2), "started after {:?}", again.elapsed());
        assert_eq!(host.ticket.to_string(), ticket.to_string());
        let started = Instant::now(); // clock: three seconds are promised
        progressed.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(started.elapsed() < Duration::from_secs(3), "read on after {:?}", started.elapsed());
    }
    drop(progressed);
    reader.join().unwrap();
    host.end();
}
