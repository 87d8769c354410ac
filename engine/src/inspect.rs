//! The small questions: a symlink's text, a file system's state, extended attributes. All may wait for the disk.

use bytes::Bytes;
use rustix::{fs::fstatvfs, io::Errno};
use wire::{ErrorCode, FileKind, limits, listing::Statfs};

use crate::{
    disk::Asked,
    error::Fault,
    share::{Scope, resolve},
};

/// The text of a symlink.
pub(crate) fn readlink(asked: &Asked) -> Result<Bytes, Fault> {
    let place = asked.expected_place()?;
    if place.look.kind() != Some(FileKind::Symlink) {
        return Err(Fault::with(ErrorCode::Invalid, "not a symlink"));
    }
    let target = rustix::fs::readlinkat(&place.fd, c"", Vec::new())?.into_bytes();
    if target.is_empty() || target.len() > limits::TARGET_BYTES_MAX {
        return Err(Fault::with(ErrorCode::Io, "the symlink's text has no valid length"));
    }
    Ok(target.into())
}

/// The state of the file system that holds the root of the scope.
pub(crate) fn statfs(scope: &Scope) -> Result<Statfs, Fault> {
    let state = fstatvfs(scope.base())?;
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Ok(Statfs {
        // The counts below are in these; `f_bsize` is only the size of a good read.
        block_bytes: small(state.f_frsize),
        name_bytes_max: small(state.f_namemax),
        blocks: state.f_blocks,
        blocks_free: state.f_bfree,
        blocks_available: state.f_bavail,
        files: state.f_files,
        files_free: state.f_ffree,
    })
}

/// The value of one extended attribute.
pub(crate) fn xattr(asked: &Asked, name: &[u8]) -> Result<Bytes, Fault> {
    if name.is_empty() || name.len() > limits::XATTR_NAME_BYTES_MAX || name.contains(&0) {
        return Err(Fault::with(ErrorCode::Invalid, "not a name of an extended attribute"));
    }
    let place = asked.expected_place()?;
    // Through /proc, since the calls on a descriptor refuse one that cannot read; it also serves symlinks.
    let link = resolve::link_of(&place.fd);
    bounded(|buffer| rustix::fs::getxattr(&link, name, buffer))
}

/// The names of the extended attributes, each ended by a NUL.
pub(crate) fn xattr_names(asked: &Asked) -> Result<Bytes, Fault> {
    let place = asked.expected_place()?;
    let link = resolve::link_of(&place.fd);
    match bounded(|buffer| rustix::fs::listxattr(&link, buffer)) {
        // A file system without attributes has none.
        Err(fault) if fault.code == ErrorCode::NotSupported => Ok(Bytes::new()),
        result => result,
    }
}

fn bounded(call: impl FnOnce(&mut [u8]) -> Result<usize, Errno>) -> Result<Bytes, Fault> {
    let mut buffer = vec![0; limits::XATTR_BYTES_MAX];
    match call(&mut buffer) {
        // A copy of what is used: an answer waiting for the network must not hold 64 KiB for ten bytes.
        Ok(len) => Ok(Bytes::copy_from_slice(&buffer[..len])),
        Err(Errno::RANGE | Errno::TOOBIG) => {
            Err(Fault::with(ErrorCode::NotSupported, "larger than an extended attribute may be"))
        }
        Err(errno) => Err(errno.into()),
    }
}
