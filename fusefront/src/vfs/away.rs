//! While the host is away: what of the mount is local, and what a mount that serves stale data answers from memory.
//!
//! The root of a share is local always: its attributes are shown as last known when the host does not tell them at once, and it
//! opens without the host, so that `ls -d`, `stat` and `df` never hang. The rest is answered from memory only where
//! that was asked for ([`Vfs::keep_last_known`]), and only once a call failed for want of a session: what the host
//! said of a name, a file or a whole folder last ([`super::known`]), beyond its time. What it never said is an I/O
//! error: unknown is not absent.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, timeout};
use transport::OnLoss;
use wire::{Attr, Extent, FileId, Name, ShareId, message::Target};

use super::{
    By, Inner, State, Vfs,
    attr::{NodeAttr, Source, Ttl},
    dir::Page,
    handle::{HandleId, NodeLocation, OpenFile},
    inode::{Found, NodeId, NodeTable},
    known::{Extra, Folder, ITSELF, LastKnown},
    open::Opened,
    shares::MountRoot,
};
use crate::error::VfsError;

/// How long the host may take to tell the root's attributes before the last known ones are shown.
const ROOT_PATIENCE: Duration = Duration::from_millis(50);

/// How long the host may take to tell, behind an answer, what the next one shows.
pub(super) const REFRESH_DEADLINE: Duration = Duration::from_secs(2);

/// Looks at roots of shares under way at once, each share's with room to spare; who comes when there are more is shown
/// what is known.
pub(super) const ROOT_LOOKS_MAX: usize = 16;

/// How soon the kernel asks again for what it was told an error of: at once. For a name it drops what it knew and looks
/// anew; of bytes it read ahead it asks for the page that the program wants. The second answer must not take another
/// deadline.
const ASKED_AGAIN: Duration = Duration::from_millis(100);

/// Failures remembered for that.
const FAILED_MAX: usize = 64;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A name in a directory.
    Name(NodeId, Name),
    /// Bytes of an open file.
    Bytes(HandleId, Extent),
}

/// What ended without an answer of the host a moment ago, the oldest first.
#[derive(Default)]
pub(super) struct Failed(VecDeque<(Asked, Instant)>);

impl Failed {
    /// Takes note of an outcome, if it is such an end.
    pub(super) fn note(&mut self, asked: Asked, error: &VfsError, now: Instant) {
        if !matches!(error, VfsError::Deadline | VfsError::Lost { .. }) {
            return;
        }
        if self.0.len() >= FAILED_MAX {
            self.0.pop_front();
        }
        self.0.push_back((asked, now));
    }

    /// Whether this is the kernel asking again; each failure answers for one. A session `since` then is asked.
    fn take(&mut self, asked: &Asked, now: Instant, since: Option<Instant>) -> bool {
        self.0.retain(|(_, at)| now < *at + ASKED_AGAIN && since.is_none_or(|since| since < *at));
        let found = self.0.iter().position(|(failed, _)| asked.is_of(failed));
        found.and_then(|index| self.0.remove(index)).is_some()
    }
}

impl Asked {
    fn is_of(&self, failed: &Asked) -> bool {
        match (self, failed) {
            (Asked::Bytes(handle, part), Asked::Bytes(other, whole)) => {
                handle == other && part.start >= whole.start && part.end() <= whole.end()
            }
            _ => self == failed,
        }
    }
}

impl Vfs {
    /// From here on keeps what the host says, beside what is known already, to answer with it while the host is away.
    pub fn keep_last_known(&self, known: LastKnown) {
        self.0.state.lock().known.get_or_insert(known);
    }

    /// Looks at what is known, or changes it, where it is kept. `with` runs under the lock of the tree: microseconds.
    pub fn with_known<T>(&self, with: impl FnOnce(&mut LastKnown) -> T) -> Option<T> {
        self.0.state.lock().known.as_mut().map(with)
    }

    /// Whether what programs see now may be out of date beyond the times that attributes hold.
    pub fn serves_stale(&self) -> bool {
        self.0.state.lock().known.is_some() && self.0.client.loss().is_some()
    }

    /// The attributes of a share's root: the host's if it tells them at once, else as last known.
    pub(super) async fn attr_of_root(&self, node: NodeId, by: By) -> Result<NodeAttr, VfsError> {
        self.at_once(|vfs, deadline| async move {
            let asking = vfs.0.state.lock().asking(node);
            let attr = vfs.0.stat_node(node, by, deadline).await?;
            let mut state = vfs.0.state.lock();
            state.learn_leased(asking, attr);
            state.tell(node, attr);
            Ok(())
        })
        .await?;
        self.0.state.lock().share_root_attr(&self.0, node)
    }

    /// What `look` at a root finds, where the host tells it at once. One that takes longer goes on behind the answer.
    ///
    /// # Errors
    /// What the host says; not that it says nothing.
    pub(super) async fn at_once<T, F>(
        &self,
        look: impl FnOnce(Vfs, Instant) -> F,
    ) -> Result<Option<T>, VfsError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, VfsError>> + Send + 'static,
    {
        let permit = self.0.root_looks.clone().try_acquire_owned();
        let (Ok(permit), None) = (permit, self.0.client.loss()) else { return Ok(None) };
        let look = look(self.clone(), Instant::now() + REFRESH_DEADLINE);
        let look = self.0.lane.spawn(async move {
            let _permit = permit;
            look.await
        });
        match timeout(ROOT_PATIENCE, look).await {
            Ok(Ok(Ok(found))) => Ok(Some(found)),
            Ok(Ok(Err(VfsError::Deadline | VfsError::Lost { .. })) | Err(_)) | Err(_) => Ok(None),
            Ok(Ok(Err(error))) => Err(error),
        }
    }

    /// The attributes of a node as last known, in place of `error`.
    pub(super) fn attr_away(&self, node: NodeId, error: VfsError) -> Result<NodeAttr, VfsError> {
        let state = self.0.state.lock();
        match state.last_known(node, &error) {
            Some(attr) => Ok(NodeAttr { ttl: Ttl::UNLEASED, ..state.node_attr(node, attr, Source::Memory)? }),
            None => Err(error),
        }
    }

    /// What a name led to last, lookup counted, in place of `error`.
    pub(super) fn lookup_away(
        &self,
        parent: NodeId,
        name: &Name,
        error: VfsError,
    ) -> Result<NodeAttr, VfsError> {
        let mut state = self.0.state.lock();
        let Some(mut attr) = state.last_known_as(parent, name, &error) else {
            state.failed.note(Asked::Name(parent, name.clone()), &error, Instant::now());
            return Err(error);
        };
        let found = state.nodes.look_up(parent, name, Found { id: Some(attr.id), kind: attr.kind })?;
        if let Some(newer) = state.told.last(found.node).filter(|newer| newer.id == attr.id) {
            attr = newer;
        }
        // What is out of date anyway is not asked for at every step.
        Ok(NodeAttr { ttl: Ttl::UNLEASED, ..state.node_attr(found.node, attr, Source::Memory)? })
    }

    /// What is known of a node beside its attributes, in place of `error`.
    pub(super) fn extra_away(
        &self,
        node: NodeId,
        extra: Extra<'_>,
        error: VfsError,
    ) -> Result<Bytes, VfsError> {
        let state = self.0.state.lock();
        match (&state.known, KnownBy::of(&state.nodes, node)) {
            (Some(known), Some(by)) if is_lost(&error) => {
                known.extra(by.place(), by.id, extra).map(Bytes::copy_from_slice).ok_or(error)
            }
            _ => Err(error),
        }
    }

    /// Opens a file at the version last known, in place of `error`: what memory holds of it can be read.
    pub(super) fn open_away(&self, node: NodeId, error: VfsError) -> Result<Opened, VfsError> {
        let mut state = self.0.state.lock();
        let Some(attr) = state.last_known(node, &error) else { return Err(error) };
        if self.0.filling.contains(node) {
            return Err(error);
        }
        let location = NodeLocation { mount: Arc::downgrade(&self.0), node, id: attr.id };
        let Some(content) = state.nodes.content(node) else {
            return Ok(state.open(node, attr, (&self.0, location))?.0);
        };
        // The host has another version than what is held, and cannot be asked for it.
        if content.current() != Some(attr.version()) {
            return Err(error);
        }
        state.nodes.pin(node)?;
        let reader = self.0.reads.open(content, Arc::new(location));
        let keep_pages = !state.handles.is_dropping(node);
        let handle = state.handles.add_file(OpenFile::new(node, reader, keep_pages));
        Ok(Opened { handle, keep_pages, filled: None })
    }
}

impl Inner {
    /// Whether the kernel asks again for what just ended without an answer.
    pub(super) fn is_asked_again(&self, asked: &Asked) -> bool {
        // A mount that does not wait has nothing to save.
        if self.client.on_loss() == OnLoss::Fail || self.state.lock().failed.0.is_empty() {
            return false;
        }
        let session = self.client.stats();
        let since = session.connected.then_some(session.since);
        self.state.lock().failed.take(asked, Instant::now(), since)
    }

    /// Takes note of what is beside the attributes of a node, where that is wanted.
    pub(super) fn note_extra(&self, node: NodeId, extra: Extra<'_>, value: &[u8]) {
        let state = &mut *self.state.lock();
        let Some(known) = &mut state.known else { return };
        if let Some(by) = KnownBy::of(&state.nodes, node) {
            known.note_extra(by.place(), by.id, extra, value);
        }
    }

    /// Takes note of a page of a folder, where that is wanted.
    pub(super) fn note_page(&self, share: ShareId, own: Attr, page: &Page) {
        if let Some(known) = &mut self.state.lock().known {
            known.note_page((share, own.id), own, page);
        }
    }

    /// All of a folder, if that is known, in place of `error`: as a page that begins and ends it.
    pub(super) fn page_away(
        &self,
        target: &Target,
        cookie: u64,
        error: VfsError,
    ) -> Result<(Attr, Page), VfsError> {
        let mut state = self.state.lock();
        let (Some(known), Some(id), true) = (&mut state.known, target.id, is_lost(&error) && cookie == 0)
        else {
            return Err(error);
        };
        known.listing((target.share, id)).ok_or(error)
    }

    /// What a path led to last, in place of `error`.
    pub(super) fn path_away(&self, target: &Target, error: VfsError) -> Result<Attr, VfsError> {
        let mut state = self.state.lock();
        let root = match &self.root {
            MountRoot::Share(_) => Some(state.root),
            MountRoot::Folder { .. } => {
                let shares = state.shares_of(self);
                shares.iter().find(|share| share.id == target.share).map(|share| share.root)
            }
        };
        let (Some(known), Some(root), true) = (&state.known, root, is_lost(&error)) else {
            return Err(error);
        };
        let names = target.path.as_bytes().split(|&byte| byte == b'/').filter(|name| !name.is_empty());
        let mut at = root;
        for name in names {
            at = known.find((target.share, at.id), name).ok_or_else(|| error.clone())?;
        }
        Ok(at)
    }
}

impl State {
    /// Takes note of what a name leads to, or that it leads nowhere; where that is wanted.
    pub(super) fn note_name(&mut self, parent: NodeId, name: &Name, attr: Option<Attr>) {
        let folder = self.folder(parent);
        let (Some(known), Some(folder)) = (&mut self.known, folder) else { return };
        match attr {
            Some(attr) => known.note(folder, name.as_bytes(), attr),
            None => known.forget(folder, name.as_bytes()),
        }
    }

    /// Takes note of what the host says of a node, if its name is known.
    pub(super) fn renew_known(&mut self, node: NodeId, attr: Attr) {
        let Some(known) = &mut self.known else { return };
        if let Some(by) = KnownBy::of(&self.nodes, node) {
            let (folder, name) = by.place();
            known.renew(folder, name, attr);
        }
    }

    fn folder(&self, node: NodeId) -> Option<Folder> {
        folder_of(&self.nodes, node)
    }

    /// What the host said of a node last; `None` where that is not wanted, or is not what failed.
    fn last_known(&self, node: NodeId, error: &VfsError) -> Option<Attr> {
        if self.known.is_none() || !is_lost(error) {
            return None;
        }
        let (id, _) = self.nodes.file(node).ok()?;
        let told = self.told.last(node).filter(|attr| Some(attr.id) == id);
        told.or_else(|| {
            let attr = self.last_known_as(self.nodes.parent(node).ok()?, &self.nodes.name(node)?, error)?;
            (Some(attr.id) == id).then_some(attr)
        })
    }

    /// The same of a name.
    fn last_known_as(&self, parent: NodeId, name: &Name, error: &VfsError) -> Option<Attr> {
        let known = self.known.as_ref().filter(|_| is_lost(error))?;
        known.find(self.folder(parent)?, name.as_bytes())
    }
}

/// Whether it failed for want of a session.
fn is_lost(error: &VfsError) -> bool {
    matches!(error, VfsError::Lost { .. })
}

fn folder_of(nodes: &NodeTable, node: NodeId) -> Option<Folder> {
    Some((nodes.share(node)?, nodes.file(node).ok()?.0?))
}

/// What a node is known by.
struct KnownBy {
    folder: Folder,
    /// `None` for the root of a share, which is known by itself.
    name: Option<Name>,
    id: FileId,
}

impl KnownBy {
    fn of(nodes: &NodeTable, node: NodeId) -> Option<KnownBy> {
        let own @ (_, id) = folder_of(nodes, node)?;
        if nodes.is_share_root(node) {
            return Some(KnownBy { folder: own, name: None, id });
        }
        let folder = folder_of(nodes, nodes.parent(node).ok()?)?;
        Some(KnownBy { folder, name: Some(nodes.name(node)?), id })
    }

    fn place(&self) -> (Folder, &[u8]) {
        (self.folder, self.name.as_ref().map_or(ITSELF, Name::as_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64) -> Name {
        Name::new(format!("n{number}").as_bytes()).unwrap()
    }

    #[test]
    fn a_failed_look_up_answers_for_the_one_that_follows_at_once() {
        let (mut failed, now) = (Failed::default(), Instant::now()); // clock: an origin, nothing waits
        let asked = |parent, number| Asked::Name(NodeId(parent), name(number));
        failed.note(asked(2, 1), &VfsError::Deadline, now);
        assert!(!failed.take(&asked(2, 2), now, None));
        assert!(!failed.take(&asked(3, 1), now, None));
        assert!(failed.take(&asked(2, 1), now, None));
        assert!(!failed.take(&asked(2, 1), now, None), "once");
        failed.note(asked(2, 1), &VfsError::Deadline, now);
        assert!(!failed.take(&asked(2, 1), now + ASKED_AGAIN, None), "a program's own next try");
        failed.note(asked(2, 1), &VfsError::Deadline, now);
        assert!(!failed.take(&asked(2, 1), now, Some(now)), "a new session");
        failed.note(asked(2, 1), &VfsError::Stale, now);
        assert!(!failed.take(&asked(2, 1), now, None), "the host answered");
        for number in 0..2 * FAILED_MAX as u64 {
            failed.note(asked(2, number), &VfsError::Deadline, now);
        }
        assert_eq!(failed.0.len(), FAILED_MAX);
    }

    #[test]
    fn a_failed_read_ahead_answers_for_the_page_that_is_asked_for_next() {
        let (mut failed, now) = (Failed::default(), Instant::now()); // clock: an origin, nothing waits
        let asked = |handle, start, len| Asked::Bytes(HandleId(handle), Extent::new(start, len));
        failed.note(asked(1, 4096, 8192), &VfsError::Deadline, now);
        assert!(!failed.take(&asked(2, 4096, 4096), now, None), "another handle");
        assert!(!failed.take(&asked(1, 0, 8192), now, None), "more than failed");
        assert!(failed.take(&asked(1, 8192, 4096), now, None));
        assert!(!failed.take(&asked(1, 4096, 4096), now, None), "once");
    }
}
