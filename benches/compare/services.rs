//! The far ends: what serves the folder to each tool. All of them stop when this is dropped, and at a signal.

use std::{
    error::Error,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use wormhole_benches::{
    daemons::{Daemon, Host, Place},
    route::{Line, Route},
};

use crate::{install::provide, tools::Tool};

/// For a service to listen.
const START_PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Where services register with rpcbind. Source: rpc/rpcb_prot.h, `_PATH_RPCBINDSOCK`.
const RPCBIND_SOCKET: &str = "/run/rpcbind.sock";

type Failed = Box<dyn Error>;

/// A service over TCP, and what lies between it and its clients.
pub(crate) struct Service {
    daemon: Daemon,
    line: Option<Line>,
    address: SocketAddr,
    log: PathBuf,
}

impl Service {
    /// Where clients reach it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.line.as_ref().map_or(self.address, Line::address)
    }

    /// Where it listens itself.
    pub(crate) fn direct(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.daemon.pid()
    }
}

/// All that were started.
pub(crate) struct Services {
    // In the order in which they end: services before their files.
    pub(crate) host: Option<Host>,
    pub(crate) sshd: Option<Service>,
    pub(crate) webdav: Option<Service>,
    /// With the port of its MOUNT protocol, by which NFSv3 begins.
    pub(crate) nfs: Option<(Service, u16)>,
    /// Where none ran before: the NFS server does not start without one.
    _rpcbind: Option<Daemon>,
    place: Arc<Place>,
    root: PathBuf,
    route: Route,
}

impl Services {
    /// None yet, for this folder.
    pub(crate) fn new(root: &Path, route: Route) -> Result<Services, Failed> {
        let place = Place::new()?;
        let root = root.canonicalize()?;
        Ok(Services { host: None, sshd: None, webdav: None, nfs: None, _rpcbind: None, place, root, route })
    }

    /// The folder that is served.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.place.path().join("client_key")
    }

    /// The NFS client that [`Services::start`] built.
    pub(crate) fn nfs_client(&self) -> PathBuf {
        self.place.path().join("nfs_client")
    }

    /// Starts what a tool needs, unless another tool needed it before.
    ///
    /// # Errors
    /// Why the tool cannot be had here.
    pub(crate) fn start(&mut self, tool: Tool) -> Result<(), Failed> {
        provide(tool.needs())?;
        if self.route != Route::Loopback && matches!(tool, Tool::Bindfs | Tool::Local) {
            return Err("has no network in it: measured on loopback alone".into());
        }
        match tool {
            Tool::Wormhole if self.host.is_none() => {
                // A host sends to one address at most as many new connections as its limit: each pass is one.
                self.host = Some(Host::start(&[&self.root], self.route, &[])?);
            }
            Tool::Sshfs | Tool::SshfsGcm | Tool::RcloneSftp if self.sshd.is_none() => {
                self.sshd = Some(self.start_sshd()?);
            }
            Tool::RcloneWebdav if self.webdav.is_none() => self.webdav = Some(self.start_webdav()?),
            Tool::Nfs if self.nfs.is_none() => {
                self.build_nfs_client()?;
                self._rpcbind = rpcbind()?;
                self.nfs = Some(self.start_nfs()?);
            }
            _ => {}
        }
        Ok(())
    }

    /// A server of its own: keys, port and settings are this run's.
    fn start_sshd(&self) -> Result<Service, Failed> {
        let place = self.place.path();
        for key in ["host_key", "client_key"] {
            let mut generate = Command::new("ssh-keygen");
            run(generate.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(place.join(key)))?;
        }
        fs::copy(place.join("client_key.pub"), place.join("authorized_keys"))?;
        // The folder that it gives up its rights in; Debian's own service makes it at boot.
        let _ = fs::create_dir_all("/run/sshd");
        let port = free_port()?;
        let shown = place.display();
        let settings = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {shown}/host_key\n\
             AuthorizedKeysFile {shown}/authorized_keys\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             MaxStartups 100\nSubsystem sftp internal-sftp\nPidFile none\n"
        );
        fs::write(place.join("sshd_config"), settings)?;
        let mut command = Command::new("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(place.join("sshd_config"));
        self.listen("sshd", &mut command, port)
    }

    fn start_webdav(&self) -> Result<Service, Failed> {
        let port = free_port()?;
        let mut command = Command::new("rclone");
        command.args(["serve", "webdav", "--read-only", "--config", "/dev/null", "--addr"]);
        command.arg(format!("127.0.0.1:{port}")).arg(&self.root);
        self.listen("webdav", &mut command, port)
    }

    fn start_nfs(&self) -> Result<(Service, u16), Failed> {
        let (port, mount_port) = (free_port()?, free_port()?);
        let root = self.root.display();
        let settings = format!(
            "NFS_CORE_PARAM {{ NFS_Protocols = 3; NFS_Port = {port}; MNT_Port = {mount_port}; Bind_addr = 127.0.0.1; \
             Enable_NLM = false; Enable_RQUOTA = false; fsid_device = true; }}\n\
             EXPORT {{ Export_Id = 1; Path = {root}; Pseudo = /share; Protocols = 3; Access_Type = RO; \
             Squash = None; SecType = sys, none; PrivilegedPort = false; Transports = TCP; MaxRead = 1048576; \
             PrefRead = 1048576; FSAL {{ Name = VFS; }} }}\nLOG {{ Default_Log_Level = CRIT; }}\n"
        );
        let place = self.place.path();
        fs::write(place.join("ganesha.conf"), settings)?;
        let mut command = Command::new("ganesha.nfsd");
        command.arg("-F").arg("-f").arg(place.join("ganesha.conf"));
        command.arg("-L").arg(place.join("ganesha.log")).arg("-p").arg(place.join("ganesha.pid"));
        let service = self.listen("ganesha", &mut command, port)?;
        wait_for(&service, mount_port)?;
        Ok((service, mount_port))
    }

    fn build_nfs_client(&self) -> Result<(), Failed> {
        let flags = Command::new("pkg-config").args(["--cflags", "--libs", "libnfs", "fuse3"]).output()?;
        let source = self.place.path().join("nfs_client.c");
        fs::write(&source, include_str!("nfs_client.c"))?;
        let mut compile = Command::new("cc");
        compile.args(["-O2", "-o"]).arg(self.nfs_client()).arg(source);
        compile.args(String::from_utf8_lossy(&flags.stdout).split_whitespace()).arg("-lpthread");
        run(&mut compile)
    }

    fn listen(&self, name: &str, command: &mut Command, port: u16) -> Result<Service, Failed> {
        let log = self.place.path().join(format!("{name}.err"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let daemon = Daemon::spawn(command)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut service = Service { daemon, line: None, address, log };
        wait_for(&service, port)?;
        service.line = self.route.open_tcp(address)?;
        Ok(service)
    }
}

/// One of this run's own, where the machine has none. It cannot be kept to loopback, so its ports are in a network of
/// its own, and what registers reaches it by its socket in the file system.
fn rpcbind() -> Result<Option<Daemon>, Failed> {
    if UnixStream::connect(RPCBIND_SOCKET).is_ok() {
        return Ok(None);
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "/usr/sbin/rpcbind", "-f"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let daemon = Daemon::spawn(&mut command)?;
    let deadline = Instant::now() + START_PATIENCE; // clock: a service that does not listen
    while UnixStream::connect(RPCBIND_SOCKET).is_err() {
        if daemon.has_ended() || Instant::now() >= deadline {
            return Err(
                "rpcbind, without which the NFS server does not start, does not (only root may)".into()
            );
        }
        thread::sleep(LOOK_EVERY); // clock: no event tells of it
    }
    Ok(Some(daemon))
}

fn wait_for(service: &Service, port: u16) -> Result<(), Failed> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let deadline = Instant::now() + START_PATIENCE; // clock: a service that does not listen
    while TcpStream::connect_timeout(&address, START_PATIENCE).is_err() {
        if service.daemon.has_ended() || Instant::now() >= deadline {
            return Err(format!("nothing listens at {address}: {}", last_line(&service.log)).into());
        }
        thread::sleep(LOOK_EVERY); // clock: no event tells of it
    }
    Ok(())
}

/// What a program said last.
pub(crate) fn last_line(log: &Path) -> String {
    let said = fs::read(log).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim().to_owned()
}

/// A port that is free now; whoever it is for takes it at once.
fn free_port() -> Result<u16, Failed> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn run(command: &mut Command) -> Result<(), Failed> {
    let name = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output().map_err(|why| format!("start {name}: {why}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name}: {}", said.lines().last().unwrap_or("failed without a word")).into())
}
