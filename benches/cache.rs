//! What the disk cache gives: reads, writes, eviction and loading of the store, against what the disk itself gives.
//!
//! Everything goes through a real ring to `WORMHOLE_BENCH_DIR`, or the target directory. The ceilings read and write a
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
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use engine::cache::{
    ContentKey, L2,
    l2::{L2Config, Offered},
};
use tempfile::TempDir;
use tokio::{runtime::Runtime, task::JoinSet};
use uring::{Pool, PoolConfig, ReadAt, Ring, RingConfig, SlotClass, SlotRange};
use wire::{ByteLen, CHUNK_BYTES, Extent, FileId, Timestamp, Version, chunk::ChunkIndex};

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
    async fn read_each(&self, l2: &L2) -> Duration {
        let start = Instant::now();
        let mut reads = JoinSet::new();
        for i in 0..RANDOM_READS {
            if reads.len() == DEPTH {
                reads.join_next().await;
            }
            let (l2, number) = (l2.clone(), (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) % 1_000_000);
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

fn reads(c: &mut Criterion) {
    let bench = Bench::new();
    let l2 = bench.open(2 << 30);
    bench.runtime.block_on(bench.fill(&l2, 1, FILE_BYTES));
    let file = bench.file();
    let mut group = c.benchmark_group("cache/l2_read");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for (name, block) in [("128KiB", CHUNK_BYTES), ("1MiB", MIB)] {
        group.throughput(Throughput::Bytes(FILE_BYTES));
        let count = FILE_BYTES / block;
        group.bench_function(BenchmarkId::new("first_sequential", name), |b| {
            b.iter_custom(|passes| {
                // Another life: every hash is checked again.
                (0..passes)
                    .map(|_| {
                        bench.runtime.block_on(async {
                            l2.doubt_all();
                            bench.read(&l2, in_order(block)).await
                        })
                    })
                    .sum()
            });
        });
        group.bench_function(BenchmarkId::new("sequential", name), |b| {
            b.iter_custom(|passes| {
                (0..passes).map(|_| bench.runtime.block_on(bench.read(&l2, in_order(block)))).sum()
            });
        });
        group.bench_function(BenchmarkId::new("ceiling_sequential", name), |b| {
            b.iter_custom(|passes| {
                (0..passes).map(|_| bench.runtime.block_on(bench.read_file(&file, in_order(block)))).sum()
            });
        });
        group.bench_function(BenchmarkId::new("random", name), |b| {
            b.iter_custom(|passes| {
                (0..passes).map(|_| bench.runtime.block_on(bench.read(&l2, anywhere(block, count)))).sum()
            });
        });
        group.bench_function(BenchmarkId::new("ceiling_random", name), |b| {
            b.iter_custom(|passes| {
                (0..passes)
                    .map(|_| bench.runtime.block_on(bench.read_file(&file, anywhere(block, count))))
                    .sum()
            });
        });
    }
    group.throughput(Throughput::Elements(RANDOM_READS));
    group.bench_function("random/4KiB", |b| {
        b.iter_custom(|passes| {
            (0..passes).map(|_| bench.runtime.block_on(bench.read(&l2, anywhere(4096, RANDOM_READS)))).sum()
        });
    });
    group.bench_function("ceiling_random/4KiB", |b| {
        b.iter_custom(|passes| {
            let read = || bench.runtime.block_on(bench.read_file(&file, anywhere(4096, RANDOM_READS)));
            (0..passes).map(|_| read()).sum()
        });
    });
    group.finish();
}

fn writes(c: &mut Criterion) {
    let bench = Bench::new();
    let mut group = c.benchmark_group("cache/l2_write");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).throughput(Throughput::Bytes(FILE_BYTES));
    let l2 = bench.open(4 << 30);
    let mut number = 0;
    group.bench_function("sequential/512MiB", |b| {
        b.iter_custom(|passes| {
            (0..passes)
                .map(|_| {
                    number += 1;
                    let start = Instant::now();
                    bench.runtime.block_on(bench.fill(&l2, number, FILE_BYTES));
                    start.elapsed()
                })
                .sum()
        });
    });
    drop(l2);
    let small = Bench::new();
    let l2 = small.open(256 * MIB);
    group.bench_function("evicting/512MiB_into_256MiB", |b| {
        b.iter_custom(|passes| {
            (0..passes)
                .map(|_| {
                    number += 1;
                    let start = Instant::now();
                    small.runtime.block_on(small.fill(&l2, number, FILE_BYTES));
                    start.elapsed()
                })
                .sum()
        });
    });
    group.finish();
}

/// A million records of 4 KiB, in order, each a file of its own: the most index for the fewest bytes.
fn recovery(c: &mut Criterion) {
    let bench = Bench::new();
    let quota = 16 << 30;
    let l2 = bench.open(quota);
    bench.runtime.block_on(async {
        let page = bench.slot();
        for number in 0..1_000_000_u64 {
            let at = usize::try_from(number % 256).expect("a small number") * 4096;
            while l2.offer(key(number), ChunkIndex(0), page.slice(at..at + 4096)) == Offered::Dropped {
                l2.flush(PATIENCE).await.expect("a disk that writes");
            }
        }
        l2.close(PATIENCE).await.expect("a disk that writes");
    });
    let mut group = c.benchmark_group("cache/l2_recovery");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(1_000_000));
    group.bench_function("1M_records", |b| {
        b.iter_custom(|passes| {
            (0..passes)
                .map(|_| {
                    let start = Instant::now();
                    let l2 = bench.open(quota);
                    while l2.stats().is_loading {
                        std::thread::yield_now();
                    }
                    let took = start.elapsed();
                    assert_eq!(l2.stats().records, 1_000_000);
                    bench.runtime.block_on(l2.close(PATIENCE)).expect("a disk that writes");
                    took
                })
                .sum()
        });
    });
    // Another life each: the index page, the record and its hash.
    let l2 = bench.open(quota);
    while l2.stats().is_loading {
        std::thread::yield_now();
    }
    group.throughput(Throughput::Elements(RANDOM_READS));
    group.bench_function("first_reads_of_10k_among_1M", |b| {
        b.iter_custom(|passes| {
            (0..passes)
                .map(|_| {
                    l2.doubt_all();
                    bench.runtime.block_on(bench.read_each(&l2))
                })
                .sum()
        });
    });
    group.bench_function("reads_of_10k_among_1M", |b| {
        b.iter_custom(|passes| (0..passes).map(|_| bench.runtime.block_on(bench.read_each(&l2))).sum());
    });
    group.finish();
}

criterion_group! { name = benches; config = profiles::criterion(); targets = reads, writes, recovery }
criterion_main!(benches);
