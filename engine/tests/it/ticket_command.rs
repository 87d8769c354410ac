//! `wormhole-engine ticket` and `status`, as typed: against a running host, and while none runs.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use transport::ConnectError;
use wire::{ErrorCode, Ticket};

use crate::{
    process::{Ready, command, command_at, failure},
    rig::Peer,
};

fn engine(state: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wormhole-engine"));
    command.args(args).arg("--state-dir").arg(state).output().unwrap()
}

/// What it prints, and what it says beside that.
fn done(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    (stdout, stderr)
}

fn new(state: &Path, args: &[&str]) -> Ticket {
    let (stdout, stderr) = done(&engine(state, &[&["ticket", "new"], args].concat()));
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    let ticket = Ticket::parse(&stdout).unwrap();
    assert!(stderr.contains(&ticket.claims.id.to_string()) && !stderr.contains("wh1_"), "{stderr}");
    ticket
}

fn refused(ticket: &Ticket) -> bool {
    matches!(Peer::connect(ticket.clone()), Err(ConnectError::Refused))
}

#[test]
fn tickets_of_a_running_host_are_made_listed_and_revoked() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir_all(dir.path().join("2026/lisbon")).unwrap();
    fs::write(dir.path().join("2026/lisbon/f"), b"served").unwrap();
    let state = state.path();
    let footage = format!("footage={}", dir.path().display());
    let host = Ready::start(command(state).arg(&footage));
    let args = ["--share", "footage", "--prefix", "/2026/lisbon/", "--expires", "90h", "--label", "edit bay"];
    let ticket = new(state, &args);
    let peer = Peer::connect(ticket.clone()).unwrap();
    assert_eq!(peer.read_all("f").unwrap(), b"served");
    let (table, _) = done(&engine(state, &["ticket", "list"]));
    let line = table.lines().find(|line| line.contains("edit bay")).unwrap();
    for part in ["footage", "/2026/lisbon", "(in 3 d)", "now", "1", "good"] {
        assert!(line.contains(part), "no {part:?} in {line}");
    }
    assert!(table.contains("first ticket") && !table.contains("wh1_"), "{table}");
    let (json, _) = done(&engine(state, &["ticket", "list", "--json"]));
    let list: serde_json::Value = serde_json::from_str(&json).unwrap();
    let entry = list.as_array().unwrap().iter().find(|entry| entry["label"] == "edit bay").unwrap();
    assert_eq!(entry["id"], ticket.claims.id.to_string());
    assert_eq!(entry["sessions"][0]["label"], "test");
    let prefix = &ticket.claims.id.to_string()[..12];
    let (said, _) = done(&engine(state, &["ticket", "revoke", prefix]));
    assert!(said.contains("1 mount was cut off") && said.contains("edit bay"), "{said}");
    assert_eq!(peer.try_stat("f", None), Err(ErrorCode::Refused));
    assert!(refused(&ticket));
    let (table, _) = done(&engine(state, &["ticket", "list"]));
    assert!(!table.contains("edit bay"), "{table}");
    let (table, _) = done(&engine(state, &["ticket", "list", "--all"]));
    assert!(table.contains("edit bay") && table.contains("revoked"), "{table}");
    let log = host.end();
    assert!(log.contains("ticket made") && log.contains("ticket revoked"), "{log}");
    let away = log.lines().find(|line| line.contains("mount sent away")).unwrap();
    assert!(away.contains("reason=\"the ticket was revoked\""), "{log}");
}

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join("file"), b"").unwrap();
    let state = state.path();
    let fails = |args: &[&str], words: &[&str]| {
        let line = failure(&engine(state, args));
        for word in words {
            assert!(line.contains(word), "no {word:?} in {line}");
        }
    };
    fails(&["ticket", "new"], &["start the host once", "--state-dir"]);
    fails(&["ticket", "list"], &["start the host once"]);
    fails(&["status"], &["start the host once"]);
    let host = Ready::start(command(state).arg(format!("footage={}", dir.path().display())));
    fails(&["ticket", "new", "--share", "music"], &["music", "it has footage"]);
    fails(&["ticket", "new", "--prefix", "absent"], &["footage", "absent", "does not exist"]);
    fails(&["ticket", "new", "--prefix", "file"], &["file", "not a folder"]);
    fails(&["ticket", "new", "--prefix", "../x"], &["--prefix", "without .."]);
    fails(&["ticket", "new", "--expires", "2001-01-01"], &["2001-01-02", "not in the future"]);
    fails(&["ticket", "new", "--label", "a\nb"], &["label"]);
    fails(&["ticket", "revoke", "nobody"], &["nobody", "ticket list"]);
    new(state, &["--label", "twin"]);
    new(state, &["--label", "twin"]);
    fails(&["ticket", "revoke", "twin"], &["twin", "any of these", "more of the id"]);
    fails(&["ticket", "revoke", "first ticket", "nobody"], &["nobody"]);
    let list = done(&engine(state, &["ticket", "list"])).0;
    assert_eq!(list.lines().count(), 4, "none was revoked on the way: {list}");
    let unwritten = failure(&engine(state, &["ticket", "new", "--ticket-file", "/proc/nothing/ticket"]));
    assert!(unwritten.contains("--ticket-file"), "{unwritten}");
    let list = done(&engine(state, &["ticket", "list"])).0;
    assert_eq!(list.lines().count(), 4, "a ticket that nobody got is revoked: {list}");
    let usage = engine(state, &["ticket", "new", "--expires", "soon"]);
    let said = String::from_utf8_lossy(&usage.stderr).into_owned();
    assert_eq!(usage.status.code(), Some(2), "{said}");
    assert!(said.contains("7d"), "{said}");
    host.end();
    fails(&["status"], &["no host runs"]);
}

#[test]
fn while_no_host_runs_the_files_do() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(dir.path().join("sub")).unwrap();
    let state = state.path();
    let folder = format!("footage={}", dir.path().display());
    let first = Ready::start(command(state).arg(&folder));
    let address = first.ticket.addresses[0].clone();
    let printed = first.ticket.clone();
    first.end();
    let file = dir.path().join("bay.ticket");
    let made = engine(
        state,
        &["ticket", "new", "--prefix", "sub", "--label", "bay", "--ticket-file", file.to_str().unwrap()],
    );
    let (stdout, stderr) = done(&made);
    assert!(stdout.is_empty() && stderr.contains("was not checked"), "{stdout}{stderr}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let ticket = Ticket::parse(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!((ticket.host_key, &ticket.addresses[0]), (printed.host_key, &address));
    let gone = new(state, &["--label", "gone"]);
    let (said, _) = done(&engine(state, &["ticket", "revoke", "gone", "first ticket"]));
    assert!(said.lines().count() == 2 && said.contains("no host runs"), "{said}");
    let host = Ready::start(command_at(&address, state).arg(&folder));
    Peer::connect(ticket).unwrap().close();
    assert!(refused(&gone) && refused(&printed));
    assert_ne!(host.ticket.claims.id, printed.claims.id, "another first ticket is printed");
    Peer::connect(host.ticket.clone()).unwrap().close();
    host.end();
}

#[test]
fn a_killed_host_leaves_nothing_in_the_way() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = Ready::start(command(state.path()).arg(dir.path()));
    let ticket = new(state.path(), &["--label", "kept"]);
    Peer::connect(ticket.clone()).unwrap().close();
    // Written within seconds, not when the host stops: it will be killed.
    let written = || {
        let text = fs::read_to_string(state.path().join("tickets.json")).unwrap();
        let list: serde_json::Value = serde_json::from_str(&text).unwrap();
        let issued = list["tickets"]["issued"].as_array().unwrap().clone();
        issued.iter().any(|entry| entry["label"] == "kept" && entry["last_used"].is_u64())
    };
    let started = Instant::now(); // clock: a bound of a real wait
    while !written() {
        assert!(started.elapsed() < Duration::from_secs(20), "its use is not written");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    host.process.kill();
    assert!(state.path().join("control.sock").exists());
    let (list, _) = done(&engine(state.path(), &["ticket", "list"]));
    assert!(list.contains("kept"), "{list}");
    let host = Ready::start(command_at(&ticket.addresses[0], state.path()).arg(dir.path()));
    let (text, _) = done(&engine(state.path(), &["status"]));
    assert!(text.contains("no mount is connected") && text.contains("handshakes of an address"), "{text}");
    Peer::connect(ticket).unwrap().close();
    let (json, _) = done(&engine(state.path(), &["status", "--json"]));
    let status: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status["pid"], host.process.0.id());
    assert_eq!(status["totals"]["admitted"], 1);
    host.end();
}

/// Texts by which a ticket could be used: its line, and its secret in the forms that a log might have it in.
fn secrets(ticket: &Ticket) -> Vec<String> {
    let bytes = ticket.secret.expose();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // The secret's place in the line: behind prefix and key, with the edges that neighbours share left out.
    let line = ticket.to_string();
    vec![line[4 + 44..4 + 84].to_owned(), hex.clone(), hex.to_uppercase(), format!("{bytes:?}"), line]
}

#[test]
fn nothing_secret_is_logged_or_printed_but_by_ticket_new() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join("f"), b"x").unwrap();
    let state = state.path();
    let mut host = Ready::start(command(state).args(["--log", "trace"]).arg(dir.path()));
    let first = host.ticket.clone();
    let second = new(state, &["--label", "second"]);
    let mut forged = second.clone();
    forged.secret = first.secret.clone();
    assert!(refused(&forged));
    let peer = Peer::connect(second.clone()).unwrap();
    assert_eq!(peer.read_all("f").unwrap(), b"x");
    let mut said = String::new();
    for args in
        [&["ticket", "list", "--all", "--json"][..], &["status", "--json"], &["ticket", "revoke", "second"]]
    {
        let (stdout, stderr) = done(&engine(state, args));
        said.push_str(&stdout);
        said.push_str(&stderr);
    }
    assert!(refused(&second));
    host.process.signal(Signal::TERM);
    said.push_str(&host.log.all());
    assert!(said.contains("TRACE") && said.contains("mount refused"), "the log is at its most talkative");
    assert!(
        said.contains("the proof is wrong") && said.contains("the ticket was revoked"),
        "reasons are logged"
    );
    for file in fs::read_dir(state).unwrap() {
        let path = file.unwrap().path();
        let contents = fs::read(&path).unwrap();
        said.push_str(&String::from_utf8_lossy(&contents));
    }
    for ticket in [&first, &second] {
        for secret in secrets(ticket) {
            assert!(!said.contains(&secret), "a secret shows");
        }
    }
}
