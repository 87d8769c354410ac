//! How fast bytes come through a real mount: host, QUIC and FUSE in this process, on loopback, encrypted; and how many
//! are fetched for each byte that a program takes.
//!
//! Cold: a fresh mount before every pass, the host's page cache warm. The ceiling is the same read of the host's own
//! file, which is the kernel's copy out of its page cache.

#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    fs::File,
    path::Path,
    time::{Duration, Instant},
};

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use wormhole_benches::{
    Corpus, Rig,
    access::{self, ACCESSES, Access, Takes},
    corpus::{self, Files},
    mounted_corpus,
    run::Scale,
};

/// What TARGETS.md reads; a quarter of it with `--quick`.
const FILE_BYTES: u64 = 1 << 30;
const STREAMS: usize = 4;

/// What every case needs, made by the first one that runs: `--list` makes nothing.
struct Bench {
    corpus: Corpus,
    rig: Rig,
}

impl Bench {
    fn new() -> Bench {
        let (corpus, rig) = mounted_corpus();
        Bench { corpus, rig }
    }

    /// The time of `passes` passes, each on a fresh mount; mounting is not counted. `after` looks at the mount of each.
    fn cold(&mut self, passes: u64, file: &Path, access: &Access, mut after: impl FnMut(&Rig)) -> Duration {
        let mut total = Duration::ZERO;
        for _ in 0..passes {
            self.rig.remount().expect("a mount that worked before");
            let path = self.rig.mountpoint().join(file);
            let start = Instant::now();
            let file = File::open(path).expect("the file is there");
            (access.read)(&file, file.metadata().map_or(0, |found| found.len())).expect("a healthy mount");
            total += start.elapsed();
            after(&self.rig);
        }
        total
    }

    /// The same of several files at once, each from its beginning to its end.
    fn streams(&mut self, passes: u64, folder: &Path, files: Files) -> Duration {
        let mut total = Duration::ZERO;
        for _ in 0..passes {
            self.rig.remount().expect("a mount that worked before");
            let folder = self.rig.mountpoint().join(folder);
            let paths: Vec<_> = (0..files.count).map(|at| folder.join(corpus::name(at))).collect();
            let start = Instant::now();
            let read = access::read_all_at_once(&paths).expect("a healthy mount");
            total += start.elapsed();
            assert_eq!(read, files.bytes * files.count as u64);
        }
        total
    }
}

/// Bytes fetched for each byte taken, of the worst pass of each way to read.
#[derive(Default)]
struct Fetched(BTreeMap<&'static str, f64>);

impl Fetched {
    fn note(&mut self, access: &Access, file_bytes: u64, rig: &Rig) {
        let taken_bytes = access.takes.bytes(file_bytes);
        let fetched_bytes = rig.report_at_rest().reads.host_bytes;
        let ratio = fetched_bytes as f64 / taken_bytes as f64;
        let worst = self.0.entry(access.name).or_default();
        *worst = worst.max(ratio);
        // What is fetched past the places where reading ends does not shrink with the file.
        let needless_max = (access.fetched_per_byte_max - 1.0) * access.takes.bytes(FILE_BYTES) as f64;
        let needless_bytes = fetched_bytes.saturating_sub(taken_bytes);
        assert!(
            needless_bytes as f64 <= needless_max,
            "{}: {ratio:.3} bytes fetched a byte taken",
            access.name
        );
    }

    #[expect(clippy::print_stdout, reason = "a bench's figures are its output")]
    fn print(&self) {
        if self.0.is_empty() {
            return;
        }
        println!("bytes fetched from the host for each byte that a program took, worst pass:");
        for access in &ACCESSES {
            if let Some(ratio) = self.0.get(access.name) {
                println!(
                    "  {:<32} {ratio:>6.3}  (of 1 GiB at most {})",
                    access.name, access.fetched_per_byte_max
                );
            }
        }
    }
}

fn throughput(c: &mut Criterion) {
    let file_bytes = Scale::of_this_run().bytes(FILE_BYTES);
    let size = format!("{}MiB", file_bytes >> 20);
    let (mut bench, mut fetched) = (None, Fetched::default());
    let mut group = c.benchmark_group("throughput");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_secs(1));
    for access in &ACCESSES {
        group.throughput(match access.takes {
            Takes::Pages(count) => Throughput::Elements(count),
            takes => Throughput::Bytes(takes.bytes(file_bytes)),
        });
        group.bench_function(format!("{}/{size}", access.name), |b| {
            let bench = bench.get_or_insert_with(Bench::new);
            let file = bench.corpus.file(file_bytes).expect("room for the file");
            b.iter_custom(|passes| {
                bench.cold(passes, &file, access, |rig| fetched.note(access, file_bytes, rig))
            });
        });
    }
    group.throughput(Throughput::Bytes(file_bytes));
    group.bench_function(format!("four_streams_cold/{size}"), |b| {
        let bench = bench.get_or_insert_with(Bench::new);
        let files = Files { count: STREAMS, bytes: file_bytes / STREAMS as u64 };
        let folder = bench.corpus.folder(files).expect("room for the files");
        b.iter_custom(|passes| bench.streams(passes, &folder, files));
    });
    group.bench_function(format!("ceiling_page_cache/{size}"), |b| {
        let bench = bench.get_or_insert_with(Bench::new);
        let file = bench.corpus.file(file_bytes).expect("room for the file");
        let path = bench.corpus.root().join(file);
        b.iter(|| access::read_through(&path).expect("a file of this machine"));
    });
    group.finish();
    fetched.print();
}

criterion_group! { name = benches; config = profiles::criterion(); targets = throughput }
criterion_main!(benches);
