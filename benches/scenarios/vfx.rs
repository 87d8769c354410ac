//! Textures of 100 MB to 1 GB, each stream reading its own in order, all at once on a fresh mount.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use wormhole_benches::{
    content::{Content, Part},
    corpus::settle,
    figures::Figures,
    record::Target,
};

use crate::scene::{Failed, Scene, TIME_MAX, in_threads, mb_per_s};

pub(crate) const FOLDER: &str = "textures";
/// Megabytes of each.
const SIZES_MB: [u64; 8] = [1000, 900, 100, 600, 400, 500, 300, 200];
const QUICK_MB: u64 = 100;
/// 1 GB each.
const FOUR: [&[usize]; 4] = [&[0], &[1, 2], &[3, 4], &[5, 6, 7]];
const EIGHT: [&[usize]; 8] = [&[0], &[1], &[2], &[3], &[4], &[5], &[6], &[7]];
const STREAM_MB_PER_S: f64 = 80.0;

pub(crate) fn run(scene: &Scene, figures: &mut Figures) -> Result<(), Failed> {
    ready(scene)?;
    let host = scene.host()?;
    for (name, streams) in [("4", &FOUR[..]), ("8", &EIGHT[..])] {
        let (mut least, mut sums) = (Vec::new(), Vec::new());
        for _ in 0..scene.runs {
            let mount = host.mount(&[])?;
            let Rates { least_mb_per_s, sum_mb_per_s } = read(scene, &mount.path().join(FOLDER), streams)?;
            mount.end()?;
            least.push(least_mb_per_s);
            sums.push(sum_mb_per_s);
        }
        let sum = scene.figure(&format!("vfx_{name}_streams_sum"), "MB/s", &sums);
        let least = scene.figure(&format!("vfx_{name}_streams_slowest"), "MB/s", &least);
        let takes_per_s = STREAM_MB_PER_S * 1e6 * streams.len() as f64;
        figures.add(scene.held(least, Target::AtLeast(STREAM_MB_PER_S), takes_per_s))?;
        figures.add(sum)?;
    }
    let mount = host.mount(&[])?;
    verify(scene, &mount.path().join(FOLDER), &EIGHT)?;
    mount.end()?;
    host.end()
}

/// Textures on the host's disk, compared, and in its page cache.
pub(crate) fn ready(scene: &Scene) -> Result<(), Failed> {
    make(scene)?;
    Ok(verify(scene, &scene.root.join(FOLDER), &EIGHT)?)
}

/// Textures on the host's disk.
pub(crate) fn make(scene: &Scene) -> Result<(), Failed> {
    let folder = scene.root.join(FOLDER);
    fs::create_dir_all(&folder)?;
    for nth in 0..SIZES_MB.len() {
        content(nth).keep(&texture(scene, &folder, nth), bytes(scene, nth))?;
    }
    // The first wait is for all.
    Ok((0..SIZES_MB.len()).rev().try_for_each(|nth| settle(&texture(scene, &folder, nth)))?)
}

fn bytes(scene: &Scene, nth: usize) -> u64 {
    scene.size(SIZES_MB[nth], QUICK_MB) * 1_000_000
}

fn texture(scene: &Scene, folder: &Path, nth: usize) -> PathBuf {
    folder.join(format!("texture-{nth}-{}MB.tx", scene.size(SIZES_MB[nth], QUICK_MB)))
}

fn content(nth: usize) -> Content {
    Content { seed: 100 + nth as u64 }
}

pub(crate) struct Rates {
    least_mb_per_s: f64,
    sum_mb_per_s: f64,
}

/// Reads them, a thread a stream; a stream's rate is of its own bytes in its own time.
pub(crate) fn read(scene: &Scene, folder: &Path, streams: &[&[usize]]) -> io::Result<Rates> {
    let start = Instant::now(); // clock: measures
    let stream = |textures: &[usize]| -> io::Result<(u64, Duration)> {
        let (mut buffer, mut read) = (vec![0; 1 << 20], 0);
        for &nth in textures {
            let mut file = File::open(texture(scene, folder, nth))?;
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    _ if start.elapsed() > TIME_MAX => return Ok((read, start.elapsed())),
                    now => read += now as u64,
                }
            }
        }
        Ok((read, start.elapsed()))
    };
    let done: Vec<(u64, Duration)> = thread::scope(|scope| {
        let threads: Vec<_> = streams.iter().map(|textures| scope.spawn(|| stream(textures))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a reader does not panic"))
            .collect::<io::Result<_>>()
    })?;
    let rates = done.iter().map(|(read, time)| mb_per_s(*read, *time));
    Ok(Rates {
        least_mb_per_s: rates.fold(f64::MAX, f64::min),
        sum_mb_per_s: mb_per_s(done.iter().map(|(read, _)| read).sum(), start.elapsed()),
    })
}

/// Every byte, or as much of each as a slow link has time for.
pub(crate) fn verify(scene: &Scene, folder: &Path, streams: &[&[usize]]) -> io::Result<()> {
    let textures = streams.concat();
    in_threads(2, &textures, |&nth| {
        let part = Part {
            start: 0,
            bytes: scene.affordable(bytes(scene, nth) * textures.len() as u64) / textures.len() as u64,
        };
        content(nth).check(&File::open(texture(scene, folder, nth))?, part)
    })
}

/// Two streams of 1 GB each, for a scene that is rendered twice.
pub(crate) const SCENE: [&[usize]; 2] = [FOUR[0], FOUR[2]];

/// Their bytes.
pub(crate) fn scene_bytes(scene: &Scene) -> u64 {
    SCENE.concat().into_iter().map(|nth| bytes(scene, nth)).sum()
}
