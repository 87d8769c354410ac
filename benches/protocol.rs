//! What a message costs: encoding, decoding and hashing, held against a plain copy of the same bytes.

#![forbid(unsafe_code)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use wire::{
    Attr, ByteLen, Entry, FileId, FileKind, Listing, Name, Reply, Timestamp, Version,
    chunk::ContentHash,
    codec::{ReplyDecoder, encode_reply, encode_reply_as},
    timing::Timing,
};

const CHUNK: u32 = 128 * 1024;
const ENTRIES: usize = 1000;

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

fn decode(mut message: Bytes) -> Reply {
    let mut decoder = ReplyDecoder::new();
    decoder.feed(&mut message).expect("our own encoding").expect("a whole message")
}

/// A 128 KiB read reply: the head is coded, the data rides along uncopied.
fn read_reply(c: &mut Criterion) {
    let version =
        Version { size: ByteLen(1 << 30), mtime: Timestamp::default(), ctime: Timestamp::default() };
    let reply = Reply::Data { version, len: CHUNK };
    let encoded = encode_reply(&reply);
    let mut group = c.benchmark_group("protocol");
    group.throughput(Throughput::Bytes(CHUNK.into()));
    group.bench_function("encode_read_reply/128KiB", |b| b.iter(|| encode_reply(black_box(&reply))));
    group.bench_function("decode_read_reply/128KiB", |b| b.iter(|| decode(black_box(encoded.clone()))));
    let chunk = vec![7_u8; CHUNK as usize];
    group.bench_function("blake3/128KiB", |b| b.iter(|| ContentHash::of(black_box(&chunk))));
    let mut copy = vec![0_u8; CHUNK as usize];
    group.bench_function("ceiling_memcpy/128KiB", |b| b.iter(|| copy.copy_from_slice(black_box(&chunk))));
    group.finish();
}

#[expect(clippy::print_stdout, reason = "a bench's figures are its output")]
fn say(plain: &Bytes, packed: &Bytes) {
    println!("a listing of {ENTRIES} entries: {} bytes, packed {}", plain.len(), packed.len());
}

/// A page of a directory.
fn listing(c: &mut Criterion) {
    let entries = (0..ENTRIES as u64)
        .map(|n| Entry {
            name: Name::new(format!("shot.{n:04}.exr").as_bytes()).expect("a plain name"),
            // As spread as the hashes that ext4 gives.
            cookie: (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 1,
            kind: Some(FileKind::Regular),
            attr: Some(attr(n + 2)),
        })
        .collect();
    let reply = Reply::Listing(Listing { dir: attr(1), entries, end: true, grant: None });
    let encoded = encode_reply(&reply);
    let mut group = c.benchmark_group("protocol");
    group.throughput(Throughput::Elements(ENTRIES as u64));
    group.bench_function("encode_listing/1000", |b| b.iter(|| encode_reply(black_box(&reply))));
    group.bench_function("decode_listing/1000", |b| b.iter(|| decode(black_box(encoded.clone()))));
    let packed = encode_reply_as(&reply, Timing::default(), true);
    say(&encoded, &packed);
    group.bench_function("pack_listing/1000", |b| {
        b.iter(|| encode_reply_as(black_box(&reply), Timing::default(), true));
    });
    group.bench_function("unpack_listing/1000", |b| b.iter(|| decode(black_box(packed.clone()))));
    group.finish();
}

criterion_group! { name = benches; config = profiles::criterion(); targets = read_reply, listing }
criterion_main!(benches);
