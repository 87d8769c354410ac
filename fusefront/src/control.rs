//! The control socket: one per mount, in a folder of this user's alone. Asking never touches the mount itself.
//!
//! Whoever connects and says nothing gets the report as one JSON document, and the end of the stream. Whoever sends a
//! [`Request`], one line of JSON, gets a line of JSON for each [`Event`], the last of which ends it; a client that goes
//! away calls it off.

pub mod message;
mod task;

use std::{
    env, fs, io,
    io::{BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use crate::{keeper::Keeper, status::Report};
use message::{Done, Event, Request};
use task::Tasks;

/// How long one side waits for the other; a report is a few hundred bytes.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a client may take to say that it wants more than the report.
const FIRST_WORD: Duration = Duration::from_millis(100);
/// How long a mount that works on a request may be silent; it says every second that it is there.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Bytes of an event that a client will take: a path as numbers, and a reason.
const EVENT_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of a report that a client will take.
const REPORT_BYTES_MAX: u64 = 64 * 1024;
const SUFFIX: &str = "sock";

/// The status socket of one mount; dropping it takes it away.
pub struct Server {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// Answers on a socket of its own in `dir`, made if need be. `name` tells the mounts of this user apart. Requests go
    /// to `keeper`.
    ///
    /// # Errors
    /// When the folder is not this user's alone, or the socket cannot be made.
    pub fn start(
        dir: &Path,
        name: &str,
        report: impl Fn() -> Report + Send + 'static,
        keeper: Option<Keeper>,
    ) -> io::Result<Server> {
        prepare(dir)?;
        let path = dir.join(name).with_extension(SUFFIX);
        // Of an earlier process with this number: no two live ones share a name.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let tasks = Tasks::new(keeper, stop.clone());
        let thread = thread::Builder::new().name("wormhole-status".to_owned()).spawn(move || {
            for client in listener.incoming() {
                if stopped.load(Relaxed) {
                    return;
                }
                // A client that went away is no concern of the mount's.
                let _ = client.and_then(|client| answer(client, &report, &tasks));
            }
        })?;
        Ok(Server { path, stop, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        // Wakes the thread; if nobody can connect any more, it is left to end with the process.
        let woken = UnixStream::connect(&self.path).is_ok();
        let _ = fs::remove_file(&self.path);
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
    }
}

fn answer(mut client: UnixStream, report: &impl Fn() -> Report, tasks: &Tasks) -> io::Result<()> {
    client.set_write_timeout(Some(PATIENCE))?;
    client.set_read_timeout(Some(FIRST_WORD))?;
    let mut first = [0; 4096];
    match client.read(&mut first) {
        Ok(len @ 1..) => return tasks.start(client, Vec::from(&first[..len])),
        Ok(0) => {}
        // One who waits without a word wants the report.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    let mut text = serde_json::to_vec(&report())?;
    text.push(b'\n');
    client.write_all(&text)
}

/// Where this process puts its sockets: `$XDG_RUNTIME_DIR/wormhole`, root's `/run/wormhole`, else a folder in `/tmp`.
pub fn dir() -> PathBuf {
    let user = nix::unistd::geteuid();
    match runtime_dir() {
        Some(dir) => dir,
        None if user.is_root() => PathBuf::from("/run/wormhole"),
        None => PathBuf::from(format!("/tmp/wormhole-{user}")),
    }
}

/// Everywhere this user's mounts may have put theirs: a service may have had no `$XDG_RUNTIME_DIR`.
pub fn dirs() -> Vec<PathBuf> {
    let user = nix::unistd::geteuid();
    let mut dirs: Vec<PathBuf> = runtime_dir().into_iter().collect();
    dirs.push(PathBuf::from(format!("/run/user/{user}/wormhole")));
    if user.is_root() {
        dirs.push(PathBuf::from("/run/wormhole"));
    } else {
        dirs.push(PathBuf::from(format!("/tmp/wormhole-{user}")));
    }
    dirs.dedup();
    dirs
}

fn runtime_dir() -> Option<PathBuf> {
    let dir = PathBuf::from(env::var_os("XDG_RUNTIME_DIR")?);
    dir.is_absolute().then(|| dir.join("wormhole"))
}

/// A mount that answers.
#[derive(Clone, Debug)]
pub struct Answering {
    /// Its socket.
    pub socket: PathBuf,
    /// What it says of itself.
    pub report: Report,
}

/// The reports of all mounts with a socket in `dirs`, by mountpoint.
///
/// # Errors
/// As [`answering`].
pub fn ask_all(dirs: &[PathBuf]) -> io::Result<Vec<Report>> {
    Ok(answering(dirs)?.into_iter().map(|mount| mount.report).collect())
}

/// All mounts with a socket in `dirs`, by mountpoint. Sockets that nobody answers on any more are taken away.
///
/// # Errors
/// When a folder cannot be read, for another reason than that it is not there.
pub fn answering(dirs: &[PathBuf]) -> io::Result<Vec<Answering>> {
    let mut mounts = Vec::new();
    for dir in dirs {
        if !is_ours_alone(dir)? {
            continue;
        }
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != SUFFIX) {
                continue;
            }
            match ask(&path) {
                Ok(report) => mounts.push(Answering { socket: path, report }),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    // Two commands may find it at once.
                    let _ = fs::remove_file(&path);
                }
                Err(error) => tracing::warn!(socket = %path.display(), %error, "a mount gave no status"),
            }
        }
    }
    mounts.sort_by(|a, b| a.report.mountpoint.cmp(&b.report.mountpoint));
    mounts.dedup_by(|a, b| (a.report.pid, &a.report.mountpoint) == (b.report.pid, &b.report.mountpoint));
    Ok(mounts)
}

/// Has the mount behind `socket` do `request`; `told` is given each event but the last, and ends it with an error.
///
/// # Errors
/// When the mount does not answer, or ends meanwhile, and that of `told`; the inner one is why it could not be done, for
/// people.
pub fn request(
    socket: &Path,
    request: &Request,
    mut told: impl FnMut(Event) -> io::Result<()>,
) -> io::Result<Result<Done, String>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        (&mut lines).take(EVENT_BYTES_MAX).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the mount ended meanwhile"));
        }
        match serde_json::from_slice(&line)? {
            Event::Done(done) => return Ok(Ok(done)),
            Event::Failed(reason) => return Ok(Err(reason)),
            event => told(event)?,
        }
    }
}

fn ask(socket: &Path) -> io::Result<Report> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // There is nothing to say: it need not wait for a word.
    stream.shutdown(Shutdown::Write)?;
    let mut text = Vec::new();
    stream.take(REPORT_BYTES_MAX).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Makes the folder, and refuses one that another user could put sockets into.
pub(crate) fn prepare(dir: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().recursive(false).mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if is_ours_alone(dir)? {
        return Ok(());
    }
    let what = format!("{} is not a folder of this user with mode 0700", dir.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, what))
}

/// Whether `dir` is a folder, no link, that this user alone may write to; `false` when it is not there.
fn is_ours_alone(dir: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(dir) {
        Ok(found) => {
            Ok(found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw() && found.mode() & 0o022 == 0)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
