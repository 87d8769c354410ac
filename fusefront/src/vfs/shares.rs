//! The root of a mount of several shares: a folder of the mount's own, with a folder for each share.
//!
//! Which shares there are is what the newest session's welcome says, so nothing of the root waits for the host: a share
//! that the host dropped, or that a ticket does not open any more, is gone with the next session, and one that was added
//! is there. While the host is away all stay. The folders' attributes are those of the shares' roots: the host's if it
//! tells them at once, else as last known, as for the root of a mount of one share.

use std::sync::Arc;

use wire::{
    Attr, ByteLen, Entry, FileId, FileKind, Name, ShareId, SharePath, Timestamp,
    message::{ShareInfo, Target, Welcome},
};

use super::{
    Inner, State, Vfs,
    attr::{NodeAttr, Source, Ttl},
    dir::{OpenDir, Page},
    handle::HandleId,
    inode::NodeId,
};
use crate::error::VfsError;

/// What the root of a mount is.
#[derive(Clone, Debug)]
pub enum MountRoot {
    /// The root of a share.
    Share(ShareInfo),
    /// A folder of the mount's own, with a folder for each share that the ticket opens.
    Folder {
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
        /// All its times: when it was mounted.
        made: Timestamp,
    },
}

/// The shares of a welcome that can be mounted: folders, each under a name and a number of its own. An honest host has
/// no others.
pub fn usable(welcome: &Welcome) -> Vec<ShareInfo> {
    let mut usable: Vec<ShareInfo> = Vec::with_capacity(welcome.shares.len());
    for share in &welcome.shares {
        let is_known = usable.iter().any(|known| known.name == share.name || known.id == share.id);
        if share.root.kind == FileKind::Directory && !is_known {
            usable.push(share.clone());
        }
    }
    usable
}

/// The shares of the newest session, with their roots as known last. At most [`wire::limits::SHARES_MAX`].
pub(super) struct Shares {
    welcome: Arc<Welcome>,
    known: Vec<ShareInfo>,
}

impl Shares {
    pub(super) fn new(welcome: Arc<Welcome>) -> Shares {
        Shares { known: usable(&welcome), welcome }
    }

    /// The shares of `welcome`, the newest: what it says of their roots is newer than what was known.
    fn of(&mut self, welcome: Arc<Welcome>) -> &[ShareInfo] {
        if !Arc::ptr_eq(&self.welcome, &welcome) {
            *self = Shares::new(welcome);
        }
        &self.known
    }

    /// Takes note of what the host says of a share's root.
    pub(super) fn learn(&mut self, share: ShareId, attr: Attr) {
        let known = self.known.iter_mut().find(|known| known.id == share);
        if let Some(known) = known.filter(|_| attr.kind == FileKind::Directory) {
            known.root = attr;
        }
    }
}

/// The attributes of a root that is no share, but for its link count.
pub(super) fn folder_attr(uid: u32, gid: u32, made: Timestamp) -> Attr {
    Attr {
        // Told from every file of a host by its number, which no host's file has here.
        id: FileId { fs: 0, inode: NodeId::ROOT.0, birth: 0 },
        kind: FileKind::Directory,
        perm: 0o555,
        links: 2,
        uid,
        gid,
        rdev: 0,
        block_bytes: 4096,
        size: ByteLen(0),
        blocks: 0,
        atime: made,
        mtime: made,
        ctime: made,
        settled: true,
    }
}

/// The offset of a share in the root is made from its number, which stays: a listing goes on where it was.
fn cookie_of(share: ShareId) -> u64 {
    u64::from(share.0) + 1
}

/// The share of an entry of the root.
pub(super) fn share_of(entry: &Entry) -> Option<ShareId> {
    entry.cookie.checked_sub(1).and_then(|id| u16::try_from(id).ok()).map(ShareId)
}

impl State {
    /// The shares of the newest session.
    pub(super) fn shares_of(&mut self, mount: &Inner) -> &[ShareInfo] {
        self.shares.of(mount.client.welcome())
    }

    /// Whether the newest session has a share of this number and name. Numbers of shares that are long gone may come
    /// again, and then mean another share.
    pub(super) fn has_share(&mut self, mount: &Inner, share: ShareId, name: &Name) -> bool {
        self.shares_of(mount).iter().any(|known| known.id == share && known.name == *name)
    }

    /// The attributes of the root of a share as last known.
    pub(super) fn share_root_attr(&mut self, mount: &Inner, node: NodeId) -> Result<NodeAttr, VfsError> {
        if node == NodeId::ROOT {
            return self.node_attr(node, self.root, Source::Host);
        }
        let ((place, _), (id, _)) = (self.nodes.place(node)?, self.nodes.file(node)?);
        let known = self.shares_of(mount).iter().find(|known| known.id == place.share);
        let attr = known.map(|known| known.root).filter(|root| Some(root.id) == id);
        self.node_attr(node, attr.ok_or(VfsError::Stale)?, Source::Host)
    }
}

impl Inner {
    /// Whether a node is the folder that holds the shares.
    pub(super) fn is_folder_of_shares(&self, node: NodeId) -> bool {
        node == NodeId::ROOT && matches!(self.root, MountRoot::Folder { .. })
    }
}

impl Vfs {
    /// The shares that the mount shows now.
    pub fn shares(&self) -> Vec<ShareInfo> {
        match &self.0.root {
            MountRoot::Share(share) => vec![share.clone()],
            MountRoot::Folder { .. } => self.0.state.lock().shares_of(&self.0).to_owned(),
        }
    }

    /// All shares of the newest session, with their roots as known last.
    pub(crate) fn last_shares(&self) -> Vec<ShareInfo> {
        let mut state = self.0.state.lock();
        let mut shares = state.shares_of(&self.0).to_owned();
        if let MountRoot::Share(mounted) = &self.0.root {
            let known = shares.iter_mut().find(|share| share.id == mounted.id && share.name == mounted.name);
            known.into_iter().for_each(|share| share.root = state.root);
        }
        shares
    }

    /// The attributes of the folder that holds the shares; asks nobody.
    pub(super) fn folder_attr(&self) -> Result<NodeAttr, VfsError> {
        let mut state = self.0.state.lock();
        let shares = u32::try_from(state.shares_of(&self.0).len()).unwrap_or(u32::MAX);
        let attr = Attr { links: 2 + shares, ..state.root };
        Ok(NodeAttr { ttl: Ttl::UNLEASED, ..state.node_attr(NodeId::ROOT, attr, Source::Host)? })
    }

    /// Finds a share in the root and counts one lookup of it.
    ///
    /// # Errors
    /// [`VfsError::NoSuchName`] where the session has no such share; else what the host says of its root.
    pub(super) async fn look_up_share(&self, name: &Name) -> Result<NodeAttr, VfsError> {
        let found = self.shares().into_iter().find(|share| share.name == *name);
        let share = found.ok_or(VfsError::NoSuchName)?;
        let attr = self.look_at_share(&share).await?;
        let mut state = self.0.state.lock();
        let found = state.nodes.look_up_share(share.id, name, attr.id)?;
        state.tell(found.node, attr);
        state.node_attr(found.node, attr, Source::Host)
    }

    /// The attributes of a share's root: the host's if it tells them at once, else as last known.
    async fn look_at_share(&self, share: &ShareInfo) -> Result<Attr, VfsError> {
        let id = share.id;
        let looked = self.at_once(move |vfs, deadline| async move {
            let target = Target { share: id, path: SharePath::root(), id: None };
            let attr = vfs.0.stat(target, deadline).await?;
            if attr.kind != FileKind::Directory {
                let reason = "the root of a share that is not a folder".to_owned();
                return Err(VfsError::Protocol { reason });
            }
            vfs.0.state.lock().shares.learn(id, attr);
            Ok(attr)
        });
        Ok(looked.await?.unwrap_or(share.root))
    }

    /// Opens the folder that holds the shares.
    pub(super) async fn open_folder(&self) -> Result<HandleId, VfsError> {
        let page = self.shares_page(0).await;
        let mut state = self.0.state.lock();
        state.nodes.pin(NodeId::ROOT)?;
        let id = state.root.id;
        Ok(state.handles.add_dir(OpenDir::new(NodeId::ROOT, id, Some(page))))
    }

    /// The entries of that folder after a place in it.
    pub(super) async fn shares_page(&self, cookie: u64) -> Arc<Page> {
        let mut looks = tokio::task::JoinSet::new();
        for share in self.shares() {
            let vfs = self.clone();
            // What it says is in the state then; a share whose root cannot be looked at is listed all the same.
            looks.spawn(async move { drop(vfs.look_at_share(&share).await) });
        }
        while looks.join_next().await.is_some() {}
        let mut shares = self.shares();
        shares.sort_by_key(|share| share.id);
        let entries = shares.into_iter().map(|share| Entry {
            cookie: cookie_of(share.id),
            name: share.name,
            kind: Some(FileKind::Directory),
            attr: Some(share.root),
        });
        Arc::new(Page {
            start: cookie,
            entries: entries.filter(|entry| entry.cookie > cookie).collect(),
            end: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use wire::version::PROTOCOL_VERSION;

    use super::*;

    fn share(id: u16, name: &str, kind: FileKind) -> ShareInfo {
        let root = Attr { kind, ..folder_attr(0, 0, Timestamp::default()) };
        ShareInfo { id: ShareId(id), name: Name::new(name.as_bytes()).unwrap(), root }
    }

    fn welcome(shares: Vec<ShareInfo>) -> Arc<Welcome> {
        Arc::new(Welcome { version: PROTOCOL_VERSION, session: 1, boot: 1, shares })
    }

    #[test]
    fn only_folders_with_names_and_numbers_of_their_own_are_usable() {
        let shares = vec![
            share(1, "a", FileKind::Directory),
            share(2, "a", FileKind::Directory),
            share(1, "b", FileKind::Directory),
            share(3, "file", FileKind::Regular),
            share(4, "c", FileKind::Directory),
        ];
        let ids: Vec<u16> = usable(&welcome(shares)).iter().map(|share| share.id.0).collect();
        assert_eq!(ids, [1, 4]);
    }

    #[test]
    fn what_is_known_of_a_root_holds_until_the_next_session() {
        let first = welcome(vec![share(1, "a", FileKind::Directory), share(2, "b", FileKind::Directory)]);
        let mut shares = Shares::new(first.clone());
        let mut newer = first.shares[0].root;
        newer.uid = 7;
        shares.learn(ShareId(1), newer);
        shares.learn(ShareId(9), newer);
        shares.learn(ShareId(2), Attr { kind: FileKind::Regular, ..newer });
        assert_eq!(shares.of(first.clone()).iter().map(|share| share.root.uid).collect::<Vec<_>>(), [7, 0]);
        let second = welcome(vec![share(2, "b", FileKind::Directory)]);
        assert_eq!(shares.of(second).len(), 1);
        assert_eq!(shares.of(first)[0].root.uid, 0);
    }

    #[test]
    fn an_entry_of_the_root_leads_back_to_its_share() {
        for id in [0, 1, u16::MAX] {
            let name = Name::new(b"a").unwrap();
            let entry = Entry { name, cookie: cookie_of(ShareId(id)), kind: None, attr: None };
            assert_eq!(share_of(&entry), Some(ShareId(id)));
            assert_eq!(share_of(&Entry { cookie: 0, ..entry }), None);
        }
    }
}
