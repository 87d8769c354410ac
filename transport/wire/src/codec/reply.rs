//! The bodies of replies.

use bytes::Bytes;

use super::{
    ReplyHeader,
    attr::{kind_from, kind_number, read_attr, read_version, write_attr, write_version},
    packed,
};
use crate::{
    DecodeError, Entry, ErrorCode, Grant, Listing, Name, Reply, ShareId,
    cursor::{Reader, Writer},
    limits,
    listing::Statfs,
    message::{ShareInfo, Welcome},
};

// Numbers of replies: never reused. PROTOCOL.md, "Replies".
const ERROR: u8 = 0;
const WELCOME: u8 = 1;
const ATTR: u8 = 2;
pub(super) const LISTING: u8 = 3;
const LINK: u8 = 4;
const DATA: u8 = 5;
const VERIFIED: u8 = 6;
const STATFS: u8 = 7;
const VALUE: u8 = 8;
const LEASED: u8 = 9;
const RELEASED: u8 = 10;
const FILES: u8 = 11;
pub(super) const PACKED_LISTING: u8 = 12;

const ENTRY_HAS_ATTR: u8 = 1;

/// Writes the body; the status and the number of the reply.
pub(super) fn write(reply: &Reply, out: &mut Writer) -> (u16, u8) {
    let kind = match reply {
        Reply::Welcome(welcome) => {
            write_welcome(welcome, out);
            WELCOME
        }
        Reply::Attr(attr) => {
            write_attr(attr, out);
            ATTR
        }
        Reply::Listing(listing) => {
            write_listing(listing, out);
            LISTING
        }
        Reply::Link(target) => {
            out.short_bytes(target);
            LINK
        }
        Reply::Data { version, .. } => {
            write_version(*version, out);
            DATA
        }
        Reply::Verified { attr, equal } => {
            write_attr(attr, out);
            out.count(equal.len());
            for same in equal {
                out.u8((*same).into());
            }
            VERIFIED
        }
        Reply::Statfs(statfs) => {
            write_statfs(statfs, out);
            STATFS
        }
        Reply::Value(value) => {
            out.raw(value);
            VALUE
        }
        Reply::Leased { dir, grant } => {
            write_attr(dir, out);
            out.u8(grant_number(Some(*grant)));
            LEASED
        }
        Reply::Released => RELEASED,
        Reply::Files(files) => {
            write_files(files, out);
            FILES
        }
        Reply::Error { code, detail } => {
            out.raw(cut(detail, limits::DETAIL_BYTES_MAX).as_bytes());
            return (code.number(), ERROR);
        }
    };
    (0, kind)
}

pub(super) fn read(header: &ReplyHeader, from: &mut Reader<'_>) -> Result<Reply, DecodeError> {
    let data_len = header.data_len.get();
    let carries_data = header.status.get() == 0 && matches!(header.kind, DATA | FILES);
    if !carries_data && data_len != 0 {
        return Err(DecodeError::OutOfRange { what: "data length" });
    }
    if header.status.get() != 0 {
        let detail = take_rest(from, limits::DETAIL_BYTES_MAX, "detail")?;
        let code = ErrorCode::from_number(header.status.get());
        // Bytes that are no text grow threefold as replacement characters.
        let detail = cut(&String::from_utf8_lossy(detail), limits::DETAIL_BYTES_MAX).to_owned();
        return Ok(Reply::Error { code, detail });
    }
    Ok(match header.kind {
        WELCOME => Reply::Welcome(read_welcome(from)?),
        ATTR => Reply::Attr(read_attr(from)?),
        LISTING => Reply::Listing(read_listing(from)?),
        LINK => {
            let target = from.short_bytes(limits::TARGET_BYTES_MAX, "link")?;
            if target.is_empty() || target.contains(&0) {
                return Err(DecodeError::OutOfRange { what: "link" });
            }
            Reply::Link(Bytes::copy_from_slice(target))
        }
        DATA => {
            if u64::from(data_len) > limits::READ_BYTES_MAX {
                return Err(DecodeError::TooLong { what: "data", len: data_len.into() });
            }
            Reply::Data { version: read_version(from)?, len: data_len }
        }
        VERIFIED => {
            let attr = read_attr(from)?;
            let count = from.count(limits::VERIFY_RANGES_MAX, "ranges")?;
            let flags = from.take(count, "ranges")?;
            Reply::Verified { attr, equal: flags.iter().map(|&flag| flag == 1).collect() }
        }
        STATFS => Reply::Statfs(read_statfs(from)?),
        VALUE => {
            let value = take_rest(from, limits::XATTR_BYTES_MAX, "value")?;
            Reply::Value(Bytes::copy_from_slice(value))
        }
        LEASED => {
            let dir = read_attr(from)?;
            let grant = grant_from(from.u8("grant")?)?;
            Reply::Leased { dir, grant: grant.ok_or(DecodeError::OutOfRange { what: "grant" })? }
        }
        RELEASED => Reply::Released,
        FILES => read_files(from, data_len)?,
        PACKED_LISTING => Reply::Listing(packed::read(from)?),
        n => return Err(DecodeError::Unknown { what: "reply", value: n.into() }),
    })
}

fn take_rest<'a>(from: &mut Reader<'a>, max: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
    let len = from.rest().len();
    if len > max {
        return Err(DecodeError::TooLong { what, len: len as u64 });
    }
    from.take(len, what)
}

/// The start of `text` that fits in `max` bytes.
pub(super) fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    &text[..end]
}

fn write_welcome(welcome: &Welcome, out: &mut Writer) {
    out.u16(welcome.version);
    out.u64(welcome.session);
    out.u64(welcome.boot);
    out.count(welcome.shares.len());
    for share in &welcome.shares {
        out.u16(share.id.0);
        out.short_bytes(share.name.as_bytes());
        write_attr(&share.root, out);
    }
}

fn read_welcome(from: &mut Reader<'_>) -> Result<Welcome, DecodeError> {
    let version = from.u16("version")?;
    let session = from.u64("session")?;
    let boot = from.u64("boot")?;
    let count = from.count(limits::SHARES_MAX, "shares")?;
    let mut shares = Vec::with_capacity(count);
    for _ in 0..count {
        let id = ShareId(from.u16("share")?);
        let name = Name::new(from.short_bytes(limits::NAME_BYTES_MAX, "share name")?)?;
        shares.push(ShareInfo { id, name, root: read_attr(from)? });
    }
    Ok(Welcome { version, session, boot, shares })
}

/// Bytes of an entry on the wire: what a host counts against the page the mount asked for.
pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    const FIXED: usize = 8 + 1 + 1 + 2;
    const ATTR: usize = 100;
    FIXED + entry.name.as_bytes().len() + if entry.attr.is_some() { ATTR } else { 0 }
}

pub(super) fn write_listing(listing: &Listing, out: &mut Writer) {
    write_attr(&listing.dir, out);
    out.u8(listing.end.into());
    out.u8(grant_number(listing.grant));
    out.count(listing.entries.len());
    for entry in &listing.entries {
        out.u64(entry.cookie);
        out.u8(entry.kind.map_or(0, kind_number));
        out.u8(if entry.attr.is_some() { ENTRY_HAS_ATTR } else { 0 });
        out.short_bytes(entry.name.as_bytes());
        if let Some(attr) = &entry.attr {
            write_attr(attr, out);
        }
    }
}

pub(super) fn read_listing(from: &mut Reader<'_>) -> Result<Listing, DecodeError> {
    let dir = read_attr(from)?;
    let end = from.u8("end of listing")? != 0;
    let grant = grant_from(from.u8("grant")?)?;
    let count = usize::from(from.u16("entries")?);
    // An entry takes at least 13 bytes here and ten times that in memory: past a page of usual size the vector
    // grows with the entries that are really there, not with their claimed count.
    let mut entries = Vec::with_capacity(count.min(from.rest().len() / 13).min(1024));
    for _ in 0..count {
        let cookie = from.u64("cookie")?;
        let kind = match from.u8("file kind")? {
            0 => None,
            n => Some(kind_from(n)?),
        };
        let flags = from.u8("entry flags")?;
        let name = Name::new(from.short_bytes(limits::NAME_BYTES_MAX, "name")?)?;
        let attr = if flags & ENTRY_HAS_ATTR != 0 { Some(read_attr(from)?) } else { None };
        entries.push(Entry { name, cookie, kind, attr });
    }
    Ok(Listing { dir, entries, end, grant })
}

fn grant_number(grant: Option<Grant>) -> u8 {
    match grant {
        None => 0,
        Some(Grant::Granted) => 1,
        Some(Grant::Unwatchable) => 2,
        Some(Grant::Exhausted) => 3,
    }
}

fn grant_from(number: u8) -> Result<Option<Grant>, DecodeError> {
    Ok(match number {
        0 => None,
        1 => Some(Grant::Granted),
        2 => Some(Grant::Unwatchable),
        3 => Some(Grant::Exhausted),
        n => return Err(DecodeError::Unknown { what: "grant", value: n.into() }),
    })
}

fn write_files(files: &[Result<u32, ErrorCode>], out: &mut Writer) {
    out.count(files.len());
    for file in files {
        out.u16(file.map_or_else(ErrorCode::number, |_| 0));
        out.u32(file.unwrap_or(0));
    }
}

/// The lengths, which together are that of the data.
fn read_files(from: &mut Reader<'_>, data_len: u32) -> Result<Reply, DecodeError> {
    if u64::from(data_len) > limits::READ_BYTES_MAX {
        return Err(DecodeError::TooLong { what: "data", len: data_len.into() });
    }
    let count = from.count(limits::FILES_MAX, "files")?;
    let mut files = Vec::with_capacity(count);
    for _ in 0..count {
        let status = from.u16("file status")?;
        let len = from.u32("file length")?;
        files.push(match status {
            0 => Ok(len),
            _ if len != 0 => return Err(DecodeError::OutOfRange { what: "file length" }),
            number => Err(ErrorCode::from_number(number)),
        });
    }
    let reply = Reply::Files(files);
    if reply.data_bytes() != u64::from(data_len) {
        return Err(DecodeError::OutOfRange { what: "data length" });
    }
    Ok(reply)
}

fn write_statfs(statfs: &Statfs, out: &mut Writer) {
    out.u32(statfs.block_bytes);
    out.u32(statfs.name_bytes_max);
    for value in [statfs.blocks, statfs.blocks_free, statfs.blocks_available, statfs.files, statfs.files_free]
    {
        out.u64(value);
    }
}

fn read_statfs(from: &mut Reader<'_>) -> Result<Statfs, DecodeError> {
    Ok(Statfs {
        block_bytes: from.u32("statfs")?,
        name_bytes_max: from.u32("statfs")?,
        blocks: from.u64("statfs")?,
        blocks_free: from.u64("statfs")?,
        blocks_available: from.u64("statfs")?,
        files: from.u64("statfs")?,
        files_free: from.u64("statfs")?,
    })
}
