//! `wormhole watch`: what changes on the host, for programs that inotify(7) does not help on a network mount.

use std::{
    ffi::OsStr,
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::Args;
use engine::cli::failure::Failure;
use serde::Serialize;

use super::{cache::place, run::say};
use crate::control::{
    self,
    message::{Event, Happened, Request},
};

const EXAMPLES: &str = "\
A line for each change, as the host tells of it: what happened, and the path. A rename is a
removal and a creation. Changes that came while the host was out of reach, or too fast to
follow, are not told: then a line says so (\"missed\"), and what is there is to be looked at
again. Some may be told twice. Ends with ^C.

Examples:
  wormhole watch /mnt/films/show
  wormhole watch --json /mnt/films | jq -r 'select(.event==\"created\").path'";

/// `wormhole watch`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct WatchArgs {
    /// A file, or a folder with all below it, on a mount
    path: PathBuf,

    /// A JSON object a line: event, path, and for `missed` the reason
    #[arg(long)]
    json: bool,
}

/// A line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    folders: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// Does it, until the mount ends or nobody reads any more.
///
/// # Errors
/// One line that says what to do.
pub(super) fn run(args: &WatchArgs) -> Result<(), Failure> {
    let mounts = control::answering(&control::dirs()).context("the control sockets cannot be read")?;
    let mountpoints: Vec<_> = mounts.iter().map(|mount| Path::new(&mount.report.mountpoint)).collect();
    let (index, path) = place::find(&args.path, &mountpoints)?;
    let mountpoint = mountpoints[index];
    let told = |event| tell(&event, mountpoint, args.json);
    match control::request(&mounts[index].socket, &Request::Watch(path), told) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(reason)) => Err(anyhow!("{}: {reason}", args.path.display()).into()),
        // Who read has enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            let what = format!("the mount on {} does not answer any more", mountpoint.display());
            Err(anyhow::Error::new(error).context(what).into())
        }
    }
}

fn tell(event: &Event, mountpoint: &Path, json: bool) -> io::Result<()> {
    let absolute = |path: &[u8]| mountpoint.join(OsStr::from_bytes(path));
    match event {
        Event::Watching(folders) if json => {
            line(&Line { event: "watching", path: None, folders: Some(*folders), reason: None })
        }
        Event::Watching(folders) => {
            let noun = if *folders == 1 { "folder" } else { "folders" };
            say(&format!("watching {folders} {noun}"));
            Ok(())
        }
        Event::Problem(problem) => {
            let path = absolute(&problem.path);
            if json {
                let (path, reason) = (path.to_string_lossy(), Some(problem.reason.as_str()));
                return line(&Line { event: "missed", path: Some(&path), folders: None, reason });
            }
            print(&[b"missed      ", path.as_os_str().as_bytes(), b": ", problem.reason.as_bytes()])
        }
        Event::Changed(changed) => {
            let path = absolute(&changed.path);
            for happened in &changed.what {
                let word = word(*happened);
                if json {
                    let path = path.to_string_lossy();
                    line(&Line { event: word, path: Some(&path), folders: None, reason: None })?;
                } else {
                    print(&[format!("{word:<12}").as_bytes(), path.as_os_str().as_bytes()])?;
                }
            }
            Ok(())
        }
        Event::Alive | Event::Progress(_) | Event::Done(_) | Event::Failed(_) => Ok(()),
    }
}

fn word(happened: Happened) -> &'static str {
    match happened {
        Happened::Created => "created",
        Happened::Removed => "removed",
        Happened::Contents => "contents",
        Happened::Attributes => "attributes",
    }
}

fn line(line: &Line<'_>) -> io::Result<()> {
    print(&[&serde_json::to_vec(line)?])
}

/// A line at once: who reads it may be waiting.
fn print(parts: &[&[u8]]) -> io::Result<()> {
    let mut text = parts.concat();
    text.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&text)?;
    out.flush()
}
