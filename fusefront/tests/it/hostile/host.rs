//! A host that answers whatever a test wants it to.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tempfile::TempDir;
use transport::{Answer, Identity, Lane, Serve, Server, ServerConfig, SessionSummary};
use wire::{
    Attr, ByteLen, Entry, ErrorCode, FileId, FileKind, Listing, Name, Reply, Request, ShareId, SharePath,
    Ticket, TicketId, Timestamp,
    auth::{Claims, Mode, Secret},
    listing::Statfs,
    message::{Call, Hello, ShareInfo, Welcome},
    version::PROTOCOL_VERSION,
};

/// What is said to a request; `None`: nothing, ever.
type Script = dyn Fn(&Request) -> Option<Answer> + Send + Sync;

struct Scripted {
    shares: Vec<ShareInfo>,
    script: Box<Script>,
    asked: Arc<AtomicU64>,
}

impl Serve for Scripted {
    type Session = ();

    async fn admit(
        &self,
        _hello: Hello,
        _channel: [u8; 32],
        _peer: SocketAddr,
    ) -> Result<(Arc<()>, Welcome), ErrorCode> {
        let welcome = Welcome { version: PROTOCOL_VERSION, session: 1, boot: 1, shares: self.shares.clone() };
        Ok((Arc::new(()), welcome))
    }

    async fn answer(&self, _session: &Arc<()>, call: Call) -> Answer {
        self.asked.fetch_add(1, Relaxed);
        match (self.script)(&call.request) {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    fn ended(&self, _session: &Arc<()>, _summary: &SessionSummary) {}
}

/// The host at work on loopback; a mount takes any ticket of it.
pub(crate) struct Host {
    asked: Arc<AtomicU64>,
    ticket: Ticket,
    scratch: TempDir,
    server: Option<Server>,
    lane: Lane,
}

impl Host {
    /// One share, whose root is [`dir`] 2, and the answers to everything.
    pub(crate) fn new(script: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static) -> Host {
        Host::of_shares(vec![share(1, "share", dir(2))], script)
    }

    pub(crate) fn of_shares(
        shares: Vec<ShareInfo>,
        script: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static,
    ) -> Host {
        let (lane, identity) = (Lane::start("hostile-host").unwrap(), Identity::generate().unwrap());
        let host_key = identity.public_key();
        let mut config = ServerConfig::new(identity);
        config.listen = vec!["127.0.0.1:0".parse().unwrap()];
        let asked = Arc::<AtomicU64>::default();
        let serve = Arc::new(Scripted { shares, script: Box::new(script), asked: asked.clone() });
        let server = super::wait(&lane, async move { Server::bind(config, serve).unwrap() });
        let claims = Claims {
            id: TicketId([1; 8]),
            shares: Vec::new(),
            prefix: SharePath::root(),
            mode: Mode::ReadOnly,
            expires: 0,
        };
        let addresses = server.local_addrs().iter().map(ToString::to_string).collect();
        let ticket = Ticket { host_key, addresses, claims, secret: Secret::from_bytes([9; 32]) };
        let scratch = TempDir::new().unwrap();
        fs::write(scratch.path().join("ticket"), ticket.to_string()).unwrap();
        Host { asked, ticket, scratch, server: Some(server), lane }
    }

    pub(crate) fn ticket(&self) -> Ticket {
        self.ticket.clone()
    }

    /// A real mount of it.
    pub(crate) fn mount(&self, arguments: &[&str]) -> crate::rig::Mount {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_wormhole"));
        command.env("XDG_RUNTIME_DIR", self.scratch.path()).env_remove("WORMHOLE_LOG");
        let ticket = format!("@{}", self.scratch.path().join("ticket").display());
        crate::rig::Mount::start(command, &ticket, arguments)
    }

    /// Runs `wormhole` where the mounts of this host are found.
    pub(crate) fn run(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_wormhole"));
        command.env("XDG_RUNTIME_DIR", self.scratch.path()).env_remove("WORMHOLE_LOG");
        crate::rig::finish(command.args(arguments))
    }

    /// How often it was asked so far.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Relaxed)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let server = self.server.take();
        super::wait(&self.lane, async move { drop(server) });
    }
}

pub(crate) fn share(id: u16, text: &str, root: Attr) -> ShareInfo {
    ShareInfo { id: ShareId(id), name: name(text), root }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

/// A folder of this inode number.
pub(crate) fn dir(inode: u64) -> Attr {
    let time = Timestamp { secs: 1_700_000_000, nanos: 0 };
    Attr {
        id: FileId { fs: 1, inode, birth: 3 },
        kind: FileKind::Directory,
        perm: 0o755,
        links: 2,
        uid: 0,
        gid: 0,
        rdev: 0,
        block_bytes: 4096,
        size: ByteLen(0),
        blocks: 0,
        atime: time,
        mtime: time,
        ctime: time,
        settled: true,
    }
}

/// A file of this inode number and size.
pub(crate) fn file(inode: u64, size: u64) -> Attr {
    Attr { kind: FileKind::Regular, size: ByteLen(size), perm: 0o644, links: 1, ..dir(inode) }
}

pub(crate) fn attr(attr: Attr) -> Option<Answer> {
    Some(Reply::Attr(attr).into())
}

pub(crate) fn absent() -> Option<Answer> {
    Some(ErrorCode::NotFound.into())
}

/// A page of a listing.
pub(crate) fn page(of: Attr, entries: Vec<Entry>, end: bool) -> Option<Answer> {
    Some(Reply::Listing(Listing { dir: of, entries, end, grant: None }).into())
}

pub(crate) fn entry(text: &str, cookie: u64, attr: Attr) -> Entry {
    Entry { name: name(text), cookie, kind: Some(attr.kind), attr: Some(attr) }
}

/// The path that a request is about.
pub(crate) fn path(request: &Request) -> String {
    match request {
        Request::Stat(target)
        | Request::List { target, .. }
        | Request::Lease { target, .. }
        | Request::ReadFiles { dir: target, .. }
        | Request::Readlink(target)
        | Request::Read { target, .. }
        | Request::Verify { target, .. }
        | Request::GetXattr { target, .. }
        | Request::ListXattr(target) => String::from_utf8(target.path.as_bytes().to_owned()).unwrap(),
        Request::Hello(_) | Request::Statfs(_) | Request::Release(_) => String::new(),
    }
}

/// What an honest host says of its root and its file system.
pub(crate) fn usual(request: &Request) -> Option<Answer> {
    match request {
        Request::Stat(target) if target.path.is_root() => attr(dir(2)),
        Request::Statfs(_) => Some(Reply::Statfs(Statfs { blocks: 1, ..Statfs::default() }).into()),
        Request::GetXattr { .. } => Some(ErrorCode::NoAttribute.into()),
        _ => absent(),
    }
}
