//! The command: its ticket when it is ready, its end, its exit codes.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::PermissionsExt,
    process::Command,
};

use rustix::process::Signal;
use wire::Ticket;

use crate::{
    process::{command, failure, start},
    rig::Peer,
};

#[test]
fn the_one_line_on_stdout_is_the_ticket_and_a_signal_ends_it() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join("f"), b"served").unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let mut host = start(command(state.path()).arg(dir.path()));
        let mut stdout = BufReader::new(host.0.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let peer = Peer::connect(Ticket::parse(&line).unwrap()).unwrap();
        assert_eq!(peer.read_all("f").unwrap(), b"served");
        host.signal(signal);
        let (code, log) = host.end();
        assert_eq!(code, Some(0), "{log}");
        for word in ["ready", "mount connected", "mount sent away", "stopping"] {
            assert!(log.contains(word), "no {word:?} in {log}");
        }
        line.clear();
        stdout.read_to_string(&mut line).unwrap();
        assert_eq!(line, "");
    }
}

#[test]
fn a_ticket_file_is_private() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = state.path().join("the.ticket");
    let mut host = start(command(state.path()).arg(dir.path()).arg("--ticket-file").arg(&file));
    // The line in the log that it is ready comes after the file.
    let mut log = BufReader::new(host.0.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended before it was ready");
    }
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    Ticket::parse(&fs::read_to_string(&file).unwrap()).unwrap();
    host.0.stderr = Some(log.into_inner());
    let mut out = host.0.stdout.take().unwrap();
    host.signal(Signal::TERM);
    assert_eq!(host.end().0, Some(0));
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    assert_eq!(text, "");
}

#[test]
fn a_locked_state_directory_names_the_other_host() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut first = start(command(state.path()).arg(dir.path()));
    let mut line = String::new();
    BufReader::new(first.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let second = failure(&command(state.path()).arg(dir.path()).output().unwrap());
    assert!(second.contains(&first.0.id().to_string()) && second.contains("--state-dir"), "{second}");
    first.signal(Signal::TERM);
    assert_eq!(first.end().0, Some(0));
}

#[test]
fn wrong_flags_are_exit_code_two() {
    for args in [&["host"][..], &["host", "--no-such-flag", "/"], &["no-such-command"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_wormhole-engine")).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}
