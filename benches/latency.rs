//! How long single operations take on a real mount: host, QUIC and FUSE in this process, on loopback, encrypted.
//!
//! Criterion gets the time of many; the percentiles, printed at the end, are of single operations, at least 1,000 each.
//! Cold: a file, or a page of it, that the mount has not seen, in a folder of its own, so that no file beside it has it
//! fetched ahead; the host's page cache is warm. Warm: in the mount's memory (L1), not in the kernel's. Hot: the kernel
//! answers by itself.

#![forbid(unsafe_code)]

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use wormhole_benches::{
    Corpus, Rig,
    access::{PAGE, PAGE_BYTES, RANDOM_THREADS, random_page},
    book::Book,
    corpus::{self, Files},
    latency::{Latency, OPERATIONS_MIN},
    mounted_corpus,
    record::Target,
    run::{self, Scale},
};

/// A folder of small files, as a listing and warm operations need.
const FILES: Files = Files { count: 1000, bytes: 64 << 10 };
/// Folders, one file of each for one cold operation: a power of two.
const FOLDERS: usize = 256;
/// What is in each: too large to be fetched whole ahead, and most are left alone, so that no folder counts as read in full.
const APART: Files = Files { count: 4, bytes: 128 << 10 };
/// For pages that no operation has touched yet; a quarter of it with `--quick`.
const FILE_BYTES: u64 = 1 << 30;

/// Reads of each thread in one iteration, where several read.
const READS_EACH: u64 = 64;

// What the medians are held against.
const FIRST_BYTE_COLD: Duration = Duration::from_micros(700);
const FIRST_BYTE_WARM: Duration = Duration::from_micros(100);
const RANDOM: Duration = Duration::from_micros(180);
const STAT: Duration = Duration::from_millis(10);
const LISTING: Duration = Duration::from_millis(100);

/// What every case needs, made by the first one that runs.
struct Bench {
    corpus: Corpus,
    rig: Rig,
}

impl Bench {
    fn new() -> Bench {
        let (corpus, rig) = mounted_corpus();
        Bench { corpus, rig }
    }

    fn files(&mut self) -> PathBuf {
        let folder = self.corpus.folder(FILES).expect("room for the files");
        self.rig.remount().expect("a mount that worked before");
        self.rig.mountpoint().join(folder)
    }

    fn apart(&mut self) -> PathBuf {
        let folders = self.corpus.folders(FOLDERS, APART).expect("room for the files");
        self.rig.remount().expect("a mount that worked before");
        self.rig.mountpoint().join(folders)
    }

    fn file(&mut self, bytes: u64) -> PathBuf {
        let file = self.corpus.file(bytes).expect("room for the file");
        self.rig.remount().expect("a mount that worked before");
        self.rig.mountpoint().join(file)
    }
}

/// Times `operation` once for criterion's every iteration, and goes on until percentiles mean something.
fn case(c: &mut Criterion, latency: &mut Latency, mut operation: impl FnMut(&mut Latency) -> Duration) {
    let name = latency.name().to_owned();
    let mut has_run = false;
    c.bench_function(&name, |b| {
        has_run = true;
        b.iter_custom(|times| (0..times).map(|_| operation(latency)).sum());
    });
    while has_run && run::is_recorded() && latency.count() < OPERATIONS_MIN {
        operation(latency);
    }
    latency.print();
}

/// Keeps it for the report, the median held against `most`.
fn keep(latency: &Latency, (name, cache): (&str, &str), most: Option<Duration>) {
    Book::open("latency").add_latency(name, latency, |record| {
        let record = record.cache(cache);
        match most {
            Some(most) => record.target(Target::AtMost(most.as_secs_f64() * 1e3)),
            None => record,
        }
    });
}

/// Files in folders of their own, in no order; a fresh mount when all folders have been used.
#[derive(Default)]
struct Untouched {
    root: Option<PathBuf>,
    turn: usize,
}

impl Untouched {
    /// The next one. The way to it is known to the mount and to the kernel, itself it is not.
    fn next(&mut self, bench: &mut Option<Bench>) -> PathBuf {
        if self.turn == FOLDERS {
            self.check(bench.as_ref());
            (self.root, self.turn) = (None, 0);
        }
        let root = self.root.get_or_insert_with(|| bench.get_or_insert_with(Bench::new).apart());
        // Triangular numbers meet each of a power of two once, and no two steps are the same.
        let folder = root.join(corpus::folder_name(self.turn * (self.turn + 1) / 2 % FOLDERS));
        fs::metadata(&folder).expect("the folder is there");
        self.turn += 1;
        folder.join(corpus::name(self.turn % APART.count))
    }

    /// That the host was asked for each, and that nothing was fetched for others.
    fn check(&self, bench: Option<&Bench>) {
        if let (Some(bench), Some(_)) = (bench, &self.root) {
            let report = bench.rig.report();
            assert!(report.metadata_requests >= self.turn as u64, "names were known: {report:?}");
            assert_eq!(report.reads.scan_bytes, 0, "files were fetched ahead: {report:?}");
        }
    }
}

fn first_byte_cold(c: &mut Criterion, bench: &mut Option<Bench>) {
    let mut whole = Latency::new("latency/first_byte_cold/open_and_read", Some(FIRST_BYTE_COLD));
    let mut read = Latency::new("latency/first_byte_cold/read", Some(FIRST_BYTE_COLD));
    let mut untouched = Untouched::default();
    case(c, &mut whole, |whole| {
        let path = untouched.next(bench);
        let mut byte = [0];
        let start = Instant::now();
        let file = File::open(path).expect("the file is there");
        read.time(|| file.read_exact_at(&mut byte, 0)).expect("a healthy mount");
        let took = start.elapsed();
        whole.record(took);
        took
    });
    untouched.check(bench.as_ref());
    read.print();
    keep(&whole, ("first_byte_cold", "cold"), Some(FIRST_BYTE_COLD));
    keep(&read, ("first_byte_cold_read_alone", "cold"), Some(FIRST_BYTE_COLD));
}

/// A page that the mount has in memory and the kernel has not.
fn first_byte_warm(c: &mut Criterion, bench: &mut Option<Bench>) {
    let mut latency = Latency::new("latency/first_byte_warm/read", Some(FIRST_BYTE_WARM));
    let mut file = None;
    case(c, &mut latency, |latency| {
        let file = file.get_or_insert_with(|| {
            let folder = bench.get_or_insert_with(Bench::new).files();
            let file = File::open(folder.join(corpus::name(0))).expect("the file is there");
            file.read_exact_at(&mut [0], 0).expect("a healthy mount");
            file
        });
        posix_fadvise(&*file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).expect("pages to drop");
        let start = Instant::now();
        file.read_exact_at(&mut [0], 0).expect("a healthy mount");
        let took = start.elapsed();
        latency.record(took);
        took
    });
    keep(&latency, ("first_byte_warm", "warm (L1)"), Some(FIRST_BYTE_WARM));
    if let Some(bench) = bench {
        let reads = bench.rig.report().reads;
        // The first read of the case is the only one that went to the host.
        assert!(file.is_none() || reads.host_bytes <= FILES.bytes, "warm reads went to the host: {reads:?}");
    }
}

fn random_cold(c: &mut Criterion, bench: &mut Option<Bench>) {
    let file_bytes = Scale::of_this_run().bytes(FILE_BYTES);
    let mut latency = Latency::new("latency/random_4KiB_cold/1_thread", Some(RANDOM));
    let (mut file, mut next) = (None, 0);
    case(c, &mut latency, |latency| {
        // Pages run out where the file does; then the mount has seen them all.
        if next == file_bytes / PAGE_BYTES {
            (file, next) = (None, 0);
        }
        let file = file.get_or_insert_with(|| {
            File::open(bench.get_or_insert_with(Bench::new).file(file_bytes)).expect("the file is there")
        });
        next += 1;
        let (mut page, at) = ([0; PAGE], random_page(next, file_bytes));
        let start = Instant::now();
        file.read_exact_at(&mut page, at).expect("a healthy mount");
        let took = start.elapsed();
        latency.record(took);
        took
    });
    keep(&latency, ("random_read_4kb_latency", "cold"), Some(RANDOM));
}

/// Sixteen threads, each at pages of its own; an iteration is [`READS_EACH`] reads of each.
fn random_cold_together(c: &mut Criterion, bench: &mut Option<Bench>) {
    let file_bytes = Scale::of_this_run().bytes(FILE_BYTES);
    let mut latency = Latency::new("latency/random_4KiB_cold/16_threads", None);
    let (mut file, mut next) = (None, 0);
    case(c, &mut latency, |latency| {
        if next + RANDOM_THREADS * READS_EACH > file_bytes / PAGE_BYTES {
            (file, next) = (None, 0);
        }
        let file = &*file.get_or_insert_with(|| {
            File::open(bench.get_or_insert_with(Bench::new).file(file_bytes)).expect("the file is there")
        });
        let all = Mutex::new(latency);
        let start = Instant::now();
        thread::scope(|scope| {
            for thread in 0..RANDOM_THREADS {
                let (all, from) = (&all, next + thread * READS_EACH);
                scope.spawn(move || {
                    let (mut own, mut page) = (Latency::new("", None), [0; PAGE]);
                    for n in from..from + READS_EACH {
                        let at = random_page(n, file_bytes);
                        own.time(|| file.read_exact_at(&mut page, at)).expect("a healthy mount");
                    }
                    all.lock().expect("a reader does not panic").add(&own);
                });
            }
        });
        next += RANDOM_THREADS * READS_EACH;
        start.elapsed()
    });
    keep(&latency, ("random_read_4kb_latency_16_threads", "cold"), None);
}

fn stat_cold(c: &mut Criterion, bench: &mut Option<Bench>) {
    let mut latency = Latency::new("latency/stat_cold", Some(STAT));
    let mut untouched = Untouched::default();
    case(c, &mut latency, |latency| {
        let path = untouched.next(bench);
        let start = Instant::now();
        fs::metadata(path).expect("the file is there");
        let took = start.elapsed();
        latency.record(took);
        took
    });
    untouched.check(bench.as_ref());
    keep(&latency, ("stat_latency", "cold"), Some(STAT));
}

/// One file again and again: the kernel answers, and asks the mount once a second.
fn stat_hot(c: &mut Criterion, bench: &mut Option<Bench>) {
    let mut latency = Latency::new("latency/stat_hot", Some(STAT));
    let mut path = None;
    case(c, &mut latency, |latency| {
        let path =
            path.get_or_insert_with(|| bench.get_or_insert_with(Bench::new).files().join(corpus::name(0)));
        let start = Instant::now();
        fs::metadata(path).expect("the file is there");
        let took = start.elapsed();
        latency.record(took);
        took
    });
    keep(&latency, ("stat_latency", "hot"), Some(STAT));
}

/// All names of a folder that was listed before, from its open to its end. `metadata/readdir_1000` lists it on fresh mounts.
fn readdir(c: &mut Criterion, bench: &mut Option<Bench>) {
    let mut latency = Latency::new("latency/readdir_1000_warm", Some(LISTING));
    let mut folder = None;
    case(c, &mut latency, |latency| {
        let folder = folder.get_or_insert_with(|| bench.get_or_insert_with(Bench::new).files());
        let start = Instant::now();
        let names = fs::read_dir(folder).expect("the folder is there").count();
        let took = start.elapsed();
        assert_eq!(names, FILES.count);
        latency.record(took);
        took
    });
    keep(&latency, ("readdir_1000", "warm"), Some(LISTING));
}

fn latency(c: &mut Criterion) {
    let mut bench = None;
    let bench = &mut bench;
    first_byte_cold(c, bench);
    first_byte_warm(c, bench);
    random_cold(c, bench);
    random_cold_together(c, bench);
    stat_cold(c, bench);
    stat_hot(c, bench);
    readdir(c, bench);
}

criterion_group! { name = benches; config = profiles::criterion(); targets = latency }
criterion_main!(benches);
