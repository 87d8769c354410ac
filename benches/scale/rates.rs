//! What host and mount use while nothing happens, and while 100 MB/s are read.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use wormhole_benches::{
    content::{Content, Part, kept_folder},
    corpus::{settle, warm},
    daemons::{Host, Place},
    proc::Sampler,
    record::Target,
    route::Route,
};

use crate::{ACTIVE, Bounds, Failed, Scale, figure};

const FILE_BYTES: u64 = 1 << 30;
const CONTENT: Content = Content { seed: 100 };
/// Megabytes, as the table has them.
const IDLE: Bounds = Bounds { rss_mib: Some(50e6 / 1_048_576.0), cpu_percent: Some(1.0) };
const IDLE_S: u64 = 60;
/// Between a mount and its idle time: what is begun by mounting ends in it.
const SETTLE: Duration = Duration::from_secs(5);
const ACTIVE_S: u64 = 40;
const RATE: u64 = 100_000_000;
const STEP: usize = 1 << 20;
/// Of what is asked for, the part that must have arrived.
const RATE_MIN_MB_PER_S: f64 = 99.0;

pub(crate) fn idle(scale: &mut Scale) -> Result<(), Failed> {
    let place = Place::new()?;
    let source = place.folder("source")?;
    CONTENT.keep(&source.join("small"), 1 << 20)?;
    let host = Host::start(&[&source], Route::Loopback, &[])?;
    let mount = host.mount(&[])?;
    CONTENT.check(&File::open(mount.path().join("small"))?, Part { start: 0, bytes: 1 << 20 })?;
    thread::sleep(SETTLE); // clock: what is measured is time without anything to do
    let sampler = Sampler::start(&[&[host.pid()], &[mount.pid()]])?;
    thread::sleep(Duration::from_secs(scale.size(IDLE_S))); // clock: the same
    let used = sampler.stop();
    mount.end()?;
    host.end()?;
    scale.add_used("idle", &used, IDLE)
}

pub(crate) fn active(scale: &mut Scale) -> Result<(), Failed> {
    let root = kept_folder("wormhole-scale/active")?;
    let path = root.join("run");
    CONTENT.keep(&path, FILE_BYTES)?;
    settle(&path)?;
    warm(&path)?;
    let host = Host::start(&[&root], Route::Loopback, &[])?;
    let seconds = scale.size(ACTIVE_S);
    let (mut read, mut total, mut spent) = (0, Vec::new(), Duration::ZERO);
    // Each pass over the file is on a fresh mount: all bytes come from the host.
    while spent < Duration::from_secs(seconds) {
        let mount = host.mount(&[])?;
        let sampler = Sampler::start(&[&[host.pid()], &[mount.pid()]])?;
        let start = Instant::now(); // clock: a paced reader
        read += paced(&mount.path().join("run"), start)?;
        let took = start.elapsed();
        spent += took;
        total.push(sampler.stop());
        mount.end()?;
    }
    let mount = host.mount(&[])?;
    CONTENT.check(&File::open(mount.path().join("run"))?, Part { start: 0, bytes: FILE_BYTES })?;
    mount.end()?;
    host.end()?;
    let rate = read as f64 / 1e6 / spent.as_secs_f64();
    let note = format!("asked for 100 MB/s, for {:.0} s on {} mounts", spent.as_secs_f64(), total.len());
    scale.add(figure("active_rate", "MB/s", rate).note(note), Some(Target::AtLeast(RATE_MIN_MB_PER_S)))?;
    let used: Vec<_> = (0..2)
        .map(|end| {
            let mut sum = total[0][end];
            for more in &total[1..] {
                sum.rss_max_bytes = sum.rss_max_bytes.max(more[end].rss_max_bytes);
                sum.cpu += more[end].cpu;
                sum.time += more[end].time;
            }
            sum
        })
        .collect();
    scale.add_used("active", &used, Bounds { cpu_percent: Some(25.0), ..ACTIVE })
}

/// Reads the file in order, no faster than the rate; its bytes.
fn paced(path: &Path, start: Instant) -> Result<u64, Failed> {
    let (file, mut buffer, mut at) = (File::open(path)?, vec![0; STEP], 0);
    while at < FILE_BYTES {
        let due = start + Duration::from_nanos(at * 1_000_000_000 / RATE);
        thread::sleep(due.saturating_duration_since(Instant::now())); // clock: a paced reader
        file.read_exact_at(&mut buffer, at)?;
        at += STEP as u64;
    }
    Ok(at)
}
