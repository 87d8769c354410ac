//! What programs see while the host is away, by `--on-disconnect`.

use std::{
    fs::{self, File},
    io,
    path::Path,
    thread,
    time::Duration,
};

use super::{Away, EIO, figure, open_direct, read_at, run, timed, until, write_noise};
use crate::rig::finish;

const FAR: u64 = 48 << 20;

fn size_of(path: &Path) -> io::Result<u64> {
    fs::metadata(path).map(|found| found.len())
}

#[test]
fn block_waits_to_the_deadline_and_the_root_is_there_all_the_while() {
    let Some(mut away) = Away::new(64 << 20) else { return };
    let mut mount = away.mount(&["--deadline", "3s"]);
    let file = File::open(mount.join("big")).unwrap();
    read_at(&file, 0, 1 << 20).unwrap();
    away.kill();
    let noticing = timed(|| {
        let reader = thread::spawn(move || timed(|| read_at(&file, FAR, 4096)));
        // What was looked at is known until the loss is noticed: a lease holds as long as its session.
        let path = mount.join("not looked at before");
        let opener = thread::spawn(move || timed(|| fs::metadata(path).map(drop)));
        // Before the loss is noticed, when nothing tells a host that is away from one that is slow, and after.
        let mut slowest = Duration::ZERO;
        let mut rounds = 0;
        while !reader.is_finished() || !opener.is_finished() || rounds < 3 {
            for program in ["df", "ls -d", "ls -ld", "stat"] {
                slowest = slowest.max(run(program, mount.path()).1);
            }
            let (_, status) = timed(|| away.status(&mount));
            slowest = slowest.max(status);
            rounds += 1;
        }
        figure("block: the slowest of df, ls -d, ls -ld, stat, status with the host gone", slowest);
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
        let (read, opened) = (reader.join().unwrap(), opener.join().unwrap());
        for (what, outcome, took) in [("read", read.0.map(drop), read.1), ("path", opened.0, opened.1)] {
            assert_eq!(outcome.unwrap_err().raw_os_error(), EIO, "{what}");
            figure(&format!("block, --deadline 3s: I/O error of a {what} after"), took);
            let in_time = Duration::from_millis(2_500)..Duration::from_secs(6);
            assert!(in_time.contains(&took), "{what}: {took:?}");
        }
        away.until_noticed(&mount);
    });
    figure("block: loss noticed within", noticing.1);
    let text = finish(away.wormhole().arg("status").arg(mount.path())).stdout;
    let text = String::from_utf8(text).unwrap();
    for part in ["NOT connected: lost", "ago", "timed out", "--on-disconnect block", "--deadline 3000 ms"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let status = away.status(&mount);
    assert_eq!((status.on_disconnect.as_str(), status.serves_stale), ("block", false));
    assert!(status.session.lost_because.is_some());
    let (_, unmounted) = run("umount", mount.path());
    let (code, ended) = timed(|| mount.exit_code());
    figure("umount with the host gone", unmounted);
    figure("and the mount's process ends after", ended);
    assert_eq!(code, Some(0));
    assert!(unmounted + ended < Duration::from_secs(5));
}

#[test]
fn fail_fails_at_once_what_is_asked_for_and_what_is_on_its_way() {
    let Some(mut away) = Away::new(64 << 20) else { return };
    let mount = away.mount(&["--on-disconnect", "fail"]);
    let file = File::open(mount.join("big")).unwrap();
    read_at(&file, 0, 1 << 20).unwrap();
    away.kill();
    let (outcome, took) = timed(|| read_at(&file, FAR, 4096));
    assert_eq!(outcome.unwrap_err().raw_os_error(), EIO);
    figure("fail: in flight when the host died, I/O error after", took);
    assert!(took < Duration::from_secs(15), "not the deadline of 30 s: {took:?}");
    away.until_noticed(&mount);
    let (outcome, took) = timed(|| read_at(&file, FAR, 4096));
    assert_eq!(outcome.unwrap_err().raw_os_error(), EIO);
    figure("fail: read with the loss noticed, I/O error after", took);
    assert!(took < Duration::from_secs(1), "{took:?}");
    let (outcome, took) = timed(|| File::open(mount.join("another")));
    assert_eq!(outcome.unwrap_err().raw_os_error(), EIO, "not known is not absent");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(away.status(&mount).on_disconnect, "fail");
    away.start();
    away.until_connected(&mount);
    assert!(read_at(&file, FAR, 4096).unwrap() == away.source("big")[48 << 20..][..4096]);
    assert_eq!(size_of(&mount.join("another")).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn stale_serves_what_was_read_and_fails_the_rest() {
    let Some(mut away) = Away::new(8 << 20) else { return };
    fs::create_dir(away.folder.path().join("dir")).unwrap();
    for name in ["dir/read", "dir/listed", "changed", "unread"] {
        write_noise(&away.folder.path().join(name), 1 << 20);
    }
    let mount = away.mount(&["--on-disconnect", "stale"]);
    let known = ["big", "dir/read", "changed"];
    for name in known {
        assert!(fs::read(mount.join(name)).unwrap() == away.source(name), "{name}");
    }
    let open = fs::read_dir(mount.join("dir")).unwrap();
    away.kill();
    away.until_noticed(&mount);
    assert!(away.status(&mount).serves_stale);
    for name in known {
        assert_eq!(size_of(&mount.join(name)).unwrap(), away.source(name).len() as u64, "{name}");
        assert!(fs::read(mount.join(name)).unwrap() == away.source(name), "{name}, from the kernel or us");
        let direct = open_direct(&mount.join(name)).unwrap();
        let len = away.source(name).len();
        let (bytes, took) = timed(|| read_at(&direct, 0, len));
        assert!(bytes.unwrap() == away.source(name), "{name}, from our memory");
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
    let mut names: Vec<_> = open.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["listed", "read"], "a folder that is open is listed");
    for name in ["unread", "nowhere", "dir/nowhere"] {
        let (outcome, took) = timed(|| fs::read(mount.join(name)));
        assert_eq!(outcome.unwrap_err().raw_os_error(), EIO, "{name}: not known is not absent");
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
    let text = String::from_utf8(finish(away.wormhole().arg("status").arg(mount.path())).stdout).unwrap();
    assert!(text.contains("serving STALE data"), "{text}");
    fs::write(away.folder.path().join("changed"), b"meanwhile").unwrap();
    away.start();
    away.until_connected(&mount);
    // Names and attributes hold for a second after they were told.
    until("the new bytes are seen", || fs::read(mount.join("changed")).unwrap() == b"meanwhile");
    assert!(!away.status(&mount).serves_stale);
    assert_eq!(size_of(&mount.join("nowhere")).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(fs::read(mount.join("unread")).unwrap().len(), 1 << 20);
}
