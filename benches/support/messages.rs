//! Messages of the usual sizes, as the benches of the wire and the gate on instructions encode and decode them.

use bytes::Bytes;
use wire::{
    Attr, ByteLen, Entry, FileId, FileKind, Listing, Name, Reply, Timestamp, Version, codec::ReplyDecoder,
};

/// Bytes of a chunk.
pub const CHUNK: u32 = 128 * 1024;
/// Entries of a listing.
pub const ENTRIES: usize = 1000;

/// The head of a reply of one chunk; its data rides along uncopied.
pub fn read_reply() -> Reply {
    let version =
        Version { size: ByteLen(1 << 30), mtime: Timestamp::default(), ctime: Timestamp::default() };
    Reply::Data { version, len: CHUNK }
}

/// A page of a directory: [`ENTRIES`] files.
///
/// # Panics
/// Never: the names are plain.
pub fn listing() -> Reply {
    let entries = (0..ENTRIES as u64)
        .map(|n| Entry {
            name: Name::new(format!("shot.{n:04}.exr").as_bytes()).expect("a plain name"),
            // As spread as the hashes that ext4 gives.
            cookie: (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 1,
            kind: Some(FileKind::Regular),
            attr: Some(attr(n + 2)),
        })
        .collect();
    Reply::Listing(Listing { dir: attr(1), entries, end: true, grant: None })
}

/// Of a file written a moment after the one of the number before, and of another size.
fn attr(inode: u64) -> Attr {
    let moment = inode * 7_919_113;
    let time = Timestamp { secs: 1_700_000_000, nanos: u32::try_from(moment % 1_000_000_000).unwrap_or(0) };
    Attr {
        id: FileId { fs: 1, inode, birth: 1_700_000_000_000_000_000 + moment },
        kind: FileKind::Regular,
        perm: 0o644,
        links: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        block_bytes: 4096,
        size: ByteLen(10_240 + moment % 4096),
        blocks: 24,
        atime: time,
        mtime: time,
        ctime: time,
        settled: true,
    }
}

/// The one reply that these bytes are.
///
/// # Panics
/// When they are not one of our own.
pub fn decode(mut message: Bytes) -> Reply {
    let mut decoder = ReplyDecoder::new();
    decoder.feed(&mut message).expect("our own encoding").expect("a whole message")
}
