//! What a message costs: encoding, decoding, hashing and protecting it, held against a plain copy of the same bytes.

#![forbid(unsafe_code)]

use std::hint::black_box;

use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use wire::{
    chunk::ContentHash,
    codec::{encode_reply, encode_reply_as},
    fingerprint::Fingerprint,
    timing::Timing,
};
use wormhole_benches::{
    book::{Book, Passes, beside, median},
    messages::{self, CHUNK, ENTRIES, decode},
    packet::Packet,
};

/// Bytes of a datagram on an Ethernet, and of the largest, which loopback carries.
const PACKETS: [usize; 2] = [1452, 65_507];

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// Times an operation in criterion's batches; microseconds of each, batch by batch.
fn case<T>(group: &mut Group<'_>, name: &str, mut operation: impl FnMut() -> T) -> Vec<f64> {
    let mut passes = Passes::default();
    group.bench_function(name, |b| b.iter_custom(|times| passes.batch(times, &mut operation)));
    passes.millis(1).into_iter().map(|millis| millis * 1e3).collect()
}

/// A 128 KiB read reply: the head is coded, the data rides along uncopied.
fn read_reply(c: &mut Criterion) {
    let reply = messages::read_reply();
    let encoded = encode_reply(&reply);
    let chunk = vec![7_u8; CHUNK as usize];
    let mut copy = vec![0_u8; CHUNK as usize];
    let mut group = c.benchmark_group("protocol");
    group.throughput(Throughput::Bytes(CHUNK.into()));
    let memcpy =
        median(&case(&mut group, "ceiling_memcpy/128KiB", || copy.copy_from_slice(black_box(&chunk))));
    let encode = case(&mut group, "encode_read_reply/128KiB", || encode_reply(black_box(&reply)));
    let decoded = case(&mut group, "decode_read_reply/128KiB", || decode(black_box(encoded.clone())));
    let fingerprint = case(&mut group, "xxh3/128KiB", || Fingerprint::of(black_box(&chunk)));
    let hash = case(&mut group, "blake3/128KiB", || ContentHash::of(black_box(&chunk)));
    group.finish();
    let mut book = Book::open("protocol");
    let cases = [
        ("encode_read_reply_128kb", encode),
        ("decode_read_reply_128kb", decoded),
        ("blake3_128kb", hash),
        ("xxh3_128kb", fingerprint),
    ];
    for (name, micros) in cases {
        book.add(name, "us", &micros, |record| beside(record.link("memory"), "memcpy", memcpy));
    }
}

#[expect(clippy::print_stdout, reason = "a bench's figures are its output")]
fn say(plain: usize, packed: usize) {
    println!("a listing of {ENTRIES} entries: {plain} bytes, packed {packed}");
}

/// A page of a directory.
fn listing(c: &mut Criterion) {
    let reply = messages::listing();
    let (encoded, packed) = (encode_reply(&reply), encode_reply_as(&reply, Timing::default(), true));
    let mut group = c.benchmark_group("protocol");
    group.throughput(Throughput::Elements(ENTRIES as u64));
    let pack = || encode_reply_as(black_box(&reply), Timing::default(), true);
    let cases = [
        ("encode_listing_1000", case(&mut group, "encode_listing/1000", || encode_reply(black_box(&reply)))),
        (
            "decode_listing_1000",
            case(&mut group, "decode_listing/1000", || decode(black_box(encoded.clone()))),
        ),
        ("pack_listing_1000", case(&mut group, "pack_listing/1000", pack)),
        (
            "unpack_listing_1000",
            case(&mut group, "unpack_listing/1000", || decode(black_box(packed.clone()))),
        ),
    ];
    group.finish();
    say(encoded.len(), packed.len());
    let mut book = Book::open("protocol");
    for (name, micros) in cases {
        book.add(name, "us", &micros, |record| record.link("memory"));
    }
}

/// What QUIC does to each packet at both ends together: AES-128-GCM, sealed and opened in place.
fn packets(c: &mut Criterion) {
    let mut book = Book::open("protocol");
    let mut group = c.benchmark_group("protocol");
    for bytes in PACKETS {
        let (mut packet, mut copy) = (Packet::new(bytes), vec![0_u8; bytes]);
        let source = vec![7_u8; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        let memcpy = case(&mut group, &format!("ceiling_memcpy/{bytes}B"), || {
            copy.copy_from_slice(black_box(&source));
        });
        let micros = case(&mut group, &format!("seal_and_open/{bytes}B"), || packet.seal_and_open());
        book.add(&format!("seal_and_open_{bytes}"), "us", &micros, |record| {
            beside(record.link("memory"), "memcpy", median(&memcpy))
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = profiles::criterion(); targets = read_reply, listing, packets }
criterion_main!(benches);
