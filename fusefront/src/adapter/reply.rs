//! Replies with more to them than one call: listings, extended attributes, failures.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, time::Duration};

use bytes::Bytes;
use fuser::{
    Errno, Generation, INodeNo, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, ReplyXattr,
};
use wire::FileKind;

use super::{
    convert::{bare_attr, file_attr, file_type},
    fail,
};
use crate::{
    errno,
    error::VfsError,
    vfs::{
        Vfs,
        attr::NodeAttr,
        dir::{AFTER_DOT, AFTER_DOT_DOT, Cursor, offset_of},
        handle::HandleId,
        inode::NodeId,
        listing::Listed,
    },
};

/// Any reply that can say no.
pub(super) trait Failing {
    /// Says it.
    fn fail(self, errno: Errno);
}

macro_rules! failing {
    ($($reply:ty),*) => {
        $(impl Failing for $reply {
            fn fail(self, errno: Errno) {
                self.error(errno);
            }
        })*
    };
}

failing!(
    ReplyAttr,
    ReplyCreate,
    ReplyData,
    ReplyDirectory,
    ReplyDirectoryPlus,
    ReplyEmpty,
    ReplyEntry,
    ReplyOpen,
    ReplyWrite,
    ReplyXattr
);

/// `.` and `..` as far as `offset` has not passed them: name, number, offset after it.
fn dots(vfs: &Vfs, dir: HandleId, offset: u64) -> Result<Vec<(&'static str, u64, u64)>, VfsError> {
    if offset >= AFTER_DOT_DOT {
        return Ok(Vec::new());
    }
    let dots = vfs.dots(dir)?;
    let both = [(".", dots.dot, AFTER_DOT), ("..", dots.dot_dot, AFTER_DOT_DOT)];
    Ok(both.into_iter().filter(|(_, _, after)| *after > offset).collect())
}

/// Answers LOOKUP. What is known to be absent under a lease is told as such: the kernel then need not ask again.
pub(super) fn entry(
    vfs: &Vfs,
    (parent, name): (NodeId, &[u8]),
    outcome: Result<NodeAttr, VfsError>,
    reply: ReplyEntry,
) {
    match outcome {
        Ok(found) => reply.entry_with_ttls(
            &found.ttl.attr,
            &found.ttl.entry,
            &file_attr(found.inode, &found.attr),
            Generation(found.generation),
        ),
        Err(error) => {
            match vfs.absent_ttl(parent, name).filter(|_| errno::is_absent(&error)) {
                // Number zero is nobody (fuse_entry_out in fuse.h of Linux).
                Some(ttl) => {
                    let nobody = bare_attr(0, FileKind::Regular);
                    reply.entry_with_ttls(&Duration::ZERO, &ttl, &nobody, Generation(0));
                }
                None => fail(vfs, reply, &error),
            }
        }
    }
}

/// Answers READDIR from `cursor` on, with as many entries as fit.
pub(super) fn fill_plain(vfs: &Vfs, dir: HandleId, offset: u64, cursor: &Cursor, mut reply: ReplyDirectory) {
    let dots = match dots(vfs, dir, offset) {
        Ok(dots) => dots,
        Err(error) => return fail(vfs, reply, &error),
    };
    for (name, inode, after) in dots {
        if reply.add(INodeNo(inode), after, file_type(FileKind::Directory), name) {
            return reply.ok();
        }
    }
    for entry in cursor.page.entries.iter().skip(cursor.index) {
        let (inode, kind) = vfs.list_plain(dir, entry);
        let name = OsStr::from_bytes(entry.name.as_bytes());
        if reply.add(INodeNo(inode), offset_of(entry.cookie), file_type(kind), name) {
            break;
        }
    }
    reply.ok();
}

/// Answers READDIRPLUS from `cursor` on, with as many entries as fit; only those count as looked up.
pub(super) fn fill_plus(
    vfs: &Vfs,
    dir: HandleId,
    offset: u64,
    cursor: &Cursor,
    mut reply: ReplyDirectoryPlus,
) {
    let dots = match dots(vfs, dir, offset) {
        Ok(dots) => dots,
        Err(error) => return fail(vfs, reply, &error),
    };
    let mut added = !dots.is_empty();
    for (name, inode, after) in dots {
        // The kernel takes number and kind of these two, and no lookup.
        let attr = bare_attr(inode, FileKind::Directory);
        if reply.add(INodeNo(inode), after, name, &Duration::ZERO, &attr, Generation(0)) {
            return reply.ok();
        }
    }
    for entry in cursor.page.entries.iter().skip(cursor.index) {
        let listed = match vfs.list(dir, entry) {
            Ok(listed) => listed,
            // What is listed already is told first; the next call begins here and fails.
            Err(_) if added => break,
            Err(error) => return fail(vfs, reply, &error),
        };
        if add(&mut reply, offset_of(entry.cookie), OsStr::from_bytes(entry.name.as_bytes()), &listed) {
            vfs.forget(listed.node(), 1);
            break;
        }
        added = true;
    }
    reply.ok();
}

/// Whether the entry did not fit.
fn add(reply: &mut ReplyDirectoryPlus, after: u64, name: &OsStr, listed: &Listed) -> bool {
    match listed {
        Listed::Known(known) => {
            let attr = file_attr(known.inode, &known.attr);
            let ttl = known.ttl.entry.min(known.ttl.attr);
            reply.add(attr.ino, after, name, &ttl, &attr, Generation(known.generation))
        }
        Listed::Unknown { node, generation, kind } => {
            let attr = bare_attr(node.0, *kind);
            reply.add(attr.ino, after, name, &Duration::ZERO, &attr, Generation(*generation))
        }
    }
}

/// Answers GETXATTR and LISTXATTR: a caller without room asks how much he needs (getxattr(2)).
pub(super) fn xattr(vfs: &Vfs, outcome: Result<Bytes, VfsError>, room: u32, reply: ReplyXattr) {
    match outcome {
        Err(error) => fail(vfs, reply, &error),
        // The wire's bound is far below.
        Ok(value) if room == 0 => reply.size(u32::try_from(value.len()).unwrap_or(u32::MAX)),
        Ok(value) if value.len() > room as usize => fail(vfs, reply, &VfsError::DoesNotFit),
        Ok(value) => reply.data(&value),
    }
}
