//! One pass: host, link and mount from nothing, what is read through them, and their end.

use std::{
    error::Error,
    fs::File,
    io::Read,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use profiles::link::Profile;
use wormhole_benches::{
    daemons::{Host, Mount, Place},
    route::Route,
};

/// Longer than any pass reads: holes, which cost the disk nothing.
const FILE_BYTES: u64 = 2 << 30;
const PAGE_BYTES: usize = 4096;
/// Between two demand reads.
const PAUSE: Duration = Duration::from_millis(50);
/// What a link carries before demand reads begin.
const RAMP: Duration = Duration::from_secs(3);

type Failed = Box<dyn Error>;

/// A host, a link and a mount; all of it ends with this.
pub(crate) struct Pass {
    profile: Profile,
    mount: Mount,
    host: Host,
    _source: Arc<Place>,
}

/// How long demand reads took, and what the run beside them had of the link.
pub(crate) struct Demand {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) share: f64,
}

impl Pass {
    /// With as much of the run in the host's page cache as the link carries in so long.
    pub(crate) fn start(profile: Profile, seconds: u64) -> Result<Pass, Failed> {
        let place = Place::new()?;
        let source = place.folder("source")?;
        for name in ["run", "other"] {
            File::create(source.join(name))?.set_len(FILE_BYTES)?;
        }
        warm(&source.join("run"), profile.rate_bps() / 8 * seconds)?;
        let host = Host::start(&[&source], Route::Link(profile), &[])?;
        let mount = host.mount(&[])?;
        Ok(Pass { profile, mount, host, _source: place })
    }

    fn bytes_per_s(&self) -> f64 {
        self.profile.rate_bps() as f64 / 8.0
    }

    /// From `open` to the first bytes of a file that nobody looked at.
    pub(crate) fn first_byte_ms(&self) -> Result<f64, Failed> {
        let start = Instant::now(); // clock: measures
        File::open(self.mount.path().join("other"))?.read_exact_at(&mut [0; PAGE_BYTES], 0)?;
        Ok(start.elapsed().as_secs_f64() * 1000.0)
    }

    /// Reads in order for so long; the share of the link that file contents had in the last three quarters.
    pub(crate) fn share_of_link(&self, seconds: u64) -> Result<f64, Failed> {
        let time = Duration::from_secs(seconds);
        let mut run = Run::open(&self.mount.path().join("run"))?;
        let start = Instant::now(); // clock: measures
        while start.elapsed() < time / 4 {
            run.read()?;
        }
        let (began, before) = (start.elapsed(), run.at);
        while start.elapsed() < time {
            run.read()?;
        }
        Ok((run.at - before) as f64 / (start.elapsed() - began).as_secs_f64() / self.bytes_per_s())
    }

    /// Reads pages all over another file while a run is read.
    pub(crate) fn demand_reads(&self, count: usize) -> Result<Demand, Failed> {
        let (ends, carried) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut run = Run::open(&self.mount.path().join("run"))?;
        // Past what the mount holds of it.
        run.at = FILE_BYTES / 2;
        let other = File::open(self.mount.path().join("other"))?;
        thread::scope(|scope| {
            let reader = scope.spawn(|| -> std::io::Result<()> {
                while !ends.load(Ordering::Relaxed) {
                    carried.fetch_add(run.read()?, Ordering::Relaxed);
                }
                Ok(())
            });
            // clock: what is measured is a link in real time, full
            thread::sleep(RAMP);
            let (start, before) = (Instant::now(), carried.load(Ordering::Relaxed)); // clock: measures
            let times = (0..count as u64).map(|number| demand_read(&other, number)).collect::<Result<_, _>>();
            let (after, took) = (carried.load(Ordering::Relaxed), start.elapsed().as_secs_f64());
            ends.store(true, Ordering::Relaxed);
            reader.join().map_err(|_| "the reader in order panicked")??;
            let mut times: Vec<f64> = times?;
            times.sort_by(f64::total_cmp);
            let part = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
            Ok(Demand {
                p50_ms: part(50),
                p99_ms: part(99),
                share: (after - before) as f64 / took / self.bytes_per_s(),
            })
        })
    }

    /// What the link towards the mount dropped since it was last told; an error where it was too slow to be one.
    pub(crate) fn link(&mut self) -> Result<String, Failed> {
        self.host.line().ok_or("a pass without a link")?.report()
    }

    /// Unmounts and stops the host, both in order.
    pub(crate) fn end(self) -> Result<(), Failed> {
        self.mount.end()?;
        self.host.end()
    }
}

/// A file that is read in order.
struct Run {
    file: File,
    at: u64,
    buffer: Vec<u8>,
}

impl Run {
    fn open(path: &Path) -> std::io::Result<Run> {
        Ok(Run { file: File::open(path)?, at: 0, buffer: vec![0; 128 << 10] })
    }

    fn read(&mut self) -> std::io::Result<u64> {
        self.file.read_exact_at(&mut self.buffer, self.at)?;
        self.at += self.buffer.len() as u64;
        Ok(self.buffer.len() as u64)
    }
}

/// Brings the first bytes of a file into the page cache.
///
/// A host whose pages are not there waits for the kernel's read-ahead with its QUIC thread: 21 ms for the 8 MiB of this
/// disk, in memory that the hypervisor had to give first. That is a figure of the machine, not of the link.
fn warm(path: &Path, bytes: u64) -> std::io::Result<()> {
    let (mut file, mut buffer, mut left) = (File::open(path)?.take(bytes), vec![0; 1 << 20], true);
    while left {
        left = file.read(&mut buffer)? > 0;
    }
    Ok(())
}

/// A page that is near no other, in milliseconds.
fn demand_read(file: &File, number: u64) -> std::io::Result<f64> {
    // clock: a reader that asks now and then
    thread::sleep(PAUSE);
    let pages = FILE_BYTES / PAGE_BYTES as u64;
    let page = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) % pages;
    let start = Instant::now(); // clock: measures
    file.read_exact_at(&mut [0; PAGE_BYTES], page * PAGE_BYTES as u64)?;
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}
