//! `wormhole watch`: what happens on the host is told on the mount, line by line.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use crate::rig::{Mount, Rig, can_mount};

/// Far beyond what anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The command, and its lines as they come.
struct Watching {
    child: Child,
    lines: Receiver<String>,
    mountpoint: String,
}

impl Watching {
    fn start(rig: &Rig, mount: &Mount, path: &str) -> Watching {
        let mut command = rig.wormhole();
        command.args(["watch", "--json"]).arg(mount.join(path)).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (send, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in out.lines() {
                // The test may be over.
                let _ = send.send(line.unwrap());
            }
        });
        let mountpoint = mount.path().canonicalize().unwrap().to_str().unwrap().to_owned();
        Watching { child, lines, mountpoint }
    }

    /// Takes lines until one is of this event and path.
    fn until(&self, event: &str, path: &str) {
        let path = Path::new(&self.mountpoint).join(path);
        let wanted =
            format!("{{\"event\":\"{event}\",\"path\":\"{}\"", path.to_str().unwrap().trim_end_matches('/'));
        self.until_line(&wanted);
    }

    fn until_line(&self, wanted: &str) -> String {
        let mut seen = Vec::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no {wanted} among {seen:#?}"));
            if line.starts_with(wanted) {
                return line;
            }
            seen.push(line);
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_happens_on_the_host_is_told() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(|root| {
        fs::create_dir_all(root.join("show/shot/deep")).unwrap();
        fs::create_dir(root.join("other")).unwrap();
        fs::write(root.join("show/shot/a"), "1").unwrap();
    });
    let mount = rig.mount();
    let host = rig.folder.path();
    let watching = Watching::start(&rig, &mount, "show");
    assert_eq!(watching.until_line("{\"event\":\"watching\""), "{\"event\":\"watching\",\"folders\":3}");
    fs::write(host.join("other/not-meant"), "x").unwrap();
    fs::write(host.join("show/shot/a"), "22").unwrap();
    watching.until("contents", "show/shot/a");
    fs::write(host.join("show/shot/deep/b"), "x").unwrap();
    watching.until("created", "show/shot/deep/b");
    fs::remove_file(host.join("show/shot/a")).unwrap();
    watching.until("removed", "show/shot/a");
    // A tree that appears as one, filled elsewhere, is told entry by entry, and watched.
    fs::create_dir_all(host.join("other/new/below")).unwrap();
    fs::write(host.join("other/new/below/c"), "x").unwrap();
    fs::rename(host.join("other/new"), host.join("show/new")).unwrap();
    watching.until("created", "show/new");
    watching.until("created", "show/new/below/c");
    fs::write(host.join("show/new/below/d"), "x").unwrap();
    watching.until("created", "show/new/below/d");
    fs::rename(host.join("show/new"), host.join("show/moved")).unwrap();
    watching.until("removed", "show/new");
    watching.until("created", "show/moved/below/d");
    fs::write(host.join("show/moved/below/e"), "x").unwrap();
    watching.until("created", "show/moved/below/e");
    let rest: Vec<String> = watching.lines.try_iter().filter(|line| line.contains("not-meant")).collect();
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn a_file_is_watched_alone_and_what_is_not_there_is_said() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(|root| fs::write(root.join("a"), "1").unwrap());
    let mount = rig.mount();
    let host = rig.folder.path();
    let watching = Watching::start(&rig, &mount, "a");
    watching.until_line("{\"event\":\"watching\"");
    fs::write(host.join("b"), "x").unwrap();
    fs::write(host.join("a"), "22").unwrap();
    assert!(watching.until_line("{\"event\":\"").contains("/a\""), "b is not meant");
    let said = rig.run(&["watch", mount.join("nothing").to_str().unwrap()]);
    assert_eq!(said.status.code(), Some(1));
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(text.contains("no such file"), "{text}");
}

#[test]
fn a_host_that_went_and_came_back_is_told_and_watched_again() {
    if !can_mount() {
        return;
    }
    let mut rig = Rig::new(|root| fs::create_dir(root.join("d")).unwrap());
    let mount = rig.mount();
    let watching = Watching::start(&rig, &mount, "");
    watching.until_line("{\"event\":\"watching\"");
    rig.stop_host();
    assert!(watching.until_line("{\"event\":\"missed\"").contains("out of reach"));
    rig.start_host();
    watching.until_line("{\"event\":\"watching\"");
    fs::write(rig.folder.path().join("d/new"), "x").unwrap();
    watching.until("created", "d/new");
}
