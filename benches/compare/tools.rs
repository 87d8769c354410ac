//! What is compared, and how each of them mounts the folder.

use std::{
    error::Error,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, geteuid},
};
use wormhole_benches::{
    daemons::{Daemon, Mount, is_mounted},
    undo::Undo,
};

use crate::{
    install::Needs,
    services::{Service, Services, last_line},
};

/// For a mount to be there.
const MOUNT_PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Connections of the NFS client: one for each of libfuse's threads that are busy at once.
const NFS_CONNECTIONS: &str = "8";

type Failed = Box<dyn Error>;

/// One way to have the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    Wormhole,
    Sshfs,
    SshfsGcm,
    RcloneSftp,
    RcloneWebdav,
    Nfs,
    Bindfs,
    Local,
}

impl Tool {
    pub(crate) const ALL: [Tool; 8] = [
        Tool::Wormhole,
        Tool::Sshfs,
        Tool::SshfsGcm,
        Tool::RcloneSftp,
        Tool::RcloneWebdav,
        Tool::Nfs,
        Tool::Bindfs,
        Tool::Local,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Tool::Wormhole => "wormhole",
            Tool::Sshfs => "sshfs",
            Tool::SshfsGcm => "sshfs-gcm",
            Tool::RcloneSftp => "rclone-sftp",
            Tool::RcloneWebdav => "rclone-webdav",
            Tool::Nfs => "nfs",
            Tool::Bindfs => "bindfs",
            Tool::Local => "local",
        }
    }

    /// Whether it is a bound of this machine, not a rival: no network in it.
    pub(crate) fn is_ceiling(self) -> bool {
        matches!(self, Tool::Bindfs | Tool::Local)
    }

    /// What it needs of the machine.
    pub(crate) fn needs(self) -> &'static [Needs] {
        const SSHD: Needs = Needs("/usr/sbin/sshd", "openssh-server");
        const SSH: Needs = Needs("ssh-keygen", "openssh-client");
        match self {
            Tool::Wormhole | Tool::Local => &[],
            Tool::Sshfs | Tool::SshfsGcm => &[SSHD, SSH, Needs("sshfs", "sshfs")],
            Tool::RcloneSftp => &[SSHD, SSH, Needs("rclone", "rclone")],
            Tool::RcloneWebdav => &[Needs("rclone", "rclone")],
            Tool::Nfs => &[
                Needs("ganesha.nfsd", "nfs-ganesha"),
                Needs("/usr/share/doc/nfs-ganesha-vfs", "nfs-ganesha-vfs"),
                Needs("/usr/sbin/rpcbind", "rpcbind"),
                Needs("cc", "gcc"),
                Needs("pkg-config", "pkg-config"),
                Needs("/usr/include/nfsc/libnfs.h", "libnfs-dev"),
                Needs("/usr/include/fuse3/fuse.h", "libfuse3-dev"),
            ],
            Tool::Bindfs => &[Needs("bindfs", "bindfs")],
        }
    }
}

/// A fresh mount, with empty caches of its own.
pub(crate) struct Session {
    path: PathBuf,
    /// Processes at the near and at the far end; those below them count too.
    pub(crate) near: Vec<u32>,
    pub(crate) far: Vec<u32>,
    /// What it keeps on the disk, which goes with it: passes of a gigabyte add up.
    cache: PathBuf,
    kind: Kind,
}

enum Kind {
    /// The folder itself.
    Plain,
    Ours(Mount),
    Rival {
        // Before the process, which ends by it.
        unmount: Undo,
        daemon: Daemon,
    },
}

impl Session {
    /// Mounts.
    ///
    /// # Errors
    /// What the tool says.
    pub(crate) fn start(tool: Tool, services: &Services) -> Result<Session, Failed> {
        let cache = services.place().folder("cache")?;
        match tool {
            Tool::Local => Ok(Session {
                path: services.root().to_owned(),
                near: Vec::new(),
                far: Vec::new(),
                cache,
                kind: Kind::Plain,
            }),
            Tool::Wormhole => {
                let host = services.host.as_ref().ok_or("no host")?;
                let mount = host.mount_with_cache(&cache, &[])?;
                let (path, near) = (mount.path().to_owned(), vec![mount.pid()]);
                Ok(Session { path, near, far: vec![host.pid()], cache, kind: Kind::Ours(mount) })
            }
            _ => Session::of_rival(tool, services, cache),
        }
    }

    fn of_rival(tool: Tool, services: &Services, cache: PathBuf) -> Result<Session, Failed> {
        let path = services.place().folder("mount")?;
        let (mut command, far) = command(tool, services, &cache, &path)?;
        let log = services.place().path().join(format!("{}.err", tool.name()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let daemon = Daemon::spawn(&mut command)?;
        let mounted = path.clone();
        let unmount = Undo::new(move || unmount(&mounted));
        let deadline = Instant::now() + MOUNT_PATIENCE; // clock: a tool that does not mount
        while !is_mounted(&path)? {
            if daemon.has_ended() || Instant::now() >= deadline {
                return Err(format!("{} did not mount: {}", tool.name(), last_line(&log)).into());
            }
            thread::sleep(LOOK_EVERY); // clock: no event tells of it
        }
        let near = vec![daemon.pid()];
        Ok(Session { path, near, far, cache, kind: Kind::Rival { unmount, daemon } })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Ours, to be asked for its report.
    pub(crate) fn mount(&self) -> Option<&Mount> {
        match &self.kind {
            Kind::Ours(mount) => Some(mount),
            _ => None,
        }
    }

    /// Kills the near end: whoever waits for it gets an error.
    pub(crate) fn kill(&self) {
        for &pid in &self.near {
            // Gone already is as good.
            let _ = i32::try_from(pid).map(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL));
        }
    }

    /// Unmounts and waits for the near end to go.
    pub(crate) fn end(self) -> Result<(), Failed> {
        let ended = match self.kind {
            Kind::Plain => Ok(()),
            Kind::Ours(mount) => mount.end(),
            Kind::Rival { unmount, daemon } => {
                drop(unmount);
                // Some of them call it a failure to be asked to end.
                let _ = daemon.end();
                Ok(())
            }
        };
        fs::remove_dir_all(&self.cache)?;
        ended
    }
}

fn unmount(path: &Path) {
    if !is_mounted(path).unwrap_or(false) {
        return;
    }
    let detach = |option: &str| {
        let mut command = Command::new("fusermount3");
        command.arg(option).arg(path).stdin(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !detach("-u") {
        detach("-uz");
    }
}

/// What mounts, and the processes at its far end.
fn command(
    tool: Tool,
    services: &Services,
    cache: &Path,
    path: &Path,
) -> Result<(Command, Vec<u32>), Failed> {
    let sshd = || services.sshd.as_ref().ok_or("no sshd");
    let user = User::from_uid(geteuid())?.ok_or("a user without a name")?.name;
    let root = services.root();
    Ok(match tool {
        Tool::Sshfs | Tool::SshfsGcm => {
            let service = sshd()?;
            (sshfs(tool, service, services, &user, path), vec![service.pid()])
        }
        Tool::RcloneSftp => {
            let service = sshd()?;
            let mut command = rclone(cache, path, &format!(":sftp:{}", root.display()));
            command.args(["--sftp-host", &service.address().ip().to_string()]);
            command.args(["--sftp-port", &service.address().port().to_string(), "--sftp-user", &user]);
            command.arg("--sftp-key-file").arg(services.key());
            (command, vec![service.pid()])
        }
        Tool::RcloneWebdav => {
            let service = services.webdav.as_ref().ok_or("no webdav server")?;
            let mut command = rclone(cache, path, ":webdav:");
            command.args(["--webdav-url", &format!("http://{}", service.address())]);
            command.args(["--webdav-vendor", "other"]);
            (command, vec![service.pid()])
        }
        Tool::Nfs => {
            let (service, mount_port) = services.nfs.as_ref().ok_or("no NFS server")?;
            let (ip, port) = (service.direct().ip(), service.address().port());
            let share = root.display();
            let url = format!("nfs://{ip}{share}?version=3&nfsport={port}&mountport={mount_port}");
            let mut command = Command::new(services.nfs_client());
            command.args([NFS_CONNECTIONS, &url]).arg(path).args(["-f", "-o", "ro"]);
            (command, vec![service.pid()])
        }
        Tool::Bindfs => {
            let mut command = Command::new("bindfs");
            command.args(["-f", "-r"]).arg(root).arg(path);
            (command, Vec::new())
        }
        Tool::Wormhole | Tool::Local => return Err("no rival".into()),
    })
}

fn sshfs(tool: Tool, service: &Service, services: &Services, user: &str, path: &Path) -> Command {
    let address = service.address();
    let options = format!(
        "ro,IdentityFile={},IdentitiesOnly=yes,BatchMode=yes,StrictHostKeyChecking=no,UserKnownHostsFile=/dev/null",
        services.key().display()
    );
    let mut command = Command::new("sshfs");
    command.args(["-f", "-F", "/dev/null", "-p", &address.port().to_string(), "-o", &options]);
    if tool == Tool::SshfsGcm {
        command.args(["-o", "Ciphers=aes128-gcm@openssh.com"]);
    }
    command.arg(format!("{user}@{}:{}", address.ip(), services.root().display())).arg(path);
    command
}

fn rclone(cache: &Path, path: &Path, remote: &str) -> Command {
    let mut command = Command::new("rclone");
    command.args([
        "mount",
        "--read-only",
        "--config",
        "/dev/null",
        "--vfs-cache-mode",
        "full",
        "--cache-dir",
    ]);
    command.arg(cache).arg(remote).arg(path);
    command
}
