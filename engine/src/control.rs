//! How the owner of a host reaches it: through a socket in the state directory, or its files while no host runs.
//!
//! One request in, one answer out, each a line of JSON ([`protocol`]). Only the host's own user and root are heard.

mod away;
pub(crate) mod desk;
pub mod protocol;
pub(crate) mod server;
mod socket;
mod survey;

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::error::{HostError, TicketError};
use away::Away;
use protocol::{Request, Response};

/// How long a host may take over a request: it looks at its shares' disks and writes a file.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// How long a host that starts or stops may have the state directory without answering.
const LOCK_DEADLINE: Duration = Duration::from_secs(6);
/// Between two looks at whether it answers now.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Why a request of the owner was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Start the host once, or name the right state directory.
    #[error(
        "no host has been started with the state directory {state_dir:?} yet: start the host once \
         (wormhole-engine host DIR), or name another with --state-dir"
    )]
    NeverStarted {
        /// Where it was looked for.
        state_dir: PathBuf,
    },
    /// Only a host that runs can answer this.
    #[error(
        "no host runs with the state directory {state_dir:?}: start it, or name another with --state-dir"
    )]
    NotRunning {
        /// Where it was looked for.
        state_dir: PathBuf,
    },
    /// Become the user of the host.
    #[error("the state directory {state_dir:?} cannot be used: run this as the user of the host, or as root")]
    Forbidden {
        /// Where it was looked for.
        state_dir: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The host hangs, or is of another version.
    #[error(
        "the host with the state directory {state_dir:?} did not answer: stop it, repeat the command, and start it again"
    )]
    Unanswered {
        /// Where it was asked.
        state_dir: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The host said no.
    #[error("{reason}")]
    Declined {
        /// In its own words.
        reason: String,
    },
    /// The state directory's files say no.
    #[error(transparent)]
    Files(#[from] HostError),
    /// The request breaks a rule.
    #[error(transparent)]
    Ticket(#[from] TicketError),
}

/// Who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answerer {
    /// The running host.
    Host,
    /// The files, since no host runs.
    Files,
}

/// Does `request` for the host of a state directory: by asking the host, or by itself where none runs.
///
/// Blocks for at most ten seconds or so.
///
/// # Errors
/// Any [`ControlError`]; then nothing was done, a revocation that could not be written apart.
pub fn ask(state_dir: &Path, request: &Request) -> Result<(Response, Answerer), ControlError> {
    let state = || state_dir.to_owned();
    match fs::metadata(state_dir.join(crate::state::TICKET_KEY_FILE)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ControlError::NeverStarted { state_dir: state() });
        }
        Err(source) => return Err(ControlError::Forbidden { state_dir: state(), source }),
    }
    let until = Instant::now() + LOCK_DEADLINE;
    loop {
        match socket::connect(state_dir, ANSWER_DEADLINE) {
            Ok(stream) => {
                let answer = exchange(stream, request);
                let answer =
                    answer.map_err(|source| ControlError::Unanswered { state_dir: state(), source })?;
                return Ok((declined(answer)?, Answerer::Host));
            }
            Err(error) if is_nobody(&error) => {}
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                return Err(ControlError::Forbidden { state_dir: state(), source });
            }
            Err(source) => return Err(ControlError::Unanswered { state_dir: state(), source }),
        }
        match Away::open(state_dir) {
            Ok(away) => return Ok((away.answer(request)?, Answerer::Files)),
            // It starts or stops: between its lock and its socket.
            Err(ControlError::Files(HostError::StateLocked { .. })) if Instant::now() < until => {
                thread::sleep(LOCK_PAUSE);
            }
            Err(ControlError::Files(HostError::State { source, .. }))
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                return Err(ControlError::Forbidden { state_dir: state(), source });
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether nobody listens: no socket, or one that a host left behind when it was killed.
fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn declined(answer: Response) -> Result<Response, ControlError> {
    match answer {
        Response::Error(reason) => Err(ControlError::Declined { reason }),
        answer => Ok(answer),
    }
}

/// Sends the request and hears the answer.
fn exchange(mut stream: UnixStream, request: &Request) -> io::Result<Response> {
    let deadline = Instant::now() + ANSWER_DEADLINE;
    stream.set_write_timeout(Some(ANSWER_DEADLINE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    let mut part = [0; 16 << 10];
    loop {
        let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
        stream.set_read_timeout(Some(left.ok_or(io::ErrorKind::TimedOut)?))?;
        match stream.read(&mut part) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => answer.extend_from_slice(&part[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if answer.last() == Some(&b'\n') {
            return Ok(serde_json::from_slice(&answer)?);
        }
        if answer.len() > protocol::ANSWER_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer has no end"));
        }
    }
}
