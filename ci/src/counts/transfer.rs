//! What both ends do for each MiB of a file that is read once from its beginning to its end, by the release programs.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::table::Row;
use crate::demo::pair::{Binaries, Pair};
use crate::demo::scratch::Scratch;
use crate::demo::watchdog;
use crate::failure::Failure;
use crate::repo::Repo;
use crate::step;

const MIB: usize = 1 << 20;
/// Starting and stopping are counted too, and are nothing beside so many.
const SAMPLE_MIB: usize = 256;
const NAME: &str = "sample";
/// The host takes a file's version at its word from then on; before, it looks twice.
const SETTLED_AFTER: Duration = Duration::from_secs(61);
/// For a tool's last words after the program that it counted has ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// Calls that come from waiting, waking and memory, whose number is a matter of timing.
const UNCOUNTED: [&str; 12] = [
    "futex",
    "epoll_wait",
    "epoll_pwait2",
    "recvmmsg",
    "write",
    "mmap",
    "munmap",
    "mprotect",
    "madvise",
    "brk",
    "sched_yield",
    "restart_syscall",
];
/// Beside these, of the mount: its packets say what has come, and its ring writes to the disk cache what has gathered.
const UNCOUNTED_OF_MOUNT: [&str; 2] = ["sendmsg", "io_uring_enter"];

/// The folder with the file; kept between runs, for its age.
pub(crate) struct Sample {
    folder: PathBuf,
}

impl Sample {
    /// As the last run left it, or made now.
    pub(crate) fn make(repo: &Repo) -> Result<Self, Failure> {
        let sample = Self { folder: repo.target().join("tmp/wormhole-counts") };
        let path = sample.folder.join(NAME);
        if fs::metadata(&path).is_ok_and(|found| found.len() == (SAMPLE_MIB * MIB) as u64) {
            return Ok(sample);
        }
        let made = fs::create_dir_all(&sample.folder).and_then(|()| write(&path));
        made.map_err(|why| format!("cannot make {}: {why}", path.display()))?;
        Ok(sample)
    }

    /// Waits until the host takes its version at its word.
    fn settle(&self) -> Result<(), Failure> {
        let path = self.folder.join(NAME);
        let changed = fs::metadata(&path).and_then(|found| found.modified());
        let changed = changed.map_err(|why| format!("cannot look at {}: {why}", path.display()))?;
        let age = SystemTime::now().duration_since(changed).unwrap_or_default();
        let left = SETTLED_AFTER.saturating_sub(age);
        if !left.is_zero() {
            println!("counts: waiting {} s: a new file is read with more care", left.as_secs() + 1);
            thread::sleep(left);
        }
        Ok(())
    }
}

fn write(path: &Path) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    let (mut block, mut state) = (vec![0; MIB], 0x9E37_79B9_7F4A_7C15_u64);
    for _ in 0..SAMPLE_MIB {
        for word in block.chunks_exact_mut(8) {
            // xorshift64: nothing compresses it.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block)?;
    }
    Ok(())
}

/// Bytes that each end copies in its own memory.
pub(crate) fn copies(repo: &Repo, sample: &Sample) -> Result<Vec<Row>, Failure> {
    let (source, library) =
        (repo.root().join("ci/counts/copies.c"), repo.target().join("wormhole-copies.so"));
    // It must not be made of calls of itself.
    let flags = ["-O3", "-fno-builtin", "-fno-tree-loop-distribute-patterns", "-shared", "-fPIC", "-o"];
    step::run(Command::new("cc").args(flags).arg(&library).arg(&source))?;
    let under = |told: &Path| {
        let mut preload = OsString::from("LD_PRELOAD=");
        preload.push(&library);
        let mut copies = OsString::from("WORMHOLE_COPIES=");
        copies.push(told);
        vec!["env".into(), preload, copies]
    };
    read_under(repo, sample, under, |told, _| {
        told.trim().parse::<f64>().ok().map(|bytes| bytes / SAMPLE_MIB as f64)
    })
    .map(|[host, mount]| rows("copied bytes/MiB", host, mount))
}

/// System calls of each end.
pub(crate) fn calls(repo: &Repo, sample: &Sample) -> Result<Vec<Row>, Failure> {
    // As a child of the program, which so can be asked to end.
    let under = |told: &Path| {
        let words = ["strace", "-D", "-f", "-c", "-o"].map(OsString::from);
        words.into_iter().chain([told.as_os_str().to_owned()]).collect()
    };
    read_under(repo, sample, under, |told, end| {
        counted_calls(told, end).map(|calls| calls / SAMPLE_MIB as f64)
    })
    .map(|[host, mount]| rows("calls/MiB", host, mount))
}

fn rows(unit: &str, host: f64, mount: f64) -> Vec<Row> {
    let row = |end: &str, value| Row { case: format!("sequential/{end}"), unit: unit.to_owned(), value };
    vec![row("host", host), row("mount", mount)]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Host,
    Mount,
}

/// Reads the sample through a host and a mount, each under the words that `under` gives for the file that is told to;
/// `figure` takes a figure from that.
fn read_under(
    repo: &Repo,
    sample: &Sample,
    under: impl Fn(&Path) -> Vec<OsString>,
    figure: impl Fn(&str, End) -> Option<f64>,
) -> Result<[f64; 2], Failure> {
    sample.settle()?;
    let told = [End::Host, End::Mount].map(|end| repo.target().join(format!("wormhole-counts-{end:?}")));
    for path in &told {
        fs::remove_file(path).ok();
    }
    let binaries = Binaries::in_target(repo.target()).under(under(&told[0]), under(&told[1]));
    let scratch = Scratch::make(repo.target(), Some(&sample.folder))?;
    let mut pair = Pair::start(binaries, scratch, &sample.folder)?;
    let path = pair.mountpoint().join(NAME);
    if let Err(failure) = read(path) {
        return Err(pair.explain(failure));
    }
    pair.stop()?;
    let figure = |path: &Path, end| {
        let started = Instant::now();
        loop {
            if let Some(figure) = fs::read_to_string(path).ok().and_then(|told| figure(&told, end)) {
                return Ok(figure);
            }
            if started.elapsed() > PATIENCE {
                return Err(Failure::from(format!("nothing was counted of the {end:?}: {}", path.display())));
            }
            thread::sleep(Duration::from_millis(10));
        }
    };
    Ok([figure(&told[0], End::Host)?, figure(&told[1], End::Mount)?])
}

fn read(path: PathBuf) -> Result<(), Failure> {
    watchdog::watched("reading through the mount", move |progress| {
        let failed = |why| format!("cannot read {}: {why}", path.display());
        let (mut file, mut buffer, mut total) = (File::open(&path).map_err(failed)?, vec![0; MIB], 0);
        loop {
            match file.read(&mut buffer).map_err(failed)? {
                0 => break,
                bytes => total += bytes,
            }
            progress.add(1);
        }
        let whole = SAMPLE_MIB * MIB;
        if total == whole { Ok(()) } else { Err(format!("{total} bytes read of {whole}")) }
    })
}

/// The calls that count, of the table of `strace -c`; none while it is not whole.
fn counted_calls(told: &str, end: End) -> Option<f64> {
    let mut lines = told.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // % time, seconds, usecs/call, calls, errors where there were any, name.
        let (calls, name) = (words.get(3)?.parse::<f64>().ok()?, *words.last()?);
        (words.len() >= 5).then_some((name, calls))
    });
    let mut sum = 0.0;
    loop {
        match lines.next()? {
            ("total", _) => return Some(sum),
            (name, _) if UNCOUNTED.contains(&name) => {}
            (name, _) if end == End::Mount && UNCOUNTED_OF_MOUNT.contains(&name) => {}
            (_, calls) => sum += calls,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ------------------
 52.42    0.960645         801      1199       197 futex
  6.18    0.113274          25      4459           sendmsg
  1.90    0.034904         136       256           preadv2
------ ----------- ----------- --------- --------- ------------------
100.00    1.832728         227      8070       296 total
";

    #[test]
    fn waiting_is_not_counted_nor_what_the_mount_sends() {
        assert_eq!(counted_calls(TOLD, End::Host), Some(4715.0));
        assert_eq!(counted_calls(TOLD, End::Mount), Some(256.0));
    }

    #[test]
    fn a_table_that_is_not_whole_is_no_figure() {
        assert_eq!(counted_calls(&TOLD[..TOLD.len() - 20], End::Host), None);
        assert_eq!(counted_calls("", End::Host), None);
    }
}
