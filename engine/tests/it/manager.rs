//! A service manager that looks after a host, told in the words of sd_notify(3).

use std::{fs, os::unix::net::UnixDatagram, time::Duration};

use rustix::process::Signal;

use crate::{
    process::{Ready, command, start},
    rig::Peer,
};

fn told(manager: &UnixDatagram) -> String {
    let mut bytes = [0; 1024];
    let len = manager.recv(&mut bytes).expect("the manager is told within the time");
    String::from_utf8(bytes[..len].to_vec()).unwrap() // copy: a test's few bytes
}

#[test]
fn the_service_manager_is_told_when_it_serves_and_when_it_stops() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join("f"), b"served").unwrap();
    let socket = state.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut host = Ready::start(command(state.path()).env("NOTIFY_SOCKET", &socket).arg(dir.path()));
    let ready = told(&manager);
    assert!(ready.lines().any(|line| line == "READY=1"), "{ready}");
    assert!(ready.contains("STATUS=serving "), "{ready}");
    let peer = Peer::connect(host.ticket.clone()).unwrap();
    assert_eq!(peer.read_all("f").unwrap(), b"served");
    peer.close();
    host.process.signal(Signal::TERM);
    assert_eq!(told(&manager).trim_end(), "STOPPING=1");
    assert_eq!(host.process.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_host_that_does_not_start_says_nothing_to_the_manager() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let socket = state.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_nonblocking(true).unwrap();
    let absent = dir.path().join("absent");
    let host = start(command(state.path()).env("NOTIFY_SOCKET", &socket).arg(absent));
    assert_eq!(host.end().0, Some(1));
    assert_eq!(manager.recv(&mut [0; 16]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_manager_that_is_gone_keeps_no_host_from_serving() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let socket = state.path().join("nobody");
    let host = Ready::start(command(state.path()).env("NOTIFY_SOCKET", &socket).arg(dir.path()));
    Peer::connect(host.ticket.clone()).unwrap().close();
    let log = host.end();
    assert_eq!(log.matches("service manager could not be told").count(), 2, "{log}");
}
