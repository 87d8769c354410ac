//! What may be typed, and the help that teaches it.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::config::{DEADLINE_DEFAULT, MEMORY_BYTES_MIN, OnDisconnect};

/// Mount a folder of a file server, read-only, at the speed of the wire.
#[derive(Debug, Parser)]
#[command(name = "wormhole", version, max_term_width = 100, arg_required_else_help = true)]
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
    Mount(MountArgs),
    /// Unmount a share
    #[command(visible_alias = "umount", after_help = UNMOUNT_EXAMPLES)]
    Unmount(UnmountArgs),
    /// Show this user's mounts: session, path, reads, memory. Never touches the mounts themselves
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
}

const MOUNT_EXAMPLES: &str = "\
The ticket is the line that `wormhole-engine host` prints on the file server. A command line can be read by every user
of this machine (ps), so hand the ticket over as a file or on standard input wherever others log in.

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

    /// Memory for caches, read-ahead and data in flight (at least 16MiB)
    #[arg(long, value_name = "SIZE", default_value = "128MiB", value_parser = parse_memory)]
    pub(super) memory: u64,

    /// How long an operation waits for the host before it fails with an I/O error
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_deadline)]
    pub(super) deadline: Duration,

    /// What programs get while the host is out of reach: `block` waits for it up to the deadline, then an I/O error;
    /// `fail` an I/O error at once; `stale` what memory holds, however old, and an I/O error at once for the rest
    #[arg(long, value_name = "POLICY", default_value = "block", value_enum)]
    pub(super) on_disconnect: Policy,

    /// Let every user in, each by the files' modes; otherwise only the user who mounts
    #[arg(long)]
    pub(super) allow_other: bool,

    /// Return once the share is mounted, and serve it in the background; where that fails, say why and exit with 1
    #[arg(long)]
    pub(super) daemon: bool,

    /// Once mounted, append to this file what would go to standard error; a daemon without it is silent
    #[arg(long, value_name = "FILE")]
    pub(super) log_file: Option<PathBuf>,

    /// The share to mount, where the ticket opens several; without it each is a folder of the mount
    #[arg(long, value_name = "NAME")]
    pub(super) share: Option<OsString>,

    /// Options as mount(8) passes them: ro, allow_other, nosuid, suid, nodev, dev, noexec, exec, noatime,
    /// default_permissions; those of systemd and fstab are ignored
    #[arg(short = 'o', value_name = "OPT[,OPT]", value_delimiter = ',')]
    pub(super) options: Vec<String>,

    /// What to log on standard error, or to the file of --log-file: error, warn, info, debug, trace, or a filter such as info,transport=debug
    #[arg(long, value_name = "LEVEL", default_value = "warn", env = "WORMHOLE_LOG", value_parser = parse_filter)]
    pub(super) log: String,
}

/// `--on-disconnect`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Policy {
    Block,
    Fail,
    Stale,
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

/// The longest deadline that makes sense: past it, a program waits for nobody.
const DEADLINE_MAX: Duration = Duration::from_secs(24 * 3600);

fn parse_filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn parse_memory(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text)?;
    if bytes < MEMORY_BYTES_MIN {
        return Err(format!("at least {} MiB are needed", MEMORY_BYTES_MIN >> 20));
    }
    Ok(bytes)
}

/// Bytes: a number with k, M, G (or kB, KB, MB, GB; powers of 1000) or Ki, Mi, Gi (or KiB, MiB, GiB; powers of 1024).
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        _ => return Err(format!("{unit:?} is no unit: write 512MiB, 2GiB, 500M")),
    };
    let number: u64 = number.parse().map_err(|_| "a size begins with a whole number: 512MiB".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "larger than any machine's memory".to_owned())
}

/// A time: a number with ms, s, m or h; seconds without.
fn parse_deadline(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let millis: u64 = match unit.trim() {
        "ms" => 1,
        "" | "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("{unit:?} is no unit of time: write 30s, 500ms, 2m")),
    };
    let number: u64 = number.parse().map_err(|_| "a time begins with a whole number: 30s".to_owned())?;
    let time = number.checked_mul(millis).map(Duration::from_millis).unwrap_or(Duration::MAX);
    if time.is_zero() || time > DEADLINE_MAX {
        return Err(format!("between 1ms and 24h; {} s if left out", DEADLINE_DEFAULT.as_secs()));
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_are_read_in_either_system() {
        assert_eq!(parse_size("128MiB"), Ok(128 << 20));
        assert_eq!(parse_size("1g"), Ok(1_000_000_000));
        assert_eq!(parse_size("2 GiB"), Ok(2 << 30));
        assert_eq!(parse_size("4096"), Ok(4096));
        for bad in ["", "MiB", "1.5GiB", "-1", "3 parsecs", "99999999999999999999", "18446744073709551615k"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert!(parse_memory("1MiB").is_err());
    }

    #[test]
    fn times_are_read_with_their_units() {
        assert_eq!(parse_deadline("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_deadline("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_deadline("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_deadline("5"), Ok(Duration::from_secs(5)));
        for bad in ["", "0s", "25h", "s", "3 fortnights"] {
            assert!(parse_deadline(bad).is_err(), "{bad}");
        }
    }
}
