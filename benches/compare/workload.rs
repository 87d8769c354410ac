//! What is done on each mount, and the times of it. The same for every tool.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use wormhole_benches::{
    access::{PAGE, random_page},
    latency::Latency,
};

use crate::inputs::Paths;

const MIB: usize = 1 << 20;
/// Threads of what is done together.
const THREADS: usize = 16;
/// Single reads at random, in all threads together.
const RANDOM_READS: u64 = 1000;
const RANDOM_READS_TOGETHER: u64 = 4000;
/// Small files that are compared with the folder's own.
const VERIFIED: usize = 500;

/// One thing to do on a fresh mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    Sequential,
    Streams,
    Random,
    RandomTogether,
    FirstByte,
    Stat,
    List,
    Small,
    SmallTogether,
    Verify,
}

/// What was measured of it.
pub(crate) struct Outcome {
    pub(crate) figures: Vec<Figure>,
    /// Bytes that were read, for what a GiB costs.
    pub(crate) bytes: u64,
    /// It was not finished in its time.
    pub(crate) is_cut: bool,
    /// Memory and processor time of the near and the far end.
    pub(crate) cpu_s: f64,
    pub(crate) near_mib: f64,
    pub(crate) far_mib: f64,
}

pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) cache: &'static str,
    pub(crate) values: Values,
}

pub(crate) enum Values {
    /// Of a whole pass, in this unit.
    Rate(&'static str, f64),
    /// Of single operations.
    Times(Latency),
}

/// A pass ends at this moment, done or not.
#[derive(Clone, Copy)]
struct Until(Instant);

impl Until {
    fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}

impl Workload {
    pub(crate) const ALL: [Workload; 10] = [
        Workload::Sequential,
        Workload::Streams,
        Workload::Random,
        Workload::RandomTogether,
        Workload::FirstByte,
        Workload::Stat,
        Workload::List,
        Workload::Small,
        Workload::SmallTogether,
        Workload::Verify,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::Sequential => "sequential",
            Workload::Streams => "streams",
            Workload::Random => "random",
            Workload::RandomTogether => "random_16",
            Workload::FirstByte => "first_byte",
            Workload::Stat => "stat",
            Workload::List => "list",
            Workload::Small => "small",
            Workload::SmallTogether => "small_16",
            Workload::Verify => "verify",
        }
    }

    /// What a pass takes of most tools, in seconds, with the mount and the reading ahead of it.
    pub(crate) fn seconds(self) -> u64 {
        match self {
            Workload::Sequential | Workload::Small => 7,
            Workload::Streams | Workload::SmallTogether | Workload::Verify => 5,
            Workload::Random | Workload::RandomTogether | Workload::FirstByte => 2,
            Workload::Stat | Workload::List => 1,
        }
    }

    /// The rows it fills: name, state of the caches, unit.
    pub(crate) fn rows(self) -> &'static [(&'static str, &'static str, &'static str)] {
        match self {
            Workload::Sequential => &[("seq_read_1gb", "cold", "MB/s"), ("seq_read_1gb", "warm", "MB/s")],
            Workload::Streams => &[("four_streams", "cold", "MB/s")],
            Workload::Random => {
                &[("random_read_4kb", "cold", "ms"), ("random_read_4kb_rate", "cold", "IOPS")]
            }
            Workload::RandomTogether => &[
                ("random_read_4kb_16_threads", "cold", "ms"),
                ("random_read_4kb_16_threads_rate", "cold", "IOPS"),
            ],
            Workload::FirstByte => &[("first_byte_cold", "cold", "ms"), ("first_byte_warm", "warm", "ms")],
            Workload::Stat => &[("stat_latency", "cold", "ms")],
            Workload::List => &[("readdir_1000", "cold", "ms")],
            Workload::Small => &[("small_files", "cold", "files/s"), ("small_files_latency", "cold", "ms")],
            Workload::SmallTogether => &[
                ("small_files_16_threads", "cold", "files/s"),
                ("small_files_16_threads_latency", "cold", "ms"),
            ],
            Workload::Verify => &[("contents_verified", "cold", "count")],
        }
    }

    /// Does it below `at`, for so long at most. `source` is the served folder, to compare with.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn run(
        self,
        at: &Path,
        source: &Path,
        paths: &Paths,
        patience: Duration,
    ) -> io::Result<Outcome> {
        let until = Until(Instant::now() + patience);
        match self {
            Workload::Sequential => sequential(&at.join(&paths.big), at == source, patience),
            Workload::Streams => streams(&below(at, &paths.streams), until),
            Workload::Random => random(self, &at.join(&paths.big), paths.big_bytes, until),
            Workload::RandomTogether => random(self, &at.join(&paths.big), paths.big_bytes, until),
            Workload::FirstByte => first_bytes(&below(at, &paths.many), at == source, until),
            Workload::Stat => stats(&below(at, &paths.many), until),
            Workload::List => list(&at.join(&paths.many_folder), paths.many.len()),
            Workload::Small => small(self, &below(at, &paths.small), 1, until),
            Workload::SmallTogether => small(self, &below(at, &paths.small), THREADS, until),
            Workload::Verify => verify(at, source, paths, until),
        }
    }
}

fn below(at: &Path, paths: &[PathBuf]) -> Vec<PathBuf> {
    paths.iter().map(|path| at.join(path)).collect()
}

fn outcome(figures: Vec<Figure>, bytes: u64, is_cut: bool) -> Outcome {
    Outcome { figures, bytes, is_cut, cpu_s: 0.0, near_mib: 0.0, far_mib: 0.0 }
}

fn rate(row: (&'static str, &'static str, &'static str), amount: f64, took: Duration) -> Figure {
    let (name, cache, unit) = row;
    Figure { name, cache, values: Values::Rate(unit, amount / took.as_secs_f64().max(1e-9)) }
}

fn times(row: (&'static str, &'static str, &'static str), latency: Latency) -> Figure {
    Figure { name: row.0, cache: row.1, values: Values::Times(latency) }
}

fn read_through(path: &Path, until: Until) -> io::Result<u64> {
    let (mut file, mut buffer, mut total) = (File::open(path)?, vec![0; MIB], 0);
    while !until.is_over() {
        match file.read(&mut buffer)? {
            0 => break,
            n => total += n as u64,
        }
    }
    Ok(total)
}

/// Takes a file out of the kernel's cache of the mount: the next read is the tool's.
fn forget(path: &Path) -> io::Result<()> {
    Ok(posix_fadvise(File::open(path)?, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?)
}

fn sequential(path: &Path, is_local: bool, patience: Duration) -> io::Result<Outcome> {
    let size = fs::metadata(path)?.len();
    let (mut figures, mut bytes, mut is_cut) = (Vec::new(), 0, false);
    for &row in Workload::Sequential.rows() {
        let start = Instant::now(); // clock: measures
        let read = read_through(path, Until(start + patience))?;
        figures.push(rate(row, read as f64 / 1e6, start.elapsed()));
        bytes += read;
        is_cut |= read < size;
        // Of the folder itself the cache of the kernel is what is measured.
        if !is_local {
            forget(path)?;
        }
    }
    Ok(outcome(figures, bytes, is_cut))
}

fn streams(paths: &[PathBuf], until: Until) -> io::Result<Outcome> {
    let start = Instant::now(); // clock: measures
    let bytes = together(paths.len(), |nth| read_through(&paths[nth], until))?.into_iter().sum();
    let figure = rate(Workload::Streams.rows()[0], bytes as f64 / 1e6, start.elapsed());
    Ok(outcome(vec![figure], bytes, until.is_over()))
}

/// Runs one thread for each number.
fn together<T: Send>(threads: usize, act: impl Fn(usize) -> io::Result<T> + Sync) -> io::Result<Vec<T>> {
    let act = &act;
    thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|nth| scope.spawn(move || act(nth))).collect();
        started.into_iter().map(|thread| thread.join().expect("a reader does not panic")).collect()
    })
}

/// Operations in turn, numbered on over the threads, and the times of all.
fn each(
    name: &str,
    (count, threads): (u64, usize),
    until: Until,
    act: impl Fn(u64) -> io::Result<()> + Sync,
) -> io::Result<(Latency, Duration)> {
    let start = Instant::now(); // clock: measures
    let share = count.div_ceil(threads as u64);
    let parts = together(threads, |nth| {
        let mut latency = Latency::new(name, None);
        let first = nth as u64 * share;
        for n in first..(first + share).min(count) {
            if until.is_over() {
                break;
            }
            latency.time(|| act(n))?;
        }
        Ok(latency)
    })?;
    let took = start.elapsed();
    let mut whole = Latency::new(name, None);
    parts.iter().for_each(|part| whole.add(part));
    Ok((whole, took))
}

fn random(workload: Workload, path: &Path, bytes: u64, until: Until) -> io::Result<Outcome> {
    let (count, threads) = match workload {
        Workload::Random => (RANDOM_READS, 1),
        _ => (RANDOM_READS_TOGETHER, THREADS),
    };
    let file = File::open(path)?;
    let read = |n| file.read_exact_at(&mut [0; PAGE], random_page(n, bytes));
    let (latency, took) = each(workload.name(), (count, threads), until, read)?;
    let done = latency.count();
    let [latencies, rates] = [workload.rows()[0], workload.rows()[1]];
    let figures = vec![times(latencies, latency), rate(rates, done as f64, took)];
    Ok(outcome(figures, done * PAGE as u64, done < count))
}

/// Files that nobody looked at, to their first bytes; then the same again out of the tool's own cache.
fn first_bytes(paths: &[PathBuf], is_local: bool, until: Until) -> io::Result<Outcome> {
    let (mut figures, mut is_cut) = (Vec::new(), false);
    let open = |n: u64| File::open(&paths[at(n)])?.read_exact_at(&mut [0; PAGE], 0);
    for &row in Workload::FirstByte.rows() {
        let (latency, _) = each(row.0, (paths.len() as u64, 1), until, open)?;
        is_cut |= latency.count() < paths.len() as u64;
        if !is_local {
            paths[..at(latency.count())].iter().try_for_each(|path| forget(path))?;
        }
        figures.push(times(row, latency));
    }
    figures.retain(|figure| matches!(&figure.values, Values::Times(latency) if latency.count() > 0));
    Ok(outcome(figures, 0, is_cut))
}

fn at(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn stats(paths: &[PathBuf], until: Until) -> io::Result<Outcome> {
    let count = paths.len() as u64;
    // In no order: an odd factor, prime to the count.
    let stat = |n: u64| fs::metadata(&paths[at(n * 387 % count)]).map(drop);
    let (latency, _) = each("stat", (count, 1), until, stat)?;
    let is_cut = latency.count() < count;
    Ok(outcome(vec![times(Workload::Stat.rows()[0], latency)], 0, is_cut))
}

fn list(folder: &Path, expected: usize) -> io::Result<Outcome> {
    let mut latency = Latency::new("list", None);
    let found = latency.time(|| fs::read_dir(folder).map(Iterator::count))?;
    if found != expected {
        return Err(io::Error::other(format!("{found} names in a folder of {expected}")));
    }
    Ok(outcome(vec![times(Workload::List.rows()[0], latency)], 0, false))
}

fn small(workload: Workload, paths: &[PathBuf], threads: usize, until: Until) -> io::Result<Outcome> {
    let read = |n: u64| {
        let mut bytes = Vec::new();
        File::open(&paths[at(n)])?.read_to_end(&mut bytes).map(drop)
    };
    let count = paths.len() as u64;
    let (latency, took) = each(workload.name(), (count, threads), until, read)?;
    let done = latency.count();
    let bytes = done * fs::metadata(&paths[0])?.len();
    let [rates, latencies] = [workload.rows()[0], workload.rows()[1]];
    Ok(outcome(vec![rate(rates, done as f64, took), times(latencies, latency)], bytes, done < count))
}

/// Compares with the folder's own; the count of files that were equal.
fn verify(at: &Path, source: &Path, paths: &Paths, until: Until) -> io::Result<Outcome> {
    let small = paths.small.iter().step_by((paths.small.len() / VERIFIED).max(1));
    let mut equal = 0;
    let mut is_cut = false;
    for path in small.chain([&paths.big]) {
        if until.is_over() {
            is_cut = true;
            break;
        }
        let (Some(got), Some(own)) = (hash(&at.join(path), until)?, hash(&source.join(path), until)?) else {
            is_cut = true;
            break;
        };
        if got != own {
            let why = format!("{} has other bytes than its source", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        equal += 1;
    }
    let (name, cache, unit) = Workload::Verify.rows()[0];
    let figure = Figure { name, cache, values: Values::Rate(unit, f64::from(equal)) };
    Ok(outcome(vec![figure], 0, is_cut))
}

/// Of a whole file; `None` where the time was over before its end.
fn hash(path: &Path, until: Until) -> io::Result<Option<blake3::Hash>> {
    let (mut file, mut buffer, mut hasher) = (File::open(path)?, vec![0; MIB], blake3::Hasher::new());
    while !until.is_over() {
        match file.read(&mut buffer)? {
            0 => return Ok(Some(hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        };
    }
    Ok(None)
}
