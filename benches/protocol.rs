//! What a message costs: encoding, decoding and hashing, held against a plain copy of the same bytes.

#![forbid(unsafe_code)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use wire::{
    Attr, ByteLen, Entry, FileId, FileKind, Listing, Name, Reply, Timestamp, Version,
    chunk::ContentHash,
    codec::{ReplyDecoder, encode_reply},
};

const CHUNK: u32 = 128 * 1024;
const ENTRIES: usize = 1000;

fn attr(inode: u64) -> Attr {
    let time = Timestamp { secs: 1_700_000_000, nanos: 1 };
    Attr {
        id: FileId { fs: 1, inode, birth: 2 },
        kind: FileKind::Regular,
        perm: 0o644,
        links: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        block_bytes: 4096,
        size: ByteLen(1 << 20),
        blocks: 2048,
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

/// A page of a directory.
fn listing(c: &mut Criterion) {
    let entries = (0..ENTRIES as u64)
        .map(|n| Entry {
            name: Name::new(format!("shot.{n:04}.exr").as_bytes()).expect("a plain name"),
            cookie: n + 1,
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
    group.finish();
}

criterion_group! { name = benches; config = profiles::criterion(); targets = read_reply, listing }
criterion_main!(benches);
