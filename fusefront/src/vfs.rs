//! The mounted share as a tree of nodes and open handles, without FUSE: the adapter decodes and replies, this decides.
//!
//! What memory can answer has a method that never waits; it may run on a FUSE thread. The others ask the host, run on
//! the lane and are given up by dropping them: nothing is counted before the answer is in hand.

pub mod attr;
pub mod away;
mod bulk;
pub mod dir;
mod fill;
pub mod folders;
pub mod handle;
pub mod inode;
pub mod known;
pub mod listing;
pub mod open;
mod prune;
pub mod scan;
pub mod shares;
mod statfs;
pub mod walk;
pub mod xattr;

use std::{collections::VecDeque, sync::Arc, sync::OnceLock, time::Duration};

use bytes::Bytes;
use engine::cache::L2;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Semaphore, time::Instant};
use transport::Client;
use wire::{Attr, Class, DecodeError, ErrorCode, FileKind, Name, Reply, Request, limits, message::Target};

use crate::{
    error::VfsError,
    read::{ReadPath, content::Content},
    stats::Stats,
};
use attr::{NodeAttr, Told};
use away::{Asked, Failed, ROOT_LOOKS_MAX};
use fill::Filling;
use handle::Handles;
use inode::{Found, NodeId, NodeTable, Place};
use known::{Extra, LastKnown};
use scan::Scans;
use shares::{MountRoot, Shares};

/// The longest text of a symlink (`PATH_MAX`, limits.h, without the NUL): the kernel takes none that fills a page.
const LINK_BYTES_MAX: usize = limits::TARGET_BYTES_MAX - 1;

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

    /// Gives the kernel all of a file's contents; whether it took them. Waits while a read of the file is unanswered, so it
    /// is for files that nobody can read yet.
    fn store(&self, node: NodeId, contents: &[u8]) -> bool;
}

/// A mounted share, or several of them; clones are the same one.
#[derive(Clone)]
pub struct Vfs(Arc<Inner>);

/// What a [`Vfs`] is made of.
pub struct VfsParts {
    /// The session.
    pub client: Client,
    /// Its runtime, for what goes on behind a reply.
    pub lane: Handle,
    /// What the root is.
    pub root: MountRoot,
    /// The read path.
    pub reads: ReadPath,
    /// The counters.
    pub stats: Arc<Stats>,
}

/// The state behind [`Vfs`] and the handles that refer back to it.
pub struct Inner {
    client: Client,
    lane: Handle,
    root: MountRoot,
    reads: ReadPath,
    stats: Arc<Stats>,
    // None is held across an await, nor while a reply is written.
    state: Mutex<State>,
    scans: Mutex<Scans>,
    filling: Filling,
    statfs: Mutex<statfs::Shown>,
    root_looks: Arc<Semaphore>,
    kernel: OnceLock<Box<dyn KernelCache>>,
}

struct State {
    nodes: NodeTable,
    handles: Handles,
    told: Told,
    /// The root's, as known last; those of the folder of the shares but for its links.
    root: Attr,
    shares: Shares,
    /// Contents of files closed lately, the oldest first; at most [`open::CLOSED_MAX`].
    closed: VecDeque<(NodeId, Arc<Content>)>,
    /// For a mount that serves stale data while its host is away.
    known: Option<LastKnown>,
    failed: Failed,
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
    /// The tree of a share, or of several.
    pub fn new(parts: VfsParts) -> Vfs {
        let VfsParts { client, lane, root, reads, stats } = parts;
        let (nodes, root_attr) = match &root {
            MountRoot::Share(share) => (NodeTable::of_share(share.id, share.root.id), share.root),
            MountRoot::Folder { uid, gid, made } => {
                (NodeTable::of_folder(), shares::folder_attr(*uid, *gid, *made))
            }
        };
        let state = State {
            nodes,
            handles: Handles::default(),
            told: Told::default(),
            root: root_attr,
            shares: Shares::new(client.welcome()),
            closed: VecDeque::new(),
            known: None,
            failed: Failed::default(),
        };
        let scans = Scans::new(reads.windows().clone(), reads.window_bytes_max());
        Vfs(Arc::new(Inner {
            client,
            lane,
            root,
            reads,
            stats,
            state: Mutex::new(state),
            scans: Mutex::new(scans),
            filling: Filling::default(),
            statfs: Mutex::default(),
            root_looks: Arc::new(Semaphore::new(ROOT_LOOKS_MAX)),
            kernel: OnceLock::new(),
        }))
    }

    /// Gives the vfs its way to the kernel's caches; the first one stays.
    pub fn attach_kernel(&self, kernel: Box<dyn KernelCache>) {
        // A second one could only be the same mount's.
        let _ = self.0.kernel.set(kernel);
    }

    /// The cache on the disk of this machine.
    pub fn l2(&self) -> Option<&L2> {
        self.0.reads.l2()
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
        if self.0.is_folder_of_shares(parent) {
            return self.look_up_share(&name).await;
        }
        if self.0.is_asked_again(&Asked::Name(parent, name.clone())) {
            return Err(VfsError::Deadline);
        }
        let Place { share, path } = self.0.place(parent)?;
        let path = path.join(&name).map_err(|_| VfsError::TooLong)?;
        let attr = match self.0.stat(Target { share, path, id: None }, deadline).await {
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
        let found = state.nodes.look_up(parent, &name, Found { id: Some(attr.id), kind: attr.kind })?;
        state.tell(found.node, attr);
        Ok(NodeAttr { node: found.node, generation: found.generation, inode: found.node.0, attr })
    }

    /// Takes back lookups of a node: the kernel forgot it.
    pub fn forget(&self, node: NodeId, lookups: u64) {
        self.0.state.lock().nodes.forget(node, lookups);
    }

    /// A node's attributes, while those told last hold, and how much longer they do.
    pub fn attr_cached(&self, node: NodeId) -> Option<(NodeAttr, Duration)> {
        if self.0.is_folder_of_shares(node) {
            return Some((self.folder_attr().ok()?, attr::ATTR_TTL));
        }
        let state = self.0.state.lock();
        let (attr, left) = state.told.fresh(node, Instant::now())?;
        Some((state.node_attr(node, attr).ok()?, left))
    }

    /// A node's attributes, from the host. Those of a share's root are shown as last known when the host does not tell
    /// them at once; those of the folder of the shares are the mount's own.
    ///
    /// # Errors
    /// What the host says; [`VfsError::Stale`] when another file has the node's name by now.
    pub async fn attr(&self, node: NodeId, by: By, deadline: Instant) -> Result<NodeAttr, VfsError> {
        if self.0.is_folder_of_shares(node) {
            return self.folder_attr();
        }
        if self.0.state.lock().nodes.is_share_root(node) {
            return self.attr_of_root(node, by).await;
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
        match self.0.call_node(Request::Readlink(target), deadline).await {
            Ok(Reply::Link(text)) if text.len() > LINK_BYTES_MAX => Err(VfsError::TooLong),
            Ok(Reply::Link(text)) => {
                self.0.note_extra(node, Extra::Link, &text);
                Ok(text)
            }
            Ok(other) => Err(unexpected(&other)),
            Err(error) => self.extra_away(node, Extra::Link, error),
        }
    }
}

impl State {
    fn node_attr(&self, node: NodeId, attr: Attr) -> Result<NodeAttr, VfsError> {
        let generation = self.nodes.generation(node)?;
        let inode = if node == NodeId::ROOT { attr.id.inode } else { node.0 };
        Ok(NodeAttr { node, generation, inode, attr })
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
        self.renew_known(node, attr);
        if node == NodeId::ROOT {
            self.root = attr;
        } else if let Some(share) = self.nodes.share(node).filter(|_| self.nodes.is_share_root(node)) {
            self.shares.learn(share, attr);
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
    /// Where a node is; stale when the host has its share no longer.
    fn place(&self, node: NodeId) -> Result<Place, VfsError> {
        let mut state = self.state.lock();
        let (place, name) = state.nodes.place(node)?;
        let name = self.share_name(name)?.clone();
        if state.has_share(self, place.share, &name) { Ok(place) } else { Err(VfsError::Stale) }
    }

    /// The name of a node's share, given that of its share's root.
    fn share_name<'a>(&'a self, of_root: Option<&'a Name>) -> Result<&'a Name, VfsError> {
        match &self.root {
            MountRoot::Share(share) => Ok(&share.name),
            MountRoot::Folder { .. } => of_root.ok_or(VfsError::Stale),
        }
    }

    /// What to name a node by, and its kind.
    pub(crate) fn target(&self, node: NodeId) -> Result<(Target, FileKind), VfsError> {
        let Place { share, path } = self.place(node)?;
        let (id, kind) = self.state.lock().nodes.file(node)?;
        Ok((Target { share, path, id }, kind))
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
        let (mut target, kind) = self.target(node)?;
        let expected = target.id;
        if by == By::Name {
            // Asked for by its id, a host may answer of a file that it still holds open under no name.
            target.id = None;
        }
        match self.call_node(Request::Stat(target), deadline).await? {
            Reply::Attr(attr) if attr.kind == kind && expected.is_none_or(|id| id == attr.id) => Ok(attr),
            Reply::Attr(_) => Err(VfsError::Stale),
            other => Err(unexpected(&other)),
        }
    }

    /// A call about a node: when its name leads nowhere any more, the node is stale and the kernel looks the path up
    /// again, which then says what is absent.
    async fn call_node(&self, request: Request, deadline: Instant) -> Result<Reply, VfsError> {
        self.call(request, deadline).await.map_err(VfsError::about_a_found_file)
    }

    /// One request for names or attributes.
    async fn call(&self, request: Request, deadline: Instant) -> Result<Reply, VfsError> {
        self.stats.metadata_requests.add(1);
        Ok(self.client.call(request, Class::Metadata, deadline).await?)
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
        Reply::Leased { .. } => "a lease",
        Reply::Released => "a release",
        Reply::Files(_) => "files",
        Reply::Error { .. } => "an error",
    };
    VfsError::Protocol { reason: format!("{kind} to a request for something else") }
}

#[cfg(test)]
mod tests;
