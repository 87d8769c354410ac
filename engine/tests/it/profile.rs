//! `--profile-cpu`: refused at once where it could not be written; a flamegraph on SIGUSR1 and at exit.

use rustix::process::Signal;

use crate::process::{Ready, command, failure};

#[test]
fn a_host_without_a_profile_lives_on_after_sigusr1() {
    let folder = tempfile::tempdir().unwrap();
    let mut host = Ready::start(command(&folder.path().join("state")).arg(folder.path()));
    host.process.signal(Signal::USR1);
    host.log.until("--profile-cpu FILE");
    host.end();
}

#[test]
fn a_profile_that_nobody_could_write_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent/cpu.svg");
    let mut refused = command(&folder.path().join("state"));
    let text = failure(&refused.arg(folder.path()).arg("--profile-cpu").arg(&absent).output().unwrap());
    assert!(text.contains("--profile-cpu") && text.contains("absent/cpu.svg"), "{text}");
}

#[cfg(not(feature = "pprof"))]
#[test]
fn a_program_without_a_profiler_says_how_to_build_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut refused = command(&folder.path().join("state"));
    refused.arg(folder.path()).env("WORMHOLE_PROFILE_CPU", folder.path().join("cpu.svg"));
    let text = failure(&refused.output().unwrap());
    assert!(text.contains("--features pprof"), "{text}");
}

#[cfg(feature = "pprof")]
#[test]
fn a_host_draws_what_reading_costs_it_when_asked_and_at_exit() {
    use crate::rig::Peer;
    use std::fs;

    let folder = tempfile::tempdir().unwrap();
    let share = folder.path().join("share");
    fs::create_dir(&share).unwrap();
    fs::write(share.join("large"), vec![7; 64 << 20]).unwrap();
    let svg = folder.path().join("cpu.svg");
    let mut host =
        Ready::start(command(&folder.path().join("state")).arg(&share).arg("--profile-cpu").arg(&svg));
    let read = || {
        let peer = Peer::connect(host.ticket.clone()).unwrap();
        assert_eq!(peer.read_all("large").unwrap().len(), 64 << 20);
    };
    read();
    host.process.signal(Signal::USR1);
    host.log.until("profile written");
    let asked = fs::read_to_string(&svg).unwrap();
    assert!(asked.contains("wormhole-engine host") && asked.contains("wormhole_engine::"), "{asked:.300}");
    fs::remove_file(&svg).unwrap();
    let log = host.end();
    assert!(log.contains("profile written"), "{log}");
    let last = fs::read_to_string(&svg).unwrap();
    assert!(last.starts_with("<?xml") && last.contains("wormhole_transport::"), "{last:.300}");
}
