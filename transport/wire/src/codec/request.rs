//! The bodies of requests.

use super::{
    attr::{read_id, read_version, write_id, write_version},
    reply::cut,
};
use crate::{
    DecodeError, Extent, LeaseId, Name, Request, ShareId, SharePath,
    auth::{Claims, Proof},
    chunk::ContentHash,
    cursor::{Reader, Writer},
    fingerprint::Fingerprint,
    limits,
    message::{FileWanted, Hello, Target},
};

// Numbers of requests: never reused. PROTOCOL.md, "Requests".
const HELLO: u8 = 1;
const STAT: u8 = 2;
const LIST: u8 = 3;
const READLINK: u8 = 4;
const READ: u8 = 5;
const VERIFY: u8 = 6;
const STATFS: u8 = 7;
const GETXATTR: u8 = 8;
const LISTXATTR: u8 = 9;
const LEASE: u8 = 10;
const RELEASE: u8 = 11;
const READ_FILES: u8 = 12;

// Kinds of fingerprints: never reused. PROTOCOL.md, "Requests".
const BLAKE3: u8 = 1;
const XXH3: u8 = 2;

/// In place of a lease, where none is wanted.
const NO_LEASE: u64 = 0;

pub(super) fn write(request: &Request, out: &mut Writer) -> u8 {
    match request {
        Request::Hello(hello) => {
            write_hello(hello, out);
            HELLO
        }
        Request::Stat(target) => {
            write_target(target, out);
            STAT
        }
        Request::List { target, cookie, bytes_max, lease } => {
            out.u64(*cookie);
            out.u32(*bytes_max);
            out.u64(lease.map_or(NO_LEASE, |lease| lease.0));
            write_target(target, out);
            LIST
        }
        Request::Readlink(target) => {
            write_target(target, out);
            READLINK
        }
        Request::Read { target, version, extent } => {
            write_version(*version, out);
            write_extent(extent, out);
            write_target(target, out);
            READ
        }
        Request::Verify { target, ranges } => {
            write_target(target, out);
            out.count(ranges.len());
            for (extent, fingerprint) in ranges {
                write_extent(extent, out);
                write_fingerprint(fingerprint, out);
            }
            VERIFY
        }
        Request::Statfs(share) => {
            out.u16(share.0);
            STATFS
        }
        Request::GetXattr { target, name } => {
            write_target(target, out);
            out.short_bytes(name);
            GETXATTR
        }
        Request::ListXattr(target) => {
            write_target(target, out);
            LISTXATTR
        }
        Request::Lease { target, lease } => {
            out.u64(lease.0);
            write_target(target, out);
            LEASE
        }
        Request::Release(leases) => {
            write_leases(leases, out);
            RELEASE
        }
        Request::ReadFiles { dir, files } => {
            write_target(dir, out);
            out.count(files.len());
            for FileWanted { name, id, version } in files {
                out.short_bytes(name.as_bytes());
                write_id(*id, out);
                write_version(*version, out);
            }
            READ_FILES
        }
    }
}

pub(super) fn read(kind: u8, from: &mut Reader<'_>) -> Result<Request, DecodeError> {
    Ok(match kind {
        HELLO => Request::Hello(read_hello(from)?),
        STAT => Request::Stat(read_target(from)?),
        LIST => {
            let cookie = from.u64("cookie")?;
            let bytes_max = from.u32("page size")?;
            if bytes_max > limits::LISTING_BYTES_MAX {
                return Err(DecodeError::TooLong { what: "page", len: bytes_max.into() });
            }
            let lease = match from.u64("lease")? {
                NO_LEASE => None,
                number => Some(LeaseId(number)),
            };
            Request::List { target: read_target(from)?, cookie, bytes_max, lease }
        }
        READLINK => Request::Readlink(read_target(from)?),
        READ => {
            let version = read_version(from)?;
            let extent = read_extent(from)?;
            if extent.is_empty() || extent.end().0 > version.size.0 {
                return Err(DecodeError::OutOfRange { what: "extent" });
            }
            Request::Read { target: read_target(from)?, version, extent }
        }
        VERIFY => {
            let target = read_target(from)?;
            let count = from.count(limits::VERIFY_RANGES_MAX, "ranges")?;
            let mut ranges = Vec::with_capacity(count);
            for _ in 0..count {
                ranges.push((read_extent(from)?, read_fingerprint(from)?));
            }
            Request::Verify { target, ranges }
        }
        STATFS => Request::Statfs(ShareId(from.u16("share")?)),
        GETXATTR => {
            let target = read_target(from)?;
            let name = from.short_bytes(limits::XATTR_NAME_BYTES_MAX, "attribute name")?;
            if name.is_empty() || name.contains(&0) {
                return Err(DecodeError::BadName);
            }
            Request::GetXattr { target, name: name.into() }
        }
        LISTXATTR => Request::ListXattr(read_target(from)?),
        LEASE => {
            let lease = read_lease(from)?;
            Request::Lease { target: read_target(from)?, lease }
        }
        RELEASE => Request::Release(read_leases(from, limits::RELEASE_MAX)?),
        READ_FILES => Request::ReadFiles { dir: read_target(from)?, files: read_files(from)? },
        n => return Err(DecodeError::Unknown { what: "request", value: n.into() }),
    })
}

fn write_fingerprint(fingerprint: &Fingerprint, out: &mut Writer) {
    match fingerprint {
        Fingerprint::Blake3(hash) => {
            out.u8(BLAKE3);
            out.raw(&hash.0);
        }
        Fingerprint::Xxh3(number) => {
            out.u8(XXH3);
            out.raw(&number.to_le_bytes());
        }
    }
}

fn read_fingerprint(from: &mut Reader<'_>) -> Result<Fingerprint, DecodeError> {
    match from.u8("fingerprint")? {
        BLAKE3 => Ok(Fingerprint::Blake3(ContentHash(from.fixed("hash")?))),
        XXH3 => Ok(Fingerprint::Xxh3(u128::from_le_bytes(from.fixed("hash")?))),
        n => Err(DecodeError::Unknown { what: "fingerprint", value: n.into() }),
    }
}

pub(super) fn read_lease(from: &mut Reader<'_>) -> Result<LeaseId, DecodeError> {
    match from.u64("lease")? {
        NO_LEASE => Err(DecodeError::OutOfRange { what: "lease" }),
        number => Ok(LeaseId(number)),
    }
}

pub(super) fn write_leases(leases: &[LeaseId], out: &mut Writer) {
    out.count(leases.len());
    for lease in leases {
        out.u64(lease.0);
    }
}

pub(super) fn read_leases(from: &mut Reader<'_>, max: usize) -> Result<Vec<LeaseId>, DecodeError> {
    let count = from.count(max, "leases")?;
    (0..count).map(|_| read_lease(from)).collect()
}

fn read_files(from: &mut Reader<'_>) -> Result<Vec<FileWanted>, DecodeError> {
    let count = from.count(limits::FILES_MAX, "files")?;
    let mut files = Vec::with_capacity(count);
    let mut bytes = 0;
    for _ in 0..count {
        let name = Name::new(from.short_bytes(limits::NAME_BYTES_MAX, "name")?)?;
        let file = FileWanted { name, id: read_id(from)?, version: read_version(from)? };
        // Each is below 2^63 and all before it within the limit.
        bytes += file.version.size.0;
        if bytes > limits::READ_BYTES_MAX {
            return Err(DecodeError::TooLong { what: "files", len: bytes });
        }
        files.push(file);
    }
    Ok(files)
}

fn write_hello(hello: &Hello, out: &mut Writer) {
    out.u16(hello.version_min);
    out.u16(hello.version_max);
    out.raw(&hello.proof.0);
    hello.claims.write(out);
    // A long mountpoint must not keep a mount out.
    out.short_bytes(cut(&hello.label, limits::NAME_BYTES_MAX).as_bytes());
}

fn read_hello(from: &mut Reader<'_>) -> Result<Hello, DecodeError> {
    let version_min = from.u16("version")?;
    let version_max = from.u16("version")?;
    let proof = Proof(from.fixed("proof")?);
    let claims = Claims::read(from)?;
    let label = from.short_bytes(limits::NAME_BYTES_MAX, "label")?;
    let label = std::str::from_utf8(label).map_err(|_| DecodeError::OutOfRange { what: "label" })?.to_owned();
    Ok(Hello { version_min, version_max, claims, proof, label })
}

fn write_target(target: &Target, out: &mut Writer) {
    out.u16(target.share.0);
    out.short_bytes(target.path.as_bytes());
    out.u8(target.id.is_some().into());
    if let Some(id) = target.id {
        write_id(id, out);
    }
}

fn read_target(from: &mut Reader<'_>) -> Result<Target, DecodeError> {
    let share = ShareId(from.u16("share")?);
    let path = SharePath::new(from.short_bytes(limits::PATH_BYTES_MAX, "path")?)?;
    let id = match from.u8("file id")? {
        0 => None,
        1 => Some(read_id(from)?),
        n => return Err(DecodeError::Unknown { what: "file id flag", value: n.into() }),
    };
    Ok(Target { share, path, id })
}

fn write_extent(extent: &Extent, out: &mut Writer) {
    out.u64(extent.start.0);
    // Reads and verified ranges are bounded by READ_BYTES_MAX, which their reader checks.
    out.u32(u32::try_from(extent.len.0).unwrap_or(u32::MAX));
}

fn read_extent(from: &mut Reader<'_>) -> Result<Extent, DecodeError> {
    let start = from.u64("extent")?;
    let len = u64::from(from.u32("extent")?);
    if len > limits::READ_BYTES_MAX {
        return Err(DecodeError::TooLong { what: "extent", len });
    }
    match start.checked_add(len) {
        Some(end) if i64::try_from(end).is_ok() => Ok(Extent::new(start, len)),
        _ => Err(DecodeError::OutOfRange { what: "extent" }),
    }
}
