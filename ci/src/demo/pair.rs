//! A host and a mount of it, as two processes of this one; both are gone when [`Pair`] is.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::mounts;
use super::scratch::Scratch;
use crate::failure::Failure;

/// For a host or a mount to be ready, and for either to stop.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at a process: nothing tells std that one is ready.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The two programs shown.
pub(crate) struct Binaries {
    host: PathBuf,
    mount: PathBuf,
    /// The words to start each under: a tool that counts what it does.
    under: (Vec<OsString>, Vec<OsString>),
}

impl Binaries {
    /// As `cargo build --release` leaves them.
    pub(crate) fn in_target(target: &Path) -> Self {
        let release = target.join("release");
        Self {
            host: release.join("wormhole-engine"),
            mount: release.join("wormhole"),
            under: Default::default(),
        }
    }

    /// Host and mount each started by another program, whose words come before theirs; it has to become them, for
    /// they are asked to end by their process.
    pub(crate) fn under(mut self, host: Vec<OsString>, mount: Vec<OsString>) -> Self {
        self.under = (host, mount);
        self
    }
}

/// A running host and mount; dropping it stops both, unmounts and removes the scratch folder.
pub(crate) struct Pair {
    binaries: Binaries,
    // Stopped in this order: the mount's last words go to a living host.
    mount: Option<Process>,
    host: Option<Process>,
    mountpoint: PathBuf,
    // Last, so that it goes when nothing is mounted in it.
    scratch: Scratch,
}

impl Pair {
    /// Returns once the folder is mounted; the mount is not touched, only looked for in the kernel's table.
    pub(crate) fn start(binaries: Binaries, scratch: Scratch, folder: &Path) -> Result<Self, Failure> {
        let mountpoint = scratch.path("mnt");
        fs::create_dir(&mountpoint).map_err(|why| format!("cannot make {}: {why}", mountpoint.display()))?;
        let mut pair = Self { binaries, mount: None, host: None, mountpoint, scratch };

        let ticket = pair.scratch.path("ticket");
        let mut host = pair.command_under(&pair.binaries.under.0, &pair.binaries.host);
        host.arg("host").arg(share_argument(folder)).args(["--listen", "127.0.0.1:0", "--ticket-file"]);
        host.arg(&ticket).arg("--state-dir").arg(pair.scratch.path("state"));
        let host = pair.host.insert(Process::start("host", host, pair.scratch.path("host.log"))?);
        host.await_ready("write its ticket", || fs::metadata(&ticket).is_ok_and(|ticket| ticket.len() > 0))?;

        let mut mount = pair.command_under(&pair.binaries.under.1, &pair.binaries.mount);
        mount.arg("mount").arg(prefixed("@", &ticket)).arg(&pair.mountpoint);
        let mount = pair.mount.insert(Process::start("mount", mount, pair.scratch.path("mount.log"))?);
        mount.await_ready("mount", || mounts::is_mounted(&pair.mountpoint))?;
        Ok(pair)
    }

    pub(crate) fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// What `wormhole status` prints.
    pub(crate) fn status(&self) -> Result<String, Failure> {
        self.ask("status")
    }

    /// A failure, with the reason where it is that one of the two has died.
    pub(crate) fn explain(&mut self, failure: Failure) -> Failure {
        for process in [&mut self.mount, &mut self.host].into_iter().flatten() {
            if let Some(status) = process.ended() {
                let last = last_line(&process.log);
                return format!("{failure}; the {} has stopped ({status}): {last}", process.name).into();
            }
        }
        failure
    }

    /// Unmounts and stops as a user would, and makes sure that nothing is left.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        self.ask("unmount")?;
        let mount = self.mount.as_mut().map(Process::await_end).transpose()?;
        self.mount = None;
        if mounts::is_mounted(&self.mountpoint) {
            return Err(format!("{} is still mounted after unmount", self.mountpoint.display()).into());
        }
        let host = match self.host.as_mut() {
            Some(host) => {
                host.terminate();
                Some(host.await_end()?)
            }
            None => None,
        };
        self.host = None;
        for (name, status) in [("mount", mount), ("host", host)] {
            if let Some(status) = status.filter(|status| !status.success()) {
                return Err(
                    format!("the {name} stopped with {status} where it should have stopped cleanly").into()
                );
            }
        }
        Ok(())
    }

    /// Runs `wormhole WORD MOUNTPOINT` to its end and returns what it printed.
    fn ask(&self, word: &str) -> Result<String, Failure> {
        let log = self.scratch.path(&format!("{word}.log"));
        let mut command = self.command(&self.binaries.mount);
        command.arg(word).arg(&self.mountpoint);
        let mut process = Process::start("command", command, log.clone())?;
        let status = process.await_end().map_err(|failure| format!("wormhole {word}: {failure}"))?;
        if !status.success() {
            return Err(format!("wormhole {word} failed ({status}): {}", last_line(&log)).into());
        }
        Ok(String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned())
    }

    /// A program of ours that keeps its caches and state inside the scratch folder: the read is cold, and a user's own
    /// are left alone.
    fn command(&self, program: &Path) -> Command {
        self.command_under(&[], program)
    }

    fn command_under(&self, under: &[OsString], program: &Path) -> Command {
        let mut words = under.iter().map(OsString::as_os_str).chain([program.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or(program.as_os_str()));
        command
            .args(words)
            .env("XDG_CACHE_HOME", self.scratch.path("cache"))
            .env("XDG_STATE_HOME", self.scratch.path("state-home"))
            // Set by `cargo run`: the loader would search cargo's folders first, a hundred calls that nobody's start has.
            .env_remove("LD_LIBRARY_PATH");
        command
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.mount = None;
        mounts::detach(&self.mountpoint);
        self.host = None;
    }
}

/// A child with its output in a file; killed on drop if it has not ended, after it was asked to.
struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Output goes to a file: a pipe that nobody empties would stop the child.
    fn start(name: &'static str, mut command: Command, log: PathBuf) -> Result<Self, Failure> {
        let output = File::create(&log)
            .and_then(|out| Ok((out.try_clone()?, out)))
            .map_err(|why| format!("cannot write {}: {why}", log.display()))?;
        let child = command.stdin(Stdio::null()).stdout(output.0).stderr(output.1).spawn();
        let child = child.map_err(|why| format!("cannot start {:?}: {why}", command.get_program()))?;
        Ok(Self { name, child, log })
    }

    /// Waits until `ready` says so; an error when the child ends or [`PATIENCE`] does.
    fn await_ready(&mut self, what: &str, mut ready: impl FnMut() -> bool) -> Result<(), Failure> {
        let started = Instant::now();
        loop {
            let ended = self.ended();
            if let Some(status) = ended {
                let why = last_line(&self.log);
                return Err(
                    format!("the {} stopped ({status}) before it could {what}: {why}", self.name).into()
                );
            }
            if ready() {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                let (seconds, last) = (PATIENCE.as_secs(), last_line(&self.log));
                return Err(format!(
                    "the {} did not {what} within {seconds} s; its last line: {last}",
                    self.name
                )
                .into());
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits for the child's end, [`PATIENCE`] at most.
    fn await_end(&mut self) -> Result<ExitStatus, Failure> {
        let started = Instant::now();
        while started.elapsed() <= PATIENCE {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            thread::sleep(LOOK_EVERY);
        }
        let (seconds, last) = (PATIENCE.as_secs(), last_line(&self.log));
        Err(format!("the {} still runs {seconds} s after it was to end; its last line: {last}", self.name)
            .into())
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        // An error means that there is nothing to wait for, which cannot be while we own the child.
        self.child.try_wait().ok().flatten()
    }

    /// Asks the child to end. std sends no signal but SIGKILL.
    fn terminate(&self) {
        // Where `kill` is missing, the wait that follows says that the child still runs.
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        self.terminate();
        if self.await_end().is_err() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// `NAME=DIR` where the folder's own name would be taken for it.
fn share_argument(folder: &Path) -> OsString {
    if folder.as_os_str().as_bytes().contains(&b'=') { prefixed("demo=", folder) } else { folder.into() }
}

fn prefixed(prefix: impl AsRef<OsStr>, path: &Path) -> OsString {
    let mut whole = prefix.as_ref().to_os_string();
    whole.push(path);
    whole
}

/// The last thing a child said: by the contract of our programs, why it failed.
fn last_line(log: &Path) -> String {
    let said: io::Result<Vec<u8>> = fs::read(log);
    let said = String::from_utf8_lossy(&said.unwrap_or_default()).into_owned();
    said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim().to_owned()
}

#[cfg(test)]
mod tests;
