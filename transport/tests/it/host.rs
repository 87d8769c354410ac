//! A host whose files hold a byte pattern, and what every test needs around it.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, watch},
    time::{self, Instant},
};
use transport::{
    Answer, Client, ClientConfig, FilesCall, HeldUp, Identity, ReadCall, Serve, Server, ServerConfig,
    SessionEnd, SessionSummary, Usage,
};
use uring::{Pool, PoolConfig, Slot, SlotClass};
use wire::{
    Attr, ByteLen, Entry, ErrorCode, Extent, FileId, FileKind, Listing, Name, Push, Reply, Request, ShareId,
    SharePath, Ticket, TicketId, Timestamp, Version,
    auth::{Claims, Mode, Secret},
    listing::Statfs,
    message::{Call, Class, FileWanted, Hello, ShareInfo, Target, Welcome},
    version::PROTOCOL_VERSION,
};

const TICKET_KEY: [u8; 32] = [7; 32];

/// Real-I/O tests give up after this; nothing they wait for takes a tenth of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a host of the tests does with reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    Served,
    /// The answer never comes.
    Held,
    /// The host is at a limit.
    Busy,
    /// The answer is of another version than asked for.
    WrongVersion,
    /// One byte less than asked for.
    Short,
    /// Data and length of the reply differ, which the server must catch.
    Torn,
}

/// Counts that tests wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) admitted: u64,
    pub(crate) ended: u64,
    pub(crate) started: u64,
    /// Answers given.
    pub(crate) answered: u64,
    /// Answers whose future was dropped before it had one.
    pub(crate) withdrawn: u64,
}

pub(crate) struct Host {
    pub(crate) reads: watch::Sender<Reads>,
    pub(crate) counts: watch::Sender<Counts>,
    pub(crate) release: Notify,
    pub(crate) share_ids: Vec<u16>,
    pub(crate) ticket_key: [u8; 32],
    /// How long it thinks about a hello.
    pub(crate) admit_takes: Mutex<Duration>,
    /// Why all sessions are to end.
    pub(crate) dismissal: watch::Sender<Option<String>>,
    /// How much longer it was held up at each look.
    pub(crate) held_up_each_look: Mutex<HeldUp>,
    /// What it says of its own accord, to whichever session asks first.
    pub(crate) pushes: Mutex<VecDeque<Push>>,
    /// Rings for each of them.
    pub(crate) pushed: Notify,
    held_up: Mutex<HeldUp>,
    boot: u64,
    sessions: AtomicU64,
    last_end: Mutex<Option<SessionEnd>>,
}

impl Host {
    pub(crate) fn new() -> Arc<Host> {
        Host::with_shares(1, vec![1])
    }

    pub(crate) fn with_shares(boot: u64, share_ids: Vec<u16>) -> Arc<Host> {
        Arc::new(Host {
            reads: watch::channel(Reads::Served).0,
            counts: watch::channel(Counts::default()).0,
            release: Notify::new(),
            share_ids,
            ticket_key: TICKET_KEY,
            admit_takes: Mutex::default(),
            dismissal: watch::channel(None).0,
            held_up_each_look: Mutex::default(),
            pushes: Mutex::default(),
            pushed: Notify::new(),
            held_up: Mutex::default(),
            boot,
            sessions: AtomicU64::new(0),
            last_end: Mutex::new(None),
        })
    }

    /// How the session ended that ended last.
    pub(crate) fn last_end(&self) -> Option<SessionEnd> {
        *self.last_end.lock().unwrap()
    }

    pub(crate) fn push(&self, push: Push) {
        self.pushes.lock().unwrap().push_back(push);
        self.pushed.notify_one();
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }

    /// Waits until the counts are as `wanted`.
    pub(crate) async fn until(&self, wanted: impl FnMut(&Counts) -> bool) {
        let mut counts = self.counts.subscribe();
        time::timeout(PATIENCE, counts.wait_for(wanted)).await.expect("counts in time").unwrap();
    }

    async fn read(&self, extent: Extent, version: Version) -> Answer {
        let reads = *self.reads.borrow();
        match reads {
            Reads::Held => self.release.notified().await,
            Reads::Busy => return ErrorCode::Busy.into(),
            Reads::Served | Reads::WrongVersion | Reads::Short | Reads::Torn => {}
        }
        let len = match reads {
            Reads::Short => extent.len.0 - 1,
            _ => extent.len.0,
        };
        let mut version = version;
        if reads == Reads::WrongVersion {
            version.size = ByteLen(version.size.0 + 1);
        }
        let mut data = pattern(extent.start.0, len);
        if reads == Reads::Torn {
            data = data.slice(1..);
        }
        Answer { reply: Reply::Data { version, len: u32::try_from(len).unwrap() }, data }
    }
}

impl Host {
    /// Each file's bytes begin with the number of its inode; those of inode zero are stale.
    async fn files(&self, files: &[FileWanted]) -> Answer {
        let reads = *self.reads.borrow();
        match reads {
            Reads::Held => self.release.notified().await,
            Reads::Busy => return ErrorCode::Busy.into(),
            Reads::Served | Reads::WrongVersion | Reads::Short | Reads::Torn => {}
        }
        let mut data = Vec::new();
        let mut outcomes = Vec::new();
        for file in files {
            let FileWanted { id, version, .. } = file;
            let len = version.size.0 - u64::from(reads == Reads::Short);
            outcomes.push(match id.inode {
                0 => Err(ErrorCode::Stale),
                inode => {
                    data.extend(pattern(inode, len));
                    Ok(u32::try_from(len).unwrap())
                }
            });
        }
        if reads == Reads::WrongVersion {
            outcomes.push(Ok(0));
        }
        if reads == Reads::Torn {
            data.pop();
        }
        Answer { reply: Reply::Files(outcomes), data: data.into() }
    }
}

/// The bytes every file of the host holds.
pub(crate) fn pattern(start: u64, len: u64) -> Bytes {
    (start..start + len).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// Counts an answer that is dropped before it is given.
struct Watch<'h>(&'h Host, bool);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let given = self.1;
        self.0.count(|counts| if given { counts.answered += 1 } else { counts.withdrawn += 1 });
    }
}

impl Serve for Host {
    type Session = u64;

    async fn admit(
        &self,
        hello: Hello,
        channel: [u8; 32],
        _peer: SocketAddr,
    ) -> Result<(Arc<u64>, Welcome), ErrorCode> {
        let admit_takes = *self.admit_takes.lock().unwrap();
        // clock: paused wherever it is not zero; it is the time that a host thinks.
        time::sleep(admit_takes).await;
        let secret = Secret::derive(&self.ticket_key, &hello.claims);
        if !secret.accepts(&hello.claims, &channel, &hello.proof) {
            return Err(ErrorCode::Refused);
        }
        let session = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let share = |(at, id): (usize, &u16)| ShareInfo {
            id: ShareId(*id),
            name: Name::new(format!("share-{at}").as_bytes()).unwrap(),
            root: attr(),
        };
        let shares = self.share_ids.iter().enumerate().map(share).collect();
        self.count(|counts| counts.admitted += 1);
        Ok((Arc::new(session), Welcome { version: PROTOCOL_VERSION, session, boot: self.boot, shares }))
    }

    async fn answer(&self, _session: &Arc<u64>, call: Call) -> Answer {
        self.count(|counts| counts.started += 1);
        let mut watch = Watch(self, false);
        let answer = match call.request {
            Request::Read { extent, version, .. } => self.read(extent, version).await,
            Request::ReadFiles { files, .. } => self.files(&files).await,
            Request::Stat(_) => Reply::Attr(attr()).into(),
            // Its end tells the test whether the mount takes it packed.
            Request::List { .. } => Reply::Listing(listing(call.packs)).into(),
            // Tells the test which share the host was asked about.
            Request::Statfs(share) => {
                Reply::Statfs(Statfs { blocks: share.0.into(), ..Statfs::default() }).into()
            }
            _ => ErrorCode::NotSupported.into(),
        };
        watch.1 = true;
        answer
    }

    async fn dismissed(&self, _session: &Arc<u64>) -> String {
        let mut dismissal = self.dismissal.subscribe();
        let why = dismissal.wait_for(Option::is_some).await.unwrap();
        why.clone().unwrap()
    }

    async fn next_push(&self, _session: &Arc<u64>) -> Push {
        loop {
            let bell = self.pushed.notified();
            if let Some(push) = self.pushes.lock().unwrap().pop_front() {
                return push;
            }
            bell.await;
        }
    }

    fn held_up(&self, _: &Arc<u64>) -> HeldUp {
        let more = *self.held_up_each_look.lock().unwrap();
        let mut held_up = self.held_up.lock().unwrap();
        held_up.memory += more.memory;
        held_up.disk += more.disk;
        *held_up
    }

    fn ended(&self, _session: &Arc<u64>, summary: &SessionSummary) {
        *self.last_end.lock().unwrap() = Some(summary.end);
        self.count(|counts| counts.ended += 1);
    }
}

/// Entries of the listing that every directory has.
pub(crate) const LISTED: u64 = 500;

fn listing(end: bool) -> Listing {
    let entry = |number| Entry {
        name: Name::new(format!("frame.{number:04}.exr").as_bytes()).unwrap(),
        cookie: number,
        kind: Some(FileKind::Regular),
        attr: Some(attr()),
    };
    Listing { dir: attr(), entries: (1..=LISTED).map(entry).collect(), end, grant: None }
}

pub(crate) fn attr() -> Attr {
    Attr {
        id: FileId { fs: 1, inode: 2, birth: 3 },
        kind: FileKind::Directory,
        perm: 0o755,
        links: 2,
        uid: 0,
        gid: 0,
        rdev: 0,
        block_bytes: 4096,
        size: ByteLen(0),
        blocks: 0,
        atime: Timestamp::default(),
        mtime: Timestamp::default(),
        ctime: Timestamp::default(),
        settled: true,
    }
}

pub(crate) fn ticket(identity: &Identity, addresses: &[SocketAddr]) -> Ticket {
    let claims = Claims {
        id: TicketId([1; 8]),
        shares: Vec::new(),
        prefix: SharePath::new(b"").unwrap(),
        mode: Mode::ReadOnly,
        expires: 0,
    };
    Ticket {
        host_key: identity.public_key(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        secret: Secret::derive(&TICKET_KEY, &claims),
        claims,
    }
}

pub(crate) fn target() -> Target {
    Target { share: ShareId(1), path: SharePath::new(b"file").unwrap(), id: None }
}

pub(crate) fn version() -> Version {
    Version { size: ByteLen(1 << 40), mtime: Timestamp::default(), ctime: Timestamp::default() }
}

/// This moment on the clock of the test: paused over the link; real over sockets, where it makes deadlines and bounds.
pub(crate) fn now() -> Instant {
    // clock: a deadline is a moment, and nothing waits for the real one to pass but what a deadline must end.
    Instant::now()
}

pub(crate) fn soon() -> Instant {
    now() + PATIENCE
}

pub(crate) fn read(start: u64, len: u64, class: Class) -> ReadCall {
    ReadCall {
        target: target(),
        version: version(),
        extent: Extent::new(start, len),
        class,
        deadline: soon(),
    }
}

/// A call for files of these inodes and lengths, each at the next multiple of 4 KiB.
pub(crate) fn files(wanted: &[(u64, u64)], class: Class) -> FilesCall {
    let mut start = 0;
    let mut file = |&(inode, len): &(u64, u64)| {
        let name = Name::new(format!("file-{inode}").as_bytes()).unwrap();
        let version = Version { size: ByteLen(len), ..version() };
        let at = start;
        start += usize::try_from(len).unwrap().next_multiple_of(4096);
        (FileWanted { name, id: FileId { fs: 1, inode, birth: 1 }, version }, at)
    };
    let files = wanted.iter().map(&mut file).collect();
    FilesCall { dir: target(), files, class, deadline: soon() }
}

pub(crate) fn stat() -> Request {
    Request::Stat(target())
}

pub(crate) fn pool() -> Pool {
    Pool::new(PoolConfig::with_capacity(64 << 20)).unwrap()
}

pub(crate) fn slot(pool: &Pool) -> Slot {
    pool.try_lend(SlotClass::Extent1M).unwrap()
}

/// A server on a free loopback port and the ticket for it.
pub(crate) fn on_loopback(host: &Arc<Host>) -> (Server, Identity, Ticket) {
    let identity = Identity::generate().unwrap();
    let server = Server::bind(loopback_config(&identity), host.clone()).unwrap();
    let ticket = ticket(&identity, &server.local_addrs());
    (server, identity, ticket)
}

pub(crate) fn loopback_config(identity: &Identity) -> ServerConfig {
    ServerConfig { listen: vec![([127, 0, 0, 1], 0).into()], ..ServerConfig::new(identity.clone()) }
}

/// Waits until the host holds nothing for anybody but those who are admitted.
pub(crate) async fn until_idle(server: &Server) {
    let idle = async {
        let mut look = time::interval(Duration::from_millis(10));
        loop {
            look.tick().await;
            let Usage { strangers, requests_in_flight, requests_waiting, answer_bytes_in_flight, .. } =
                server.usage();
            if strangers + requests_in_flight + requests_waiting + answer_bytes_in_flight == 0 {
                return;
            }
        }
    };
    time::timeout(PATIENCE, idle).await.unwrap_or_else(|_| panic!("not idle: {:?}", server.usage()));
}

pub(crate) async fn connect(ticket: &Ticket) -> Client {
    Client::connect(ticket.clone(), ClientConfig::default()).await.unwrap()
}
