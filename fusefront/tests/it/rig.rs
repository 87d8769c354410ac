//! A host of a fresh folder, and mounts of it that are gone when the test is, also when it fails.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use engine::{
    config::{HostConfig, ShareConfig},
    host::Host,
};
use nix::{
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use wire::Name;
use wormhole_fusefront::status::Report;

/// Far beyond what anything here takes: a test that meets it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `holds` does: for what shows as soon as the host pushed it.
pub(crate) fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE; // clock: the bound of a real wait
    while !holds() {
        assert!(Instant::now() < until, "{what}"); // clock: the same
        thread::sleep(Duration::from_millis(2)); // clock: between two looks; the condition ends the wait
    }
}

/// Whether mounts can be made here; says so aloud when not, and fails where CI says that they must.
pub(crate) fn can_mount() -> bool {
    let device = fs::metadata("/dev/fuse").is_ok_and(|found| found.file_type().is_char_device());
    let usable = device && fs::File::options().read(true).write(true).open("/dev/fuse").is_ok();
    if !usable {
        let required = std::env::var("WORMHOLE_REQUIRE").is_ok_and(|names| names.contains("fuse"));
        assert!(!required, "WORMHOLE_REQUIRE names fuse, but /dev/fuse cannot be used");
        skipped("/dev/fuse cannot be used here");
    }
    usable
}

/// Says aloud that a test did not run.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// A host of a folder.
pub(crate) struct Rig {
    pub(crate) folder: TempDir,
    scratch: TempDir,
    config: HostConfig,
    host: Option<Host>,
}

impl Rig {
    /// Hosts a fresh folder that `fill` puts files into.
    pub(crate) fn new(fill: impl FnOnce(&Path)) -> Rig {
        Rig::of_shares(&[("share", "")], fill)
    }

    /// Hosts shares by their names, each of a folder in a fresh one that `fill` puts them into.
    pub(crate) fn of_shares(shares: &[(&str, &str)], fill: impl FnOnce(&Path)) -> Rig {
        let (folder, scratch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        fill(folder.path());
        let shares = share_configs(folder.path(), shares);
        let mut config = HostConfig::new(shares, scratch.path().join("state"));
        config.listen = vec!["127.0.0.1:0".parse().unwrap()];
        let host = Host::start(config.clone()).unwrap();
        fs::write(scratch.path().join("ticket"), host.ticket().to_string()).unwrap();
        // Where it is found again when it starts again.
        config.listen = host.local_addrs().to_vec();
        Rig { folder, scratch, config, host: Some(host) }
    }

    pub(crate) fn ticket_argument(&self) -> String {
        format!("@{}", self.scratch.path().join("ticket").display())
    }

    /// `wormhole` with a place of its own for sockets.
    pub(crate) fn wormhole(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wormhole"));
        command.env("XDG_RUNTIME_DIR", self.scratch.path()).env("XDG_CACHE_HOME", self.scratch.path());
        command.stdin(Stdio::null());
        for variable in ["WORMHOLE_LOG", "WORMHOLE_CONFIG", "WORMHOLE_MEMORY", "WORMHOLE_METRICS"] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs `wormhole` to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        finish(self.wormhole().args(arguments))
    }

    /// What `wormhole status --json` says of a mount.
    pub(crate) fn status(&self, mount: &Mount) -> Report {
        let output = finish(self.wormhole().arg("status").arg("--json").arg(mount.path()));
        let mut reports: Vec<Report> = serde_json::from_slice(&output.stdout).unwrap();
        reports.remove(0)
    }

    pub(crate) fn mount(&self) -> Mount {
        self.mount_with(&[])
    }

    /// Mounts the share; returns once it is mounted.
    pub(crate) fn mount_with(&self, arguments: &[&str]) -> Mount {
        Mount::start(self.wormhole(), &self.ticket_argument(), arguments)
    }

    pub(crate) fn stop_host(&mut self) {
        self.host.take().unwrap().stop().unwrap();
    }

    /// Has the host refuse a ticket from now on.
    pub(crate) fn revoke(&self, id: wire::TicketId) {
        self.host.as_ref().unwrap().revoke(id).unwrap();
    }

    /// The shares that the host has when it starts again.
    pub(crate) fn reshare(&mut self, shares: &[(&str, &str)]) {
        self.config.shares = share_configs(self.folder.path(), shares);
    }

    /// Starts the host again: same folder, key and address.
    pub(crate) fn start_host(&mut self) {
        self.host = Some(Host::start(self.config.clone()).unwrap());
    }
}

fn share_configs(folder: &Path, shares: &[(&str, &str)]) -> Vec<ShareConfig> {
    let config = |(name, path): &(&str, &str)| {
        ShareConfig::new(Name::new(name.as_bytes()).unwrap(), folder.join(path))
    };
    shares.iter().map(config).collect()
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(host) = self.host.take() {
            let stopped = host.stop();
            assert!(thread::panicking() || stopped.is_ok(), "{stopped:?}");
        }
    }
}

/// Runs a command to its end, within [`PATIENCE`].
pub(crate) fn finish(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (send, receive) = mpsc::channel();
    thread::spawn(move || send.send(child.wait_with_output().unwrap()));
    receive.recv_timeout(PATIENCE).expect("the command ends")
}

fn lines(from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            // Read on when nobody listens any more, or the process would block.
            let _ = send.send(line);
        }
    });
    receive
}

/// A mounted share.
pub(crate) struct Mount {
    child: Child,
    mountpoint: TempDir,
    said: mpsc::Receiver<String>,
}

impl Mount {
    /// Mounts what a ticket opens, by `command`; returns once it is mounted.
    pub(crate) fn start(mut command: Command, ticket: &str, arguments: &[&str]) -> Mount {
        let mountpoint = TempDir::new().unwrap();
        command.arg("mount").args(arguments).arg(ticket).arg(mountpoint.path());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let said = lines(child.stderr.take().unwrap());
        let mount = Mount { child, mountpoint, said };
        // What it logs before goes unread.
        while !mount.said().contains("wormhole: mounted ") {}
        mount
    }

    pub(crate) fn path(&self) -> &Path {
        self.mountpoint.path()
    }

    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.mountpoint.path().join(name)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// The next line on its standard error.
    pub(crate) fn said(&self) -> String {
        self.said.recv_timeout(PATIENCE).expect("the mount says something")
    }

    /// Waits for the process to end; its exit code.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        // Its standard error closes when it ends.
        let ended = loop {
            match self.said.recv_timeout(PATIENCE) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(ended, mpsc::RecvTimeoutError::Disconnected, "the mount ends");
        self.child.wait().unwrap().code()
    }

    pub(crate) fn is_mounted(&self) -> bool {
        wormhole_fusefront::mountinfo::at(&self.path().canonicalize().unwrap()).unwrap().is_some()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Not mounted any more is as good.
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
