//! How fast bytes come through a real mount: host, QUIC and FUSE in this process, on loopback, encrypted; and how many
//! are fetched for each byte that a program takes.
//!
//! Cold: a fresh mount before every pass, the host's page cache warm. The ceiling is the same read of the host's own
//! file, which is the kernel's copy out of its page cache; beside it stand loopback UDP and a plain FUSE mount.

#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    fs::File,
    path::Path,
    time::{Duration, Instant},
};

use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use wormhole_benches::{
    Corpus, Rig,
    access::{self, ACCESSES, Access, Takes},
    book::{Book, Passes, beside, median},
    ceiling::{self, PlainFuse},
    corpus::{self, Files},
    mounted_corpus,
    record::{Record, Target},
    run::Scale,
};

/// What TARGETS.md reads; a quarter of it with `--quick`.
const FILE_BYTES: u64 = 1 << 30;
/// Textures that are read at once, of 100 MB and more each.
const STREAMS: Files = Files { count: 4, bytes: 128 << 20 };
/// Through a pair of sockets, for the ceiling.
const UDP_BYTES: u64 = 256 << 20;

// What the report holds the figures against, in MB/s and reads a second.
const SEQUENTIAL: Target = Target::AtLeast(100.0);
const STREAM: Target = Target::AtLeast(80.0);
const RANDOM: Target = Target::AtLeast(5000.0);

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

    /// The time of a pass on a fresh mount; mounting is not counted.
    fn cold(&mut self, file: &Path, access: &Access) -> Duration {
        self.rig.remount().expect("a mount that worked before");
        let path = self.rig.mountpoint().join(file);
        let start = Instant::now();
        let file = File::open(path).expect("the file is there");
        (access.read)(&file, file.metadata().map_or(0, |found| found.len())).expect("a healthy mount");
        start.elapsed()
    }

    /// The same of several files at once, each from its beginning to its end.
    fn streams(&mut self, folder: &Path, files: Files) -> Duration {
        self.rig.remount().expect("a mount that worked before");
        let folder = self.rig.mountpoint().join(folder);
        let paths: Vec<_> = (0..files.count).map(|at| folder.join(corpus::name(at))).collect();
        let start = Instant::now();
        let read = access::read_all_at_once(&paths).expect("a healthy mount");
        let took = start.elapsed();
        assert_eq!(read, files.bytes * files.count as u64);
        took
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

/// The best that could be expected here, in MB/s, as far as it was measured.
#[derive(Clone, Copy, Default)]
struct Ceilings {
    page_cache: Option<f64>,
    udp: Option<f64>,
    plain_fuse: Option<f64>,
}

impl Ceilings {
    fn measure(group: &mut Group<'_>, file_bytes: u64, size: &str) -> Ceilings {
        let (mut cache, mut udp, mut plain) = (Passes::default(), Passes::default(), Passes::default());
        group.throughput(Throughput::Bytes(file_bytes));
        let file = || {
            let corpus = Corpus::open().expect("a folder for the files");
            let file = corpus.file(file_bytes).expect("room for the file");
            (corpus.root().to_owned(), file)
        };
        group.bench_function(format!("ceiling_page_cache/{size}"), |b| {
            let (root, file) = file();
            let read = || access::read_through(&root.join(&file)).expect("a file of this machine");
            b.iter_custom(|passes| cache.time(passes, read));
        });
        group.bench_function(format!("ceiling_plain_fuse/{size}"), |b| {
            let (root, file) = file();
            let Some(mount) = PlainFuse::of(&root) else {
                say("ceiling_plain_fuse is not measured: no bindfs");
                return b.iter(|| ());
            };
            let path = mount.path().join(file);
            b.iter_custom(|passes| {
                plain.run(passes, || {
                    ceiling::drop_pages(&path).expect("a file that opens");
                    let start = Instant::now();
                    access::read_through(&path).expect("a healthy mount");
                    start.elapsed()
                })
            });
        });
        group.throughput(Throughput::Bytes(UDP_BYTES));
        group.bench_function("ceiling_loopback_udp/64KiB_datagrams", |b| {
            b.iter_custom(|passes| {
                udp.run(passes, || ceiling::loopback_udp(UDP_BYTES).expect("a loopback that carries"))
            });
        });
        let of = |passes: &Passes, bytes| median(&passes.rates(bytes));
        let page_cache = of(&cache, file_bytes);
        let ceilings = Ceilings { page_cache, udp: of(&udp, UDP_BYTES), plain_fuse: of(&plain, file_bytes) };
        ceilings.keep(&[
            ("page_cache", cache, file_bytes),
            ("plain_fuse", plain, file_bytes),
            ("udp", udp, UDP_BYTES),
        ]);
        ceilings
    }

    fn keep(self, measured: &[(&str, Passes, u64)]) {
        let mut book = Book::open("throughput");
        for (what, passes, bytes) in measured {
            book.add(&format!("ceiling_{what}"), "MB/s", &passes.rates(*bytes), |record| {
                record.tool("local")
            });
        }
    }

    /// Beside the nearest of them, the others told.
    fn beside(self, record: Record) -> Record {
        let others = [("loopback UDP", self.udp), ("plain FUSE", self.plain_fuse)];
        let told = others.iter().filter_map(|(what, rate)| rate.map(|rate| format!("{what} {rate:.0} MB/s")));
        let note = told.collect::<Vec<_>>().join(", ");
        beside(record, "page cache", self.page_cache).note(note)
    }
}

type Group<'a> = BenchmarkGroup<'a, WallTime>;

#[expect(clippy::print_stdout, reason = "a bench's figures are its output")]
fn say(line: &str) {
    println!("{line}");
}

/// The row of a way to read, in the words of TARGETS.md where it has them, and what it is held against.
fn row(access: &Access) -> (String, Option<Target>) {
    match access.name {
        "sequential_cold" => ("seq_read_1gb".into(), Some(SEQUENTIAL)),
        "random_4KiB_cold/1_thread" => ("random_read_4kb".into(), Some(RANDOM)),
        "random_4KiB_cold/16_threads" => ("random_read_4kb_16_threads".into(), None),
        name => (name.trim_end_matches("_cold").to_lowercase(), None),
    }
}

fn keep(access: &Access, file_bytes: u64, passes: &Passes, ceilings: Ceilings) {
    let (name, target) = row(access);
    let more = |record: Record| {
        let mut record = record.cache("cold");
        record.target = target;
        record
    };
    let mut book = Book::open("throughput");
    match access.takes {
        Takes::Pages(count) => book.add(&name, "IOPS", &passes.per_second(count), more),
        takes => {
            let rates = passes.rates(takes.bytes(file_bytes));
            book.add(&name, "MB/s", &rates, |record| ceilings.beside(more(record)));
        }
    }
}

fn throughput(c: &mut Criterion) {
    let file_bytes = Scale::of_this_run().bytes(FILE_BYTES);
    let size = format!("{}MiB", file_bytes >> 20);
    let (mut bench, mut fetched) = (None, Fetched::default());
    let mut group = c.benchmark_group("throughput");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_secs(1));
    let ceilings = Ceilings::measure(&mut group, file_bytes, &size);
    for access in &ACCESSES {
        group.throughput(match access.takes {
            Takes::Pages(count) => Throughput::Elements(count),
            takes => Throughput::Bytes(takes.bytes(file_bytes)),
        });
        let mut passes = Passes::default();
        group.bench_function(format!("{}/{size}", access.name), |b| {
            let bench = bench.get_or_insert_with(Bench::new);
            let file = bench.corpus.file(file_bytes).expect("room for the file");
            b.iter_custom(|count| {
                passes.run(count, || {
                    let took = bench.cold(&file, access);
                    fetched.note(access, file_bytes, &bench.rig);
                    took
                })
            });
        });
        keep(access, file_bytes, &passes, ceilings);
    }
    let bytes = STREAMS.bytes * STREAMS.count as u64;
    group.throughput(Throughput::Bytes(bytes));
    let mut passes = Passes::default();
    group.bench_function("four_streams_cold/128MiB_each", |b| {
        let bench = bench.get_or_insert_with(Bench::new);
        let folder = bench.corpus.folder(STREAMS).expect("room for the files");
        b.iter_custom(|count| passes.run(count, || bench.streams(&folder, STREAMS)));
    });
    // Each stream has at least its part of what all have until the last one ends.
    Book::open("throughput").add("texture_streams_4", "MB/s", &passes.rates(STREAMS.bytes), |record| {
        ceilings.beside(record.cache("cold").target(STREAM))
    });
    group.finish();
    fetched.print();
}

criterion_group! { name = benches; config = profiles::criterion(); targets = throughput }
criterion_main!(benches);
