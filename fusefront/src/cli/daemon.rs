//! `--daemon`: the program executed again, in a session of its own, which says when the share is mounted.
//!
//! The ticket goes to it through a pipe, so that neither its arguments nor its environment show it. Until it is ready
//! it shares standard error, so that its one line about a failure is seen.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{self, Read, Write},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use anyhow::{Context, anyhow};

/// The hidden first argument of the process that stays.
pub(super) const ARGUMENT: &str = "__daemon";
/// What it writes to its standard output when the share is mounted.
const READY: &[u8] = b"mounted\n";

/// Starts the process that stays, with these arguments of `wormhole`, and waits until it is ready. Has no deadline of
/// its own: connecting has one, and the end of that process ends the wait.
///
/// # Errors
/// When it ended before that, and has not said why itself.
pub(super) fn start(arguments: &[OsString], ticket: &OsStr, text: &str) -> anyhow::Result<Started> {
    // The first argument that is the ticket's is the ticket.
    let mut arguments = arguments.to_vec(); // copy: once a start
    if let Some(argument) = arguments.iter_mut().find(|argument| *argument == ticket) {
        *argument = "-".into();
    }
    let mut child = Command::new("/proc/self/exe")
        .arg0("wormhole")
        .arg(ARGUMENT)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("the process of the mount cannot be started")?;
    let mut said = Vec::new();
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    if let Some(mut stdin) = stdin {
        // A failure shows as the end of the process.
        let _ = stdin.write_all(text.as_bytes());
    }
    if let Some(stdout) = stdout {
        stdout.take(READY.len() as u64).read_to_end(&mut said).context("the process of the mount")?;
    }
    if said == READY {
        return Ok(Started::Mounted);
    }
    let status = child.wait().context("the process of the mount")?;
    match status.code() {
        // It said why.
        Some(_) => Ok(Started::Failed),
        None => Err(anyhow!("the process of the mount ended before the share was mounted: {status}")),
    }
}

/// How the process that stays began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Started {
    /// The share is mounted.
    Mounted,
    /// It is not, and the process has said why.
    Failed,
}

/// The first act of the process that stays: it leaves the terminal's session.
pub(super) fn leave_session() {
    // It can only fail where this process leads one of its own already.
    let _ = rustix::process::setsid();
}

/// Tells the starter that the share is mounted, and lets go of all it shares with it.
///
/// # Errors
/// When the starter is gone, or `/dev/null` cannot be opened.
pub(super) fn ready() -> io::Result<()> {
    let null = fs::File::options().read(true).write(true).open("/dev/null")?;
    std::env::set_current_dir("/")?;
    nix::unistd::dup2_stdin(&null)?;
    io::stdout().write_all(READY)?;
    io::stdout().flush()?;
    nix::unistd::dup2_stdout(&null)?;
    Ok(())
}
