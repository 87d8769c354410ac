//! A real host on loopback and a real client of it, in one process.

use std::{path::Path, time::Duration};

use tempfile::TempDir;
use tokio::{task::JoinHandle, time::Instant};
use transport::{CallError, Client, ClientConfig, ConnectError, FilesCall, Lane, Pushes, ReadCall};
use uring::{Pool, PoolConfig, SlotClass};
use wire::{
    Attr, Class, ErrorCode, Extent, FileId, Listing, Name, Reply, Request, ShareId, SharePath, Ticket,
    Version,
    message::{FileWanted, Target},
};
use wormhole_engine::{
    config::{HostConfig, ShareConfig},
    host::Host,
};

/// Far beyond what anything here takes: a test that meets it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Rig {
    pub(crate) dir: TempDir,
    pub(crate) state: TempDir,
    pub(crate) host: Host,
    pub(crate) peer: Peer,
}

impl Rig {
    /// A host of a fresh folder that `fill` puts files into.
    pub(crate) fn new(fill: impl FnOnce(&Path)) -> Rig {
        Rig::with(fill, |_| {})
    }

    pub(crate) fn with(fill: impl FnOnce(&Path), change: impl FnOnce(&mut HostConfig)) -> Rig {
        let (dir, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        fill(dir.path());
        let mut config = config(dir.path(), state.path());
        change(&mut config);
        let host = Host::start(config).unwrap();
        let peer = Peer::connect(host.ticket()).unwrap();
        Rig { dir, state, host, peer }
    }

    /// Ends both and makes sure that nothing was left in progress.
    pub(crate) fn end(self) {
        self.peer.close();
        self.host.stop().unwrap();
    }
}

pub(crate) fn config(dir: &Path, state: &Path) -> HostConfig {
    let share = ShareConfig::new(Name::new(b"share").unwrap(), dir.to_owned());
    let mut config = HostConfig::new(vec![share], state.to_owned());
    config.listen = vec!["127.0.0.1:0".parse().unwrap()];
    config
}

pub(crate) fn path(text: impl AsRef<[u8]>) -> SharePath {
    SharePath::new(text.as_ref()).unwrap()
}

/// The mount's end.
pub(crate) struct Peer {
    lane: Lane,
    client: Client,
    pool: Pool,
}

impl Peer {
    pub(crate) fn connect(ticket: Ticket) -> Result<Peer, ConnectError> {
        let lane = Lane::start("peer").unwrap();
        let config = ClientConfig { label: "test".into(), ..ClientConfig::default() };
        let client = lane.handle().block_on(Client::connect(ticket, config))?;
        let pool = Pool::new(PoolConfig::with_capacity(64 << 20)).unwrap();
        Ok(Peer { lane, client, pool })
    }

    pub(crate) fn close(&self) {
        self.lane.handle().block_on(self.client.close());
    }

    pub(crate) fn share(&self) -> ShareId {
        self.client.welcome().shares[0].id
    }

    pub(crate) fn share_names(&self) -> Vec<String> {
        self.client.welcome().shares.iter().map(|share| share.name.to_string()).collect()
    }

    pub(crate) fn root(&self) -> Attr {
        self.client.welcome().shares[0].root
    }

    pub(crate) fn target(&self, at: &SharePath, id: Option<FileId>) -> Target {
        Target { share: self.share(), path: at.clone(), id }
    }

    pub(crate) fn call(&self, request: Request) -> Result<Reply, CallError> {
        let deadline = Instant::now() + PATIENCE; // clock: a bound of a real wait
        self.lane.handle().block_on(self.client.call(request, Class::Metadata, deadline))
    }

    /// What the host says of its own accord.
    pub(crate) fn pushes(&self) -> Pushes {
        self.client.pushes()
    }

    /// Runs something on its network thread.
    pub(crate) fn run<T>(&self, what: impl Future<Output = T>) -> T {
        self.lane.handle().block_on(what)
    }

    /// Sends all of them before any answer is awaited.
    pub(crate) fn call_all(&self, requests: impl Iterator<Item = (Request, Class)>) -> Replies<'_> {
        let deadline = Instant::now() + PATIENCE; // clock: a bound of a real wait
        let calls = requests.map(|(request, class)| {
            let client = self.client.clone();
            self.lane.handle().spawn(async move { client.call(request, class, deadline).await })
        });
        Replies { peer: self, calls: calls.collect() }
    }

    pub(crate) fn stat(&self, at: &str) -> Attr {
        self.try_stat(at, None).unwrap()
    }

    pub(crate) fn try_stat(&self, at: &str, id: Option<FileId>) -> Result<Attr, ErrorCode> {
        match self.call(Request::Stat(self.target(&path(at), id))) {
            Ok(Reply::Attr(attr)) => Ok(attr),
            other => Err(code(other)),
        }
    }

    pub(crate) fn list(&self, at: &str, cookie: u64, bytes_max: u32) -> Result<Listing, ErrorCode> {
        match self.call(Request::List {
            target: self.target(&path(at), None),
            cookie,
            bytes_max,
            lease: None,
        }) {
            Ok(Reply::Listing(listing)) => Ok(listing),
            other => Err(code(other)),
        }
    }

    pub(crate) fn read(&self, at: &str, attr: &Attr, extent: Extent) -> Result<Vec<u8>, ErrorCode> {
        self.read_version(&path(at), (Some(attr.id), attr.version()), extent)
    }

    pub(crate) fn read_version(
        &self,
        at: &SharePath,
        (id, version): (Option<FileId>, Version),
        extent: Extent,
    ) -> Result<Vec<u8>, ErrorCode> {
        let deadline = Instant::now() + PATIENCE; // clock: a bound of a real wait
        let target = self.target(at, id);
        let read = ReadCall { target, version, extent, class: Class::Demand, deadline };
        let result = self.lane.handle().block_on(async {
            let class = SlotClass::for_len(usize::try_from(extent.len.0).unwrap()).unwrap();
            let slot = self.pool.lend(class).await;
            self.client.read(read, slot).await
        });
        result.map(|filled| filled.as_ref().to_vec()).map_err(|error| code(Err(error)))
    }

    /// Files of one folder in one request: the bytes of each, or why there are none.
    pub(crate) fn read_files(
        &self,
        dir: &str,
        files: Vec<FileWanted>,
    ) -> Result<Vec<Result<Vec<u8>, ErrorCode>>, ErrorCode> {
        let deadline = Instant::now() + PATIENCE; // clock: a bound of a real wait
        let mut at = 0;
        let place = |file: FileWanted| {
            let start = at;
            at += usize::try_from(file.version.size.0).unwrap();
            (file, start)
        };
        let files: Vec<_> = files.into_iter().map(place).collect();
        let dir = self.target(&path(dir), None);
        let call = FilesCall { dir, files: files.clone(), class: Class::Readahead, deadline };
        let read = self.lane.handle().block_on(async {
            let slot = self.pool.lend(SlotClass::Extent1M).await;
            self.client.read_files(call, slot).await
        });
        let read = read.map_err(|error| code(Err(error)))?;
        let bytes = |(file, start): &(FileWanted, usize)| {
            let end = start + usize::try_from(file.version.size.0).unwrap();
            read.filled.as_ref()[*start..end].to_vec()
        };
        Ok(files.iter().zip(&read.outcomes).map(|(file, outcome)| outcome.map(|()| bytes(file))).collect())
    }

    /// The whole file, a mebibyte at a time.
    pub(crate) fn read_all(&self, at: &str) -> Result<Vec<u8>, ErrorCode> {
        let attr = self.try_stat(at, None)?;
        let mut bytes = Vec::new();
        for start in (0..attr.size.0).step_by(1 << 20) {
            bytes.extend(self.read(at, &attr, Extent::new(start, 1 << 20).clip(attr.size))?);
        }
        Ok(bytes)
    }
}

/// Answers on their way.
pub(crate) struct Replies<'a> {
    peer: &'a Peer,
    calls: Vec<JoinHandle<Result<Reply, CallError>>>,
}

impl Replies<'_> {
    /// How many have not come.
    pub(crate) fn under_way(&self) -> usize {
        self.calls.iter().filter(|call| !call.is_finished()).count()
    }

    /// All of them, in the order of their requests.
    pub(crate) fn wait(self) -> Vec<Result<Reply, CallError>> {
        let Replies { peer, calls } = self;
        peer.lane.handle().block_on(async {
            let mut replies = Vec::with_capacity(calls.len());
            for call in calls {
                replies.push(call.await.unwrap());
            }
            replies
        })
    }
}

/// The host's error; anything else is a failure of the test.
pub(crate) fn code(outcome: Result<Reply, CallError>) -> ErrorCode {
    match outcome {
        Err(CallError::Host { code, .. }) | Ok(Reply::Error { code, .. }) => code,
        other => panic!("not an answer of the host: {other:?}"),
    }
}

/// Bytes that differ at every place, so that a wrong offset shows.
pub(crate) fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}
