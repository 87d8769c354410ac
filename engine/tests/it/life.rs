//! A host's life: start, restart, limits, stop.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use wormhole_engine::{error::HostError, host::Host};

use crate::rig::{Peer, Rig, config, pattern};

#[test]
fn the_ticket_outlives_the_host() {
    let rig = Rig::new(|dir| fs::write(dir.join("f"), b"x").unwrap());
    let (before, attr) = (rig.host.ticket(), rig.peer.stat("f"));
    let Rig { dir, state, host, peer } = rig;
    peer.close();
    host.stop().unwrap();
    let host = Host::start(config(dir.path(), state.path())).unwrap();
    let after = host.ticket();
    assert_eq!(
        (after.host_key, &after.claims, &after.secret),
        (before.host_key, &before.claims, &before.secret)
    );
    let peer = Peer::connect(after).unwrap();
    assert_eq!(peer.stat("f").id, attr.id, "the file's id as well");
    peer.close();
    host.stop().unwrap();
}

#[test]
fn one_state_directory_one_host_and_one_port_one_host() {
    let rig = Rig::new(|_| {});
    let locked = Host::start(config(rig.dir.path(), rig.state.path())).unwrap_err();
    assert!(matches!(locked, HostError::StateLocked { pid: Some(pid), .. } if pid == std::process::id()));
    let state = tempfile::tempdir().unwrap();
    let mut taken = config(rig.dir.path(), state.path());
    taken.listen = rig.host.local_addrs();
    let taken = Host::start(taken).unwrap_err();
    let address = rig.host.local_addrs()[0].to_string();
    assert!(matches!(taken, HostError::Bind(_)), "{taken}");
    assert!(taken.to_string().contains(&address) && taken.to_string().contains("--listen"), "{taken}");
    rig.end();
}

#[test]
fn more_readers_than_buffers_wait_for_each_other() {
    const LEN: usize = 4 << 20;
    let bytes = pattern(LEN, 5);
    let rig =
        Rig::with(|dir| fs::write(dir.join("f"), &bytes).unwrap(), |config| config.memory_bytes = 8 << 20);
    let ticket = rig.host.ticket();
    thread::scope(|scope| {
        for _ in 0..12 {
            let (ticket, bytes) = (ticket.clone(), &bytes);
            scope.spawn(move || {
                let peer = Peer::connect(ticket).unwrap();
                for _ in 0..4 {
                    assert!(peer.read_all("f").unwrap() == *bytes);
                }
                peer.close();
            });
        }
    });
    rig.end();
}

#[test]
fn a_mount_reads_on_through_a_restart() {
    let bytes = pattern(2 << 20, 8);
    let rig = Rig::new(|dir| fs::write(dir.join("f"), &bytes).unwrap());
    let Rig { dir, state, mut host, peer } = rig;
    let stop = Arc::new(AtomicBool::new(false));
    let reader = thread::spawn({
        let (stop, bytes) = (Arc::clone(&stop), bytes.clone());
        move || {
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                assert!(peer.read_all("f").unwrap() == bytes);
                rounds += 1;
            }
            (peer, rounds)
        }
    });
    for _ in 0..2 {
        let mut again = config(dir.path(), state.path());
        again.listen = host.local_addrs();
        // With the mount connected and reading.
        host.stop().unwrap();
        host = Host::start(again).unwrap();
        while host.sessions() == 0 {
            assert!(!reader.is_finished(), "the reader failed");
            thread::yield_now();
        }
    }
    stop.store(true, Ordering::Relaxed);
    let (peer, rounds) = reader.join().unwrap();
    assert!(rounds > 0);
    assert!(peer.read_all("f").unwrap() == bytes);
    peer.close();
    host.stop().unwrap();
}

#[test]
fn many_files_at_once_are_served_with_few_open() {
    let rig = Rig::with(
        |dir| {
            for n in 0..200u64 {
                fs::write(dir.join(n.to_string()), pattern(5_000, n)).unwrap();
            }
        },
        |config| config.files_open_max = 8,
    );
    for round in 0..2 {
        for n in 0..200u64 {
            assert!(
                rig.peer.read_all(&n.to_string()).unwrap() == pattern(5_000, n),
                "round {round}, file {n}"
            );
        }
    }
    let served = fs::canonicalize(rig.dir.path()).unwrap();
    let open =
        fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let open = open.filter(|path| path.starts_with(&served) && path != &served).count();
    assert!(open <= 8, "{open} files of the share are open");
    rig.end();
}
