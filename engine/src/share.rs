//! Shares: the folders a host serves, and the part of one that a ticket opens.

mod filter;
pub(crate) mod identity;
pub(crate) mod mounts;
pub(crate) mod resolve;

use std::{
    borrow::Cow,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
};

use rustix::io::Errno;
use wire::{Attr, ErrorCode, FileId, FileKind, Name, ShareId, SharePath, limits};

use crate::{
    attr::{FileSystem, Look},
    config::ShareConfig,
    error::{Fault, HostError},
};
use filter::Filter;
use identity::FileSystems;
use resolve::Reach;

/// A folder that is served.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) id: ShareId,
    pub(crate) name: Name,
    root: OwnedFd,
    filter: Option<Filter>,
    file_systems: FileSystems,
}

impl Share {
    /// Opens the folder and makes sure that it can be served.
    pub(crate) fn open(id: ShareId, config: &ShareConfig) -> Result<Share, HostError> {
        // Before the folder is touched: a mistake in the configuration does not wait for a disk.
        let filter = Filter::compile(config)?;
        let path = || config.root.clone();
        let unreadable = |source| HostError::ShareUnreadable { path: path(), source };
        let canonical = config.root.canonicalize().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => HostError::ShareMissing { path: path() },
            std::io::ErrorKind::NotADirectory => HostError::ShareNotFolder { path: path() },
            _ => unreadable(source),
        })?;
        // Before anything is asked of the folder: a look at a mount of our own could wait for itself.
        if let Some(mountpoint) = mounts::wormhole_mount_of(&canonical)
            .map_err(|source| HostError::Kernel { what: "/proc/self/mountinfo", source })?
        {
            return Err(HostError::ShareHoldsMount { path: path(), mountpoint });
        }
        let root = open_root(&canonical).map_err(|errno| match errno {
            Errno::NOTDIR => HostError::ShareNotFolder { path: path() },
            _ => unreadable(errno.into()),
        })?;
        Share::check(&root).map_err(|(what, errno)| match what {
            Some(what) => HostError::Kernel { what, source: errno.into() },
            None => unreadable(errno.into()),
        })?;
        let file_systems = FileSystems::of_root(root.as_fd()).map_err(|errno| unreadable(errno.into()))?;
        Ok(Share { id, name: config.name.clone(), root, filter, file_systems })
    }

    /// Whether names can be resolved and listed here; names the missing call where the kernel lacks one.
    fn check(root: &OwnedFd) -> Result<(), (Option<&'static str>, Errno)> {
        let place = resolve::open(root.as_fd(), b"", Reach::Whole).map_err(|errno| match errno {
            Errno::NOSYS | Errno::INVAL => (Some("openat2(2)"), errno),
            _ => (None, errno),
        })?;
        resolve::open_to_list(place.as_fd()).map_err(|errno| match errno {
            Errno::NOENT => (Some("/proc/self/fd"), errno),
            _ => (None, errno),
        })?;
        Ok(())
    }
}

fn open_root(path: &PathBuf) -> Result<OwnedFd, Errno> {
    use rustix::fs::{Mode, OFlags, open};
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The part of a share that a ticket opens: everything below its prefix, and nothing else.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) share: Arc<Share>,
    prefix: SharePath,
    base: OwnedFd,
    quick: bool,
}

impl Scope {
    /// Opens the folder at `prefix`, if the share's patterns leave it one. May wait for the disk.
    pub(crate) fn open(share: Arc<Share>, prefix: &SharePath) -> Result<Scope, Fault> {
        let hides = |filter: &Filter, path: &[u8]| {
            filter.hides_way(path, 0) || filter.hides(path, Some(FileKind::Directory))
        };
        if share.filter.as_ref().is_some_and(|filter| hides(filter, prefix.as_bytes())) {
            return Err(Errno::NOENT.into());
        }
        let base = resolve::open(share.root.as_fd(), prefix.as_bytes(), Reach::Whole)?;
        let look = Look::at(base.as_fd())?;
        if look.kind() != Some(FileKind::Directory) {
            return Err(Fault::new(ErrorCode::NotDirectory));
        }
        let fs = share.file_systems.find(&look, share.root.as_fd(), prefix)?;
        Ok(Scope { share, prefix: prefix.clone(), base, quick: fs.quick })
    }

    /// The directory's own attributes.
    pub(crate) fn root_attr(&self) -> Result<Attr, Fault> {
        self.place(&SharePath::root())?.attr()
    }

    /// Finds what is at `path`. May wait for the disk.
    pub(crate) fn place(&self, path: &SharePath) -> Result<Place, Fault> {
        let served = self.way_to(path)?;
        let fd = resolve::open(self.base.as_fd(), path.as_bytes(), Reach::Whole)?;
        let look = Look::at(fd.as_fd())?;
        served.check(look.kind())?;
        let fs = self.file_system(&look, path)?;
        Ok(Place { fd, look, fs })
    }

    /// Finds the entry `name` of the folder `dir`, which was found at `path`. May wait for the disk.
    pub(crate) fn entry(&self, dir: &Place, path: &SharePath, name: &Name) -> Result<Place, Fault> {
        let fd = resolve::open(dir.fd.as_fd(), name.as_bytes(), Reach::Whole)?;
        let look = Look::at(fd.as_fd())?;
        if self.entries_of(path).is_some_and(|mut entries| entries.hide(name.as_bytes(), look.kind())) {
            return Err(Errno::NOENT.into());
        }
        let fs = match self.share.file_systems.known(&look) {
            Some(fs) => fs,
            None => {
                let path = path.join(name).map_err(|_| Fault::new(ErrorCode::Invalid))?;
                self.file_system(&look, &path)?
            }
        };
        Ok(Place { fd, look, fs })
    }

    /// As [`Scope::place`] without waiting; `None` when that takes more than the kernel's memory, and the answer is not known.
    pub(crate) fn place_in_memory(&self, path: &SharePath) -> Option<Result<Place, Fault>> {
        if !self.quick {
            return None;
        }
        let served = match self.way_to(path) {
            Ok(served) => served,
            Err(fault) => return Some(Err(fault)),
        };
        let fd = match resolve::open(self.base.as_fd(), path.as_bytes(), Reach::Cached) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Some(Err(Errno::NOENT.into())),
            // Not in memory, on another file system, or an error that the whole way finds again.
            Err(_) => return None,
        };
        let look = Look::at(fd.as_fd()).ok()?;
        if let Err(fault) = served.check(look.kind()) {
            return Some(Err(fault));
        }
        let fs = self.share.file_systems.known(&look)?;
        Some(Ok(Place { fd, look, fs }))
    }

    /// The file system of a file seen at `path`.
    pub(crate) fn file_system(&self, look: &Look, path: &SharePath) -> Result<FileSystem, Fault> {
        if let Some(fs) = self.share.file_systems.known(look) {
            return Ok(fs);
        }
        Ok(self.share.file_systems.find(look, self.share.root.as_fd(), &self.below_share_root(path)?)?)
    }

    /// `NotFound` for a path that the share's patterns hide, were it of this kind. Free of waiting.
    pub(crate) fn check(&self, path: &SharePath, kind: FileKind) -> Result<(), Fault> {
        self.way_to(path)?.check(Some(kind))
    }

    /// What the patterns say of the entries of the folder at `dir`, which is served; `None` where there are none.
    pub(crate) fn entries_of(&self, dir: &SharePath) -> Option<Entries<'_>> {
        let filter = self.share.filter.as_ref()?;
        let mut path = self.in_share(dir).into_owned();
        let includes_below = filter.includes_below(&path);
        if !path.is_empty() {
            path.push(b'/');
        }
        Some(Entries { filter, dir_bytes: path.len(), path, includes_below })
    }

    /// The path, if each folder on the way to it is served.
    ///
    /// Asked before the path is resolved, so that a hidden folder answers like one that is not there whatever it holds.
    fn way_to<'a>(&'a self, path: &'a SharePath) -> Result<Served<'a>, Fault> {
        let Some(filter) = &self.share.filter else { return Ok(Served(None)) };
        let full = self.in_share(path);
        // The prefix was found served when it was opened, and patterns do not change.
        if filter.hides_way(&full, self.prefix.as_bytes().len()) {
            return Err(Errno::NOENT.into());
        }
        Ok(Served(Some((filter, full))))
    }

    fn in_share<'a>(&'a self, path: &'a SharePath) -> Cow<'a, [u8]> {
        match (self.prefix.as_bytes(), path.as_bytes()) {
            (b"", path) => Cow::Borrowed(path),
            (prefix, b"") => Cow::Borrowed(prefix),
            (prefix, path) => Cow::Owned([prefix, b"/", path].concat()),
        }
    }

    fn below_share_root(&self, path: &SharePath) -> Result<SharePath, Fault> {
        SharePath::new(&self.in_share(path)).map_err(|_| {
            Fault::with(
                ErrorCode::Invalid,
                format!("the path is longer than {} bytes", limits::PATH_BYTES_MAX),
            )
        })
    }

    /// Whether `other` is the same part of the same share.
    pub(crate) fn is_same_part(&self, other: &Scope) -> bool {
        self.share.id == other.share.id && self.prefix == other.prefix
    }

    /// Whether patterns may hide something of it.
    pub(crate) fn has_patterns(&self) -> bool {
        self.share.filter.is_some()
    }

    /// The directory at the top, for `statfs` and to walk down from.
    pub(crate) fn base(&self) -> BorrowedFd<'_> {
        self.base.as_fd()
    }
}

/// A path whose folders are served: the share's patterns, and the path from its root. `None` without patterns.
struct Served<'a>(Option<(&'a Filter, Cow<'a, [u8]>)>);

impl Served<'_> {
    /// `NotFound` where what the path names, of this kind, is hidden.
    fn check(&self, kind: Option<FileKind>) -> Result<(), Fault> {
        match &self.0 {
            Some((filter, path)) if filter.hides(path, kind) => Err(Errno::NOENT.into()),
            _ => Ok(()),
        }
    }
}

/// The share's patterns for the entries of one folder.
pub(crate) struct Entries<'a> {
    filter: &'a Filter,
    /// The folder's path with a slash after it, then the entry's name.
    path: Vec<u8>,
    dir_bytes: usize,
    includes_below: bool,
}

impl Entries<'_> {
    /// Whether this entry does not exist for mounts.
    pub(crate) fn hide(&mut self, name: &[u8], kind: Option<FileKind>) -> bool {
        self.path.truncate(self.dir_bytes);
        self.path.extend_from_slice(name);
        self.filter.hides_entry(&self.path, kind, || self.includes_below)
    }
}

/// A file found, held by a descriptor that cannot read it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) fd: OwnedFd,
    pub(crate) look: Look,
    pub(crate) fs: FileSystem,
}

impl Place {
    /// Which file it is.
    pub(crate) fn id(&self) -> FileId {
        self.look.id(self.fs)
    }

    /// Its attributes when it was found.
    pub(crate) fn attr(&self) -> Result<Attr, Fault> {
        Ok(self.look.attr(self.fs)?)
    }

    /// Refuses another file than the one expected.
    pub(crate) fn expect(self, id: Option<FileId>) -> Result<Place, Fault> {
        match id {
            Some(id) if id != self.id() => Err(Fault::with(ErrorCode::Stale, "another file is at this path")),
            _ => Ok(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(root: &std::path::Path) -> Result<Share, HostError> {
        let config = ShareConfig::new(Name::new(b"s").unwrap(), root.to_owned());
        Share::open(ShareId(0), &config)
    }

    fn path(text: &str) -> SharePath {
        SharePath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_no_folder_is_refused_with_its_reason() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();
        assert!(matches!(share(&dir.path().join("absent")), Err(HostError::ShareMissing { .. })));
        assert!(matches!(share(&file), Err(HostError::ShareNotFolder { .. })));
        assert!(matches!(share(&file.join("x")), Err(HostError::ShareNotFolder { .. })));
        assert!(share(dir.path()).is_ok());
    }

    #[test]
    fn a_prefix_is_the_root_of_its_scope() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/file"), b"x").unwrap();
        std::fs::write(dir.path().join("secret"), b"x").unwrap();
        let share = Arc::new(share(dir.path()).unwrap());
        let whole = Scope::open(Arc::clone(&share), &SharePath::root()).unwrap();
        let part = Scope::open(Arc::clone(&share), &path("a/b")).unwrap();
        assert_eq!(part.place(&path("file")).unwrap().id(), whole.place(&path("a/b/file")).unwrap().id());
        assert_eq!(part.root_attr().unwrap().id, whole.place(&path("a/b")).unwrap().id());
        assert_eq!(part.place(&path("secret")).unwrap_err().code, ErrorCode::NotFound);
        assert_eq!(
            Scope::open(Arc::clone(&share), &path("secret")).unwrap_err().code,
            ErrorCode::NotDirectory
        );
        assert_eq!(Scope::open(share, &path("absent")).unwrap_err().code, ErrorCode::NotFound);
    }

    #[test]
    fn another_file_than_expected_is_stale() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("one"), b"x").unwrap();
        std::fs::write(dir.path().join("two"), b"x").unwrap();
        let scope = Scope::open(Arc::new(share(dir.path()).unwrap()), &SharePath::root()).unwrap();
        let two = scope.place(&path("two")).unwrap().id();
        let one = scope.place(&path("one")).unwrap();
        assert_eq!(one.expect(Some(two)).unwrap_err().code, ErrorCode::Stale);
        assert!(scope.place(&path("two")).unwrap().expect(Some(two)).is_ok());
    }
}
