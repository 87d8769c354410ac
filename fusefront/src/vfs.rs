//! The mounted share as a tree of nodes and open handles, without FUSE: the adapter decodes and replies, this decides.
//!
//! What memory can answer has a method that never waits; it may run on a FUSE thread. The others ask the host, run on
//! the lane and are given up by dropping them: nothing is counted before the answer is in hand.

pub mod attr;
pub mod away;
pub mod dir;
pub mod handle;
pub mod inode;
pub mod listing;
pub mod open;
pub mod xattr;

use std::{collections::VecDeque, sync::Arc, sync::OnceLock, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Semaphore, time::Instant};
use transport::Client;
use wire::{
    Attr, Class, DecodeError, ErrorCode, FileKind, Name, Reply, Request, SharePath, limits,
    listing::Statfs,
    message::{ShareInfo, Target},
};

use crate::{
    error::VfsError,
    read::{ReadPath, content::Content},
    stats::Stats,
};
use attr::{NodeAttr, Told};
use away::{Asked, Failed, LastKnown, REFRESH_DEADLINE, ROOT_LOOKS_MAX};
use handle::Handles;
use inode::{NodeId, NodeTable};

/// How soon a busy host is asked again, at first and at most.
const BUSY_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// How long the state of the file system is shown before it is asked for anew.
const STATFS_TTL: Duration = Duration::from_secs(1);

/// What is asked about when a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The file that has the node's name on the host now; another one than the node's is stale.
    Name,
    /// The node's file, whether it still has a name or is only held open.
    File,
}

/// What the vfs may ask of the kernel.
pub trait KernelCache: Send + Sync {
    /// Makes the kernel ask for a node's attributes again. Never waits for a reply of ours.
    fn drop_attr(&self, node: NodeId);
}

/// A mounted share; clones are the same one.
#[derive(Clone)]
pub struct Vfs(Arc<Inner>);

/// What a [`Vfs`] is made of.
pub struct VfsParts {
    /// The session.
    pub client: Client,
    /// Its runtime, for what goes on behind a reply.
    pub lane: Handle,
    /// The share.
    pub share: ShareInfo,
    /// The read path.
    pub reads: ReadPath,
    /// The counters.
    pub stats: Arc<Stats>,
}

/// The state behind [`Vfs`] and the handles that refer back to it.
pub struct Inner {
    client: Client,
    lane: Handle,
    share: ShareInfo,
    reads: ReadPath,
    stats: Arc<Stats>,
    // Neither is held across an await, nor while a reply is written.
    state: Mutex<State>,
    statfs: Mutex<Shown>,
    root_looks: Arc<Semaphore>,
    kernel: OnceLock<Box<dyn KernelCache>>,
}

struct State {
    nodes: NodeTable,
    handles: Handles,
    told: Told,
    root: Attr,
    /// Contents of files closed lately, the oldest first; at most [`open::CLOSED_MAX`].
    closed: VecDeque<(NodeId, Arc<Content>)>,
    /// For a mount that serves stale data while its host is away.
    known: Option<LastKnown>,
    failed: Failed,
}

/// The last known state of the host's file system.
struct Shown {
    statfs: Statfs,
    asked: Option<Instant>,
}

/// How much a mount holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VfsStats {
    /// Nodes the kernel knows, the root among them.
    pub nodes: u64,
    /// Open files.
    pub open_files: u64,
    /// Open directories.
    pub open_dirs: u64,
}

impl Vfs {
    /// The tree of a share.
    pub fn new(parts: VfsParts) -> Vfs {
        let VfsParts { client, lane, share, reads, stats } = parts;
        let state = State {
            nodes: NodeTable::new(share.root.id),
            handles: Handles::default(),
            told: Told::default(),
            root: share.root,
            closed: VecDeque::new(),
            known: None,
            failed: Failed::default(),
        };
        let statfs = Shown { statfs: Statfs::default(), asked: None };
        Vfs(Arc::new(Inner {
            client,
            lane,
            share,
            reads,
            stats,
            state: Mutex::new(state),
            statfs: Mutex::new(statfs),
            root_looks: Arc::new(Semaphore::new(ROOT_LOOKS_MAX)),
            kernel: OnceLock::new(),
        }))
    }

    /// Gives the vfs its way to the kernel's caches; the first one stays.
    pub fn attach_kernel(&self, kernel: Box<dyn KernelCache>) {
        // A second one could only be the same mount's.
        let _ = self.0.kernel.set(kernel);
    }

    /// The counters.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.0.stats
    }

    /// What is held now.
    pub fn held(&self) -> VfsStats {
        let state = self.0.state.lock();
        VfsStats {
            nodes: state.nodes.count() as u64,
            open_files: state.handles.files() as u64,
            open_dirs: state.handles.dirs() as u64,
        }
    }

    /// Finds `name` in a directory and counts one lookup of what is there.
    ///
    /// # Errors
    /// What the host says; [`VfsError::NoSuchName`] and [`VfsError::TooLong`] for names that no host can have.
    pub async fn lookup(&self, parent: NodeId, name: &[u8], deadline: Instant) -> Result<NodeAttr, VfsError> {
        let name = name_of(name)?;
        if self.0.is_asked_again(&Asked::Name(parent, name.clone())) {
            return Err(VfsError::Deadline);
        }
        let path = self.0.state.lock().nodes.path(parent)?;
        let path = path.join(&name).map_err(|_| VfsError::TooLong)?;
        let attr = match self.0.stat(self.0.at(path), deadline).await {
            Ok(attr) => attr,
            Err(error) => {
                if matches!(&error, VfsError::Host { code: ErrorCode::NotFound, .. }) {
                    self.0.note_name(parent, &name, None);
                }
                return self.lookup_away(parent, &name, error);
            }
        };
        let mut state = self.0.state.lock();
        state.note_name(parent, &name, Some(attr));
        let found = state.nodes.look_up(parent, &name, Some(attr.id), attr.kind)?;
        state.tell(found.node, attr);
        Ok(NodeAttr { node: found.node, generation: found.generation, inode: found.node.0, attr })
    }

    /// Takes back lookups of a node: the kernel forgot it.
    pub fn forget(&self, node: NodeId, lookups: u64) {
        self.0.state.lock().nodes.forget(node, lookups);
    }

    /// A node's attributes, while those told last hold, and how much longer they do.
    pub fn attr_cached(&self, node: NodeId) -> Option<(NodeAttr, Duration)> {
        let state = self.0.state.lock();
        let (attr, left) = state.told.fresh(node, Instant::now())?;
        Some((state.node_attr(node, attr).ok()?, left))
    }

    /// A node's attributes, from the host. Those of the root are shown as last known when the
    /// host does not tell them at once.
    ///
    /// # Errors
    /// What the host says; [`VfsError::Stale`] when another file has the node's name by now.
    pub async fn attr(&self, node: NodeId, by: By, deadline: Instant) -> Result<NodeAttr, VfsError> {
        if node == NodeId::ROOT {
            return self.attr_of_root(by).await;
        }
        let attr = match self.0.stat_node(node, by, deadline).await {
            Ok(attr) => attr,
            Err(error) => return self.attr_away(node, error),
        };
        let mut state = self.0.state.lock();
        state.tell(node, attr);
        state.node_attr(node, attr)
    }

    /// The text of a symlink.
    ///
    /// # Errors
    /// What the host says; [`VfsError::Stale`].
    pub async fn readlink(&self, node: NodeId, deadline: Instant) -> Result<Bytes, VfsError> {
        let (target, _) = self.0.target(node)?;
        match self.0.call_node(Request::Readlink(target), deadline).await? {
            Reply::Link(text) => Ok(text),
            other => Err(unexpected(&other)),
        }
    }

    /// The state of the host's file system as last known: `df` never hangs. Refreshed behind the answer.
    pub fn statfs(&self) -> Statfs {
        let now = Instant::now();
        let mut shown = self.0.statfs.lock();
        let due = shown.asked.is_none_or(|asked| now >= asked + STATFS_TTL);
        if due && self.0.client.stats().connected {
            shown.asked = Some(now);
            let vfs = self.clone();
            self.0.lane.spawn(async move {
                // A failure leaves the last known one in place; the next `df` asks again.
                let _ = vfs.refresh_statfs(now + REFRESH_DEADLINE).await;
            });
        }
        shown.statfs
    }

    /// Asks the host for the state of its file system.
    ///
    /// # Errors
    /// What the host says.
    pub async fn refresh_statfs(&self, deadline: Instant) -> Result<(), VfsError> {
        match self.0.call(Request::Statfs(self.0.share.id), deadline).await? {
            Reply::Statfs(statfs) => {
                *self.0.statfs.lock() = Shown { statfs, asked: Some(Instant::now()) };
                Ok(())
            }
            other => Err(unexpected(&other)),
        }
    }
}

impl State {
    fn node_attr(&self, node: NodeId, attr: Attr) -> Result<NodeAttr, VfsError> {
        let generation = self.nodes.generation(node)?;
        let inode = if node == NodeId::ROOT { attr.id.inode } else { node.0 };
        Ok(NodeAttr { node, generation, inode, attr })
    }

    fn root_attr(&self) -> Result<NodeAttr, VfsError> {
        self.node_attr(NodeId::ROOT, self.root)
    }

    /// Takes note of attributes that the kernel is told with the answer; whether it was told others before.
    fn tell(&mut self, node: NodeId, attr: Attr) -> bool {
        self.learn(node, attr);
        self.told.note(node, attr, Instant::now());
        self.nodes.tell(node, &attr.version())
    }

    /// Takes note of what the host says of a node: contents that differ are in doubt from now on. The kernel will drop
    /// its pages and take the new size, and a handle of another size would end in the wrong place.
    fn learn(&mut self, node: NodeId, attr: Attr) {
        if node == NodeId::ROOT {
            self.root = attr;
        }
        let held = self.nodes.content(node);
        let open = self.handles.of_node(node).map(|file| file.reader.content());
        for content in open.chain(&held) {
            let version = content.version();
            // ctime alone moves with a rename or a chmod: then the host is asked at the next read it must serve. An
            // answer may come later than a newer one; then the look at the host finds nothing new.
            if version.size != attr.size || version.mtime != attr.mtime {
                content.suspect();
            }
        }
    }
}

impl Inner {
    fn at(&self, path: SharePath) -> Target {
        Target { share: self.share.id, path, id: None }
    }

    /// What to name a node by, and its kind.
    pub(crate) fn target(&self, node: NodeId) -> Result<(Target, FileKind), VfsError> {
        let state = self.state.lock();
        let (id, kind) = state.nodes.file(node)?;
        Ok((Target { share: self.share.id, path: state.nodes.path(node)?, id }, kind))
    }

    /// The attributes of what `target` names.
    async fn stat(&self, target: Target, deadline: Instant) -> Result<Attr, VfsError> {
        match self.call(Request::Stat(target), deadline).await? {
            Reply::Attr(attr) => Ok(attr),
            other => Err(unexpected(&other)),
        }
    }

    /// The attributes of a node: of the file that has its name now, or of the very file.
    async fn stat_node(&self, node: NodeId, by: By, deadline: Instant) -> Result<Attr, VfsError> {
        let (mut target, _) = self.target(node)?;
        let expected = target.id;
        if by == By::Name {
            // Asked for by its id, a host may answer of a file that it still holds open under no name.
            target.id = None;
        }
        match self.call_node(Request::Stat(target), deadline).await? {
            Reply::Attr(attr) if expected.is_none_or(|id| id == attr.id) => Ok(attr),
            Reply::Attr(_) => Err(VfsError::Stale),
            other => Err(unexpected(&other)),
        }
    }

    /// A call about a node: when its name leads nowhere any more, the node is stale and the kernel looks the path up
    /// again, which then says what is absent.
    async fn call_node(&self, request: Request, deadline: Instant) -> Result<Reply, VfsError> {
        self.call(request, deadline).await.map_err(VfsError::about_a_found_file)
    }

    /// One request for names or attributes. A busy host is asked again until the deadline.
    async fn call(&self, request: Request, deadline: Instant) -> Result<Reply, VfsError> {
        self.stats.metadata_requests.add(1);
        let (mut pause, pause_max) = BUSY_PAUSE;
        loop {
            let outcome = self.client.call(request.clone(), Class::Metadata, deadline).await;
            match outcome.map_err(VfsError::from) {
                Err(VfsError::Host { code: ErrorCode::Busy, .. }) if Instant::now() + pause < deadline => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(pause_max);
                }
                outcome => return outcome,
            }
        }
    }
}

fn name_of(bytes: &[u8]) -> Result<Name, VfsError> {
    if bytes.len() > limits::NAME_BYTES_MAX {
        return Err(VfsError::TooLong);
    }
    Name::new(bytes).map_err(|_: DecodeError| VfsError::NoSuchName)
}

fn unexpected(reply: &Reply) -> VfsError {
    let kind = match reply {
        Reply::Welcome(_) => "a welcome",
        Reply::Attr(_) => "attributes",
        Reply::Listing(_) => "a listing",
        Reply::Link(_) => "a symlink",
        Reply::Data { .. } => "data",
        Reply::Verified { .. } => "a verification",
        Reply::Statfs(_) => "the file system's state",
        Reply::Value(_) => "a value",
        Reply::Error { .. } => "an error",
    };
    VfsError::Protocol { reason: format!("{kind} to a request for something else") }
}

#[cfg(test)]
mod tests;
