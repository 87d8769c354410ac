//! Much at once: files read together, clients that come and go, a hundred sessions, five hundred open files.
//!
//! Where memory and processor time of host and mount are told, each is a process of its own (`process` of the support
//! crate). What 500 open files cost when nobody reads them is looked at for 40 s, in a full run alone.

#![forbid(unsafe_code)]

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, measurement::WallTime,
};
use wormhole_benches::{
    Corpus, Rig, access,
    book::{Book, Passes},
    corpus::{self, Files},
    process::{self, MountApart, Served, Usage},
    record::Target,
    run::{self, Scale},
    sessions::Sessions,
};

/// Of the report.
const PART: &str = "concurrency";
const TEN: usize = 10;
const FIFTY: usize = 50;
const HUNDRED: usize = 100;
const FIVE_HUNDRED: usize = 500;
/// What each of a hundred sessions reads.
const SESSION_MIB: u64 = 4;
/// Idle until memory has been given back, and then for as long as its processor time is taken.
const IDLE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// Bytes that may be fetched for each byte of the 500 files: four times what memory holds is wanted at once, so some of it
/// yields before it is read.
const FETCHED_PER_BYTE_MAX: f64 = 1.6;
/// Stack of a thread that only reads.
const READER_STACK_BYTES: usize = 64 << 10;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn corpus() -> Corpus {
    Corpus::open().expect("a folder for the files")
}

fn serve() -> Served {
    process::serve(corpus().root()).unwrap_or_else(|why| panic!("no host to measure: {why}"))
}

/// Ten files, each read from its beginning to its end in a thread of its own, on a fresh mount.
fn ten_files(group: &mut Group<'_>) {
    let files = Files { count: TEN, bytes: Scale::of_this_run().bytes(32 << 20) };
    group.throughput(Throughput::Bytes(files.bytes * TEN as u64));
    let mut passes = Passes::default();
    group.bench_function(format!("10_files_cold/{}MiB_each", files.bytes >> 20), |b| {
        let corpus = corpus();
        let folder = corpus.folder(files).expect("room for the files");
        let mut rig = Rig::of(corpus.root()).unwrap_or_else(|why| panic!("no mount to measure: {why}"));
        b.iter_custom(|count| {
            passes.run(count, || {
                rig.remount().expect("a mount that worked before");
                let folder = rig.mountpoint().join(&folder);
                let paths: Vec<_> = (0..TEN).map(|at| folder.join(corpus::name(at))).collect();
                let start = Instant::now();
                let read = access::read_all_at_once(&paths).expect("a healthy mount");
                let took = start.elapsed();
                assert_eq!(read, files.bytes * TEN as u64);
                took
            })
        });
    });
    let rates = passes.rates(files.bytes * TEN as u64);
    Book::open(PART).add("concurrent_reads_10_files", "MB/s", &rates, |record| {
        record.cache("cold").target(Target::AtLeast(100.0))
    });
}

/// Clients that connect at once, prove their ticket, ask for the attributes of the root, and say goodbye.
fn come_and_go(group: &mut Group<'_>) {
    group.throughput(Throughput::Elements(FIFTY as u64));
    let mut passes = Passes::default();
    group.bench_function("50_clients_come_and_go", |b| {
        let host = serve();
        let sessions = Sessions::new(host.ticket().clone(), 1).expect("a lane");
        let mut once = || sessions.come_and_go(FIFTY).expect("a host that lets all in");
        b.iter_custom(|count| passes.time(count, &mut once));
    });
    Book::open(PART).add("clients_50_come_and_go", "ms", &passes.millis(1), |record| {
        record.note("of all 50, each with its handshakes and a stat")
    });
}

/// A hundred sessions, each reading at places of its own, 1 MiB at a time.
fn hundred_sessions(group: &mut Group<'_>) {
    let file_bytes = Scale::of_this_run().bytes(1 << 30);
    group.throughput(Throughput::Bytes((HUNDRED as u64 * SESSION_MIB) << 20));
    let (mut host_usage, mut passes) = (None, Passes::default());
    group.bench_function(format!("100_sessions_read/{SESSION_MIB}MiB_each"), |b| {
        let path = corpus().file(file_bytes).expect("room for the file");
        let path = path.to_str().expect("a plain name");
        let host = serve();
        let mut sessions = Sessions::new(host.ticket().clone(), HUNDRED).expect("a lane");
        sessions.connect(HUNDRED).expect("a host that lets all in");
        b.iter_custom(|count| {
            passes.time(count, || {
                let read = sessions.read(path, SESSION_MIB).expect("a healthy host");
                assert_eq!(read, (HUNDRED as u64 * SESSION_MIB) << 20);
            })
        });
        host_usage = host.usage().ok();
    });
    let rates = passes.rates((HUNDRED as u64 * SESSION_MIB) << 20);
    Book::open(PART).add("sessions_100_read", "MB/s", &rates, |record| {
        record.cache("cold").target(Target::AtLeast(100.0)).note("in sum")
    });
    if let Some(usage) = host_usage {
        Book::open(PART).add("sessions_100_host_memory", "MiB", &[mib(usage.peak_bytes)], |record| {
            record.target(Target::AtMost(200.0))
        });
        say("100_sessions_read: host, most resident", mib(usage.peak_bytes), 200.0, "MiB");
    }
}

/// A host, a mount and files of it that are open.
struct Open {
    // In the order to close them.
    #[expect(dead_code, reason = "kept open")]
    files: Vec<File>,
    mount: MountApart,
    host: Served,
}

/// Five hundred files opened and then read all at once, each in a thread of its own, on a fresh mount.
fn five_hundred_files(group: &mut Group<'_>) {
    let files = Files { count: FIVE_HUNDRED, bytes: Scale::of_this_run().bytes(1 << 20) };
    group.throughput(Throughput::Bytes(files.bytes * FIVE_HUNDRED as u64));
    let (mut open, mut passes): (Option<Open>, _) = (None, Passes::default());
    group.bench_function(format!("500_files_open_and_read/{}KiB_each", files.bytes >> 10), |b| {
        let folder = corpus().folder(files).expect("room for the files");
        b.iter_custom(|count| {
            passes.run(count, || {
                drop(open.take());
                let host = serve();
                let mount = MountApart::start(host.ticket())
                    .unwrap_or_else(|why| panic!("no mount to measure: {why}"));
                let folder = mount.path().join(&folder);
                let paths: Vec<_> = (0..FIVE_HUNDRED).map(|at| folder.join(corpus::name(at))).collect();
                let start = Instant::now();
                let handles = read_open(&paths, files.bytes).expect("a healthy mount");
                let took = start.elapsed();
                open = Some(Open { files: handles, mount, host });
                took
            })
        });
    });
    let Some(mut open) = open else { return };
    let mut book = Book::open(PART);
    book.add("files_500_open_and_read", "MB/s", &passes.rates(files.bytes * FIVE_HUNDRED as u64), |record| {
        record.cache("cold").note(format!("in sum; {} KiB each", files.bytes >> 10))
    });
    report(&mut book, "reading", (&open.mount.usage(), &open.host.usage()), 200.0);
    let fetched = open.mount.host_bytes().expect("a mount that lives") as f64;
    let ratio = fetched / (files.bytes * FIVE_HUNDRED as u64) as f64;
    let row = "files_500_reading_fetched_per_byte";
    tell(&mut book, row, (ratio, FETCHED_PER_BYTE_MAX, "bytes"));
    assert!(ratio < FETCHED_PER_BYTE_MAX, "{ratio:.2} bytes fetched for each byte of 500 files");
    if run::is_measured() && Scale::of_this_run() == Scale::Full {
        idle(&mut book, &open);
    }
}

fn read_open(paths: &[PathBuf], bytes: u64) -> io::Result<Vec<File>> {
    let files = paths.iter().map(File::open).collect::<io::Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let readers = files.iter().map(|mut file| {
            thread::Builder::new().stack_size(READER_STACK_BYTES).spawn_scoped(scope, move || {
                let (mut buffer, mut total) = (vec![0; 128 << 10], 0);
                loop {
                    match file.read(&mut buffer)? {
                        0 => break,
                        n => total += n as u64,
                    }
                }
                assert_eq!(total, bytes);
                io::Result::Ok(())
            })
        });
        let readers = readers.collect::<io::Result<Vec<_>>>()?;
        readers.into_iter().try_for_each(|reader| reader.join().expect("a reader does not panic"))
    })?;
    Ok(files)
}

/// What host and mount use while 500 files are open and nobody reads.
fn idle(book: &mut Book, open: &Open) {
    process::idle(IDLE.0);
    let cpu = || Some((open.mount.usage().ok()?.cpu, open.host.usage().ok()?.cpu));
    report(book, "idle_30s", (&open.mount.usage(), &open.host.usage()), 60.0);
    let before = cpu();
    process::idle(IDLE.1);
    if let (Some((mount_before, host_before)), Some((mount, host))) = (before, cpu()) {
        let percent = |spent: Duration| 100.0 * spent.as_secs_f64() / IDLE.1.as_secs_f64();
        tell(book, "files_500_idle_30s_mount_cpu", (percent(mount - mount_before), 1.0, "%"));
        tell(book, "files_500_idle_30s_host_cpu", (percent(host - host_before), 1.0, "%"));
    }
}

/// Resident memory of a mount and its host.
fn report(book: &mut Book, when: &str, usage: (&io::Result<Usage>, &io::Result<Usage>), most_mib: f64) {
    for (side, usage) in [("mount", usage.0), ("host", usage.1)] {
        if let Ok(usage) = usage {
            let row = format!("files_500_{when}_{side}_memory");
            tell(book, &row, (mib(usage.rss_bytes), most_mib, "MiB"));
        }
    }
}

/// Prints a figure and keeps it.
fn tell(book: &mut Book, row: &str, (figure, most, unit): (f64, f64, &str)) {
    say(row, figure, most, unit);
    book.add(row, unit, &[figure], |record| record.target(Target::AtMost(most)));
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[expect(clippy::print_stdout, reason = "a bench's figures are its output")]
fn say(what: &str, figure: f64, target: f64, unit: &str) {
    let verdict = if figure < target { "met" } else { "missed" };
    println!("{what}: {figure:.2} {unit}  (below {target}: {verdict})");
}

fn concurrency(c: &mut Criterion) {
    let mut group = c.benchmark_group("concurrency");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_secs(1));
    ten_files(&mut group);
    come_and_go(&mut group);
    hundred_sessions(&mut group);
    five_hundred_files(&mut group);
    group.finish();
}

criterion_group! { name = benches; config = profiles::criterion(); targets = concurrency }

fn main() -> ExitCode {
    process::main(benches)
}
