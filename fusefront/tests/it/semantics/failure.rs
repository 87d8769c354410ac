//! What a mount does when its host does not answer.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{errno::Errno, sys::signal::Signal, sys::statvfs::statvfs};

use transport::Answer;
use wire::{Reply, Request};

use super::{counter, eventually, number, pattern, status};
use crate::{
    hostile::host::{Host, attr, dir, entry, file, page, path, usual},
    rig::{Mount, Rig, can_mount},
};

/// Far more than is read ahead of the first page.
const LEN: usize = 12_000_000;
/// Room for a busy machine beside what is promised.
const SLACK: Duration = Duration::from_secs(2);

fn rig() -> Rig {
    Rig::new(|root| {
        fs::write(root.join("a"), pattern(LEN, 0)).unwrap();
        fs::write(root.join("b"), pattern(LEN, 1)).unwrap();
        // What is opened has its folder listed; nobody looks into this one.
        fs::create_dir(root.join("other")).unwrap();
        fs::write(root.join("other/c"), b"never asked for").unwrap();
    })
}

fn within<T>(limit: Duration, what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now(); // clock: the promise is one of time
    let outcome = work();
    let took = start.elapsed();
    assert!(took < limit, "{what} took {took:?}");
    outcome
}

/// What a mount answers by itself, host or no host.
fn is_alive(rig: &Rig, mount: &Mount) {
    within(SLACK, "ls -d", || assert!(fs::metadata(mount.path()).unwrap().is_dir()));
    within(SLACK, "df", || assert!(statvfs(mount.path()).unwrap().blocks() > 0));
    within(SLACK, "status", || counter(rig, mount, "/uptime_s"));
}

/// A mount that has read `a` whole and a page of `b`, and then lost its host.
fn lost(rig: &mut Rig, arguments: &[&str]) -> (Mount, File) {
    let mount = rig.mount_with(&[arguments, &["--log", "off"]].concat());
    assert!(fs::read(mount.join("a")).unwrap() == pattern(LEN, 0));
    let held = File::open(mount.join("b")).unwrap();
    held.read_exact_at(&mut [0; 4096], 0).unwrap();
    rig.stop_host();
    eventually("the loss is noticed", || status(rig, &mount, "/session/connected") == false);
    (mount, held)
}

#[test]
fn host_gone() {
    if !can_mount() {
        return;
    }
    let mut rig = rig();
    let cases: [(&str, &str, Duration); 3] = [
        ("block", "1s", Duration::from_secs(1)),
        ("fail", "30s", Duration::ZERO),
        ("stale", "30s", Duration::ZERO),
    ];
    for (policy, deadline, wait) in cases {
        let (mut mount, held) = lost(&mut rig, &["--on-disconnect", policy, "--deadline", deadline]);
        // Unknown is neither absent nor empty.
        for name in ["other/c", "other/never there"] {
            let outcome = within(wait + SLACK, policy, || File::open(mount.join(name)));
            assert_eq!(number(outcome), Some(Errno::EIO), "{policy}: {name}");
            is_alive(&rig, &mount);
        }
        let unread = within(wait + SLACK, policy, || held.read_at(&mut [0; 4096], LEN as u64 - 5000));
        assert_eq!(number(unread), Some(Errno::EIO), "{policy}: what nobody holds");
        if policy == "stale" {
            assert!(fs::read(mount.join("a")).unwrap() == pattern(LEN, 0), "what memory holds");
        }
        assert_eq!(status(&rig, &mount, "/serves_stale"), policy == "stale");
        assert!(counter(&rig, &mount, "/errors") >= 2);
        drop(held);
        mount.signal(Signal::SIGTERM);
        assert_eq!(within(SLACK * 2, "unmounting", || mount.exit_code()), Some(0));
        rig.start_host();
    }
}

/// Reads a file front to back through one handle, telling after each piece how far it is.
fn read_slowly(path: &Path, mut told: impl FnMut(usize)) -> Vec<u8> {
    let file = File::open(path).unwrap();
    let mut bytes = Vec::new();
    let mut piece = vec![0; 100_000];
    loop {
        let n = file.read_at(&mut piece, bytes.len() as u64).unwrap();
        if n == 0 {
            return bytes;
        }
        bytes.extend_from_slice(&piece[..n]);
        told(bytes.len());
    }
}

#[test]
fn host_restarted() {
    if !can_mount() {
        return;
    }
    const LONG: usize = 60_000_000;
    let mut rig = Rig::new(|root| fs::write(root.join("long"), pattern(LONG, 0)).unwrap());
    let mount = rig.mount_with(&["--log", "off"]);
    let path = mount.join("long");
    let mut restarted = false;
    let bytes = read_slowly(&path, |at| {
        if at > LONG / 4 && !restarted {
            restarted = true;
            rig.stop_host();
            rig.start_host();
        }
    });
    assert!(restarted && bytes == pattern(LONG, 0), "no error, no wrong byte");
    assert!(counter(&rig, &mount, "/session/reconnects") >= 1);
    assert_eq!(counter(&rig, &mount, "/errors"), 0);
    assert_eq!(counter(&rig, &mount, "/stale"), 0);
}

#[test]
fn deadline() {
    if !can_mount() {
        return;
    }
    let mut rig = rig();
    let mount = rig.mount_with(&["--deadline", "1s", "--log", "off"]);
    let held = File::open(mount.join("b")).unwrap();
    rig.stop_host();
    // Many at once end as one does, whatever they wait for.
    thread::scope(|scope| {
        for i in 0..12 {
            let (held, root) = (&held, mount.path());
            scope.spawn(move || {
                within(Duration::from_secs(1) + SLACK, "an operation", || {
                    let failed = match i % 3 {
                        0 => number(held.read_at(&mut [0; 4096], i * 900_000)),
                        1 => number(fs::metadata(root.join(format!("name {i}")))),
                        _ => number(fs::read_dir(root).and_then(|mut dir| dir.next().transpose())),
                    };
                    assert_eq!(failed, Some(Errno::EIO), "{i}");
                });
            });
        }
    });
    assert_eq!(counter(&rig, &mount, "/in_flight"), 0);
    rig.start_host();
    // A deadline is an operation's, not the mount's: with the host back everything is.
    eventually("the host is found again", || fs::metadata(mount.join("a")).is_ok());
    let mut read = vec![0; LEN];
    held.read_exact_at(&mut read, 0).unwrap();
    assert!(read == pattern(LEN, 1), "also the handle that failed");
}

#[test]
fn hostile_host() {
    if !can_mount() {
        return;
    }
    let round = |cookie: u64| vec![entry(&format!("n{}", cookie % 5), cookie % 5 + 1, file(50 + cookie, 0))];
    let host =
        Host::new(move |request| match (request, path(request).rsplit('/').next().unwrap_or_default()) {
            (Request::Stat(_), "own-parent") => attr(dir(7)),
            (Request::Stat(_), "endless") => attr(dir(8)),
            (Request::Stat(_), "good") => attr(file(9, 4)),
            (Request::List { cookie, .. }, "endless") => page(dir(8), round(*cookie), false),
            (Request::Read { version, .. }, _) => {
                let reply = Reply::Data { version: *version, len: 4 };
                Some(Answer { reply, data: b"good".as_slice().into() })
            }
            _ => usual(request),
        });
    let mount = host.mount(&["--deadline", "5s"]);
    assert_eq!(number(fs::metadata(mount.join("own-parent/own-parent"))), Some(Errno::ESTALE));
    let listed: io::Result<Vec<_>> = fs::read_dir(mount.join("endless")).unwrap().collect();
    assert_eq!(number(listed), Some(Errno::EIO));
    assert_eq!(fs::read(mount.join("good")).unwrap(), b"good", "the mount goes on");
}
