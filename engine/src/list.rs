//! Listings: a directory a page at a time, each entry with its attributes.

use std::{
    ffi::CStr,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::{
    fs::{FileType, RawDir, RawDirEntry, SeekFrom, seek},
    io::Errno,
};
use wire::{Attr, Entry, ErrorCode, FileKind, Listing, Name, SharePath, limits};

use crate::{
    attr::Look,
    disk::Asked,
    error::Fault,
    share::{Scope, resolve},
};

/// Bytes of names read from the kernel at once.
const NAMES_BYTES: usize = 32 * 1024;

/// A page, and what is left out of it.
pub(crate) struct Page {
    pub(crate) listing: Listing,
    /// Names that the wire cannot carry.
    pub(crate) skipped: u64,
}

/// The entries after `cookie` (zero: from the start), about `bytes_max` bytes of them and at least one.
///
/// May wait for the disk. An entry that is there throughout is in exactly one page; one that vanishes between its name
/// and its attributes is left out.
pub(crate) fn page(asked: &Asked, cookie: u64, bytes_max: u32) -> Result<Page, Fault> {
    let place = asked.expected_place()?;
    if place.look.kind() != Some(FileKind::Directory) {
        return Err(Fault::new(ErrorCode::NotDirectory));
    }
    let dir = resolve::open_to_list(place.fd.as_fd())?;
    if cookie != 0 {
        let known = i64::try_from(cookie).is_ok();
        known.then(|| seek(&dir, SeekFrom::Start(cookie))).ok_or_else(bad_cookie)?.map_err(|errno| {
            match errno {
                Errno::INVAL => bad_cookie(),
                errno => errno.into(),
            }
        })?;
    }
    let bytes_max = bytes_max.min(limits::LISTING_BYTES_MAX) as usize;
    let mut page = Page {
        listing: Listing { dir: place.attr()?, entries: Vec::new(), end: false, grant: None },
        skipped: 0,
    };
    let mut bytes = 0;
    let mut buffer = Vec::with_capacity(NAMES_BYTES);
    let mut filter = asked.scope.entries_of(&asked.path);
    let mut names = RawDir::new(&dir, buffer.spare_capacity_mut());
    while let Some(raw) = names.next() {
        let raw = raw?;
        if matches!(name_of(&raw), b"." | b"..") {
            continue;
        }
        let Ok(name) = Name::new(name_of(&raw)) else {
            page.skipped += 1;
            continue;
        };
        let kind = kind_of(raw.file_type());
        let mut hides = |kind| filter.as_mut().is_some_and(|filter| filter.hide(name_of(&raw), kind));
        // Without a look at the file where the kernel tells its kind with the name.
        if kind.is_some() && hides(kind) {
            continue;
        }
        let Some(entry) = entry(asked, dir.as_fd(), &raw, name) else { continue };
        let seen = entry.attr.map(|attr| attr.kind);
        // A kind not known before, or another file by that name since.
        let is_news = kind.is_none() || (seen.is_some() && seen != kind);
        if is_news && hides(seen) {
            continue;
        }
        bytes += entry.wire_bytes();
        if bytes > bytes_max && !page.listing.entries.is_empty() {
            return Ok(page);
        }
        page.listing.entries.push(entry);
    }
    page.listing.end = true;
    Ok(page)
}

fn bad_cookie() -> Fault {
    Fault::with(ErrorCode::Invalid, "no listing of this directory gave such a cookie")
}

/// The entry with its attributes, without them where they cannot be had; `None` when it is gone.
fn entry(asked: &Asked, dir: BorrowedFd<'_>, raw: &RawDirEntry<'_>, name: Name) -> Option<Entry> {
    let attr = match attr_of(&asked.scope, dir, &asked.path, (raw.file_name(), &name)) {
        Ok(attr) => Some(attr),
        Err(fault) if fault.code == ErrorCode::NotFound => return None,
        Err(_) => None,
    };
    Some(Entry { name, cookie: raw.next_entry_cookie(), kind: kind_of(raw.file_type()), attr })
}

fn attr_of(
    scope: &Scope,
    dir: BorrowedFd<'_>,
    path: &SharePath,
    (raw, name): (&CStr, &Name),
) -> Result<Attr, Fault> {
    let look = Look::of_entry(dir, raw)?;
    let path = path.join(name).map_err(|_| Fault::new(ErrorCode::Invalid))?;
    let fs = scope.file_system(&look, &path)?;
    Ok(look.attr(fs)?)
}

fn name_of<'a>(raw: &'a RawDirEntry<'_>) -> &'a [u8] {
    raw.file_name().to_bytes()
}

fn kind_of(kind: FileType) -> Option<FileKind> {
    match kind {
        FileType::RegularFile => Some(FileKind::Regular),
        FileType::Directory => Some(FileKind::Directory),
        FileType::Symlink => Some(FileKind::Symlink),
        FileType::Fifo => Some(FileKind::Fifo),
        FileType::Socket => Some(FileKind::Socket),
        FileType::CharacterDevice => Some(FileKind::CharDevice),
        FileType::BlockDevice => Some(FileKind::BlockDevice),
        FileType::Unknown => None,
    }
}
