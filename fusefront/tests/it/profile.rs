//! `--profile-cpu`: a flamegraph of a real mount on SIGUSR1 and at exit, in the foreground and as a daemon.

use nix::sys::signal::Signal;

use crate::rig::{Rig, can_mount};

#[test]
fn a_mount_without_a_profile_lives_on_after_sigusr1() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(|root| std::fs::write(root.join("a"), b"a").unwrap());
    let mut mount = rig.mount();
    mount.signal(Signal::SIGUSR1);
    assert!(mount.said().contains("--profile-cpu FILE"));
    assert_eq!(std::fs::read(mount.join("a")).unwrap(), b"a");
    mount.signal(Signal::SIGTERM);
    assert_eq!(mount.exit_code(), Some(0));
}

#[cfg(not(feature = "pprof"))]
#[test]
fn a_program_without_a_profiler_says_how_to_build_one() {
    let rig = Rig::new(|_| {});
    let folder = tempfile::tempdir().unwrap();
    let (svg, place) = (folder.path().join("cpu.svg"), folder.path().to_str().unwrap());
    let output = rig.run(&["mount", "--profile-cpu", svg.to_str().unwrap(), &rig.ticket_argument(), place]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("--profile-cpu") && text.contains("--features pprof"), "{text}");
}

#[cfg(feature = "pprof")]
mod built_in {
    use std::{fs, path::Path};

    use super::*;
    use crate::rig::{Mount, soon};

    const LARGE: usize = 64 << 20;

    fn rig() -> Rig {
        Rig::new(|root| fs::write(root.join("large"), vec![7; LARGE]).unwrap())
    }

    /// Reads the file, and waits until the picture that SIGUSR1 asks for names frames of ours.
    fn graph_of(mount: &Mount, svg: &Path) {
        assert_eq!(fs::read(mount.join("large")).unwrap().len(), LARGE);
        mount.signal(Signal::SIGUSR1);
        while !mount.said().contains("profile written") {}
        check(svg);
    }

    fn check(svg: &Path) {
        let text = fs::read_to_string(svg).unwrap();
        assert!(text.starts_with("<?xml") && text.contains("wormhole mount"), "{text:.300}");
        for frame in ["wormhole_fusefront::", "wormhole_transport::", "<title>fuse"] {
            assert!(text.contains(frame), "no {frame}");
        }
    }

    #[test]
    fn a_mount_draws_what_reading_costs_it_when_asked_and_at_exit() {
        if !can_mount() {
            return;
        }
        let (rig, folder) = (rig(), tempfile::tempdir().unwrap());
        let svg = folder.path().join("cpu.svg");
        let mut mount = rig.mount_with(&["--log", "info", "--profile-cpu", svg.to_str().unwrap()]);
        graph_of(&mount, &svg);
        fs::remove_file(&svg).unwrap();
        mount.signal(Signal::SIGTERM);
        assert_eq!(mount.exit_code(), Some(0));
        check(&svg);
    }

    #[test]
    fn a_daemon_finds_the_folder_it_was_started_in() {
        if !can_mount() {
            return;
        }
        let (rig, folder) = (rig(), tempfile::tempdir().unwrap());
        let place = folder.path().join("mnt");
        fs::create_dir(&place).unwrap();
        let mut command = rig.wormhole();
        command.current_dir(folder.path()).env("WORMHOLE_PROFILE_CPU", "cpu.svg");
        let daemon =
            crate::rig::finish(command.args(["mount", "--daemon", &rig.ticket_argument()]).arg(&place));
        assert_eq!(daemon.status.code(), Some(0), "{daemon:?}");
        assert_eq!(fs::read(place.join("large")).unwrap().len(), LARGE);
        assert_eq!(rig.run(&["unmount", place.to_str().unwrap()]).status.code(), Some(0));
        let svg = folder.path().join("cpu.svg");
        soon("the daemon writes its profile", || svg.exists());
        check(&svg);
    }
}
