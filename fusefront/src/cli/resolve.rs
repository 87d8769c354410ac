//! What was typed and what a configuration file says become a [`MountConfig`].

use std::{
    env,
    net::SocketAddr,
    path::{self, Path, PathBuf},
};

use engine::cli::{
    ShareName,
    failure::Failure,
    file,
    log::LogConfig,
    units::{Size, SizeOrNone, Time},
};
use wire::Ticket;

use super::{
    args::{CacheSize, MountOptions, Policy},
    options,
};
use crate::config::{Access, CACHE_BYTES_DEFAULT, CacheConfig, MountConfig, OnDisconnect};

/// What `wormhole mount` is to do, its ticket apart.
#[derive(Debug)]
pub(super) struct MountRun {
    options: MountOptions,
    /// What it says meanwhile.
    pub(super) log: LogConfig,
    /// Where it says it once it is mounted.
    pub(super) log_file: Option<PathBuf>,
    /// Where its counters are read.
    pub(super) metrics: Option<SocketAddr>,
    /// Where the profile of its CPU time goes.
    pub(super) profile_cpu: Option<PathBuf>,
}

impl MountOptions {
    /// Those of a configuration file; its relative paths start at its folder.
    fn read(path: &Path) -> Result<MountOptions, Failure> {
        let mut options: MountOptions = file::read(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        options.log_file = options.log_file.map(|path| folder.join(path));
        options.profile_cpu = options.profile_cpu.map(|path| folder.join(path));
        options.cache_dir = options.cache_dir.map(|path| folder.join(path));
        Ok(options)
    }

    /// These, and `others` where these are silent.
    pub(super) fn or(self, others: MountOptions) -> MountOptions {
        MountOptions {
            memory: self.memory.or(others.memory),
            cache_dir: self.cache_dir.or(others.cache_dir),
            cache_size: self.cache_size.or(others.cache_size),
            deadline: self.deadline.or(others.deadline),
            on_disconnect: self.on_disconnect.or(others.on_disconnect),
            offline_ok: self.offline_ok.or(others.offline_ok),
            allow_other: self.allow_other.or(others.allow_other),
            options: self.options.or(others.options),
            share: self.share.or(others.share),
            metrics: self.metrics.or(others.metrics),
            log: self.log.or(others.log),
            log_format: self.log_format.or(others.log_format),
            log_file: self.log_file.or(others.log_file),
            profile_cpu: self.profile_cpu.or(others.profile_cpu),
        }
    }
}

impl MountOptions {
    /// Whether what a start without the host needs is asked for too.
    fn check_offline(&self) -> Result<(), Failure> {
        if self.offline_ok != Some(true) {
            return Ok(());
        }
        let why = match (self.on_disconnect, self.cache_size) {
            (Some(Policy::Block | Policy::Fail), _) => {
                "--offline-ok serves stale data: leave --on-disconnect out, or say stale"
            }
            (_, Some(SizeOrNone(None))) => "--offline-ok needs the disk cache: give a --cache-size above 0",
            _ if self.cache_dir.is_none() && cache_dir().is_none() => {
                "--offline-ok needs the disk cache: give its folder with --cache-dir"
            }
            _ => return Ok(()),
        };
        Err(Failure::Usage(why.to_owned()))
    }
}

impl MountRun {
    /// What command line and environment say, and the configuration file where they are silent.
    ///
    /// # Errors
    /// As [`file::read`]; [`Failure::Usage`] for what contradicts itself.
    pub(super) fn new(typed: MountOptions, config: Option<&Path>) -> Result<MountRun, Failure> {
        let options = match config {
            Some(path) => typed.or(MountOptions::read(path)?),
            None => typed,
        };
        options.check_offline()?;
        Ok(MountRun {
            log: LogConfig::new(options.log.clone(), "warn", options.log_format),
            log_file: options.log_file.clone(),
            metrics: options.metrics,
            profile_cpu: options.profile_cpu.clone(),
            options,
        })
    }

    /// The mount of this ticket at this place.
    pub(super) fn config(self, ticket: Ticket, mountpoint: PathBuf) -> MountConfig {
        let options = self.options;
        let asked = options::asked(options.options.as_deref().unwrap_or_default());
        let mut config = MountConfig::new(ticket, mountpoint);
        config.share = options.share.map(|ShareName(name)| name);
        config.memory_bytes = options.memory.map_or(config.memory_bytes, |Size(bytes)| bytes);
        config.cache = cache(options.cache_dir, options.cache_size);
        config.deadline = options.deadline.map_or(config.deadline, |Time(time)| time);
        config.on_disconnect = options.on_disconnect.map_or(config.on_disconnect, Into::into);
        config.offline_ok = options.offline_ok == Some(true);
        if config.offline_ok {
            config.on_disconnect = OnDisconnect::Stale;
        }
        config.flags = asked.flags;
        config.access = if options.allow_other == Some(true) { Access::Everyone } else { asked.access };
        config
    }
}

/// The disk cache asked for; none where the user has no place for it.
fn cache(dir: Option<PathBuf>, size: Option<CacheSize>) -> Option<CacheConfig> {
    let SizeOrNone(bytes) = size.unwrap_or(SizeOrNone(Some(CACHE_BYTES_DEFAULT)));
    let dir = dir.or_else(cache_dir)?;
    // A daemon leaves the folder it was started in.
    let dir = path::absolute(&dir).unwrap_or(dir);
    Some(CacheConfig { quota_bytes: bytes?, dir })
}

/// Where caches of this user are, in a folder of ours. Source: the XDG Base Directory Specification; a service has
/// neither variable, root's has systemd's place.
pub(super) fn cache_dir() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    let base = base.or_else(|| nix::unistd::geteuid().is_root().then(|| PathBuf::from("/var/cache")));
    base.map(|base| base.join("wormhole"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Command};

    const EXAMPLE: &str = include_str!("../../mount.example.toml");

    fn typed(args: &[&str]) -> MountOptions {
        let arguments = [&["wormhole", "mount", "@ticket", "/mnt"], args].concat();
        let Command::Mount(args) = Cli::try_parse_from(arguments).unwrap().command else {
            panic!("another command");
        };
        args.options
    }

    fn config(options: MountOptions) -> MountConfig {
        let claims = wire::auth::Claims {
            id: wire::TicketId([1; 8]),
            shares: Vec::new(),
            prefix: wire::SharePath::root(),
            mode: wire::auth::Mode::ReadOnly,
            expires: 0,
        };
        let ticket = Ticket {
            host_key: [0; 32],
            addresses: vec!["127.0.0.1:1".to_owned()],
            secret: wire::auth::Secret::from_bytes([0; 32]),
            claims,
        };
        MountRun::new(options, None).unwrap().config(ticket, "/mnt".into())
    }

    #[test]
    fn what_is_typed_wins_over_the_file() {
        let file = "memory = \"32MiB\"\ndeadline = 5\nallow_other = true\noptions = [\"noexec\"]\non_disconnect = \"stale\"\n";
        let read = || file::parse::<MountOptions>(file).unwrap();
        let from_file = config(read());
        assert_eq!((from_file.memory_bytes, from_file.deadline.as_secs()), (32 << 20, 5));
        assert_eq!((from_file.access, from_file.flags.noexec), (Access::Everyone, true));
        assert_eq!(from_file.on_disconnect, OnDisconnect::Stale);
        let both = config(typed(&["--memory", "64MiB", "--allow-other=false", "-o", "suid"]).or(read()));
        assert_eq!((both.memory_bytes, both.deadline.as_secs()), (64 << 20, 5));
        assert_eq!((both.access, both.flags.noexec, both.flags.suid), (Access::Owner, false, true));
        assert_eq!(config(typed(&["--allow-other"])).access, Access::Everyone);
        assert_eq!(config(typed(&["--cache-dir", "/c", "--cache-size", "0"])).cache, None);
        let cache = config(typed(&["--cache-dir", "/c"])).cache;
        assert_eq!(cache, Some(CacheConfig { dir: "/c".into(), quota_bytes: 10 << 30 }));
        assert_eq!(config(typed(&["-o", "allow_other,ro"])).access, Access::Everyone);
    }

    #[test]
    fn a_start_without_the_host_is_stale_and_needs_the_disk() {
        let offline = config(typed(&["--offline-ok", "--cache-dir", "/c"]));
        assert_eq!((offline.offline_ok, offline.on_disconnect), (true, OnDisconnect::Stale));
        assert!(!config(typed(&["--offline-ok=false", "--cache-dir", "/c"])).offline_ok);
        for wrong in [["--on-disconnect", "block"], ["--on-disconnect", "fail"], ["--cache-size", "0"]] {
            let typed = typed(&["--offline-ok", "--cache-dir", "/c", wrong[0], wrong[1]]);
            assert!(matches!(MountRun::new(typed, None), Err(Failure::Usage(_))), "{wrong:?}");
        }
    }

    #[test]
    fn the_sample_shows_every_key() {
        file::parse::<MountOptions>(EXAMPLE).unwrap();
        let all: String = EXAMPLE
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(key) if key.split(' ').nth(1) == Some("=") => format!("{key}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        file::parse::<MountOptions>(&all).unwrap();
        let keys = file::keys::<MountOptions>("");
        assert!(!keys.is_empty());
        for key in keys {
            assert!(
                all.lines().any(|line| line.starts_with(&format!("{key} = "))),
                "{key} is not in the sample"
            );
        }
    }
}
