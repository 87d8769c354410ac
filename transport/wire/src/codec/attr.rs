//! Attributes, versions and times as fixed structs.

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{I64, U16, U32, U64},
};

use crate::{
    Attr, ByteLen, DecodeError, FileId, FileKind, Timestamp, Version,
    cursor::{Reader, Writer},
    units::NANOS_PER_SEC,
};

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct TimeWire {
    secs: I64,
    nanos: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct FileIdWire {
    fs: U64,
    inode: U64,
    birth: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct VersionWire {
    size: U64,
    mtime: TimeWire,
    ctime: TimeWire,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct AttrWire {
    id: FileIdWire,
    kind: u8,
    flags: u8,
    perm: U16,
    links: U32,
    uid: U32,
    gid: U32,
    rdev: U32,
    block_bytes: U32,
    blocks: U64,
    atime: TimeWire,
    version: VersionWire,
}

const _: () = assert!(size_of::<FileIdWire>() == 24);
const _: () = assert!(size_of::<VersionWire>() == 32);
const _: () = assert!(size_of::<AttrWire>() == 100);

const FLAG_SETTLED: u8 = 1;
const PERM_MASK: u16 = 0o7777;

fn time_to(time: Timestamp) -> TimeWire {
    TimeWire { secs: I64::new(time.secs), nanos: U32::new(time.nanos) }
}

fn time_from(wire: TimeWire) -> Result<Timestamp, DecodeError> {
    let nanos = wire.nanos.get();
    if nanos >= NANOS_PER_SEC {
        return Err(DecodeError::OutOfRange { what: "nanoseconds" });
    }
    Ok(Timestamp { secs: wire.secs.get(), nanos })
}

fn id_to(id: FileId) -> FileIdWire {
    FileIdWire { fs: U64::new(id.fs), inode: U64::new(id.inode), birth: U64::new(id.birth) }
}

fn id_from(wire: FileIdWire) -> FileId {
    FileId { fs: wire.fs.get(), inode: wire.inode.get(), birth: wire.birth.get() }
}

fn version_to(version: Version) -> VersionWire {
    VersionWire {
        size: U64::new(version.size.0),
        mtime: time_to(version.mtime),
        ctime: time_to(version.ctime),
    }
}

fn version_from(wire: VersionWire) -> Result<Version, DecodeError> {
    let size = wire.size.get();
    // The kernel's file offsets are signed: no file is longer.
    if i64::try_from(size).is_err() {
        return Err(DecodeError::OutOfRange { what: "size" });
    }
    Ok(Version { size: ByteLen(size), mtime: time_from(wire.mtime)?, ctime: time_from(wire.ctime)? })
}

pub(super) fn write_id(id: FileId, out: &mut Writer) {
    out.fixed(&id_to(id));
}

pub(super) fn read_id(from: &mut Reader<'_>) -> Result<FileId, DecodeError> {
    Ok(id_from(from.fixed("file id")?))
}

pub(super) fn write_version(version: Version, out: &mut Writer) {
    out.fixed(&version_to(version));
}

pub(super) fn read_version(from: &mut Reader<'_>) -> Result<Version, DecodeError> {
    version_from(from.fixed("version")?)
}

pub(super) fn kind_number(kind: FileKind) -> u8 {
    match kind {
        FileKind::Regular => 1,
        FileKind::Directory => 2,
        FileKind::Symlink => 3,
        FileKind::Fifo => 4,
        FileKind::Socket => 5,
        FileKind::CharDevice => 6,
        FileKind::BlockDevice => 7,
    }
}

pub(super) fn kind_from(number: u8) -> Result<FileKind, DecodeError> {
    let index = usize::from(number).wrapping_sub(1);
    FileKind::ALL.get(index).copied().ok_or(DecodeError::Unknown { what: "file kind", value: number.into() })
}

pub(super) fn write_attr(attr: &Attr, out: &mut Writer) {
    out.fixed(&AttrWire {
        id: id_to(attr.id),
        kind: kind_number(attr.kind),
        flags: if attr.settled { FLAG_SETTLED } else { 0 },
        perm: U16::new(attr.perm),
        links: U32::new(attr.links),
        uid: U32::new(attr.uid),
        gid: U32::new(attr.gid),
        rdev: U32::new(attr.rdev),
        block_bytes: U32::new(attr.block_bytes),
        blocks: U64::new(attr.blocks),
        atime: time_to(attr.atime),
        version: version_to(attr.version()),
    });
}

pub(super) fn read_attr(from: &mut Reader<'_>) -> Result<Attr, DecodeError> {
    let wire: AttrWire = from.fixed("attributes")?;
    let perm = wire.perm.get();
    if perm & !PERM_MASK != 0 {
        return Err(DecodeError::OutOfRange { what: "permission bits" });
    }
    let version = version_from(wire.version)?;
    Ok(Attr {
        id: id_from(wire.id),
        kind: kind_from(wire.kind)?,
        perm,
        links: wire.links.get(),
        uid: wire.uid.get(),
        gid: wire.gid.get(),
        rdev: wire.rdev.get(),
        block_bytes: wire.block_bytes.get(),
        size: version.size,
        blocks: wire.blocks.get(),
        atime: time_from(wire.atime)?,
        mtime: version.mtime,
        ctime: version.ctime,
        settled: wire.flags & FLAG_SETTLED != 0,
    })
}
