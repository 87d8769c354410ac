//! Finding files by path, pattern or folder, past the kernel: the host is asked, page by page.
//!
//! Symlinks are not followed: their texts are for the kernel of this machine.

mod pattern;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;
use wire::{
    Attr, ErrorCode, FileId, FileKind, Name, ShareId, SharePath,
    message::{ShareInfo, Target},
};

use super::{Vfs, dir::Pass, name_of};
use crate::{error::VfsError, read::OpenRead};

/// Any number of folders.
const ANY_DEPTH: &[u8] = b"**";

/// A file that was found.
pub struct Walked {
    /// Relative to the mount.
    pub path: Vec<u8>,
    /// What a request names it by.
    pub target: Target,
    /// What it is opened by.
    pub file: OpenRead,
}

/// What a walk comes to.
pub enum Step {
    /// A regular file.
    File(Walked),
    /// Something that is not to be had.
    Problem {
        /// Relative to the mount.
        path: Vec<u8>,
        /// Why.
        error: WalkError,
    },
}

/// Why something is not to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// It is there, and holds no bytes.
    #[error("it is a symlink: give what it leads to")]
    Symlink,
    /// It is there, and holds no bytes.
    #[error("it is neither a file nor a folder")]
    Special,
    /// A pattern that nothing has.
    #[error("nothing on the host fits this pattern")]
    NoMatch,
    /// A way up.
    #[error("give the path without `..`")]
    Upward,
    /// The host has no such name, or says why it does not tell.
    #[error(transparent)]
    Vfs(#[from] VfsError),
}

/// One path, pattern or folder, walked through. Holds a page of the host, and the folders yet to be listed.
pub struct Walk {
    vfs: Vfs,
    shown: Vec<u8>,
    deadline: Duration,
    ready: VecDeque<Step>,
    todo: Vec<Todo>,
    has_pattern: bool,
    came_to_something: bool,
}

/// The parts of a path that are not looked at yet.
type Parts = VecDeque<Arc<[u8]>>;

enum Todo {
    /// A path, and what is to be found below it.
    Look { at: At, rest: Parts },
    /// A folder from where a pass over it is, and what is to be found in it; all when that is nothing.
    List { at: At, id: FileId, pass: Pass, rest: Parts },
}

/// A path in a share.
#[derive(Clone)]
pub(super) struct At {
    share: Arc<ShareInfo>,
    path: SharePath,
}

impl Walk {
    /// A walk of `path`, relative to the mount; each request may take `deadline`.
    pub fn new(vfs: &Vfs, path: &[u8], deadline: Duration) -> Walk {
        let mut walk = Walk {
            vfs: vfs.clone(),
            shown: Vec::from(path),
            deadline,
            ready: VecDeque::new(),
            todo: Vec::new(),
            has_pattern: false,
            came_to_something: false,
        };
        let parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".");
        let mut rest: Parts = parts.map(Arc::from).collect();
        walk.has_pattern = rest.iter().any(|part| pattern::is_pattern(part));
        if rest.iter().any(|part| **part == *b"..") {
            walk.problem(Vec::from(path), WalkError::Upward);
            return walk;
        }
        let shares = vfs.shares();
        let first = match vfs.shows_folder_of_shares() {
            // It means every share, and what is below.
            true if rest.front().is_some_and(|part| **part == *ANY_DEPTH) => None,
            true => rest.pop_front(),
            false => None,
        };
        for share in shares {
            let is_meant = first.as_ref().is_none_or(|part| {
                **part == *share.name.as_bytes() || pattern::matches(part, share.name.as_bytes())
            });
            if is_meant {
                let at = At { share: Arc::new(share), path: SharePath::root() };
                walk.todo.push(Todo::Look { at, rest: rest.clone() });
            }
        }
        if walk.todo.is_empty() && !walk.has_pattern {
            walk.problem(Vec::from(path), VfsError::NoSuchName.into());
        }
        walk
    }

    /// The next file or problem; `None` at the end.
    ///
    /// # Errors
    /// When the host is out of reach: nothing more can be found then.
    pub async fn next(&mut self) -> Result<Option<Step>, VfsError> {
        loop {
            if let Some(step) = self.ready.pop_front() {
                self.came_to_something = true;
                return Ok(Some(step));
            }
            let Some(todo) = self.todo.pop() else {
                if self.has_pattern && !self.came_to_something {
                    self.problem(self.shown.clone(), WalkError::NoMatch);
                    continue;
                }
                return Ok(None);
            };
            match todo {
                Todo::Look { at, rest } => self.look(at, rest).await?,
                Todo::List { at, id, pass, rest } => self.list(at, (id, pass), rest).await?,
            }
        }
    }

    async fn look(&mut self, mut at: At, mut rest: Parts) -> Result<(), VfsError> {
        while let Some(part) = rest.front() {
            let is_pattern = pattern::is_pattern(part);
            // A name may hold what else is a pattern; then it is that name.
            let literal = match at.join(part) {
                Ok(next) if is_pattern => self.stat(&next).await?.ok().map(|_| next),
                Ok(next) => Some(next),
                Err(error) if is_pattern => {
                    tracing::trace!(%error, "a pattern that is no name");
                    None
                }
                Err(error) => {
                    self.problem(at.shown(&self.vfs, Some(part)), error.into());
                    return Ok(());
                }
            };
            let Some(next) = literal else { break };
            rest.pop_front();
            at = next;
        }
        let attr = match self.stat(&at).await? {
            Ok(attr) => attr,
            Err(error) => {
                self.problem(at.shown(&self.vfs, None), error.into());
                return Ok(());
            }
        };
        match (attr.kind, rest.is_empty()) {
            (FileKind::Directory, _) => {
                self.todo.push(Todo::List { at, id: attr.id, pass: Pass::default(), rest });
            }
            (FileKind::Regular, true) => self.file(&at, &attr),
            (FileKind::Symlink, true) => self.problem(at.shown(&self.vfs, None), WalkError::Symlink),
            (_, true) => self.problem(at.shown(&self.vfs, None), WalkError::Special),
            (_, false) => {}
        }
        Ok(())
    }

    async fn list(&mut self, at: At, (id, mut pass): (FileId, Pass), rest: Parts) -> Result<(), VfsError> {
        let target = Target { share: at.share.id, path: at.path.clone(), id: Some(id) };
        let fetched = self.vfs.fetch_page(target, pass.cookie(), Instant::now() + self.deadline).await;
        let page = match fetched.and_then(|(_, page)| pass.turn_to(&page).map(|()| page)) {
            Ok(page) => page,
            Err(error) => {
                let error = passes(error)?;
                self.problem(at.shown(&self.vfs, None), error.into());
                return Ok(());
            }
        };
        if !page.end {
            self.todo.push(Todo::List { at: at.clone(), id, pass, rest: rest.clone() });
        }
        for entry in &page.entries {
            let Ok(next) = at.join(entry.name.as_bytes()) else { continue };
            self.entry(next, &entry.name, entry.attr.as_ref(), &rest);
        }
        Ok(())
    }

    /// Takes an entry of a listed folder in, if it is meant.
    fn entry(&mut self, at: At, name: &Name, attr: Option<&Attr>, rest: &Parts) {
        let Some(attr) = attr else {
            // The host could not look at it just then.
            if rest.front().is_none_or(|part| pattern::matches(part, name.as_bytes())) {
                self.todo.push(Todo::Look { at, rest: rest.iter().skip(1).cloned().collect() });
            }
            return;
        };
        let is_folder = attr.kind == FileKind::Directory;
        let mut below = rest.clone();
        let part = below.pop_front();
        let is_deep = part.as_deref() == Some(ANY_DEPTH);
        if is_deep && is_folder && !name.as_bytes().starts_with(b".") {
            self.todo.push(Todo::List {
                at: at.clone(),
                id: attr.id,
                pass: Pass::default(),
                rest: rest.clone(),
            });
            if below.is_empty() {
                return;
            }
        }
        let wanted = if is_deep { below.pop_front() } else { part };
        if !wanted.is_none_or(|part| pattern::matches(&part, name.as_bytes())) {
            return;
        }
        match (attr.kind, below.is_empty()) {
            (FileKind::Regular, true) => self.file(&at, attr),
            (FileKind::Directory, true) => {
                self.todo.push(Todo::List { at, id: attr.id, pass: Pass::default(), rest: below });
            }
            (FileKind::Directory, false) => self.todo.push(Todo::Look { at, rest: below }),
            _ => {}
        }
    }

    /// The attributes, or why the host does not tell them; the outer error is for want of a host.
    async fn stat(&self, at: &At) -> Result<Result<Attr, VfsError>, VfsError> {
        let target = Target { share: at.share.id, path: at.path.clone(), id: None };
        let named = target.clone();
        let found = self.vfs.0.stat(target, Instant::now() + self.deadline).await;
        match found.or_else(|error| self.vfs.0.path_away(&named, error)) {
            Ok(attr) => Ok(Ok(attr)),
            Err(error) => Ok(Err(passes(error)?)),
        }
    }

    fn file(&mut self, at: &At, attr: &Attr) {
        let target = Target { share: at.share.id, path: at.path.clone(), id: Some(attr.id) };
        let (id, version, settled) = (attr.id, attr.version(), attr.settled);
        let file = OpenRead { share: at.share.name.clone(), id, version, settled };
        let path = at.shown(&self.vfs, None);
        self.ready.push_back(Step::File(Walked { path, target, file }));
    }

    fn problem(&mut self, path: Vec<u8>, error: WalkError) {
        self.ready.push_back(Step::Problem { path, error });
    }
}

impl At {
    /// What a path, relative to the mount, leads to: a place in a share, or every share.
    ///
    /// # Errors
    /// [`VfsError::NoSuchName`], [`VfsError::TooLong`] for what no host can have.
    pub(super) fn of(vfs: &Vfs, path: &[u8]) -> Result<Vec<At>, VfsError> {
        let mut parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".");
        let share = if vfs.shows_folder_of_shares() { parts.next() } else { None };
        let roots = vfs.shares().into_iter().filter(|of| share.is_none_or(|name| name == of.name.as_bytes()));
        let mut roots: Vec<At> =
            roots.map(|share| At { share: Arc::new(share), path: SharePath::root() }).collect();
        for part in parts {
            for at in &mut roots {
                *at = at.join(part)?;
            }
        }
        if roots.is_empty() { Err(VfsError::NoSuchName) } else { Ok(roots) }
    }

    /// What a request names it by.
    pub(super) fn target(&self) -> Target {
        Target { share: self.share.id, path: self.path.clone(), id: None }
    }

    /// The share and the path in it.
    pub(super) fn place(&self) -> (ShareId, SharePath) {
        (self.share.id, self.path.clone())
    }

    /// The folder it is in, and its name there; `None` for a share's root.
    pub(super) fn split(&self) -> Option<(At, Name)> {
        let name = self.path.names().last()?;
        let path = self.path.as_bytes();
        let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        let path = SharePath::new(&path[..end]).ok()?;
        Some((At { share: self.share.clone(), path }, name))
    }

    pub(super) fn join(&self, name: &[u8]) -> Result<At, VfsError> {
        let path = self.path.join(&name_of(name)?).map_err(|_| VfsError::TooLong)?;
        Ok(At { share: self.share.clone(), path })
    }

    /// As seen from the mount's root.
    pub(super) fn shown(&self, vfs: &Vfs, name: Option<&[u8]>) -> Vec<u8> {
        let share = vfs.shows_folder_of_shares().then(|| self.share.name.as_bytes());
        let path = (!self.path.is_root()).then(|| self.path.as_bytes());
        [share, path, name].into_iter().flatten().collect::<Vec<_>>().join(&b'/')
    }
}

/// What is one file's, of what went wrong; the other is that there is no host.
pub(super) fn passes(error: VfsError) -> Result<VfsError, VfsError> {
    match error {
        VfsError::Lost { .. } | VfsError::Deadline | VfsError::Closed => Err(error),
        VfsError::Host { code: ErrorCode::NotFound, .. } => Ok(VfsError::NoSuchName),
        other => Ok(other),
    }
}

impl Vfs {
    /// Whether the first part of a path is the name of a share.
    fn shows_folder_of_shares(&self) -> bool {
        self.0.is_folder_of_shares(super::inode::NodeId::ROOT)
    }

    /// The attributes of what was found, anew.
    ///
    /// # Errors
    /// What the host says.
    pub async fn walked_again(&self, walked: &mut Walked, deadline: Instant) -> Result<(), VfsError> {
        let attr = self.0.stat(walked.target.clone(), deadline).await?;
        if attr.id != walked.file.id || attr.kind != FileKind::Regular {
            return Err(VfsError::Stale);
        }
        (walked.file.version, walked.file.settled) = (attr.version(), attr.settled);
        Ok(())
    }

    /// The read path.
    pub(crate) fn reads(&self) -> &crate::read::ReadPath {
        &self.0.reads
    }
}
