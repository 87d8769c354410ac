//! The control socket of a running host: who is heard, and what a bad client can do to others.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
        process::CommandExt,
    },
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use wormhole_engine::{
    control::{
        self, Answerer, ControlError,
        protocol::{ANSWER_BYTES_MAX, REQUEST_BYTES_MAX, Request, Response},
    },
    host::Host,
};

use crate::rig::{Peer, Rig, config};

/// Far beyond what anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn connect(state: &Path) -> UnixStream {
    let stream = UnixStream::connect(state.join("control.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The rest of what the host says; a cut connection ends it too.
fn rest(mut stream: UnixStream) -> String {
    let mut text = Vec::new();
    match stream.read_to_end(&mut text) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    String::from_utf8(text).unwrap()
}

fn status_of(state: &Path) {
    let (response, answerer) = control::ask(state, &Request::Status).unwrap();
    assert!(matches!(response, Response::Status(_)), "{response:?}");
    assert_eq!(answerer, Answerer::Host);
}

#[test]
fn what_is_no_request_gets_one_line_and_disturbs_nobody() {
    let rig = Rig::new(|_| {});
    let state = rig.state.path();
    let socket = state.join("control.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    for bytes in
        [&b"\xff\xfe\x00\n"[..], b"GET / HTTP/1.1\r\n\r\n", b"{\"stop\":{}}\n", b"\n", b"[[[[[[[[[[[[\n"]
    {
        let mut stream = connect(state);
        stream.write_all(bytes).unwrap();
        let answer = rest(stream);
        assert_eq!(answer.lines().count(), 1, "{answer}");
        assert!(answer.starts_with("{\"error\":"), "{answer}");
    }
    let mut long = connect(state);
    // The host stops reading and answers, so the end of it may not be taken.
    let _ = long.write_all(&vec![b'['; REQUEST_BYTES_MAX + 4_096]);
    let answer = rest(long);
    assert!(answer.is_empty() || answer.contains("at most 65536 bytes"), "{answer}");
    let mut half = connect(state);
    half.write_all(b"\"sta").unwrap();
    half.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(rest(half), "", "half a line is no request");
    status_of(state);
    rig.end();
    assert!(!socket.exists(), "it is gone with the host");
}

#[test]
fn a_client_that_says_nothing_or_takes_no_answer_is_let_go() {
    let rig = Rig::new(|_| {});
    let mut silent: Vec<_> = (0..8).map(|_| connect(rig.state.path())).collect();
    let mut dribble = connect(rig.state.path());
    dribble.write_all(b"\"").unwrap();
    // All places are taken until the silent ones are let go: this waits, and is answered.
    status_of(rig.state.path());
    for stream in silent.drain(..).chain([dribble]) {
        assert_eq!(rest(stream), "");
    }
    // Answers that nobody takes: the host does not keep them.
    let deaf: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = connect(rig.state.path());
            stream.write_all(b"\"status\"\n").unwrap();
            stream
        })
        .collect();
    status_of(rig.state.path());
    drop(deaf);
    rig.end();
}

#[test]
fn many_clients_are_all_answered() {
    let rig = Rig::new(|_| {});
    let state = rig.state.path();
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| status_of(state));
        }
    });
    rig.end();
}

#[test]
fn another_user_is_not_heard() {
    if !rustix::process::geteuid().is_root() {
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        let () = eprintln!("SKIPPED: only root can become another user");
        return;
    }
    let rig = Rig::new(|_| {});
    // Doors wide open, so that nothing but the look at the peer keeps them out.
    fs::set_permissions(rig.state.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let socket = rig.state.path().join("control.sock");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let ask = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.settimeout(20); s.connect(sys.argv[1]); \
               s.sendall(b'\"status\"\\n'); sys.stdout.write(repr(s.recv(9)))";
    let asked = |user: u32| {
        let mut python = Command::new("python3");
        python.args(["-c", ask]).arg(&socket).uid(user).gid(user).output()
    };
    let Ok(root) = asked(0) else {
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        let () = eprintln!("SKIPPED: no python3 to ask with");
        return;
    };
    assert_eq!(String::from_utf8_lossy(&root.stdout), "b'{\"status\"'");
    let nobody = asked(65_534).unwrap();
    let said = String::from_utf8_lossy(&nobody.stdout);
    assert!(said == "b''" || !nobody.status.success(), "{said}");
    status_of(rig.state.path());
    rig.end();
}

#[test]
fn the_socket_of_a_dead_host_is_replaced_and_one_without_a_host_is_no_answer() {
    let Rig { dir, state, host, peer } = Rig::new(|_| {});
    peer.close();
    host.stop().unwrap();
    let socket = state.path().join("control.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let error = control::ask(state.path(), &Request::Status).unwrap_err();
    assert!(matches!(error, ControlError::NotRunning { .. }), "{error}");
    let (_, answerer) = control::ask(state.path(), &Request::TicketList { after: None }).unwrap();
    assert_eq!(answerer, Answerer::Files);
    let host = Host::start(config(dir.path(), state.path())).unwrap();
    status_of(state.path());
    host.stop().unwrap();
}

#[test]
fn a_state_directory_with_a_long_path_works() {
    let (dir, base) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let state = base.path().join("s".repeat(120)).join("t".repeat(120));
    let host = Host::start(config(dir.path(), &state)).unwrap();
    status_of(&state);
    host.stop().unwrap();
}

#[test]
fn the_status_shows_the_mounts_and_every_limit() {
    let rig = Rig::new(|dir| fs::write(dir.join("f"), vec![7; 300_000]).unwrap());
    assert_eq!(rig.peer.read_all("f").unwrap().len(), 300_000);
    let other = Peer::connect(rig.host.ticket()).unwrap();
    let status = rig.host.status();
    assert_eq!((status.pid, status.sessions.len(), status.totals.admitted), (std::process::id(), 2, 2));
    let first = &status.sessions[0];
    assert_eq!(
        (first.session, first.label.as_str(), first.ticket_label.as_str()),
        (1, "test", "first ticket")
    );
    assert_eq!(first.ticket, rig.host.ticket().claims.id.to_string());
    assert!(first.requests >= 2 && first.sent_bytes > 300_000 && first.rtt_us > 0, "{first:?}");
    let limit = |name: &str| status.limits.iter().find(|limit| limit.name == name).unwrap();
    assert_eq!((limit("mounts").used, limit("mounts").max), (Some(2), Some(256)));
    assert_eq!((limit("bandwidth").used, limit("bandwidth").max), (None, None));
    assert_eq!(limit("tickets").used, Some(1));
    assert!(status.limits.len() >= 16);
    assert_eq!(status.shares[0].folder, rig.dir.path().to_str().unwrap());
    let text = serde_json::to_string(&status).unwrap();
    assert!(text.len() < ANSWER_BYTES_MAX && !text.contains("wh1_"));
    other.close();
    rig.end();
}
