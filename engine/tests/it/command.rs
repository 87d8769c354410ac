//! The command: its one line when it fails, its ticket when it is ready, its end.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use wire::Ticket;

use crate::rig::Peer;

fn command(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wormhole-engine"));
    command
        .arg("host")
        .env_remove("WORMHOLE_LISTEN")
        .args(["--listen", "127.0.0.1:0", "--state-dir"])
        .arg(state);
    command
}

/// Ends the process if the test fails before it does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Fails when it has ended, as it should have.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn signal(&mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// The exit code, with a deadline: a thread waits for stderr to close, which the end of the process does.
    fn end(mut self) -> (Option<i32>, String) {
        let mut stderr = self.0.stderr.take().unwrap();
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            let _ = send.send(text);
        });
        let text = receive.recv_timeout(Duration::from_secs(5)).expect("it stops within five seconds");
        (self.0.wait().unwrap().code(), text)
    }
}

fn start(command: &mut Command) -> Running {
    Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

fn failure(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("wormhole-engine: "), "{text}");
    assert!(output.stdout.is_empty());
    text
}

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
        for word in ["ready", "mount connected", "mount gone", "stopping"] {
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
fn failures_are_one_line_that_says_what_to_do() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join("file"), b"").unwrap();
    let run = |args: &[&str]| command(state.path()).args(args).output().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    assert!(failure(&run(&[&at("absent")])).contains("does not exist"));
    assert!(failure(&run(&[&at("file")])).contains("is not a folder"));
    let ticket = failure(&run(&[&at(""), "--ticket-file", "/proc/nothing/ticket"]));
    assert!(ticket.contains("--ticket-file"), "{ticket}");
    let memory = failure(&run(&[&at(""), "--memory", "1"]));
    assert!(memory.contains("memory"), "{memory}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let scraped = listener.local_addr().unwrap().to_string();
    let metrics = failure(&run(&[&at(""), "--metrics", &scraped]));
    assert!(metrics.contains(&scraped) && metrics.contains("--metrics"), "{metrics}");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let mut taken = Command::new(env!("CARGO_BIN_EXE_wormhole-engine"));
    taken.args(["host", "--listen", &address, "--state-dir"]).arg(state.path()).arg(dir.path());
    let taken = failure(&taken.output().unwrap());
    assert!(taken.contains(&address) && taken.contains("--listen"), "{taken}");
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
