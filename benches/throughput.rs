//! How fast bytes come through a real mount: host, QUIC and FUSE in this process, on loopback, encrypted.
//!
//! Cold: a fresh mount before every pass, the host's page cache warm. The ceiling is the same read of the host's own
//! file, which is the kernel's copy out of its page cache.

#![forbid(unsafe_code)]

use std::{
    fs::File,
    io::Read,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use wormhole_benches::{Rig, write_pattern};

const FILE_BYTES: u64 = 256 << 20;
const PAGE_BYTES: usize = 4096;
const RANDOM_READS: u64 = 1000;

/// Reads the whole file, 1 MiB at a time.
fn read_through(path: &Path) -> u64 {
    let mut file = File::open(path).expect("the file is there");
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    loop {
        match file.read(&mut buffer).expect("a read of a healthy mount") {
            0 => return total,
            n => total += n as u64,
        }
    }
}

/// Reads pages all over the file, each one once.
fn read_randomly(path: &Path) {
    let file = File::open(path).expect("the file is there");
    let mut page = [0; PAGE_BYTES];
    for n in 0..RANDOM_READS {
        let at = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (FILE_BYTES / PAGE_BYTES as u64);
        file.read_exact_at(&mut page, at * PAGE_BYTES as u64).expect("a read of a healthy mount");
    }
}

/// The time of `passes` passes, each on a fresh mount; mounting is not counted.
fn cold(rig: &mut Rig, passes: u64, pass: impl Fn(&Path)) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..passes {
        rig.remount().expect("a mount that worked before");
        let path = rig.mountpoint().join("file");
        let start = Instant::now();
        pass(&path);
        total += start.elapsed();
    }
    total
}

fn throughput(c: &mut Criterion) {
    let mut rig = match Rig::start() {
        Ok(rig) => rig,
        Err(why) => panic!("no mount to measure: {why}"),
    };
    let source = rig.source().join("file");
    write_pattern(&source, FILE_BYTES).expect("room for the file");
    let mut group = c.benchmark_group("throughput");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Bytes(FILE_BYTES));
    group.bench_function("sequential_cold/256MiB", |b| {
        b.iter_custom(|passes| cold(&mut rig, passes, |path| assert_eq!(read_through(path), FILE_BYTES)));
    });
    group.bench_function("ceiling_page_cache/256MiB", |b| b.iter(|| read_through(&source)));
    group.throughput(Throughput::Elements(RANDOM_READS));
    group.bench_function("random_4KiB_cold/1000", |b| {
        b.iter_custom(|passes| cold(&mut rig, passes, read_randomly));
    });
    group.finish();
}

criterion_group! { name = benches; config = profiles::criterion(); targets = throughput }
criterion_main!(benches);
