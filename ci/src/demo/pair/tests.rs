//! The demo's hold on its children, with a shell in the place of both programs.

use std::env;

use super::*;

/// A `wormhole-engine` and a `wormhole` that do what the scripts say.
fn fake(scratch: &Scratch, host: &str, mount: &str) -> Binaries {
    let script = |name: &str, body: &str| {
        let path = scratch.path(name);
        let text = scratch.path("script");
        fs::write(&text, format!("#!/bin/sh\n{body}\n")).unwrap();
        // Another process writes what is executed: a test that forks meanwhile would hold our file open for writing,
        // and the kernel refuses to run such a file.
        assert!(Command::new("install").args(["-m", "755"]).args([&text, &path]).status().unwrap().success());
        path
    };
    Binaries {
        host: script("fake-host", host),
        mount: script("fake-mount", mount),
        under: Default::default(),
    }
}

fn scratch(name: &str) -> Scratch {
    let place = env::temp_dir().join(format!("wormhole-ci-pair-{name}-{}", std::process::id()));
    fs::create_dir_all(&place).unwrap();
    Scratch::make(&place, None).unwrap()
}

fn start_failure(name: &str, host: &str, mount: &str) -> String {
    let scratch = scratch(name);
    let place = scratch.path("..");
    let binaries = fake(&scratch, host, mount);
    let failure = Pair::start(binaries, scratch, Path::new("/proc")).err().map(|failure| failure.to_string());
    fs::remove_dir(place.parent().unwrap().parent().unwrap()).unwrap();
    failure.unwrap()
}

#[test]
fn a_host_that_fails_is_quoted_and_its_scratch_removed() {
    let failure = start_failure("host", "echo noise; echo 'port 4433 is taken' >&2; exit 1", "exit 0");
    assert_eq!(
        failure,
        "the host stopped (exit status: 1) before it could write its ticket: port 4433 is taken"
    );
}

#[test]
fn a_mount_that_fails_takes_the_host_with_it() {
    // `$6` is the ticket file: host DIR --listen A --ticket-file T --state-dir S.
    let failure =
        start_failure("mount", "echo t > \"$6\"; exec sleep 1000", "echo 'no /dev/fuse' >&2; exit 1");
    assert_eq!(failure, "the mount stopped (exit status: 1) before it could mount: no /dev/fuse");
}

#[test]
fn an_equals_sign_in_a_folder_is_no_share_name() {
    assert_eq!(share_argument(Path::new("/a/b=c")), OsString::from("demo=/a/b=c"));
    assert_eq!(share_argument(Path::new("/a/b")), OsString::from("/a/b"));
}

#[test]
fn the_last_line_said_is_the_reason() {
    let place = scratch("line");
    let log = place.path("log");
    fs::write(&log, "first\nlast \n\n").unwrap();
    assert_eq!(last_line(&log), "last");
    assert_eq!(last_line(Path::new("/nonexistent")), "it said nothing");
    let root = log.parent().unwrap().parent().unwrap().to_path_buf();
    drop(place);
    fs::remove_dir(root).unwrap();
}

/// A mount made of a bind mount, which ends when it is unmounted, as ours does.
fn bind_mount(folder: &Path) -> String {
    format!(
        "case $1 in\n\
         mount) mount --bind {} \"$3\" && while mountpoint -q \"$3\"; do sleep 0.02; done;;\n\
         status) echo \"fine at $2\";;\n\
         unmount) umount \"$2\";;\n\
         esac",
        folder.display()
    )
}

const WILLING_HOST: &str = "echo t > \"$6\"; trap 'exit 0' TERM; while :; do sleep 0.02; done";

fn may_mount() -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if !root {
        eprintln!("skipped: only root may mount");
    }
    root
}

#[test]
fn a_pair_mounts_answers_and_leaves_nothing() {
    if !may_mount() {
        return;
    }
    let scratch = scratch("whole");
    let root = scratch.path("");
    let shared = scratch.path("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("file"), "bytes").unwrap();
    let binaries = fake(&scratch, WILLING_HOST, &bind_mount(&shared));
    let pair = Pair::start(binaries, scratch, &shared).unwrap();
    let mountpoint = pair.mountpoint().to_path_buf();
    assert_eq!(fs::read(mountpoint.join("file")).unwrap(), b"bytes");
    assert_eq!(pair.status().unwrap(), format!("fine at {}\n", mountpoint.display()));
    pair.stop().unwrap();
    assert!(!mounts::is_mounted(&mountpoint) && !root.exists());
    fs::remove_dir(root.parent().unwrap()).unwrap();
}

#[test]
fn a_mount_left_behind_is_detached() {
    if !may_mount() {
        return;
    }
    let scratch = scratch("left");
    let root = scratch.path("");
    let shared = scratch.path("shared");
    fs::create_dir(&shared).unwrap();
    // It dies of SIGTERM without unmounting, and `status` fails.
    let mount = bind_mount(&shared).replace("echo", "false; exit 7; echo");
    let pair = Pair::start(fake(&scratch, WILLING_HOST, &mount), scratch, &shared).unwrap();
    let mountpoint = pair.mountpoint().to_path_buf();
    let refused = pair.status().unwrap_err().to_string();
    assert_eq!(refused, "wormhole status failed (exit status: 7): it said nothing");
    drop(pair);
    assert!(!mounts::is_mounted(&mountpoint) && !root.exists());
    fs::remove_dir(root.parent().unwrap()).unwrap();
}

#[test]
fn a_failure_names_the_one_that_died() {
    if !may_mount() {
        return;
    }
    let scratch = scratch("died");
    let root = scratch.path("");
    let go = scratch.path("go");
    let dying = format!(
        "[ $1 = mount ] && mount --bind /proc \"$3\" && while [ ! -e {} ]; do sleep 0.02; done\n\
         echo 'out of slots' >&2; exit 3",
        go.display()
    );
    let binaries = fake(&scratch, WILLING_HOST, &dying);
    let mut pair = Pair::start(binaries, scratch, Path::new("/proc")).unwrap();
    fs::write(go, "").unwrap();
    pair.mount.as_mut().unwrap().await_end().unwrap();
    let failure = pair.explain(Failure::Line("cannot read x".into())).to_string();
    assert_eq!(failure, "cannot read x; the mount has stopped (exit status: 3): out of slots");
    drop(pair);
    assert!(!root.exists());
    fs::remove_dir(root.parent().unwrap()).unwrap();
}
