use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::{
    stages::ReadStagesStatus,
    status::{Kernel, Memory, Reads, Session},
};

fn report(mountpoint: &str) -> Report {
    Report {
        mountpoint: mountpoint.to_owned(),
        shares: Vec::new(),
        share: "films".to_owned(),
        pid: 7,
        uptime_s: 61,
        on_disconnect: "block".to_owned(),
        deadline_ms: 30_000,
        offline: None,
        serves_stale: false,
        session: Session {
            lost_because: None,
            last_attempt: None,
            refused: false,
            connected: true,
            peer: Some("127.0.0.1:4433".to_owned()),
            since_s: 60,
            reconnects: 0,
            rtt_us: 250,
            mtu_bytes: 1452,
            cwnd_bytes: 1 << 20,
            busy_calls: 0,
            lost_packets: 1,
            black_holes: 0,
            sent_bytes: 10,
            received_bytes: 20,
        },
        reads: Reads {
            requests: 3,
            replied_bytes: 3 << 20,
            l2_bytes: 0,
            l1_bytes: 2 << 20,
            host_bytes: 1 << 20,
            readahead_bytes: 0,
            readahead_cancelled: 0,
            scan_files: 0,
            scan_bytes: 0,
            scan_wasted_bytes: 0,
            copied_bytes: 0,
        },
        bound: engine::status::BoundStatus::default(),
        stages: ReadStagesStatus::default(),
        metadata_requests: 9,
        leases: crate::status::Leases::default(),
        in_flight: 0,
        fetches_in_flight: 0,
        errors: 0,
        stale: 0,
        verifications: 0,
        memory: Memory {
            capacity_bytes: 128 << 20,
            lent_bytes: 1 << 20,
            l1_bytes: 1 << 20,
            resident_bytes: 16 << 20,
        },
        cache: None,
        kernel: Kernel {
            read_ahead_kb: Some(128),
            read_ahead_error: Some("permission denied".to_owned()),
            nodes: 4,
            open_files: 1,
            open_dirs: 0,
        },
    }
}

#[test]
fn every_mount_reports_and_takes_its_socket_along() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("wormhole");
    let dirs = [dir.clone(), root.path().join("absent")];
    assert_eq!(ask_all(&dirs).unwrap(), []);
    let first = Server::start(&dir, "1-10", || report("/mnt/b"), None).unwrap();
    let second = Server::start(&dir, "1-11", || report("/mnt/a"), None).unwrap();
    assert_eq!(ask_all(&dirs).unwrap(), [report("/mnt/a"), report("/mnt/b")]);
    drop(first);
    assert_eq!(ask_all(&dirs).unwrap(), [report("/mnt/a")]);
    drop(second);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

#[test]
fn a_dead_socket_is_passed_over_and_removed() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("wormhole");
    let _live = Server::start(&dir, "1-10", || report("/mnt/a"), None).unwrap();
    drop(UnixListener::bind(dir.join("2-20.sock")).unwrap());
    assert_eq!(ask_all(std::slice::from_ref(&dir)).unwrap().len(), 1);
    assert!(!dir.join("2-20.sock").exists());
}

#[test]
fn a_socket_left_by_an_earlier_process_of_this_number_is_replaced() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("wormhole");
    prepare(&dir).unwrap();
    drop(UnixListener::bind(dir.join("1-10.sock")).unwrap());
    let _live = Server::start(&dir, "1-10", || report("/mnt/a"), None).unwrap();
    assert_eq!(ask_all(&[dir]).unwrap(), [report("/mnt/a")]);
}

#[test]
fn a_folder_that_others_may_write_to_is_not_used() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("wormhole");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    let refused = Server::start(&dir, "1-10", || report("/mnt/a"), None).map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(ask_all(&[dir]).unwrap(), []);
}

#[test]
fn the_text_says_what_the_json_does() {
    let text = report("/mnt/a").to_string();
    for part in
        ["/mnt/a", "films (pid 7, up 1 min 1 s)", "connected to 127.0.0.1:4433 for 1 min 0 s", "RTT 0.25 ms"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(
        text.contains("3.0 MiB in 3 requests: 2.0 MiB from memory, 0 B from disk, 1.0 MiB from the host"),
        "{text}"
    );
    assert!(text.contains("128 KiB (could not be raised: permission denied)"), "{text}");
    let lost = Report { session: Session { connected: false, ..report("/a").session }, ..report("/a") };
    assert!(lost.to_string().contains("NOT connected"), "{lost}");
}

#[test]
fn one_who_says_nothing_gets_the_report_and_garbage_an_answer() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("wormhole");
    let _live = Server::start(&dir, "1-10", || report("/mnt/a"), None).unwrap();
    let socket = dir.join("1-10.sock");
    // Keeps its side open, as `wormhole status` of earlier versions does.
    let mut silent = UnixStream::connect(&socket).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut text = String::new();
    silent.read_to_string(&mut text).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report("/mnt/a"));
    let refused = request(&socket, &Request::Verify, |_| Ok(())).unwrap();
    assert_eq!(refused, Err("this mount takes no requests".to_owned()));
    let mut garbage = UnixStream::connect(&socket).unwrap();
    garbage.write_all(b"{\"warm\": 7").unwrap();
    let mut answer = String::new();
    garbage.read_to_string(&mut answer).unwrap();
    assert!(matches!(serde_json::from_str(&answer).unwrap(), Event::Failed(_)), "{answer}");
    assert_eq!(ask_all(&[dir]).unwrap().len(), 1, "and it goes on");
}
