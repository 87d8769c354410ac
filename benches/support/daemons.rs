//! The built programs as their users run them: a host, what lies between, mounts. All that is started here stops when
//! it is dropped, and at a signal ([`crate::undo`]).

use std::{
    env,
    error::Error,
    fs,
    io::{self, BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fusefront::status::Report;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::{
    proc::Usage,
    route::{Line, Route},
    undo::Undo,
};

/// A process that was asked to end is killed after so long.
const END_PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

type Failed = Box<dyn Error>;

/// A program of the workspace, built beside this one, without settings of whoever runs this.
///
/// # Errors
/// Where it is not there.
pub fn program(name: &str) -> Result<Command, Failed> {
    let bench = env::current_exe()?;
    let folder = bench.parent().and_then(Path::parent).ok_or("a bench outside of a target directory")?;
    let path = folder.join(name);
    if !path.exists() {
        return Err(format!("{} is not there: run `cargo build --release` first", path.display()).into());
    }
    let mut command = Command::new(path);
    for (variable, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WORMHOLE_")) {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    Ok(command)
}

/// Runs a program of the workspace to its end; what it printed.
fn run(name: &str, words: &[&str], paths: &[&Path]) -> Result<Vec<u8>, Failed> {
    let output = program(name)?.args(words).args(paths).stderr(Stdio::piped()).output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name} {}: {}: {}", words.first().unwrap_or(&""), output.status, said.trim_end()).into())
}

/// A folder of a run's own, which goes with its last holder.
pub struct Place {
    path: PathBuf,
    folders: AtomicU32,
    _undo: Undo,
}

impl Place {
    /// Empty, in the folder for temporary files.
    ///
    /// # Errors
    /// What the file system says.
    pub fn new() -> Result<Arc<Place>, Failed> {
        let (path, undo) = Undo::after(|| {
            let path = TempDir::with_prefix("wormhole-bench-")?.keep();
            let doomed = path.clone();
            // Nothing is deleted through a mount that could not be undone: mounts are read-only.
            Ok::<_, io::Error>((path, move || drop(fs::remove_dir_all(doomed))))
        })?;
        Ok(Arc::new(Place { path, folders: AtomicU32::new(0), _undo: undo }))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An empty folder in it, another one each time: `mount-3`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn folder(&self, kind: &str) -> Result<PathBuf, Failed> {
        let path = self.path.join(format!("{kind}-{}", self.folders.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path)?;
        Ok(path)
    }
}

/// A process that is asked to end (SIGTERM) when this is dropped, and killed when it does not.
pub struct Daemon {
    child: Arc<Mutex<Child>>,
    pid: u32,
    _undo: Undo,
}

impl Daemon {
    /// Starts it, out of reach of the terminal's Ctrl-C: it ends in its turn.
    ///
    /// # Errors
    /// What the system says.
    pub fn spawn(command: &mut Command) -> Result<Daemon, Failed> {
        let (child, undo) = Undo::after(|| {
            let child = Arc::new(Mutex::new(command.process_group(0).spawn()?));
            let ended = child.clone();
            Ok((child, move || drop(end(&ended))))
        })
        .map_err(|why: io::Error| format!("start {}: {why}", command.get_program().display()))?;
        let pid = child.lock().unwrap_or_else(PoisonError::into_inner).id();
        Ok(Daemon { child, pid, _undo: undo })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its standard output, once, where that was asked for.
    pub fn output(&mut self) -> Option<ChildStdout> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).stdout.take()
    }

    /// Waits until it ends by itself. Its output must have ended before: this holds up a signal's undoing.
    ///
    /// # Errors
    /// When it fails.
    pub fn wait(self) -> Result<(), Failed> {
        let status = self.child.lock().unwrap_or_else(PoisonError::into_inner).wait()?;
        if status.success() { Ok(()) } else { Err(format!("process {}: {status}", self.pid).into()) }
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&self) -> bool {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        !matches!(child.try_wait(), Ok(None))
    }

    /// Asks it to end and waits for that.
    ///
    /// # Errors
    /// When it fails, or had to be killed.
    pub fn end(self) -> Result<(), Failed> {
        end(&self.child)
    }
}

fn end(child: &Mutex<Child>) -> Result<(), Failed> {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    if child.try_wait()?.is_none() {
        kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
    }
    let deadline = Instant::now() + END_PATIENCE; // clock: a process that does not end
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("process {}: {status}", child.id()).into()),
            None if Instant::now() < deadline => thread::sleep(LOOK_EVERY), // clock: no event tells of it
            None => {
                child.kill()?;
                child.wait()?;
                return Err(format!("process {} did not end in {END_PATIENCE:?}: killed", child.id()).into());
            }
        }
    }
}

/// `wormhole-engine host`, with a link before it where the route has one.
pub struct Host {
    daemon: Daemon,
    line: Option<Line>,
    route: Route,
    ticket: String,
    place: Arc<Place>,
}

impl Host {
    /// Serves folders; `options` are further ones of the command line.
    ///
    /// # Errors
    /// What the program says on standard error; a route that this machine cannot have.
    pub fn start(shares: &[&Path], route: Route, options: &[&str]) -> Result<Host, Failed> {
        let place = Place::new()?;
        // A port that is free now; the host takes it at once.
        let listen = route.service()?;
        let line = route.open(listen)?;
        let reached_at = line.as_ref().map_or(listen, Line::address);
        let mut command = program("wormhole-engine")?;
        command
            .args(["host", "--log", "error", "--listen", &listen.to_string()])
            .args(["--advertise", &reached_at.to_string()])
            .args(options)
            .arg("--state-dir")
            .arg(place.path().join("state"))
            .args(shares)
            .stdout(Stdio::piped());
        let mut daemon = Daemon::spawn(&mut command)?;
        let said = daemon.output();
        let mut ticket = String::new();
        // Ends when the host does.
        BufReader::new(said.ok_or("the host has no standard output")?).read_line(&mut ticket)?;
        if ticket.trim().is_empty() {
            return Err("wormhole-engine host ended before it had a ticket".into());
        }
        Ok(Host { daemon, line, route, ticket: ticket.trim().to_owned(), place })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// What opens its shares.
    pub fn ticket(&self) -> &str {
        &self.ticket
    }

    /// What lies between it and its mounts.
    pub fn route(&self) -> Route {
        self.route
    }

    /// A folder that goes with the host and its mounts.
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    /// The link before it; `None` on loopback.
    pub fn line(&mut self) -> Option<&mut Line> {
        self.line.as_mut()
    }

    /// What it uses now.
    ///
    /// # Errors
    /// When it has ended.
    pub fn usage(&self) -> Result<Usage, Failed> {
        Ok(Usage::of(self.pid())?)
    }

    /// Mounts it with an empty disk cache of the mount's own; `options` are further ones of the command line.
    ///
    /// # Errors
    /// What the program says.
    pub fn mount(&self, options: &[&str]) -> Result<Mount, Failed> {
        let cache = self.place.folder("cache")?;
        self.mount_with_cache(&cache, options)
    }

    /// The same with this folder as the disk cache.
    ///
    /// # Errors
    /// What the program says.
    pub fn mount_with_cache(&self, cache: &Path, options: &[&str]) -> Result<Mount, Failed> {
        let path = self.place.folder("mount")?;
        let words = [&["mount", "--daemon"], options, &["--cache-dir"]].concat();
        // A signal waits for a mount that is on its way: what is not mounted yet cannot be unmounted.
        let mounting = Arc::new(Mutex::new(()));
        let (mounted, settled) = (path.clone(), mounting.clone());
        let undo = Undo::new(move || {
            let _settled = settled.lock().unwrap_or_else(PoisonError::into_inner);
            drop(unmount(&mounted));
        });
        {
            let _on_its_way = mounting.lock().unwrap_or_else(PoisonError::into_inner);
            run("wormhole", &words, &[cache, Path::new(&self.ticket), &path])?;
        }
        let mut mount = Mount { path, pid: 0, undo: Some(undo), _place: self.place.clone() };
        mount.pid = mount.report()?.pid;
        Ok(mount)
    }

    /// Asks it to end and waits for that.
    ///
    /// # Errors
    /// When it fails.
    pub fn end(self) -> Result<(), Failed> {
        self.daemon.end()
    }
}

/// `wormhole mount --daemon`.
pub struct Mount {
    path: PathBuf,
    pid: u32,
    undo: Option<Undo>,
    _place: Arc<Place>,
}

impl Mount {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What `wormhole status` shows of it.
    ///
    /// # Errors
    /// When it has ended.
    pub fn report(&self) -> Result<Report, Failed> {
        let said = run("wormhole", &["status", "--json"], &[&self.path])?;
        let reports: Vec<Report> = serde_json::from_slice(&said)?;
        reports.into_iter().next().ok_or_else(|| format!("nothing mounted at {}", self.path.display()).into())
    }

    /// What it uses now.
    ///
    /// # Errors
    /// When it has ended.
    pub fn usage(&self) -> Result<Usage, Failed> {
        Ok(Usage::of(self.pid)?)
    }

    /// Unmounts it and waits until its process is gone, and with it what it had to write.
    ///
    /// # Errors
    /// While programs use it; when the process stays.
    pub fn end(mut self) -> Result<(), Failed> {
        unmount(&self.path)?;
        let deadline = Instant::now() + END_PATIENCE; // clock: a process that does not end
        while Path::new(&format!("/proc/{}", self.pid)).exists() {
            if Instant::now() >= deadline {
                return Err(
                    format!("the mount's process {} did not end in {END_PATIENCE:?}", self.pid).into()
                );
            }
            thread::sleep(LOOK_EVERY); // clock: no event tells of it
        }
        // Finds nothing mounted any more.
        drop(self.undo.take());
        Ok(())
    }
}

/// Unmounts what is mounted there; lazily where programs use it. Nothing mounted is no error.
fn unmount(path: &Path) -> Result<(), Failed> {
    if !is_mounted(path)? {
        return Ok(());
    }
    let ended = run("wormhole", &["unmount"], &[path]).map(drop);
    if ended.is_err() && is_mounted(path)? {
        run("wormhole", &["unmount", "--lazy"], &[path])?;
    }
    ended
}

/// Whether something is mounted at this folder.
///
/// # Errors
/// Without /proc.
pub fn is_mounted(path: &Path) -> Result<bool, Failed> {
    // The fifth field; the names of temporary folders need no escapes. Source: proc_pid_mountinfo(5).
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|at| Path::new(at) == path)))
}
