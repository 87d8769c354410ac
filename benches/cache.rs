//! What the caches give: memory (L1) and disk (L2), alone and through a mount, against what the disk itself gives.
//!
//! All of the disk goes through a real ring to `WORMHOLE_BENCH_DIR`, or the target directory. The ceilings read and write a
//! plain file through the same ring and the same slots, at the same depth; README.md has `fio` beside them.

#![forbid(unsafe_code)]

use std::{
    fs::File,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use engine::cache::{
    BlockKey, ContentKey, L1, L2,
    l1::Pressure,
    l2::{L2Config, Offered},
};
use tempfile::TempDir;
use tokio::{runtime::Runtime, task::JoinSet};
use uring::{Pool, PoolConfig, ReadAt, Ring, RingConfig, SlotClass, SlotRange};
use wire::{ByteLen, CHUNK_BYTES, Extent, FileId, Timestamp, Version, chunk::ChunkIndex};
use wormhole_benches::{
    Corpus, Rig, access,
    book::{Book, Passes, beside, median},
    ceiling,
    record::{Record, Target},
    run::Scale,
};

const MIB: u64 = 1 << 20;
/// What the reads are of.
const FILE_BYTES: u64 = 512 * MIB;
/// Operations at once: what keeps a disk busy.
const DEPTH: usize = 8;
const PATIENCE: Duration = Duration::from_secs(120);
/// Reads of one pass over random places.
const RANDOM_READS: u64 = 10_000;

struct Bench {
    dir: TempDir,
    pool: Pool,
    ring: Ring,
    runtime: Runtime,
}

impl Bench {
    fn new() -> Bench {
        let place = std::env::var_os("WORMHOLE_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        Bench {
            dir: TempDir::new_in(place).expect("a directory to measure in"),
            pool: Pool::new(PoolConfig::with_capacity(128 << 20)).expect("128 MiB"),
            ring: Ring::start(RingConfig::default()).expect("a ring"),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
        }
    }

    fn open(&self, quota_bytes: u64) -> L2 {
        let config = L2Config::new(self.dir.path().join("cache"), quota_bytes);
        L2::open(&config, self.ring.clone(), self.pool.clone()).expect("a store")
    }

    /// Random bytes in a slot, which many chunks share: what they are does not matter to a disk.
    fn slot(&self) -> Bytes {
        let mut slot = self.pool.try_lend(SlotClass::Extent1M).expect("a free slot");
        blake3::Hasher::new().finalize_xof().fill(slot.bytes_mut());
        slot.fill(1 << 20).freeze()
    }

    /// Writes a file of so many bytes into the store, as fast as it takes it.
    async fn fill(&self, l2: &L2, number: u64, bytes: u64) {
        let slot = self.slot();
        for start in (0..bytes).step_by(1 << 20) {
            let first = ChunkIndex(start / CHUNK_BYTES);
            while l2.offer(key(number), first, slot.clone()) == Offered::Dropped {
                l2.flush(PATIENCE).await.expect("a disk that writes");
            }
        }
        l2.flush(PATIENCE).await.expect("a disk that writes");
    }

    /// The time of reading all these extents, `DEPTH` at once.
    async fn read(&self, l2: &L2, extents: impl Iterator<Item = Extent>) -> Duration {
        let start = Instant::now();
        let mut reads = JoinSet::new();
        for extent in extents {
            if reads.len() == DEPTH {
                reads.join_next().await;
            }
            let l2 = l2.clone();
            reads.spawn(async move { l2.get(key(1), extent).await.expect("it was written") });
        }
        while reads.join_next().await.is_some() {}
        start.elapsed()
    }

    /// The time of reading small files all over the store, `DEPTH` at once.
    async fn read_each(&self, l2: &L2, files: u64) -> Duration {
        let start = Instant::now();
        let mut reads = JoinSet::new();
        for i in 0..RANDOM_READS {
            if reads.len() == DEPTH {
                reads.join_next().await;
            }
            let (l2, number) = (l2.clone(), (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) % files);
            let extent = Extent::new(0, 4096);
            reads.spawn(async move { l2.get(key(number), extent).await.expect("it was written") });
        }
        while reads.join_next().await.is_some() {}
        start.elapsed()
    }

    /// The same of a plain file.
    async fn read_file(&self, file: &Arc<File>, extents: impl Iterator<Item = Extent>) -> Duration {
        let start = Instant::now();
        let mut reads = JoinSet::new();
        for extent in extents {
            if reads.len() == DEPTH {
                reads.join_next().await;
            }
            let len = usize::try_from(extent.len.0).expect("at most 1 MiB");
            let (ring, pool, file) = (self.ring.clone(), self.pool.clone(), Arc::clone(file));
            reads.spawn(async move {
                let slot = pool.lend(SlotClass::for_len(len).expect("at most 1 MiB")).await;
                let range = SlotRange::first(len);
                let done = ring.read_at(ReadAt { file, slot, range, offset: extent.start.0 }).await;
                assert_eq!(done.result.expect("a disk that reads"), len);
            });
        }
        while reads.join_next().await.is_some() {}
        start.elapsed()
    }

    /// A plain file of `FILE_BYTES`, written once, for direct reads.
    fn file(&self) -> Arc<File> {
        let mut options = File::options();
        options.read(true).write(true).create(true).custom_flags(0o40000);
        let file =
            Arc::new(options.open(self.dir.path().join("plain")).expect("a file system with O_DIRECT"));
        self.runtime.block_on(async {
            let slot = self.slot();
            for offset in (0..FILE_BYTES).step_by(1 << 20) {
                self.ring
                    .write_at(Arc::clone(&file), slot.clone(), offset)
                    .await
                    .expect("a disk that writes");
            }
        });
        file
    }
}

fn key(number: u64) -> ContentKey {
    let time = Timestamp { secs: 1, nanos: 0 };
    let version = Version { size: ByteLen(u64::MAX), mtime: time, ctime: time };
    ContentKey::new(&[1; 32], b"bench", &FileId { fs: 1, inode: number, birth: 1 }, &version)
}

fn in_order(block: u64) -> impl Iterator<Item = Extent> {
    (0..FILE_BYTES / block).map(move |i| Extent::new(i * block, block))
}

fn anywhere(block: u64, count: u64) -> impl Iterator<Item = Extent> {
    (0..count).map(move |i| {
        let at = i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        Extent::new(at % (FILE_BYTES / block) * block, block)
    })
}

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// A store with a file in it, and the same file beside it, made by the first case that runs.
struct Filled {
    bench: Bench,
    l2: L2,
    plain: Arc<File>,
}

impl Filled {
    fn new() -> Filled {
        let bench = Bench::new();
        let l2 = bench.open(2 << 30);
        bench.runtime.block_on(bench.fill(&l2, 1, FILE_BYTES));
        let plain = bench.file();
        Filled { bench, l2, plain }
    }

    fn read(&self, extents: impl Iterator<Item = Extent>) -> Duration {
        self.bench.runtime.block_on(self.bench.read(&self.l2, extents))
    }

    /// In another life: every hash is checked again.
    fn read_first(&self, extents: impl Iterator<Item = Extent>) -> Duration {
        self.bench.runtime.block_on(async {
            self.l2.doubt_all();
            self.bench.read(&self.l2, extents).await
        })
    }

    fn read_plain(&self, extents: impl Iterator<Item = Extent>) -> Duration {
        self.bench.runtime.block_on(self.bench.read_file(&self.plain, extents))
    }
}

/// Passes of one case over what the first one made.
fn case<T>(
    group: &mut Group<'_>,
    name: &str,
    (made, make): (&mut Option<T>, fn() -> T),
    pass: impl Fn(&mut T) -> Duration,
) -> Passes {
    let mut passes = Passes::default();
    group.bench_function(name, |b| {
        let made = made.get_or_insert_with(make);
        b.iter_custom(|count| passes.run(count, || pass(made)));
    });
    passes
}

fn reads(c: &mut Criterion) {
    let (mut made, mut book) = (None, Book::open("cache"));
    let mut group = c.benchmark_group("cache/l2_read");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_secs(1));
    for (size, block) in [("128KiB", CHUNK_BYTES), ("1MiB", MIB)] {
        group.throughput(Throughput::Bytes(FILE_BYTES));
        let count = FILE_BYTES / block;
        let mut run = |name: &str, pass: &dyn Fn(&mut Filled) -> Duration| {
            case(&mut group, &format!("{name}/{size}"), (&mut made, Filled::new), pass).rates(FILE_BYTES)
        };
        let row = |name: &str| format!("l2_read_{name}_{}", size.to_lowercase());
        let disk = median(&run("ceiling_sequential", &|made| made.read_plain(in_order(block))));
        keep_disk(&mut book, &format!("disk_read_sequential_{}", size.to_lowercase()), disk, "MB/s");
        let first = run("first_sequential", &|made| made.read_first(in_order(block)));
        book.add(&row("first_sequential"), "MB/s", &first, |record| {
            beside(record.link("disk"), "disk", disk)
        });
        let again = run("sequential", &|made| made.read(in_order(block)));
        book.add(&row("sequential"), "MB/s", &again, |record| beside(record.link("disk"), "disk", disk));
        let disk = median(&run("ceiling_random", &|made| made.read_plain(anywhere(block, count))));
        keep_disk(&mut book, &format!("disk_read_random_{}", size.to_lowercase()), disk, "MB/s");
        let random = run("random", &|made| made.read(anywhere(block, count)));
        book.add(&row("random"), "MB/s", &random, |record| beside(record.link("disk"), "disk", disk));
    }
    group.throughput(Throughput::Elements(RANDOM_READS));
    let mut run = |name: &str, pass: &dyn Fn(&mut Filled) -> Duration| {
        case(&mut group, name, (&mut made, Filled::new), pass).per_second(RANDOM_READS)
    };
    let disk = median(&run("ceiling_random/4KiB", &|made| made.read_plain(anywhere(4096, RANDOM_READS))));
    keep_disk(&mut book, "disk_read_random_4kb", disk, "IOPS");
    let random = run("random/4KiB", &|made| made.read(anywhere(4096, RANDOM_READS)));
    book.add("l2_read_random_4kb", "IOPS", &random, |record| beside(record.link("disk"), "disk", disk));
    group.finish();
}

/// What a plain file gives, as far as it was measured.
fn keep_disk(book: &mut Book, row: &str, disk: Option<f64>, unit: &str) {
    book.add(row, unit, disk.as_slice(), |record| Record {
        tool: "local".into(),
        ..record.link("disk").note("a plain file, the ceiling of the L2 row beside it")
    });
}

/// A store that files are written into, each under a number of its own.
struct Writing {
    bench: Bench,
    l2: L2,
    number: u64,
}

impl Writing {
    fn of(quota_bytes: u64) -> Writing {
        let bench = Bench::new();
        let l2 = bench.open(quota_bytes);
        Writing { bench, l2, number: 0 }
    }

    fn write(&mut self) -> Duration {
        self.number += 1;
        let start = Instant::now();
        self.bench.runtime.block_on(self.bench.fill(&self.l2, self.number, FILE_BYTES));
        start.elapsed()
    }
}

fn writes(c: &mut Criterion) {
    let mut group = c.benchmark_group("cache/l2_write");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).throughput(Throughput::Bytes(FILE_BYTES));
    group.warm_up_time(Duration::from_secs(1));
    let (mut large, mut small) = (None, None);
    let in_order =
        case(&mut group, "sequential/512MiB", (&mut large, || Writing::of(4 << 30)), Writing::write);
    drop(large);
    let evicting = case(
        &mut group,
        "evicting/512MiB_into_256MiB",
        (&mut small, || Writing::of(256 * MIB)),
        Writing::write,
    );
    group.finish();
    let mut book = Book::open("cache");
    book.add("l2_write_sequential", "MB/s", &in_order.rates(FILE_BYTES), |record| record.link("disk"));
    book.add("l2_eviction_512mb_into_256mb", "MB/s", &evicting.rates(FILE_BYTES), |record| {
        record.link("disk")
    });
}

/// 512 MiB in blocks of 1 MiB into a memory of 256: half of them push others out.
fn memory(c: &mut Criterion) {
    let mut group = c.benchmark_group("cache/l1");
    group.throughput(Throughput::Bytes(FILE_BYTES));
    let make = || {
        let bytes = usize::try_from(256 * MIB).expect("a small number");
        (L1::new(Pool::new(PoolConfig::with_capacity(bytes)).expect("256 MiB")), 0)
    };
    let mut made: Option<(L1, u64)> = None;
    let evicting = case(&mut group, "evicting/512MiB_into_256MiB", (&mut made, make), |(l1, number)| {
        *number += 1;
        let start = Instant::now();
        for offset in (0..FILE_BYTES).step_by(1 << 20) {
            let slot = l1.try_lend(SlotClass::Extent1M, Pressure::Any).expect("a block that yields");
            let block = BlockKey::at(key(*number), SlotClass::Extent1M, offset);
            l1.insert(block, slot.fill(1 << 20).freeze());
        }
        start.elapsed()
    });
    group.finish();
    let evicted = made.map_or(0, |(l1, _)| l1.stats().evicted);
    let mut book = Book::open("cache");
    let blocks = evicting.per_second(FILE_BYTES >> 20);
    book.add("l1_eviction_512mb_into_256mb", "blocks/s", &blocks, |record| {
        record.link("memory").note(format!("{evicted} blocks of 1 MiB given up; their bytes are not touched"))
    });
}

/// Of a mount with 256 MiB of memory, what it answers out of it.
const L1_FILE_BYTES: u64 = 200 * MIB;
/// What the mount keeps on disk, read with less memory than it takes.
const L2_FILE_BYTES: u64 = 512 * MIB;
const L2_MEMORY_BYTES: u64 = 64 * MIB;

/// A mount with a file in its caches.
struct Mounted {
    rig: Rig,
    path: PathBuf,
    bytes: u64,
    host_bytes: u64,
}

impl Mounted {
    fn of(bytes: u64, memory_bytes: u64, disk_bytes: Option<u64>) -> Mounted {
        let corpus = Corpus::open().expect("a folder for the files");
        let file = corpus.file(bytes).expect("room for the file");
        let mut rig = Rig::of(corpus.root()).unwrap_or_else(|why| panic!("no mount to measure: {why}"));
        rig.set_caches(memory_bytes, disk_bytes);
        rig.remount().expect("a mount that worked before");
        let path = rig.mountpoint().join(file);
        access::read_through(&path).expect("a healthy mount");
        Mounted { rig, path, bytes, host_bytes: 0 }
    }

    /// One more pass, out of the mount's caches and not the kernel's.
    fn read(&mut self) -> Duration {
        ceiling::drop_pages(&self.path).expect("a file that opens");
        let before = self.rig.report_at_rest().reads.host_bytes;
        let start = Instant::now();
        let read = access::read_through(&self.path).expect("a healthy mount");
        let took = start.elapsed();
        assert_eq!(read, self.bytes);
        self.host_bytes = self.rig.report_at_rest().reads.host_bytes - before;
        took
    }

    /// The same of another mount, whose memory is empty.
    fn read_anew(&mut self) -> Duration {
        self.rig.remount().expect("a mount that worked before");
        self.read()
    }

    /// Of each hundred bytes of the last pass, those that did not come from the host.
    fn hits(&self) -> f64 {
        100.0 * (1.0 - self.host_bytes as f64 / self.bytes as f64)
    }
}

/// Warm reads of a real mount: from its memory, and from its disk.
fn through_the_mount(c: &mut Criterion) {
    let mut group = c.benchmark_group("cache/mount");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_secs(1));
    group.throughput(Throughput::Bytes(L1_FILE_BYTES));
    let mut book = Book::open("cache");
    let mut made = None;
    let make = || Mounted::of(L1_FILE_BYTES, 256 * MIB, None);
    let warm = case(&mut group, "warm_l1/200MiB_of_256MiB", (&mut made, make), Mounted::read);
    book.add("seq_read_warm", "MB/s", &warm.rates(L1_FILE_BYTES), |record| record.cache("warm (L1)"));
    if let Some(mounted) = made.take() {
        book.add("l1_hit_rate", "%", &[mounted.hits()], |record| {
            record.cache("warm (L1)").target(Target::AtLeast(95.0)).note("200 MiB, memory 256 MiB")
        });
    }
    group.throughput(Throughput::Bytes(L2_FILE_BYTES));
    let make = || Mounted::of(L2_FILE_BYTES, L2_MEMORY_BYTES, Some(4 << 30));
    let warm = case(&mut group, "warm_l2/512MiB", (&mut made, make), Mounted::read_anew);
    let hits = made.map_or(0.0, |mounted| mounted.hits());
    book.add("seq_read_warm", "MB/s", &warm.rates(L2_FILE_BYTES), |record| {
        record.cache("warm (L2)").note(format!("a new mount each pass; {hits:.1} % not from the host"))
    });
    group.finish();
}

/// One page that the host's page cache has, to the ring and back.
fn ring(c: &mut Criterion) {
    let mut made: Option<Filled> = None;
    let mut group = c.benchmark_group("cache/ring");
    group.warm_up_time(Duration::from_secs(1));
    let (mut read, mut lend) = (Passes::default(), Passes::default());
    group.bench_function("read_4KiB_of_disk", |b| {
        let made = made.get_or_insert_with(Filled::new);
        b.iter_custom(|count| {
            let took = made.bench.runtime.block_on(async {
                let start = Instant::now();
                for extent in anywhere(4096, count) {
                    made.bench.read_file(&made.plain, std::iter::once(extent)).await;
                }
                start.elapsed()
            });
            read.run(1, || took.div_f64(count.max(1) as f64));
            took
        });
    });
    group.bench_function("pool_lend_and_return", |b| {
        let pool = Pool::new(PoolConfig::with_capacity(16 << 20)).expect("16 MiB");
        b.iter_custom(|count| lend.batch(count, || pool.try_lend(SlotClass::Extent1M)));
    });
    group.finish();
    let mut book = Book::open("cache");
    let micros =
        |passes: &Passes| passes.millis(1).into_iter().map(|millis| millis * 1e3).collect::<Vec<_>>();
    book.add("ring_read_4kb", "us", &micros(&read), |record| record.link("disk").note("one at a time"));
    book.add("pool_lend_and_return", "us", &micros(&lend), |record| record.link("memory"));
}

/// A million records of 4 KiB, in order, each a file of its own: the most index for the fewest bytes. A quarter of them
/// with `--quick`.
struct Records {
    bench: Bench,
    count: u64,
}

const RECORDS_QUOTA: u64 = 16 << 30;

impl Records {
    fn new() -> Records {
        let (bench, count) = (Bench::new(), Scale::of_this_run().bytes(1_000_000));
        let l2 = bench.open(RECORDS_QUOTA);
        bench.runtime.block_on(async {
            let page = bench.slot();
            for number in 0..count {
                let at = usize::try_from(number % 256).expect("a small number") * 4096;
                while l2.offer(key(number), ChunkIndex(0), page.slice(at..at + 4096)) == Offered::Dropped {
                    l2.flush(PATIENCE).await.expect("a disk that writes");
                }
            }
            l2.close(PATIENCE).await.expect("a disk that writes");
        });
        Records { bench, count }
    }

    fn open(&self) -> L2 {
        let l2 = self.bench.open(RECORDS_QUOTA);
        while l2.stats().is_loading {
            std::thread::yield_now();
        }
        assert_eq!(l2.stats().records, self.count);
        l2
    }

    fn recover(&mut self) -> Duration {
        let start = Instant::now();
        let l2 = self.open();
        let took = start.elapsed();
        self.bench.runtime.block_on(l2.close(PATIENCE)).expect("a disk that writes");
        took
    }
}

fn recovery(c: &mut Criterion) {
    let (count, mut book) = (Scale::of_this_run().bytes(1_000_000), Book::open("cache"));
    let name = if count == 1_000_000 { "1M".to_owned() } else { format!("{}k", count / 1000) };
    let mut made = None;
    let mut group = c.benchmark_group("cache/l2_recovery");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(count));
    group.warm_up_time(Duration::from_secs(1));
    let recover = case(&mut group, &format!("{name}_records"), (&mut made, Records::new), Records::recover);
    book.add("l2_recovery_1m", "s", &recover.millis(1000), |record| {
        record.link("disk").target(Target::AtMost(1.0)).note(format!("{count} records"))
    });
    group.throughput(Throughput::Elements(RANDOM_READS));
    // Another life each: the index page, the record and its hash.
    let mut opened: Option<(Records, L2)> = None;
    for (which, row) in [("first_reads", "l2_first_reads_10k_of_1m"), ("reads", "l2_reads_10k_of_1m")] {
        let mut passes = Passes::default();
        group.bench_function(format!("{which}_of_10k_among_{name}"), |b| {
            let (records, l2) = opened.get_or_insert_with(|| {
                let records = made.take().unwrap_or_else(Records::new);
                let l2 = records.open();
                (records, l2)
            });
            b.iter_custom(|count| {
                passes.run(count, || {
                    if which == "first_reads" {
                        l2.doubt_all();
                    }
                    records.bench.runtime.block_on(records.bench.read_each(l2, records.count))
                })
            });
        });
        book.add(row, "IOPS", &passes.per_second(RANDOM_READS), |record| {
            record.link("disk").note(format!("files of 4 KiB among {count}"))
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = profiles::criterion();
    targets = memory, through_the_mount, ring, reads, writes, recovery
}
criterion_main!(benches);
