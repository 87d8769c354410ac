//! What repeats where times do not: allocations and copied bytes of a sequential read in its steady state.
//!
//! The allocator of this program counts. Once with host and mount in this process, once with the host in a process of
//! its own: the difference is the host's. A read of 1 MiB is one request of the kernel and one on the wire, eight
//! chunks; memory for contents comes from pools that were filled before the counting begins.

#![forbid(unsafe_code)]

use std::{
    alloc::System,
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use criterion::{Criterion, SamplingMode, Throughput, criterion_group};
use fusefront::status::Report;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};
use wormhole_benches::{Corpus, Rig, process, run::Scale};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MIB: u64 = 1 << 20;
const CHUNKS_PER_MIB: f64 = 8.0;
/// Read before counting: fills the mount's memory, so that what is counted evicts as much as it brings.
const FIRST_BYTES: u64 = 256 * MIB;
/// Read while counting; a quarter with `--quick`.
const COUNTED_BYTES: u64 = 512 * MIB;
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

/// One read of a file on a fresh mount: the time and the counts of its steady state.
fn pass(rig: &mut Rig, path: &Path, bytes: u64) -> (Duration, Count) {
    rig.remount().expect("a mount that worked before");
    let file = File::open(rig.mountpoint().join(path)).expect("the file is there");
    let mut buffer = vec![0; 1 << 20];
    read(&file, 0, FIRST_BYTES, &mut buffer);
    let before = rig.report();
    let (start, region) = (Instant::now(), Region::new(ALLOCATOR));
    read(&file, FIRST_BYTES, bytes, &mut buffer);
    let (took, stats) = (start.elapsed(), region.change());
    let count = Count::of(stats, (&before, &rig.report()), bytes);
    (took, count)
}

fn counts(c: &mut Criterion) {
    let bytes = Scale::of_this_run().bytes(COUNTED_BYTES);
    let file_bytes = Scale::of_this_run().bytes(1 << 30).max(FIRST_BYTES + bytes).next_power_of_two();
    let mut group = c.benchmark_group("counts");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_secs(1));
    group.throughput(Throughput::Bytes(bytes));
    let mut both = None;
    group.bench_function("sequential/both", |b| {
        let corpus = Corpus::open().expect("a folder for the files");
        let path = corpus.file(file_bytes).expect("room for the file");
        let mut rig = Rig::of(corpus.root()).unwrap_or_else(|why| panic!("no mount to measure: {why}"));
        b.iter_custom(|passes| total(passes, &mut both, || pass(&mut rig, &path, bytes)));
    });
    let mut mount = None;
    group.bench_function("sequential/mount", |b| {
        let corpus = Corpus::open().expect("a folder for the files");
        let path = corpus.file(file_bytes).expect("room for the file");
        let mut rig = Rig::of_apart(corpus.root()).unwrap_or_else(|why| panic!("no mount to measure: {why}"));
        b.iter_custom(|passes| total(passes, &mut mount, || pass(&mut rig, &path, bytes)));
    });
    group.finish();
    print(both, mount);
}

/// The time of all passes; the last one's counts are kept.
fn total(passes: u64, last: &mut Option<Count>, mut pass: impl FnMut() -> (Duration, Count)) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..passes {
        let (took, count) = pass();
        let (bytes_max, allocations_max) = (ALLOCATED_BYTES_PER_MIB_MAX, ALLOCATIONS_PER_MIB_MAX);
        assert!(count.allocated_bytes < bytes_max, "{:.0} bytes allocated a MiB", count.allocated_bytes);
        assert!(count.allocations < allocations_max, "{:.1} allocations a MiB", count.allocations);
        *last = Some(count);
        total += took;
    }
    total
}

#[expect(clippy::print_stdout, reason = "a bench's figures are its output")]
fn print(both: Option<Count>, mount: Option<Count>) {
    if let Some(both) = &both {
        both.print("host and mount");
    }
    if let Some(mount) = &mount {
        mount.print("mount");
        println!("counts/mount: {:.3} bytes copied a byte replied", mount.copied);
    }
    if let (Some(both), Some(mount)) = (both, mount) {
        let host = Count {
            allocations: both.allocations - mount.allocations,
            allocated_bytes: both.allocated_bytes - mount.allocated_bytes,
            packet_bytes: both.packet_bytes - mount.packet_bytes,
            copied: 0.0,
        };
        host.print("host, the difference");
    }
}

criterion_group! { name = benches; config = profiles::criterion(); targets = counts }

fn main() -> ExitCode {
    process::main(benches)
}
