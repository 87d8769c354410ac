//! `wormhole-engine host`: its options as typed, and the [`HostConfig`] they describe.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::Args;
use rustix::process::{Resource, getrlimit};
use serde::Deserialize;
use wire::Name;

use super::{
    failure::Failure,
    file,
    limits::LimitOptions,
    log::{Filter, Format, LogConfig},
    text,
    units::Size,
};
use crate::config::{
    HostConfig, MEMORY_BYTES_DEFAULT, MEMORY_BYTES_MAX, MEMORY_BYTES_MIN, PORT_DEFAULT, ShareConfig,
    listen_everywhere,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  wormhole-engine host /srv/projects
      Serves the folder and prints its ticket. On another machine: wormhole mount TICKET /mnt/projects
  wormhole-engine host footage=/data/raid assets=/srv/assets --ticket-file /run/wormhole.ticket
      Two shares by name; the ticket goes to a file that only its owner reads.
  wormhole-engine host /srv/projects --listen 5000 --advertise files.example.net:5000
      Another port, behind a router that forwards UDP port 5000.

The ticket is a password: who has it reads the folders. It stays the same after a restart.";

/// `wormhole-engine host`, as typed.
#[derive(Debug, Args)]
pub struct HostArgs {
    /// Options that a configuration file may give, too.
    #[command(flatten)]
    pub options: HostOptions,

    /// Take from this file (TOML) what neither the command line nor the environment says; `wormhole-engine help config`
    #[arg(long, value_name = "FILE", env = "WORMHOLE_CONFIG")]
    pub config: Option<PathBuf>,
}

/// What the command line, the environment and a configuration file may say of a host; each where it is given.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostOptions {
    /// Folders to serve, as DIR or NAME=DIR; up to 10. The name defaults to the folder's own. They replace those of a
    /// configuration file
    #[arg(id = "shares", value_name = "DIR")]
    pub share: Vec<ShareOptions>,

    /// UDP address and port to listen on: ADDR:PORT, PORT or ADDR; port 0 picks one. Repeatable
    /// [default: port 4433 on every address]
    #[arg(long, value_name = "ADDR:PORT", value_delimiter = ',', env = "WORMHOLE_LISTEN")]
    #[serde(deserialize_with = "text::list")]
    pub listen: Option<Vec<Listen>>,

    /// What the ticket says instead of this machine's addresses. Repeatable
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', env = "WORMHOLE_ADVERTISE")]
    #[serde(deserialize_with = "text::list")]
    pub advertise: Option<Vec<Advertise>>,

    /// Write the ticket there (mode 0600) once ready, instead of to stdout
    #[arg(long, value_name = "FILE", env = "WORMHOLE_TICKET_FILE")]
    #[serde(deserialize_with = "text::value")]
    pub ticket_file: Option<PathBuf>,

    /// Where the host's keys are kept [default: $XDG_STATE_HOME/wormhole]
    #[arg(long, value_name = "DIR", env = "WORMHOLE_STATE_DIR")]
    #[serde(deserialize_with = "text::value")]
    pub state_dir: Option<PathBuf>,

    /// Do not serve what this pattern matches, in the syntax of gitignore(5), relative to each share. Repeatable
    #[arg(long, value_name = "PATTERN", env = "WORMHOLE_EXCLUDE")]
    #[serde(deserialize_with = "text::list")]
    pub exclude: Option<Vec<String>>,

    /// Of the files, serve only what one of these patterns matches. Repeatable
    #[arg(long, value_name = "PATTERN", env = "WORMHOLE_INCLUDE")]
    #[serde(deserialize_with = "text::list")]
    pub include: Option<Vec<String>>,

    /// Serve counters as Prometheus text under http://ADDR:PORT/metrics
    #[arg(long, value_name = "ADDR:PORT", env = "WORMHOLE_METRICS")]
    #[serde(deserialize_with = "text::value")]
    pub metrics: Option<SocketAddr>,

    /// Memory for reads in progress, from 8MiB to 64GiB [default: 64MiB]
    #[arg(long, value_name = "SIZE", env = "WORMHOLE_MEMORY")]
    #[serde(deserialize_with = "text::value")]
    pub memory: Option<Size<{ MEMORY_BYTES_MIN as u64 }, { MEMORY_BYTES_MAX as u64 }>>,

    /// What to log on stderr: error, warn, info, debug, trace, or a filter such as info,wormhole_transport=debug [default: info]
    #[arg(long, value_name = "LEVEL", env = "WORMHOLE_LOG")]
    #[serde(deserialize_with = "text::value")]
    pub log: Option<Filter>,

    /// How: a line of text, or a JSON object a line [default: text]
    #[arg(long, value_name = "FORMAT", env = "WORMHOLE_LOG_FORMAT", value_enum)]
    #[serde(deserialize_with = "text::value")]
    pub log_format: Option<Format>,

    /// Keep a profile of this process's CPU time, and write it to this file as a flamegraph (SVG) at exit and on SIGUSR1.
    /// Needs a program built with `--features pprof`
    #[arg(long, value_name = "FILE", env = "WORMHOLE_PROFILE_CPU")]
    #[serde(deserialize_with = "text::value")]
    pub profile_cpu: Option<PathBuf>,

    /// What mounts may use up.
    #[command(flatten)]
    pub limits: LimitOptions,
}

/// A folder to serve, as typed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareOptions {
    /// Its name; the folder's own unless given.
    #[serde(default, deserialize_with = "text::value")]
    pub name: Option<ShareName>,
    /// The folder.
    #[serde(deserialize_with = "text::path")]
    pub path: PathBuf,
    /// Besides [`HostOptions::exclude`].
    #[serde(default, deserialize_with = "text::list")]
    pub exclude: Option<Vec<String>>,
    /// Besides [`HostOptions::include`].
    #[serde(default, deserialize_with = "text::list")]
    pub include: Option<Vec<String>>,
}

/// The name of a share, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareName(pub Name);

/// An address to listen on, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A port on every address.
    Port(u16),
    /// One address.
    At(SocketAddr),
}

/// An address for tickets, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertise(pub String);

/// What `wormhole-engine host` is to do.
#[derive(Debug)]
pub struct HostRun {
    /// The host.
    pub config: HostConfig,
    /// Where its ticket goes; standard output unless given.
    pub ticket_file: Option<PathBuf>,
    /// Where its counters are read.
    pub metrics: Option<SocketAddr>,
    /// What it says meanwhile.
    pub log: LogConfig,
    /// Where the profile of its CPU time goes.
    pub profile_cpu: Option<PathBuf>,
}

/// Descriptors a host may open at least: it starts with about twenty, the rest is for ten shares, lookups and reads.
const OPEN_FILES_MIN: u64 = 64;

/// Options that are well-formed and yet make no host.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Name it.
    #[error("{root:?} has no name of its own to serve it by: write NAME={}", root.display())]
    Nameless {
        /// The folder.
        root: PathBuf,
    },
    /// Name one.
    #[error(
        "no folder to serve: name one (wormhole-engine host DIR), or give a configuration with a [[share]] (--config FILE)"
    )]
    NoShare,
    /// Give less, or more memory.
    #[error("--max-bytes {bytes} is more than --memory {memory_bytes}: answers come out of that memory")]
    MoreThanMemory {
        /// Of answers under way.
        bytes: u64,
        /// Of buffers.
        memory_bytes: usize,
    },
    /// Raise the limit: below it, starting fails at whichever descriptor is one too many.
    #[error(
        "this process may open {limit} files, and a host needs {OPEN_FILES_MIN}: raise ulimit -n or LimitNOFILE="
    )]
    OpenFiles {
        /// What the process may open.
        limit: u64,
    },
    /// Say where.
    #[error("there is no home directory to keep the host's keys in: name one with --state-dir DIR")]
    NoStateDir,
}

impl HostArgs {
    /// The host that command line, environment and configuration file describe, in this order of precedence.
    ///
    /// # Errors
    /// [`Failure::Usage`] where they describe none; [`Failure::Failed`] where the file cannot be read, or the process may
    /// open too few files.
    pub fn resolve(self) -> Result<HostRun, Failure> {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        if limit < OPEN_FILES_MIN {
            return Err(CliError::OpenFiles { limit }.into());
        }
        let options = match &self.config {
            Some(path) => self.options.or(HostOptions::read(path)?),
            None => self.options,
        };
        let run = options.resolve().map_err(|error| Failure::Usage(error.to_string()))?;
        run.config.validate().map_err(|error| Failure::Usage(error.to_string()))?;
        Ok(run)
    }
}

impl HostOptions {
    /// Those of a configuration file; its relative paths start at its folder.
    ///
    /// # Errors
    /// As [`file::read`].
    pub fn read(path: &Path) -> Result<HostOptions, Failure> {
        let mut options: HostOptions = file::read(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let paths = options.share.iter_mut().map(|share| &mut share.path);
        let paths = paths.chain(&mut options.ticket_file).chain(&mut options.state_dir);
        for path in paths.chain(&mut options.profile_cpu) {
            *path = folder.join(&*path);
        }
        Ok(options)
    }

    /// These, and `others` where these are silent.
    pub fn or(self, others: HostOptions) -> HostOptions {
        HostOptions {
            share: if self.share.is_empty() { others.share } else { self.share },
            listen: self.listen.or(others.listen),
            advertise: self.advertise.or(others.advertise),
            ticket_file: self.ticket_file.or(others.ticket_file),
            state_dir: self.state_dir.or(others.state_dir),
            exclude: self.exclude.or(others.exclude),
            include: self.include.or(others.include),
            metrics: self.metrics.or(others.metrics),
            memory: self.memory.or(others.memory),
            log: self.log.or(others.log),
            log_format: self.log_format.or(others.log_format),
            profile_cpu: self.profile_cpu.or(others.profile_cpu),
            limits: self.limits.or(others.limits),
        }
    }

    /// Where the keys of this host are kept.
    ///
    /// # Errors
    /// [`CliError::NoStateDir`].
    pub fn state_dir(&self) -> Result<PathBuf, CliError> {
        state_dir_or_default(self.state_dir.clone())
    }

    fn resolve(self) -> Result<HostRun, CliError> {
        if self.share.is_empty() {
            return Err(CliError::NoShare);
        }
        let state_dir = self.state_dir()?;
        let (exclude, include) = (self.exclude.unwrap_or_default(), self.include.unwrap_or_default());
        let share = |share: &ShareOptions| share.config(&exclude, &include);
        let mut config = HostConfig::new(self.share.iter().map(share).collect::<Result<_, _>>()?, state_dir);
        if let Some(listen) = &self.listen {
            config.listen = listen.iter().flat_map(Listen::addresses).collect();
        }
        config.advertise =
            self.advertise.unwrap_or_default().into_iter().map(|Advertise(text)| text).collect();
        // Its bound is a usize.
        config.memory_bytes = self
            .memory
            .map_or(MEMORY_BYTES_DEFAULT, |Size(bytes)| usize::try_from(bytes).unwrap_or(usize::MAX));
        config.limits = self.limits.resolve(config.memory_bytes);
        let (bytes, memory_bytes) = (config.limits.host_answer_bytes_max, config.memory_bytes);
        if bytes > memory_bytes as u64 {
            return Err(CliError::MoreThanMemory { bytes, memory_bytes });
        }
        let log = LogConfig::new(self.log, "info", self.log_format);
        let (ticket_file, metrics, profile_cpu) = (self.ticket_file, self.metrics, self.profile_cpu);
        Ok(HostRun { config, ticket_file, metrics, log, profile_cpu })
    }
}

impl ShareOptions {
    /// The share, with these patterns before its own: of two that clash, the later one counts.
    fn config(&self, exclude: &[String], include: &[String]) -> Result<ShareConfig, CliError> {
        let name = self.name.clone().map(|ShareName(name)| name).or_else(|| own_name(&self.path));
        let name = name.ok_or_else(|| CliError::Nameless { root: self.path.clone() })?;
        let mut share = ShareConfig::new(name, self.path.clone());
        share.exclude = [exclude, self.exclude.as_deref().unwrap_or_default()].concat();
        share.include = [include, self.include.as_deref().unwrap_or_default()].concat();
        Ok(share)
    }
}

impl Listen {
    fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Listen::Port(port) => listen_everywhere(*port),
            Listen::At(address) => vec![*address],
        }
    }
}

impl FromStr for ShareName {
    type Err = String;

    fn from_str(text: &str) -> Result<ShareName, String> {
        Name::new(text.as_bytes()).map(ShareName).map_err(|_| format!("{text:?} cannot be a share's name"))
    }
}

impl FromStr for ShareOptions {
    type Err = String;

    /// `NAME=DIR` when what stands before the first `=` could be a name; `./a=b` is the folder `a=b`.
    fn from_str(text: &str) -> Result<ShareOptions, String> {
        let (name, path) = match text.split_once('=').filter(|(name, _)| !name.contains('/')) {
            Some((_, "")) => return Err(format!("{text:?}: the folder is missing after NAME=")),
            Some((name, path)) => (Some(name.parse()?), path),
            None if text.is_empty() => return Err("\"\" is an empty path".to_owned()),
            None => (None, text),
        };
        Ok(ShareOptions { name, path: path.into(), ..ShareOptions::default() })
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        if let Ok(port) = text.parse() {
            return Ok(Listen::Port(port));
        }
        if let Ok(address) = text.parse() {
            return Ok(Listen::At(address));
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        bare.parse::<IpAddr>().map(|ip| Listen::At(SocketAddr::new(ip, PORT_DEFAULT))).map_err(|_| {
            format!("{text:?} is no address: write ADDR:PORT, PORT or ADDR, such as 0.0.0.0:4433, 4433 or [::1]:4433")
        })
    }
}

impl FromStr for Advertise {
    type Err = String;

    fn from_str(text: &str) -> Result<Advertise, String> {
        if wire::ticket::is_address(text) {
            return Ok(Advertise(text.to_owned()));
        }
        Err(format!("{text:?} is no address for a ticket: write HOST:PORT, an IPv6 address in brackets"))
    }
}

/// The last component of the folder's path; of its real path where it is `.` or ends in `..`.
fn own_name(root: &Path) -> Option<Name> {
    use std::os::unix::ffi::OsStrExt;
    let of = |path: &Path| path.file_name().and_then(|name| Name::new(name.as_bytes()).ok());
    of(root).or_else(|| root.canonicalize().ok().and_then(|path| of(&path)))
}

/// Where keys are kept: as given, or where they are by default.
pub(super) fn state_dir_or_default(given: Option<PathBuf>) -> Result<PathBuf, CliError> {
    given
        .or_else(|| default_state_dir(|name| std::env::var_os(name).map(PathBuf::from)))
        .ok_or(CliError::NoStateDir)
}

/// `$XDG_STATE_HOME`, else `~/.local/state`, else (a service without a home) `/var/lib`.
fn default_state_dir(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    let service = || rustix::process::geteuid().is_root().then(|| PathBuf::from("/var/lib"));
    Some(base.or_else(service)?.join("wormhole"))
}

#[cfg(test)]
mod tests;
