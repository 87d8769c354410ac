//! What repeats where times do not: allocations and copied bytes of a sequential read in its steady state, and paths
//! whose instructions `cargo ci counts` has counted.
//!
//! `counts` prints the former, as lines of `benches/counts.csv`; `counts PATH` walks one path [`ROUNDS`] times in
//! [`counted`], by which callgrind knows it: one thread, no clock, the same bytes each time.
//!
//! The allocator of this program counts. Once with host and mount in this process, once with the host in a process of
//! its own: the difference is the host's. A read of 1 MiB is one request of the kernel and one on the wire, eight
//! chunks; memory for contents comes from pools that were filled before the counting begins.

#![forbid(unsafe_code)]

use std::{
    alloc::System, env, fs::File, hint::black_box, os::unix::fs::FileExt, path::Path, process::ExitCode,
};

use engine::cache::{BlockKey, ContentKey, L1, l1::Pressure};
use fusefront::status::Report;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};
use uring::{Pool, PoolConfig, SlotClass};
use wire::{
    ByteLen, FileId, Timestamp, Version,
    chunk::ContentHash,
    codec::{encode_reply, encode_reply_as},
    timing::Timing,
};
use wormhole_benches::{Corpus, Rig, messages, packet::Packet, process};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MIB: u64 = 1 << 20;
const CHUNKS_PER_MIB: f64 = 8.0;
/// Read before counting: fills the mount's memory, so that what is counted evicts as much as it brings.
const FIRST_BYTES: u64 = 256 * MIB;
/// Read while counting.
const COUNTED_BYTES: u64 = 256 * MIB;
/// Times that a path is walked while its instructions are counted; `ci/src/counts.rs` divides by it.
const ROUNDS: u32 = 100;
/// Bytes that may be allocated for each MiB read, beside a buffer for each packet received, which QUIC takes: half a chunk.
const ALLOCATED_BYTES_PER_MIB_MAX: f64 = 64.0 * 1024.0;
/// Allocations of both sides together for each MiB read, those of QUIC for its packets among them.
const ALLOCATIONS_PER_MIB_MAX: f64 = 128.0;

/// What a stretch of a read took, per MiB.
#[derive(Clone, Copy)]
struct Count {
    allocations: f64,
    /// Packets received left out.
    allocated_bytes: f64,
    packet_bytes: f64,
    /// Copied by the mount, for each byte that it replied with.
    copied: f64,
}

impl Count {
    fn of(stats: Stats, (before, after): (&Report, &Report), bytes: u64) -> Count {
        let per_mib = |number: u64| number as f64 / (bytes / MIB) as f64;
        let packet_bytes = after.session.received_bytes - before.session.received_bytes;
        let replied = after.reads.replied_bytes - before.reads.replied_bytes;
        // Each byte received is copied once, from the packets to its slot; then what replies across slots take.
        let received = after.reads.host_bytes - before.reads.host_bytes;
        let gathered = after.reads.copied_bytes - before.reads.copied_bytes;
        Count {
            allocations: per_mib((stats.allocations + stats.reallocations) as u64),
            allocated_bytes: per_mib(stats.bytes_allocated as u64) - per_mib(packet_bytes),
            packet_bytes: per_mib(packet_bytes),
            copied: (received + gathered) as f64 / replied as f64,
        }
    }

    #[expect(clippy::print_stdout, reason = "a bench's figures are its output")]
    fn print(&self, who: &str) {
        println!(
            "counts/{who}: a request of 1 MiB {:.1} allocations, {:.0} bytes beside {:.0} of packets; \
             a chunk {:.2} and {:.0}",
            self.allocations,
            self.allocated_bytes,
            self.packet_bytes,
            self.allocations / CHUNKS_PER_MIB,
            self.allocated_bytes / CHUNKS_PER_MIB,
        );
    }
}

fn read(file: &File, from: u64, bytes: u64, buffer: &mut [u8]) {
    for at in (from..from + bytes).step_by(buffer.len()) {
        file.read_exact_at(buffer, at).expect("a healthy mount");
    }
}

/// What the steady state of one read takes, on a fresh mount.
fn count(mut rig: Rig, path: &Path) -> Count {
    rig.remount().expect("a mount that worked before");
    let file = File::open(rig.mountpoint().join(path)).expect("the file is there");
    let mut buffer = vec![0; 1 << 20];
    read(&file, 0, FIRST_BYTES, &mut buffer);
    let (before, region) = (rig.report(), Region::new(ALLOCATOR));
    read(&file, FIRST_BYTES, COUNTED_BYTES, &mut buffer);
    let stats = region.change();
    let count = Count::of(stats, (&before, &rig.report()), COUNTED_BYTES);
    let (bytes_max, allocations_max) = (ALLOCATED_BYTES_PER_MIB_MAX, ALLOCATIONS_PER_MIB_MAX);
    assert!(count.allocated_bytes < bytes_max, "{:.0} bytes allocated a MiB", count.allocated_bytes);
    assert!(count.allocations < allocations_max, "{:.1} allocations a MiB", count.allocations);
    count
}

/// Allocations of host and mount, and what the mount copies.
#[expect(clippy::print_stdout, reason = "a bench's figures are its output")]
fn sequential() {
    let corpus = Corpus::open().expect("a folder for the files");
    let path = corpus.file(FIRST_BYTES + COUNTED_BYTES).expect("room for the file");
    let no_rig = |why| -> Rig { panic!("no mount to measure: {why}") };
    let both = count(Rig::of(corpus.root()).unwrap_or_else(no_rig), &path);
    let mount = count(Rig::of_apart(corpus.root()).unwrap_or_else(no_rig), &path);
    both.print("host and mount");
    mount.print("mount");
    println!("counts/mount: {:.3} bytes copied a byte replied", mount.copied);
    let host = Count {
        allocations: both.allocations - mount.allocations,
        allocated_bytes: both.allocated_bytes - mount.allocated_bytes,
        packet_bytes: both.packet_bytes - mount.packet_bytes,
        copied: 0.0,
    };
    host.print("host, the difference");
}

/// Walks a path [`ROUNDS`] times, once before so that what is made at the first time is not counted. Never inlined:
/// callgrind counts between its entry and its end.
#[inline(never)]
fn counted(round: &mut dyn FnMut()) {
    for _ in 0..ROUNDS {
        round();
    }
}

fn walk(mut round: impl FnMut()) {
    round();
    counted(&mut round);
}

/// The path of that name.
fn path(name: &str) -> Option<()> {
    match name {
        "codec/read_reply" => {
            let reply = messages::read_reply();
            walk(|| drop(black_box(messages::decode(encode_reply(black_box(&reply))))));
        }
        "codec/listing_1000" => {
            let reply = messages::listing();
            walk(|| drop(black_box(messages::decode(encode_reply(black_box(&reply))))));
        }
        "codec/listing_1000_packed" => {
            let reply = messages::listing();
            let pack = || encode_reply_as(black_box(&reply), Timing::default(), true);
            walk(|| drop(black_box(messages::decode(pack()))));
        }
        "packet/1452" => packet(1452),
        "packet/65507" => packet(65_507),
        "hash/128KiB" => {
            let chunk = vec![7; messages::CHUNK as usize];
            walk(|| {
                black_box(ContentHash::of(black_box(&chunk)));
            });
        }
        "pool/lend_and_return" => {
            let pool = pool();
            walk(|| drop(black_box(pool.try_lend(SlotClass::Extent1M))));
        }
        "l1/insert" => {
            let (l1, mut at) = (L1::new(pool()), 0);
            walk(|| {
                at += 1;
                insert(&l1, at);
            });
        }
        "l1/hit" => {
            let l1 = L1::new(pool());
            (0..BLOCKS).for_each(|at| insert(&l1, at));
            let mut at = 0;
            walk(|| {
                at = (at + 7) % BLOCKS;
                let bytes = l1.get(&key(at)).expect("it was put there");
                l1.served(&key(at), black_box(bytes).len());
            });
        }
        _ => return None,
    }
    Some(())
}

/// Blocks of 1 MiB in the cache of the paths, and slots of their pool.
const BLOCKS: u64 = 16;

fn packet(bytes: usize) {
    let mut packet = Packet::new(bytes);
    walk(|| packet.seal_and_open());
}

fn pool() -> Pool {
    let bytes = usize::try_from(BLOCKS * MIB).expect("a small number");
    Pool::new(PoolConfig::with_capacity(bytes)).expect("some memory")
}

fn key(at: u64) -> BlockKey {
    let time = Timestamp::default();
    let version = Version { size: ByteLen(u64::MAX), mtime: time, ctime: time };
    let content = ContentKey::new(&[1; 32], b"bench", &FileId { fs: 1, inode: 1, birth: 1 }, &version);
    BlockKey::at(content, SlotClass::Extent1M, at * MIB)
}

/// A block in the place of the least useful one, its bytes as they are.
fn insert(l1: &L1, at: u64) {
    let slot = l1.try_lend(SlotClass::Extent1M, Pressure::Any).expect("a block that yields");
    l1.insert(key(at), slot.fill(1 << 20).freeze());
}

#[expect(clippy::print_stderr, reason = "a program says why it fails")]
fn main() -> ExitCode {
    if let Some(code) = process::play_role() {
        return code;
    }
    match env::args().skip(1).find(|word| !word.starts_with("--")) {
        None => sequential(),
        Some(name) => {
            if path(&name).is_none() {
                eprintln!("counts: no path {name:?}; ci/src/counts.rs names them");
                return ExitCode::from(2);
            }
        }
    }
    ExitCode::SUCCESS
}
