//! The life of a mount: unmounted by its command, by a signal, by others, while it is busy, without its host.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
};

use nix::{
    mount::{MntFlags, umount2},
    sys::signal::Signal,
};

use crate::rig::{Rig, can_mount};

fn rig() -> Rig {
    Rig::new(|root| fs::write(root.join("a"), vec![b'a'; 300_000]).unwrap())
}

#[test]
fn sigterm_and_sigint_unmount_and_exit_well() {
    if !can_mount() {
        return;
    }
    let rig = rig();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut mount = rig.mount();
        assert_eq!(fs::read(mount.join("a")).unwrap().len(), 300_000);
        mount.signal(signal);
        assert_eq!(mount.exit_code(), Some(0));
        assert!(!mount.is_mounted());
        assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 0);
    }
    assert_eq!(rig.run(&["status"]).stdout, b"no wormhole mounts of this user\n");
}

#[test]
fn an_unmount_from_outside_ends_the_process_well() {
    if !can_mount() {
        return;
    }
    let rig = rig();
    let mut mount = rig.mount();
    umount2(mount.path(), MntFlags::empty()).unwrap();
    assert_eq!(mount.exit_code(), Some(0));
}

#[test]
fn the_unmount_command_refuses_a_busy_mount_and_detaches_it_lazily() {
    if !can_mount() {
        return;
    }
    let rig = rig();
    let mut mount = rig.mount();
    let path = mount.path().to_str().unwrap().to_owned();
    let open = File::open(mount.join("a")).unwrap();
    let refused = rig.run(&["unmount", &path]);
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("is busy") && text.contains("--lazy") && text.lines().count() == 1, "{text}");
    assert_eq!(rig.run(&["unmount", "--lazy", &path]).status.code(), Some(0));
    assert!(!mount.is_mounted());
    let mut read = [0; 1000];
    open.read_exact_at(&mut read, 200_000).unwrap();
    assert_eq!(read, [b'a'; 1000], "what is open is still served");
    drop(open);
    assert_eq!(mount.exit_code(), Some(0));
    assert_eq!(rig.run(&["unmount", &path]).status.code(), Some(1), "nothing is mounted there any more");
}

#[test]
fn a_signal_detaches_a_busy_mount_and_it_ends_with_its_last_user() {
    if !can_mount() {
        return;
    }
    let rig = rig();
    let mut mount = rig.mount();
    let open = File::open(mount.join("a")).unwrap();
    mount.signal(Signal::SIGTERM);
    let said = mount.said();
    assert!(said.contains("busy"), "{said}");
    let mut read = [0; 1000];
    open.read_exact_at(&mut read, 100_000).unwrap();
    drop(open);
    assert_eq!(mount.exit_code(), Some(0));
    assert!(!mount.is_mounted());
}

#[test]
fn without_its_host_a_mount_fails_in_time_and_is_still_unmounted() {
    if !can_mount() {
        return;
    }
    let mut rig = rig();
    let mut mount = rig.mount_with(&["--deadline", "1s", "--log", "off"]);
    rig.stop_host();
    let failed = fs::read(mount.join("a")).unwrap_err();
    assert_eq!(failed.raw_os_error(), Some(nix::errno::Errno::EIO as i32));
    assert!(fs::metadata(mount.path()).unwrap().is_dir(), "the root is shown as last known");
    mount.signal(Signal::SIGTERM);
    assert_eq!(mount.exit_code(), Some(0));
}
