//! `wormhole cache`: what the disk cache holds, and what it is to hold. A mount that runs does it, asked over its
//! socket; without one, the command opens the folder itself.

mod folder;
pub(super) mod place;
mod show;

use std::{
    ffi::OsStr,
    io::{self, BufRead, BufReader},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use engine::cli::{failure::Failure, pages};
use serde::Serialize;

use super::{resolve, run::only};
use crate::{
    control::{
        self, Answering,
        message::{Done, Event, PATH_BYTES_MAX, Request},
    },
    keeper, snapshot,
    status::{Bytes, Cache},
};
use folder::Folder;
use show::Show;

/// Bytes of a line of a list of paths: the longest path.
const LINE_BYTES_MAX: u64 = 8192;

/// `wormhole cache`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(super) struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// Show what the disk caches of this user's mounts hold, and did since they were mounted
    #[command(after_help = STATS_EXAMPLES)]
    Stats(StatsArgs),
    /// Bring files into the disk cache before they are read; what is there is not fetched again
    #[command(after_help = WARM_EXAMPLES)]
    Warm(PathArgs),
    /// Keep files in the disk cache when room is made for others, also over restarts
    #[command(after_help = PIN_EXAMPLES)]
    Pin(PathArgs),
    /// End that
    #[command(after_help = PIN_EXAMPLES)]
    Unpin(PathArgs),
    /// Read and check all that the disk cache holds, drop what is bad; exit code 1 if anything was
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(WhichArgs),
    /// Drop all that the disk cache holds, without a question; pins stay
    #[command(after_help = CLEAR_EXAMPLES)]
    Clear(WhichArgs),
}

const STATS_EXAMPLES: &str = "\
Examples:
  wormhole cache stats
  wormhole cache stats --json /mnt/films | jq '.[].bytes'
  wormhole cache stats --cache-dir /var/cache/wormhole     where nothing is mounted";

const WARM_EXAMPLES: &str = "\
A folder means all below it. Patterns (*, ?, [a-z], and ** for any number of folders) are found on the
host, so they may be quoted, and match what this machine has not looked at. Symlinks are not followed.
At the end it counts what is really in the cache; if anything is missing it says what, and exits with 1.

Examples:
  wormhole cache warm /mnt/films/show/shot_010
  wormhole cache warm '/mnt/films/**/*.exr'
  wormhole cache warm - < tonight.txt                      a path a line";

const PIN_EXAMPLES: &str = "\
Also what is not there yet stays once it comes: pin, then warm. Pins that fill the cache leave no room
for anything else.

Examples:
  wormhole cache pin /mnt/films/library && wormhole cache warm /mnt/films/library
  wormhole cache unpin /mnt/films/library";

const VERIFY_EXAMPLES: &str = "\
Examples:
  wormhole cache verify
  wormhole cache verify --cache-dir /var/cache/wormhole    where nothing is mounted";

const CLEAR_EXAMPLES: &str = "\
Examples:
  wormhole cache clear
  wormhole cache clear /mnt/films                          what this mount's process holds";

/// Which cache.
#[derive(Debug, Args)]
struct WhichArgs {
    /// That of the mount here; otherwise of all this user's mounts, or of the folder where none runs
    mountpoint: Option<PathBuf>,

    /// The cache in this folder [default: $XDG_CACHE_HOME/wormhole, else ~/.cache/wormhole]
    #[arg(long, value_name = "DIR", env = "WORMHOLE_CACHE_DIR", conflicts_with = "mountpoint")]
    cache_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct StatsArgs {
    #[command(flatten)]
    which: WhichArgs,

    /// A JSON array, one object for each cache
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct PathArgs {
    /// Files, folders or patterns on a mount; - reads them from standard input, one a line
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

/// What `stats --json` shows.
#[derive(Serialize)]
struct Shown {
    /// `null` where the folder itself was looked at.
    mountpoint: Option<String>,
    #[serde(flatten)]
    cache: Cache,
}

/// Whom to ask.
enum Which {
    Mounts(Vec<Answering>),
    Folder(PathBuf),
}

/// Does it.
///
/// # Errors
/// One line that says what to do; [`Failure::Said`] where that was said already.
pub(super) fn run(args: CacheArgs) -> Result<(), Failure> {
    match args.command {
        CacheCommand::Stats(args) => stats(&args),
        CacheCommand::Warm(args) => {
            let done = on_paths(&args, "warming", Request::Warm)?;
            pages::print(
                format!(
                    "{} files are in the cache: {} in {} chunks, {} of it fetched now\n",
                    done.files,
                    Bytes(done.bytes),
                    done.chunks,
                    Bytes(done.fetched_bytes)
                )
                .as_bytes(),
            )?;
            nothing_missing(done, "are not in the cache")
        }
        CacheCommand::Pin(args) => {
            let done = on_paths(&args, "pinning", Request::Pin)?;
            pages::print(format!("{} files are pinned\n", done.files).as_bytes())?;
            nothing_missing(done, "are not pinned")
        }
        CacheCommand::Unpin(args) => {
            let done = on_paths(&args, "unpinning", Request::Unpin)?;
            pages::print(format!("{} files are not pinned any more\n", done.files).as_bytes())?;
            nothing_missing(done, "could not be unpinned")
        }
        CacheCommand::Verify(args) => verify(&args),
        CacheCommand::Clear(args) => {
            let done = on_caches(&args, "clearing", &Request::Clear)?;
            let text = format!("cleared {} in {} chunks\n", Bytes(done.bytes), done.chunks);
            Ok(pages::print(text.as_bytes())?)
        }
    }
}

fn nothing_missing(done: Done, what: &str) -> Result<(), Failure> {
    match done.missing {
        0 => Ok(()),
        missing => Err(anyhow!("{missing} {what}: the lines above say why").into()),
    }
}

fn verify(args: &WhichArgs) -> Result<(), Failure> {
    let done = on_caches(args, "verifying", &Request::Verify)?;
    let text = format!(
        "{} chunks are good, {}; {} were bad and are dropped, {} could not be read\n",
        done.chunks,
        Bytes(done.bytes),
        done.bad,
        done.unread
    );
    pages::print(text.as_bytes())?;
    match done.bad {
        0 => Ok(()),
        bad => Err(anyhow!("{bad} chunks were bad: look after this disk (dmesg, smartctl)").into()),
    }
}

fn stats(args: &StatsArgs) -> Result<(), Failure> {
    let shown = match which(&args.which)? {
        Which::Mounts(mounts) => mounts
            .into_iter()
            .filter_map(|mount| {
                let mountpoint = Some(mount.report.mountpoint);
                mount.report.cache.map(|cache| Shown { mountpoint, cache })
            })
            .collect(),
        Which::Folder(dir) => {
            let cache = Folder::open(&dir)?.stats()?;
            vec![Shown { mountpoint: None, cache }]
        }
    };
    let text = if args.json {
        serde_json::to_string_pretty(&shown).context("the counts cannot be written as JSON")? + "\n"
    } else {
        shown.iter().map(Shown::to_string).collect::<Vec<_>>().join("\n")
    };
    Ok(pages::print(text.as_bytes())?)
}

/// What one request to all caches meant comes to.
fn on_caches(args: &WhichArgs, what: &'static str, request: &Request) -> Result<Done, Failure> {
    let show = Show::start(what);
    match which(args)? {
        Which::Mounts(mounts) => {
            let mut all = Done::default();
            for mount in mounts {
                all = all.and(ask(&mount, request, &show)?);
            }
            Ok(all)
        }
        Which::Folder(dir) => {
            let folder = Folder::open(&dir)?;
            let progress = |at| show.progress(&at);
            Ok(folder.with(async |disk| match request {
                Request::Verify => keeper::verify(disk, progress).await,
                _ => {
                    snapshot::remove_all(&dir)
                        .map_err(|error| format!("what its mounts knew stays: {error}"))?;
                    keeper::clear(disk).await
                }
            })?)
        }
    }
}

fn ask(mount: &Answering, request: &Request, show: &Show) -> anyhow::Result<Done> {
    let path = Path::new(&mount.report.mountpoint);
    let told = |event| match event {
        Event::Progress(progress) => show.progress(&progress),
        Event::Problem(problem) if problem.path.is_empty() => show.line(&problem.reason),
        Event::Problem(problem) => {
            let file = path.join(OsStr::from_bytes(&problem.path));
            show.line(&format!("{}: {}", file.display(), problem.reason));
        }
        Event::Alive | Event::Watching(_) | Event::Changed(_) | Event::Done(_) | Event::Failed(_) => {}
    };
    let answer = control::request(&mount.socket, request, |event| {
        told(event);
        Ok(())
    });
    let outcome = answer.with_context(|| format!("the mount on {} does not answer", path.display()))?;
    outcome.map_err(|reason| anyhow!("{}: {reason}", path.display()))
}

fn which(args: &WhichArgs) -> anyhow::Result<Which> {
    let mounts = control::answering(&control::dirs()).context("the control sockets cannot be read")?;
    if let Some(wanted) = &args.mountpoint {
        let reports = mounts.iter().map(|mount| mount.report.clone()).collect();
        let report = only(reports, wanted)?.remove(0);
        if report.cache.is_none() {
            return Err(anyhow!(
                "the mount on {} has no disk cache: mount with --cache-dir, and a --cache-size above 0",
                report.mountpoint
            ));
        }
        let is_meant = |mount: &Answering| mount.report.mountpoint == report.mountpoint;
        return Ok(Which::Mounts(mounts.into_iter().filter(is_meant).collect()));
    }
    let dir = args.cache_dir.clone().map(|dir| dir.canonicalize().unwrap_or(dir));
    let has_it = |mount: &Answering| match (&mount.report.cache, &dir) {
        (Some(cache), Some(dir)) => Path::new(&cache.dir).canonicalize().is_ok_and(|of| of == *dir),
        (cache, _) => cache.is_some(),
    };
    let mounts: Vec<_> = mounts.into_iter().filter(has_it).collect();
    if !mounts.is_empty() {
        return Ok(Which::Mounts(mounts));
    }
    let none = "there is no place for a cache: give --cache-dir, or set HOME";
    Ok(Which::Folder(dir.or_else(resolve::cache_dir).context(none)?))
}

/// Has the mounts that hold `paths` do `request` with them.
fn on_paths(
    args: &PathArgs,
    what: &'static str,
    request: fn(Vec<Vec<u8>>) -> Request,
) -> anyhow::Result<Done> {
    let mounts = control::answering(&control::dirs()).context("the control sockets cannot be read")?;
    let show = Show::start(what);
    let mut batches = Batches {
        mounts: &mounts,
        show: &show,
        request,
        at: None,
        paths: Vec::new(),
        bytes: 0,
        done: Done::default(),
    };
    for path in &args.paths {
        if path.as_os_str() != "-" {
            batches.add(path)?;
            continue;
        }
        let mut lines = BufReader::new(io::stdin());
        loop {
            let mut line = Vec::new();
            io::Read::take(&mut lines, LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)
                .context("the list of paths cannot be read from standard input")?;
            if line.is_empty() {
                break;
            }
            let is_whole = line.last() == Some(&b'\n') || line.len() as u64 != LINE_BYTES_MAX;
            let path = line.strip_suffix(b"\n").unwrap_or(&line);
            if !is_whole {
                return Err(anyhow!("a line of the list is longer than any path: one path a line"));
            }
            if !path.is_empty() {
                batches.add(Path::new(OsStr::from_bytes(path)))?;
            }
        }
    }
    batches.send()?;
    Ok(batches.done)
}

/// Paths of one mount after the other, as many at once as a request takes.
struct Batches<'a> {
    mounts: &'a [Answering],
    show: &'a Show,
    request: fn(Vec<Vec<u8>>) -> Request,
    at: Option<usize>,
    paths: Vec<Vec<u8>>,
    bytes: usize,
    done: Done,
}

impl Batches<'_> {
    fn add(&mut self, path: &Path) -> anyhow::Result<()> {
        let mountpoints = self.mounts.iter().map(|mount| Path::new(&mount.report.mountpoint));
        let (index, path) = place::find(path, &mountpoints.collect::<Vec<_>>())?;
        if self.at != Some(index) || self.bytes + path.len() > PATH_BYTES_MAX {
            self.send()?;
            self.at = Some(index);
        }
        self.bytes += path.len();
        self.paths.push(path);
        Ok(())
    }

    fn send(&mut self) -> anyhow::Result<()> {
        let (Some(index), false) = (self.at, self.paths.is_empty()) else { return Ok(()) };
        self.bytes = 0;
        let request = (self.request)(std::mem::take(&mut self.paths));
        self.done = self.done.and(ask(&self.mounts[index], &request, self.show)?);
        Ok(())
    }
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.mountpoint.as_deref().unwrap_or("no mount"))?;
        write!(f, "{}", self.cache)
    }
}
