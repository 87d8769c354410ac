//! What may be typed, and the help that teaches it.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{Args, Parser, Subcommand, ValueEnum};
use engine::cli::{
    ShareName,
    log::{Filter, Format},
    pages::{self, CompletionsArgs, ManArgs},
    text,
    topics::{self, HelpArgs},
    units::{Size, SizeOrNone, Time},
};
use serde::Deserialize;

use super::{cache::CacheArgs, help, options::MountOption, watch::WatchArgs};
use crate::config::{CACHE_BYTES_MIN, MEMORY_BYTES_MIN, OnDisconnect};

/// A typing error in the size must not take the machine down.
const MEMORY_BYTES_MAX: u64 = 1 << 40;
/// The largest disk cache: what its index could hold in memory.
pub(super) const CACHE_BYTES_MAX: u64 = 64 << 40;

/// `--cache-size`.
pub(super) type CacheSize = SizeOrNone<CACHE_BYTES_MIN, CACHE_BYTES_MAX>;
/// The longest deadline that makes sense: past it, a program waits for nobody.
const DEADLINE_S_MAX: u64 = 24 * 3600;

/// Mount a folder of a file server, read-only, at the speed of the wire.
#[derive(Debug, Parser)]
#[command(
    name = "wormhole",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = topics::pointer("wormhole"),
    after_long_help = topics::list("wormhole", &help::TOPICS)
)]
pub(super) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What `wormhole` does.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Mount the share that a ticket opens; stays in the foreground until it is unmounted, unless --daemon is given
    #[command(after_help = MOUNT_EXAMPLES)]
    Mount(Box<MountArgs>),
    /// Unmount a share
    #[command(visible_alias = "umount", after_help = UNMOUNT_EXAMPLES)]
    Unmount(UnmountArgs),
    /// Show this user's mounts: session, path, reads, memory. Never touches the mounts themselves
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// The disk cache: show, fill, pin, check or empty it; `wormhole help cache`
    Cache(CacheArgs),
    /// Say what changes on the host at a path and below, a line each, until ^C
    Watch(WatchArgs),
    /// Explain a command or a topic; `help topics` lists them
    Help(HelpArgs),
    /// Print what a shell needs to complete these commands
    #[command(after_help = pages::COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// Print the manual page, or write the pages of all commands and topics
    Man(ManArgs),
}

const MOUNT_EXAMPLES: &str = "\
The ticket is the line that `wormhole-engine host` prints on the file server. A command line can be
read by every user of this machine (ps): wherever others log in, hand the ticket over as a file or
on standard input.

Examples:
  wormhole mount @/etc/wormhole/films.ticket /mnt/films
  ssh server cat films.ticket | wormhole mount - /mnt/films
  wormhole mount --memory 1GiB --allow-other @films.ticket /mnt/films
  wormhole mount --daemon @films.ticket /mnt/films && ls /mnt/films

Unmount with `wormhole unmount /mnt/films`, Ctrl-C or SIGTERM.";

const UNMOUNT_EXAMPLES: &str = "\
Examples:
  wormhole unmount /mnt/films
  wormhole unmount --lazy /mnt/films     also while programs use it; it ends when they let go";

const STATUS_EXAMPLES: &str = "\
Examples:
  wormhole status
  wormhole status /mnt/films
  wormhole status --json | jq '.[].session.rtt_us'";

/// `wormhole mount`.
#[derive(Debug, Args)]
pub(super) struct MountArgs {
    /// The ticket itself, @FILE to read it from a file, or - to read it from standard input
    #[arg(value_name = "TICKET | @FILE | -")]
    pub(super) ticket: OsString,

    /// An empty folder
    pub(super) mountpoint: PathBuf,

    #[command(flatten)]
    pub(super) options: MountOptions,

    /// Return once the share is mounted, and serve it in the background; where that fails, say why and exit with 1
    #[arg(long)]
    pub(super) daemon: bool,

    /// Take from this file (TOML) what neither the command line nor the environment says; `wormhole help config`
    #[arg(long, value_name = "FILE", env = "WORMHOLE_CONFIG")]
    pub(super) config: Option<PathBuf>,
}

/// What the command line, the environment and a configuration file may say of a mount; each where it is given.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct MountOptions {
    /// Memory for caches, read-ahead and data in flight, at least 16MiB [default: 128MiB]
    #[arg(long, value_name = "SIZE", env = "WORMHOLE_MEMORY")]
    #[serde(deserialize_with = "text::value")]
    pub(super) memory: Option<Size<MEMORY_BYTES_MIN, MEMORY_BYTES_MAX>>,

    /// Keep what was read from the host in this folder, for the next time, also after a restart; mounts may share it
    /// [default: $XDG_CACHE_HOME/wormhole, else ~/.cache/wormhole]
    #[arg(long, value_name = "DIR", env = "WORMHOLE_CACHE_DIR")]
    #[serde(deserialize_with = "text::value")]
    pub(super) cache_dir: Option<PathBuf>,

    /// The most that folder takes, at least 16MiB; 0 for no cache on the disk [default: 10GiB]
    #[arg(long, value_name = "SIZE", env = "WORMHOLE_CACHE_SIZE")]
    #[serde(deserialize_with = "text::value")]
    pub(super) cache_size: Option<CacheSize>,

    /// How long an operation waits for the host before it fails with an I/O error [default: 30s]
    #[arg(long, value_name = "TIME", env = "WORMHOLE_DEADLINE")]
    #[serde(deserialize_with = "text::value")]
    pub(super) deadline: Option<Time<DEADLINE_S_MAX>>,

    /// What programs get while the host is out of reach, which is noticed about 5 s after its last sign of life. Until
    /// then they wait in any case [default: block]
    #[arg(long, value_name = "POLICY", env = "WORMHOLE_ON_DISCONNECT", value_enum)]
    #[serde(deserialize_with = "text::value")]
    pub(super) on_disconnect: Option<Policy>,

    /// Mount also while the host is out of reach, from what earlier mounts with this flag and ticket knew and the disk
    /// cache holds; implies --on-disconnect stale
    #[arg(
        long,
        value_name = "BOOL",
        env = "WORMHOLE_OFFLINE_OK",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    #[serde(deserialize_with = "text::value")]
    pub(super) offline_ok: Option<bool>,

    /// Let every user in, each by the files' modes; otherwise only the user who mounts
    #[arg(
        long,
        value_name = "BOOL",
        env = "WORMHOLE_ALLOW_OTHER",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    #[serde(deserialize_with = "text::value")]
    pub(super) allow_other: Option<bool>,

    /// Options as mount(8) passes them: ro, allow_other, nosuid, suid, nodev, dev, noexec, exec, noatime,
    /// default_permissions; those of systemd and fstab are ignored
    #[arg(short = 'o', value_name = "OPT[,OPT]", value_delimiter = ',', env = "WORMHOLE_OPTIONS")]
    #[serde(deserialize_with = "text::list")]
    pub(super) options: Option<Vec<MountOption>>,

    /// The share to mount, where the ticket opens several; without it each is a folder of the mount
    #[arg(long, value_name = "NAME", env = "WORMHOLE_SHARE")]
    #[serde(deserialize_with = "text::value")]
    pub(super) share: Option<ShareName>,

    /// Serve counters as Prometheus text under http://ADDR:PORT/metrics
    #[arg(long, value_name = "ADDR:PORT", env = "WORMHOLE_METRICS")]
    #[serde(deserialize_with = "text::value")]
    pub(super) metrics: Option<SocketAddr>,

    /// What to log on standard error, or to the file of --log-file: error, warn, info, debug, trace, or a filter such
    /// as info,wormhole_transport=debug [default: warn]
    #[arg(long, value_name = "LEVEL", env = "WORMHOLE_LOG")]
    #[serde(deserialize_with = "text::value")]
    pub(super) log: Option<Filter>,

    /// How: a line of text, or a JSON object a line [default: text]
    #[arg(long, value_name = "FORMAT", env = "WORMHOLE_LOG_FORMAT", value_enum)]
    #[serde(deserialize_with = "text::value")]
    pub(super) log_format: Option<Format>,

    /// Once mounted, append to this file what would go to standard error; a daemon without it is silent
    #[arg(long, value_name = "FILE", env = "WORMHOLE_LOG_FILE")]
    #[serde(deserialize_with = "text::value")]
    pub(super) log_file: Option<PathBuf>,

    /// Keep a profile of this process's CPU time, and write it to this file as a flamegraph (SVG) at exit and on SIGUSR1.
    /// Needs a program built with `--features pprof`
    #[arg(long, value_name = "FILE", env = "WORMHOLE_PROFILE_CPU")]
    #[serde(deserialize_with = "text::value")]
    pub(super) profile_cpu: Option<PathBuf>,
}

/// `--on-disconnect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Policy {
    /// They wait for it up to the deadline, then get an I/O error
    Block,
    /// An I/O error at once, from when the loss is noticed (about 5 s), for all that neither the kernel nor memory holds
    Fail,
    /// What memory holds, however old, from when the loss is noticed; an I/O error at once for the rest
    Stale,
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Policy, String> {
        let parsed = <Policy as ValueEnum>::from_str(text, false);
        parsed.map_err(|_| format!("{text:?} is no policy: write block, fail or stale"))
    }
}

impl From<Policy> for OnDisconnect {
    fn from(policy: Policy) -> OnDisconnect {
        match policy {
            Policy::Block => OnDisconnect::Block,
            Policy::Fail => OnDisconnect::Fail,
            Policy::Stale => OnDisconnect::Stale,
        }
    }
}

/// `wormhole unmount`.
#[derive(Debug, Args)]
pub(super) struct UnmountArgs {
    /// Where it is mounted
    pub(super) mountpoint: PathBuf,

    /// Take it off the tree now, also while programs use it
    #[arg(long)]
    pub(super) lazy: bool,
}

/// `wormhole status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Only the mount here
    pub(super) mountpoint: Option<PathBuf>,

    /// A JSON array, one object for each mount
    #[arg(long)]
    pub(super) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
