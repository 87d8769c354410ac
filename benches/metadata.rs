//! Names and attributes: what a mount answers `stat` and listings in, and what it holds of each file meanwhile.
//!
//! Cold: a fresh mount, nothing of it in the kernel; the host's own caches are warm. Warm: the same again on that mount.
//! The node table stands alone, without a mount: a million files as `find` makes them known, in folders of a thousand.

#![forbid(unsafe_code)]

use std::{
    alloc::System,
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use criterion::{Criterion, SamplingMode, Throughput, criterion_group};
use fusefront::vfs::inode::{Found, NodeId, NodeTable};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use wire::{FileId, FileKind, Name, ShareId};
use wormhole_benches::{
    Corpus, Rig,
    book::{Book, Passes},
    corpus::{self, Files},
    mounted_corpus, process,
    record::Target,
    run::Scale,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What a node may take, its name and its part of every table included.
const NODE_BYTES_MAX: f64 = 96.0;
/// The longest that one lookup may hold all others up, while the table grows to a million.
const GROWTH_PAUSE_MAX: Duration = Duration::from_millis(10);

/// The files of `nodes`, in folders of [`FOLDER`].
const NODES: u64 = 1 << 20;
const FOLDER: u64 = 1000;

/// Entries of the folders that are listed, and files of the smaller one that are looked at; empty, as nothing is read.
const LISTED: [usize; 2] = [1000, 100_000];
const LOOKED_AT: usize = LISTED[0];

/// A file of a large tree: numbers as a file system gives them, a name of 12 to 24 bytes.
struct Known {
    parent: NodeId,
    name: Name,
    found: Found,
}

/// The tree, folders before what is in them; the names are made before anything is measured.
fn tree(nodes: u64) -> Vec<Known> {
    let file = |inode, kind| Found { id: Some(FileId { fs: 7, inode, birth: inode << 20 | 5 }), kind };
    let folders = (0..nodes / FOLDER).map(|folder| Known {
        parent: NodeId::ROOT,
        name: Name::new(format!("sequence_{folder:06}").as_bytes()).expect("a name"),
        found: file(folder_number(folder), FileKind::Directory),
    });
    let files = (0..nodes - nodes / FOLDER).map(|at| {
        let digits = 4 + usize::try_from(at % 13).expect("a small number");
        Known {
            parent: NodeId(folder_number(at / FOLDER)),
            name: Name::new(format!("img_{at:0digits$}.exr").as_bytes()).expect("a name"),
            found: file(1_000_000 + at * 3, FileKind::Regular),
        }
    });
    folders.chain(files).collect()
}

fn folder_number(folder: u64) -> u64 {
    2 + folder
}

fn empty_table() -> NodeTable {
    NodeTable::of_share(ShareId(0), FileId { fs: 7, inode: 1, birth: 1 })
}

fn fill(table: &mut NodeTable, tree: &[Known]) {
    for known in tree {
        table.look_up(known.parent, &known.name, known.found).expect("its folder is known");
    }
}

fn forget(table: &mut NodeTable, tree: &[Known]) {
    for known in tree {
        let id = known.found.id.expect("each has one");
        table.forget(NodeId(id.inode), 1);
    }
    assert_eq!(table.count(), 1, "the root alone stays");
}

/// What a full table takes, and the longest lookup while it filled.
#[expect(clippy::print_stdout, reason = "a bench's figures are its output")]
fn measure_growth(book: &mut Book, tree: &[Known]) {
    let region = Region::new(ALLOCATOR);
    let (mut table, mut longest) = (empty_table(), Duration::ZERO);
    for known in tree {
        let start = Instant::now();
        table.look_up(known.parent, &known.name, known.found).expect("its folder is known");
        longest = longest.max(start.elapsed());
    }
    let held = |table: &NodeTable| {
        let change = region.change();
        let bytes = change.bytes_allocated as f64 - change.bytes_deallocated as f64;
        (bytes, bytes / table.count() as f64)
    };
    let (_, each) = held(&table);
    println!("metadata/nodes: {} of {each:.1} bytes each; the longest lookup {longest:.1?}", table.count());
    let note = format!("{} nodes", table.count());
    book.add("node_memory", "bytes", &[each], |record| {
        record.link("memory").target(Target::AtMost(NODE_BYTES_MAX)).note(note.as_str())
    });
    book.add("node_look_up_longest", "ms", &[longest.as_secs_f64() * 1e3], |record| {
        let most = GROWTH_PAUSE_MAX.as_secs_f64() * 1e3;
        record.link("memory").target(Target::AtMost(most)).note(note.as_str())
    });
    assert!(each <= NODE_BYTES_MAX, "{each:.1} bytes a node");
    // Once more as all others come and go, which leaves the tables as empty as they get.
    for pair in tree.chunks_exact(2).rev() {
        table.forget(NodeId(pair[1].found.id.map_or(0, |id| id.inode)), 1);
    }
    let (half, each) = held(&table);
    println!("metadata/nodes: {} left, {each:.1} bytes each, {:.1} MiB", table.count(), half / 1048576.0);
    forget(&mut table, tree);
    let (left, _) = held(&table);
    println!("metadata/nodes: {left:.0} bytes when all are forgotten");
    assert!(left < 1048576.0, "{left:.0} bytes left");
    if longest > GROWTH_PAUSE_MAX {
        // Not asserted: another program may have had the processor.
        println!("metadata/nodes: missed: longer than {GROWTH_PAUSE_MAX:?}");
    }
}

fn nodes(c: &mut Criterion) {
    let count = Scale::of_this_run().bytes(NODES);
    let mut group = c.benchmark_group("metadata/nodes");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(count));
    let (mut known, mut has_grown) = (None, false);
    let mut book = Book::open("metadata");
    let [mut new, mut again, mut gone] = [(); 3].map(|()| Passes::default());
    group.bench_function("look_up", |b| {
        let tree = known.get_or_insert_with(|| tree(count));
        if !std::mem::replace(&mut has_grown, true) {
            measure_growth(&mut book, tree);
        }
        b.iter_custom(|times| {
            new.run(times, || {
                let mut table = empty_table();
                let start = Instant::now();
                fill(&mut table, tree);
                let took = start.elapsed();
                black_box(table);
                took
            })
        });
    });
    group.bench_function("look_up_known", |b| {
        let tree = known.get_or_insert_with(|| tree(count));
        let mut table = empty_table();
        fill(&mut table, tree);
        b.iter_custom(|times| {
            again.run(times, || {
                let start = Instant::now();
                fill(&mut table, tree);
                start.elapsed()
            })
        });
    });
    group.bench_function("forget", |b| {
        let tree = known.get_or_insert_with(|| tree(count));
        b.iter_custom(|times| {
            gone.run(times, || {
                let mut table = empty_table();
                fill(&mut table, tree);
                let start = Instant::now();
                forget(&mut table, tree);
                start.elapsed()
            })
        });
    });
    group.finish();
    for (row, passes) in [("node_look_up", new), ("node_look_up_known", again), ("node_forget", gone)] {
        book.add(row, "ops/s", &passes.per_second(count), |record| record.link("memory"));
    }
}

/// The mount, made by the first case that runs.
#[derive(Default)]
struct Bench(Option<(Corpus, Rig)>);

impl Bench {
    /// A folder of empty files, on a fresh mount.
    fn folder(&mut self, count: usize) -> (&mut Rig, PathBuf) {
        let (corpus, rig) = self.0.get_or_insert_with(mounted_corpus);
        let folder = corpus.folder(Files { count, bytes: 0 }).expect("room for the files");
        rig.remount().expect("a mount that worked before");
        let folder = rig.mountpoint().join(folder);
        (rig, folder)
    }
}

/// Times a use of a folder on a fresh mount, and then again on a mount that it was used on just before.
fn cold_and_warm(c: &mut Criterion, bench: &mut Bench, name: &str, (count, operation): (usize, fn(&Path))) {
    let mut group = c.benchmark_group(name);
    group.sample_size(10).sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_secs(1));
    group.throughput(Throughput::Elements(count as u64));
    let once = |folder: &Path| {
        let start = Instant::now();
        operation(folder);
        start.elapsed()
    };
    let (mut cold, mut warm) = (Passes::default(), Passes::default());
    group.bench_function("cold", |b| {
        let (rig, folder) = bench.folder(count);
        b.iter_custom(|times| {
            cold.run(times, || {
                rig.remount().expect("a mount that worked before");
                once(&folder)
            })
        });
    });
    group.bench_function("warm", |b| {
        let (_, folder) = bench.folder(count);
        operation(&folder);
        b.iter_custom(|times| warm.run(times, || once(&folder)));
    });
    group.finish();
    let (mut book, row) = (Book::open("metadata"), name.trim_start_matches("metadata/"));
    for (cache, passes) in [("cold", cold), ("warm", warm)] {
        book.add(row, "ms", &passes.millis(1), |record| record.cache(cache));
    }
}

/// What `stat` asks of [`LOOKED_AT`] files, in no order.
fn look_at_all(folder: &Path) {
    // A step that shares no factor with the count meets each once.
    for at in (0..LOOKED_AT).map(|turn| turn * 617 % LOOKED_AT) {
        fs::symlink_metadata(folder.join(corpus::name(at))).expect("the file is there");
    }
}

/// The names alone, as `ls -U` and `find` ask.
fn list(folder: &Path) {
    assert!(LISTED.contains(&fs::read_dir(folder).expect("the folder is there").count()));
}

/// What `ls -l` asks: names, then the attributes of each.
fn list_and_look(folder: &Path) {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let bytes: u64 =
        entries.map(|entry| entry.and_then(|entry| entry.metadata()).expect("a healthy mount").len()).sum();
    assert_eq!(bytes, 0, "all files are empty");
}

fn metadata(c: &mut Criterion) {
    nodes(c);
    let bench = &mut Bench::default();
    cold_and_warm(c, bench, "metadata/stat_1000", (LOOKED_AT, look_at_all));
    for count in LISTED {
        cold_and_warm(c, bench, &format!("metadata/readdir_{count}"), (count, list));
        cold_and_warm(c, bench, &format!("metadata/ls_l_{count}"), (count, list_and_look));
    }
}

criterion_group! { name = benches; config = profiles::criterion(); targets = metadata }

fn main() -> ExitCode {
    process::main(benches)
}
