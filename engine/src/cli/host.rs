//! `wormhole-engine host`: its options as typed, and the [`HostConfig`] they describe.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use clap::Args;
use rustix::process::{Resource, getrlimit};
use wire::Name;

use super::size::parse_size;
use crate::config::{HostConfig, PORT_DEFAULT, ShareConfig, listen_everywhere};

pub(super) const EXAMPLES: &str = "\
Examples:
  wormhole-engine host /srv/projects
      Serves the folder and prints its ticket. On another machine: wormhole mount TICKET /mnt/projects
  wormhole-engine host footage=/data/raid assets=/srv/assets --ticket-file /run/wormhole.ticket
      Two shares by name; the ticket goes to a file that only its owner reads.
  wormhole-engine host /srv/projects --listen 5000 --advertise files.example.net:5000
      Another port, behind a router that forwards UDP port 5000.

The ticket is a password: who has it reads the folders. It stays the same after a restart.";

/// The options of `wormhole-engine host`, as typed.
#[derive(Debug, Args)]
pub struct HostArgs {
    /// Folders to serve, as DIR or NAME=DIR; up to 10. The name defaults to the folder's own
    #[arg(required = true, value_name = "DIR", value_parser = parse_share)]
    pub shares: Vec<ShareArg>,
    /// UDP address and port to listen on: ADDR:PORT, PORT or ADDR; port 0 picks one. Repeatable
    /// [default: port 4433 on every address]
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_listen, value_delimiter = ',', env = "WORMHOLE_LISTEN")]
    pub listen: Vec<Listen>,
    /// What the ticket says instead of this machine's addresses. Repeatable
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', env = "WORMHOLE_ADVERTISE")]
    pub advertise: Vec<String>,
    /// Write the ticket there (mode 0600) once ready, instead of to stdout
    #[arg(long, value_name = "FILE", env = "WORMHOLE_TICKET_FILE")]
    pub ticket_file: Option<PathBuf>,
    /// Where the host's keys are kept [default: $XDG_STATE_HOME/wormhole]
    #[arg(long, value_name = "DIR", env = "WORMHOLE_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Serve counters as Prometheus text under http://ADDR:PORT/metrics
    #[arg(long, value_name = "ADDR:PORT", env = "WORMHOLE_METRICS")]
    pub metrics: Option<SocketAddr>,
    /// Memory for reads in progress, such as 64MiB
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_size, env = "WORMHOLE_MEMORY")]
    pub memory: usize,
    /// What to log on stderr: error, warn, info, debug, trace, or a filter such as info,transport=debug
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "WORMHOLE_LOG")]
    pub log: String,
}

/// A folder to serve as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareArg {
    name: Option<Name>,
    root: PathBuf,
}

/// An address to listen on as it was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A port on every address.
    Port(u16),
    /// One address.
    At(SocketAddr),
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
    /// The host these options describe.
    ///
    /// # Errors
    /// When a folder has no name, no place for the keys is known, or the process may open too few files.
    pub fn config(&self) -> Result<HostConfig, CliError> {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        if limit < OPEN_FILES_MIN {
            return Err(CliError::OpenFiles { limit });
        }
        let shares = self.shares.iter().map(ShareArg::config).collect::<Result<_, _>>()?;
        let state_dir = match &self.state_dir {
            Some(dir) => dir.clone(),
            None => default_state_dir(|name| std::env::var_os(name).map(PathBuf::from))
                .ok_or(CliError::NoStateDir)?,
        };
        let mut config = HostConfig::new(shares, state_dir);
        if !self.listen.is_empty() {
            config.listen = self.listen.iter().flat_map(Listen::addresses).collect();
        }
        config.advertise.clone_from(&self.advertise);
        config.memory_bytes = self.memory;
        Ok(config)
    }
}

impl ShareArg {
    fn config(&self) -> Result<ShareConfig, CliError> {
        let name = self.name.clone().or_else(|| own_name(&self.root));
        let name = name.ok_or_else(|| CliError::Nameless { root: self.root.clone() })?;
        Ok(ShareConfig::new(name, self.root.clone()))
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

/// The last component of the folder's path; of its real path where it is `.` or ends in `..`.
fn own_name(root: &Path) -> Option<Name> {
    use std::os::unix::ffi::OsStrExt;
    let of = |path: &Path| path.file_name().and_then(|name| Name::new(name.as_bytes()).ok());
    of(root).or_else(|| root.canonicalize().ok().and_then(|path| of(&path)))
}

/// Where keys are kept: `$XDG_STATE_HOME`, else `~/.local/state`, else (a service without a home) `/var/lib`.
fn default_state_dir(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    let service = || rustix::process::geteuid().is_root().then(|| PathBuf::from("/var/lib"));
    Some(base.or_else(service)?.join("wormhole"))
}

/// `NAME=DIR` when what stands before the first `=` could be a name; `./a=b` is the folder `a=b`.
fn parse_share(text: &str) -> Result<ShareArg, String> {
    if let Some((name, root)) = text.split_once('=').filter(|(name, _)| !name.contains('/')) {
        if root.is_empty() {
            return Err("the folder is missing after NAME=".to_owned());
        }
        let name = Name::new(name.as_bytes()).map_err(|_| format!("{name:?} cannot be a share's name"))?;
        return Ok(ShareArg { name: Some(name), root: root.into() });
    }
    if text.is_empty() {
        Err("an empty path".to_owned())
    } else {
        Ok(ShareArg { name: None, root: text.into() })
    }
}

fn parse_listen(text: &str) -> Result<Listen, String> {
    if let Ok(port) = text.parse() {
        return Ok(Listen::Port(port));
    }
    if let Ok(address) = text.parse() {
        return Ok(Listen::At(address));
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>()
        .map(|ip| Listen::At(SocketAddr::new(ip, PORT_DEFAULT)))
        .map_err(|_| "write ADDR:PORT, PORT or ADDR, such as 0.0.0.0:4433, 4433 or [::1]:4433".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn host(args: &[&str]) -> HostArgs {
        let Command::Host(args) =
            Cli::try_parse_from([&["wormhole-engine", "host"], args].concat()).unwrap().command;
        args
    }

    #[test]
    fn folders_with_and_without_a_name() {
        let config = host(&["/srv/a", "b=/srv/x=y", "./c=d", "--state-dir", "/s"]).config().unwrap();
        let shares: Vec<_> =
            config.shares.iter().map(|s| (s.name.to_string(), s.root.to_str().unwrap())).collect();
        let expected = [("a", "/srv/a"), ("b", "/srv/x=y"), ("c=d", "./c=d")];
        assert_eq!(shares, expected.map(|(name, root)| (name.to_owned(), root)));
        let root = host(&["/", "--state-dir", "/s"]).config();
        assert!(matches!(root, Err(CliError::Nameless { .. })));
        assert_eq!(
            host(&["files=/", "--state-dir", "/s"]).config().unwrap().shares[0].name.as_bytes(),
            b"files"
        );
    }

    #[test]
    fn wrong_usage_is_exit_code_two() {
        for args in [&["--no-such-flag"][..], &[], &["/a", "--listen", "x"], &["/a", "--memory", "lots"]] {
            let error = Cli::try_parse_from([&["wormhole-engine", "host"], args].concat()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}");
        }
    }

    #[test]
    fn addresses_to_listen_on() {
        assert_eq!(parse_listen("5000"), Ok(Listen::Port(5000)));
        assert_eq!(parse_listen("10.0.0.1:9"), Ok(Listen::At("10.0.0.1:9".parse().unwrap())));
        assert_eq!(parse_listen("10.0.0.1"), Ok(Listen::At("10.0.0.1:4433".parse().unwrap())));
        assert_eq!(parse_listen("[::1]"), Ok(Listen::At("[::1]:4433".parse().unwrap())));
        assert_eq!(parse_listen("::1"), Ok(Listen::At("[::1]:4433".parse().unwrap())));
        assert!(parse_listen("70000").is_err());
        let config = host(&["/a", "--state-dir", "/s", "--listen", "127.0.0.1:0"]).config().unwrap();
        assert_eq!(config.listen, ["127.0.0.1:0".parse().unwrap()]);
    }

    #[test]
    fn keys_are_kept_where_the_user_expects_them() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| PathBuf::from(value))
        };
        let dir = |pairs| default_state_dir(env(pairs)).map(|path| path.to_str().unwrap().to_owned());
        assert_eq!(dir(&[("XDG_STATE_HOME", "/x"), ("HOME", "/h")]).unwrap(), "/x/wormhole");
        assert_eq!(
            dir(&[("XDG_STATE_HOME", "relative"), ("HOME", "/h")]).unwrap(),
            "/h/.local/state/wormhole"
        );
        let root = rustix::process::geteuid().is_root();
        assert_eq!(dir(&[]), root.then(|| "/var/lib/wormhole".to_owned()));
    }
}
