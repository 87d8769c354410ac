//! The failure contract on real mounts of a host that is a process of its own: killed, started again, cut off.
//!
//! `WORMHOLE_TRIES=20` makes the read over a killed host one of 1 GiB, that many times. Figures go to standard error.

mod network;
mod policy;
mod restart;

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::libc;
use tempfile::TempDir;
use wormhole_fusefront::status::Report;

use crate::rig::{Mount, PATIENCE, can_mount, finish, skipped};

/// `EIO`, as errors tell it.
const EIO: Option<i32> = Some(libc::EIO);

/// A host as a process, of a folder with a file `big`, and where it is found again.
struct Away {
    folder: TempDir,
    scratch: TempDir,
    engine: PathBuf,
    /// Runs before the host's program: `ip netns exec ...`.
    within: Vec<String>,
    listen: String,
    host: Option<Child>,
}

impl Away {
    /// A running host on loopback; `None` where there can be none, which is said.
    fn new(big_bytes: u64) -> Option<Away> {
        Away::at("127.0.0.1:0", &[], big_bytes)
    }

    /// One that `within` starts and that listens there.
    fn at(listen: &str, within: &[String], big_bytes: u64) -> Option<Away> {
        let engine = engine().filter(|_| can_mount())?;
        let (folder, scratch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        write_noise(&folder.path().join("big"), big_bytes);
        let listen = listen.to_owned();
        let mut away = Away { folder, scratch, engine, within: within.to_vec(), listen, host: None };
        away.start();
        let text = fs::read_to_string(away.ticket()).unwrap();
        let ticket = wire::Ticket::parse(text.trim()).unwrap();
        away.listen.clone_from(&ticket.addresses[0]);
        Some(away)
    }

    fn ticket(&self) -> PathBuf {
        self.scratch.path().join("ticket")
    }

    /// Starts the host; returns once it serves.
    fn start(&mut self) {
        // A host of an earlier life left its own.
        let _ = fs::remove_file(self.ticket());
        let program = [&self.within[..], &[self.engine.display().to_string()]].concat();
        let mut command = Command::new(&program[0]);
        command.args(&program[1..]).arg("host").arg(format!("share={}", self.folder.path().display()));
        command.args(["--listen", &self.listen, "--log", "error"]);
        command.arg("--state-dir").arg(self.scratch.path().join("state"));
        command.arg("--ticket-file").arg(self.ticket());
        self.host = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
        until("the host serves", || fs::metadata(self.ticket()).is_ok_and(|file| file.len() > 0));
    }

    /// Ends the host without a word.
    fn kill(&mut self) {
        let mut host = self.host.take().unwrap();
        host.kill().unwrap();
        host.wait().unwrap();
    }

    fn wormhole(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wormhole"));
        command.env("XDG_RUNTIME_DIR", self.scratch.path()).env_remove("WORMHOLE_LOG").stdin(Stdio::null());
        command
    }

    fn mount(&self, arguments: &[&str]) -> Mount {
        let arguments = [arguments, &["--log", "off"]].concat();
        Mount::start(self.wormhole(), &format!("@{}", self.ticket().display()), &arguments)
    }

    fn source(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.path().join(name)).unwrap()
    }

    /// What `wormhole status --json` says.
    fn status(&self, mount: &Mount) -> Report {
        let output = finish(self.wormhole().arg("status").arg("--json").arg(mount.path()));
        let mut reports: Vec<Report> = serde_json::from_slice(&output.stdout).unwrap();
        reports.remove(0)
    }

    /// Waits until the mount has noticed that the host is away.
    fn until_noticed(&self, mount: &Mount) {
        until("the mount notices", || !self.status(mount).session.connected);
    }

    fn until_connected(&self, mount: &Mount) {
        until("the mount is connected again", || self.status(mount).session.connected);
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        if self.host.is_some() {
            self.kill();
        }
    }
}

/// The host's program: named by CI, else beside ours.
pub(crate) fn engine() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_BIN_EXE_wormhole")).with_file_name("wormhole-engine");
    let engine = std::env::var_os("WORMHOLE_ENGINE_BIN").map_or(beside, PathBuf::from);
    if !engine.exists() {
        skipped("there is no wormhole-engine: cargo build -p wormhole-engine, or set WORMHOLE_ENGINE_BIN");
        return None;
    }
    Some(engine)
}

/// A file of bytes that repeat nowhere: a read from a wrong place is a wrong read.
fn write_noise(path: &Path, len: u64) {
    let mut file = File::create(path).unwrap();
    let mut noise = blake3::Hasher::new().update(b"noise").finalize_xof();
    let mut chunk = vec![0; 1 << 20];
    for _ in 0..len >> 20 {
        noise.fill(&mut chunk);
        file.write_all(&chunk).unwrap();
    }
}

/// Polls until it is so, within [`PATIENCE`].
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now(); // clock: the bound of a real wait
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        pass(Duration::from_millis(20));
    }
}

/// Lets real time pass.
fn pass(time: Duration) {
    thread::sleep(time); // clock: the tests here are of time: how long a host is away, how soon that is noticed
}

/// What some work gives, and how long it took.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now(); // clock: the tests here are of time
    (work(), start.elapsed())
}

/// One line for who reads the test's output.
#[expect(clippy::print_stderr, reason = "the figures that the issue asks for")]
fn figure(what: &str, time: Duration) {
    eprintln!("FIGURE {what}: {:.1} ms", time.as_secs_f64() * 1000.0);
}

/// Bytes of an open file.
fn read_at(file: &File, start: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, start).map(|()| bytes)
}

/// Opens a file past the kernel's page cache.
fn open_direct(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_DIRECT).open(path)
}

/// Runs a program that must end well; its output and how long it took.
fn run(program: &str, path: &Path) -> (Output, Duration) {
    let mut words = program.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words).arg(path);
    let (output, took) = timed(|| finish(&mut command));
    assert!(output.status.success(), "{program}: {output:?}");
    (output, took)
}
