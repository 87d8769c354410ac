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
pub mod leases;
mod list_ahead;
pub mod listing;
pub mod open;
mod prune;
pub mod scan;
pub mod seen;
pub mod shares;
mod statfs;
pub mod walk;
pub mod walks;
pub mod watch;
pub mod xattr;

use std::{collections::VecDeque, sync::Arc, sync::OnceLock, time::Duration};

use bytes::Bytes;
use engine::cache::L2;
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, broadcast},
    time::Instant,
};
use transport::{Client, Pushed};
use wire::{
    Attr, Class, DecodeError, ErrorCode, FileKind, LeaseId, Name, Reply, Request, limits, message::Target,
};

use crate::{
    error::VfsError,
    read::{ReadPath, content::Content},
    stats::Stats,
};
use attr::{NodeAttr, Source, Told, Ttl};
use away::{Asked as Tried, Failed, ROOT_LOOKS_MAX};
use fill::Filling;
use folders::{Asked, Folders, Known};
use handle::Handles;
use inode::{Found, NodeId, NodeRef, NodeTable, Place};
use known::{Extra, LastKnown};
use leases::Doubt;
use scan::Scans;
use shares::{MountRoot, Shares};
use walks::Walks;

/// The longest text of a symlink (`PATH_MAX`, limits.h, without the NUL): the kernel takes none that fills a page.
const LINK_BYTES_MAX: usize = limits::TARGET_BYTES_MAX - 1;

/// Pushes that wait for one who watches; with more of them he starts over.
const WATCHER_PUSHES_MAX: usize = 256;

/// What is asked about when a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The file that has the node's name on the host now; another one than the node's is stale.
    Name,
    /// The node's file, whether it still has a name or is only held open.
    File,
}

/// What the vfs may ask of the kernel. None of it waits for a reply of ours.
pub trait KernelCache: Send + Sync {
    /// Makes the kernel ask for a node's attributes again, before this returns.
    fn drop_attr(&self, node: NodeId);

    /// Gives the kernel all of a file's contents; whether it took them. Waits while a read of the file is unanswered, so it
    /// is for files that nobody can read yet.
    fn store(&self, node: NodeId, contents: &[u8]) -> bool;

    /// Makes the kernel ask again, soon.
    fn doubt(&self, doubt: Doubt);

    /// Makes the kernel ask for all names again at once, and for these and the attributes in use soon.
    fn doubt_everything(&self, doubts: Vec<Doubt>);

    /// Whether the kernel can be made to ask for all names again.
    fn has_epochs(&self) -> bool;
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
    /// What the host pushes, for [`watch::Watch`].
    watchers: broadcast::Sender<Pushed>,
}

struct State {
    nodes: NodeTable,
    handles: Handles,
    told: Told,
    folders: Folders,
    walks: Walks,
    /// How long the kernel may answer from what it was told under a lease.
    leased_ttl: Duration,
    /// Leases to be given back with the next ones.
    unsent: Vec<LeaseId>,
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
            folders: Folders::default(),
            walks: Walks::default(),
            leased_ttl: leases::leased_ttl(true),
            unsent: Vec::new(),
            root: root_attr,
            shares: Shares::new(client.welcome()),
            closed: VecDeque::new(),
            known: None,
            failed: Failed::default(),
        };
        let scans = Scans::new(reads.windows().clone(), reads.window_bytes_max());
        let pushes = client.pushes();
        let vfs = Vfs(Arc::new(Inner {
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
            watchers: broadcast::Sender::new(WATCHER_PUSHES_MAX),
        }));
        vfs.listen(pushes);
        vfs
    }

    /// Gives the vfs its way to the kernel's caches; the first one stays.
    pub fn attach_kernel(&self, kernel: Box<dyn KernelCache>) {
        self.0.state.lock().leased_ttl = leases::leased_ttl(kernel.has_epochs());
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
        if self.0.is_asked_again(&Tried::Name(parent, name.clone())) {
            return Err(VfsError::Deadline);
        }
        let Place { share, path } = self.0.place(parent)?;
        let path = path.join(&name).map_err(|_| VfsError::TooLong)?;
        self.want_lease(parent);
        self.miss(parent);
        self.note_miss(parent);
        let asked = self.0.state.lock().folders.asking(parent);
        let attr = match self.0.stat(Target { share, path, id: None }, deadline).await {
            Ok(attr) => attr,
            Err(error) => {
                if matches!(&error, VfsError::Host { code: ErrorCode::NotFound, .. }) {
                    let mut state = self.0.state.lock();
                    state.note_name(parent, &name, None);
                    state.folders.learn(asked, &name, None);
                }
                return self.lookup_away(parent, &name, error);
            }
        };
        let mut state = self.0.state.lock();
        let is_kept = state.folders.learn(asked, &name, Some(attr));
        let found = state.found((parent, &name), attr, Source::Host)?;
        // A push came between: it may be about this.
        let is_doubtful = asked.is_some() && !is_kept;
        Ok(if is_doubtful { NodeAttr { ttl: Ttl::NONE, ..found } } else { found })
    }

    /// What a name leads to, lookup counted, if memory can tell.
    ///
    /// # Errors
    /// [`VfsError::NoSuchName`] where the host said that there is no such name and still would.
    pub fn lookup_cached(&self, parent: NodeId, name: &[u8]) -> Option<Result<NodeAttr, VfsError>> {
        if self.0.is_folder_of_shares(parent) {
            return None;
        }
        let name = name_of(name).ok()?;
        let mut state = self.0.state.lock();
        match state.folders.find(parent, &name) {
            Known::Present(attr) => state.found((parent, &name), attr, Source::Memory).ok().map(Ok),
            Known::Absent => Some(Err(VfsError::NoSuchName)),
            Known::Unknown => None,
        }
    }

    /// How long the kernel may take it for granted that a name leads nowhere.
    pub fn absent_ttl(&self, parent: NodeId, name: &[u8]) -> Option<Duration> {
        let name = name_of(name).ok()?;
        let state = self.0.state.lock();
        (state.folders.find(parent, &name) == Known::Absent).then_some(state.leased_ttl)
    }

    /// Takes back lookups of a node: the kernel forgot it.
    pub fn forget(&self, node: NodeId, lookups: u64) {
        let mut state = self.0.state.lock();
        let above = state.leased_above(node);
        state.nodes.forget(node, lookups);
        let after = state.let_forgotten_go(node, above);
        drop(state);
        self.follow(after);
    }

    /// A node's attributes, while those told last hold, and how much longer they do.
    pub fn attr_cached(&self, node: NodeId) -> Option<(NodeAttr, Duration)> {
        if self.0.is_folder_of_shares(node) {
            return Some((self.folder_attr().ok()?, attr::ATTR_TTL));
        }
        let mut state = self.0.state.lock();
        if let Some(attr) = state.leased_attr(node) {
            state.tell(node, attr);
            let found = state.node_attr(node, attr, Source::Memory).ok()?;
            let ttl = found.ttl.attr;
            return Some((found, ttl));
        }
        if state.is_under_lease(node) {
            return None;
        }
        let (attr, left) = state.told.fresh(node, Instant::now())?;
        Some((state.node_attr(node, attr, Source::Memory).ok()?, left))
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
        let asking = self.0.state.lock().asking(node);
        let attr = match self.0.stat_node(node, by, deadline).await {
            Ok(attr) => attr,
            Err(error) => {
                self.0.state.lock().doubt_if_stale(node, &error);
                return self.attr_away(node, error);
            }
        };
        let mut state = self.0.state.lock();
        let is_doubtful = asking.is_some() && by == By::Name && !state.learn_leased(asking, attr);
        state.tell(node, attr);
        let found = state.node_attr(node, attr, Source::Host)?;
        Ok(if is_doubtful { NodeAttr { ttl: Ttl::NONE, ..found } } else { found })
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
    fn node_attr(&self, node: NodeId, attr: Attr, source: Source) -> Result<NodeAttr, VfsError> {
        let generation = self.nodes.generation(node)?;
        let inode = if node == NodeId::ROOT { attr.id.inode } else { node.0 };
        Ok(NodeAttr { node, generation, inode, attr, ttl: self.ttl(node, &attr, source) })
    }

    /// What [`State::node_attr`] says of a file that a name was just found to lead to under a lease.
    pub(super) fn leased_file(&self, found: NodeRef, attr: Attr) -> NodeAttr {
        let ttl = Ttl { entry: self.leased_ttl, attr: self.leased_ttl };
        NodeAttr { node: found.node, generation: found.generation, inode: found.node.0, attr, ttl }
    }

    /// Counts one lookup of what a name leads to; from memory, what [`Folders::find`] said of it.
    fn found(
        &mut self,
        (parent, name): (NodeId, &Name),
        mut attr: Attr,
        source: Source,
    ) -> Result<NodeAttr, VfsError> {
        if source == Source::Host {
            self.note_name(parent, name, Some(attr));
        }
        let found = self.nodes.look_up(parent, name, Found { id: Some(attr.id), kind: attr.kind })?;
        if source == Source::Memory {
            if attr.kind != FileKind::Directory {
                self.tell(found.node, attr);
                return Ok(self.leased_file(found, attr));
            }
            // What is known of a directory by its name is as old as the name.
            attr = self.leased_attr(found.node).unwrap_or(attr);
        }
        self.tell(found.node, attr);
        self.node_attr(found.node, attr, source)
    }

    /// What to remember of a question about a node: a directory's attributes hold under its own lease, a file's under
    /// that of the directory it is in.
    fn asking(&self, node: NodeId) -> Option<(Asked, Option<Name>)> {
        let (_, kind) = self.nodes.file(node).ok()?;
        if kind == FileKind::Directory {
            return Some((self.folders.asking(node)?, None));
        }
        let asked = self.folders.asking(self.nodes.parent(node).ok()?)?;
        Some((asked, Some(self.nodes.name(node)?)))
    }

    /// The host has another file under a node's name, or none: the kernel looks it up again, and memory must not answer.
    fn doubt_if_stale(&mut self, node: NodeId, error: &VfsError) {
        if *error != VfsError::Stale {
            return;
        }
        if let (Ok(parent), Some(name)) = (self.nodes.parent(node), self.nodes.name(node)) {
            self.folders.doubt(parent, &name);
        }
    }

    /// Takes in what the host said of the file that has the name asked for, if nothing came between; whether it did not.
    fn learn_leased(&mut self, asking: Option<(Asked, Option<Name>)>, attr: Attr) -> bool {
        match asking {
            Some((asked, None)) => self.folders.learn_dir(Some(asked), attr),
            Some((asked, Some(name))) => self.folders.learn(Some(asked), &name, Some(attr)),
            None => false,
        }
    }

    /// Takes note of attributes that the kernel is told with the answer; whether it was told others before.
    fn tell(&mut self, node: NodeId, attr: Attr) -> bool {
        self.learn(node, attr);
        self.told.note(node, attr, Instant::now());
        self.nodes.tell(node, &attr.version())
    }

    /// Takes note of attributes that the kernel is told with a listing.
    pub(super) fn note_listed(&mut self, node: NodeId, attr: Attr) {
        self.learn(node, attr);
        self.told.renew(node, attr, Instant::now());
        self.nodes.tell(node, &attr.version());
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
        // Who holds the file open holds contents.
        let Some(held) = self.nodes.content(node) else { return };
        let open = self.handles.of_node(node).map(|file| file.reader.content());
        for content in open.chain([&held]) {
            let version = content.version();
            // ctime alone moves with a rename or a chmod: then the host is asked at the next read it must serve. An
            // answer may come later than a newer one; then the look at the host finds nothing new.
            if version.size != attr.size || version.mtime != attr.mtime {
                content.note_told(attr.size);
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
