//! A game that loads: 10,000 assets of 10 KB in a tree of 100 folders, on a fresh mount.
//!
//! **Random**: every asset at any time, from all over the tree. **Bursts**: folder after folder, in random order, and
//! in each its assets in random order, as a level's are asked for at once.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
    time::Instant,
};

use wormhole_benches::{
    content::{Content, Part, shuffle},
    corpus::settle,
    figures::Figures,
    record::Target,
};

use crate::scene::{Failed, Scene, in_threads};

pub(crate) const FOLDER: &str = "assets";
const FOLDERS: u64 = 100;
const FILES_EACH: u64 = 100;
const ASSET_LEN: usize = 10_000;
pub(crate) const ASSET_BYTES: u64 = ASSET_LEN as u64;
const THREADS: [usize; 3] = [1, 8, 16];
const LOAD_MS: f64 = 500.0;

pub(crate) fn run(scene: &Scene, figures: &mut Figures) -> Result<(), Failed> {
    let count = ready(scene)?;
    let host = scene.host()?;
    let threads_of =
        |threads: usize| if threads == 1 { "1_thread".to_owned() } else { format!("{threads}_threads") };
    for (name, order) in [("random", random(count)), ("bursts", bursts(count))] {
        for threads in THREADS {
            let mut times = Vec::new();
            for _ in 0..scene.runs {
                let mount = host.mount(&[])?;
                times.push(load(&mount.path().join(FOLDER), &order, threads)?);
                mount.end()?;
            }
            let here = load(&scene.root.join(FOLDER), &order, threads)?;
            let record = scene.figure(&format!("game_load_{name}_{}", threads_of(threads)), "ms", &times);
            let record = record.ceiling("the host's own folder", here);
            let takes_per_s = (count * ASSET_BYTES) as f64 / LOAD_MS * 1000.0;
            figures.add(scene.held(record, Target::AtMost(LOAD_MS), takes_per_s))?;
        }
    }
    let mount = host.mount(&[])?;
    verify(&mount.path().join(FOLDER), &bursts(count))?;
    mount.end()?;
    host.end()
}

/// The assets on the host's disk.
pub(crate) fn make(scene: &Scene) -> Result<(), Failed> {
    let folder = scene.root.join(FOLDER);
    for nth in 0..FOLDERS * FILES_EACH {
        let path = folder.join(name(nth));
        if nth % FILES_EACH == 0 {
            fs::create_dir_all(path.parent().unwrap_or(&folder))?;
        }
        content(nth).keep(&path, ASSET_BYTES)?;
    }
    Ok(settle(&folder.join(name(FOLDERS * FILES_EACH - 1)))?)
}

/// The assets on the host's disk, compared, and in its page cache. How many a run reads: a tenth in a quick run and on a link
/// that takes long for all.
pub(crate) fn ready(scene: &Scene) -> Result<u64, Failed> {
    let all = FOLDERS * FILES_EACH;
    make(scene)?;
    verify(&scene.root.join(FOLDER), &bursts(all))?;
    let affordable = scene.affordable(all * ASSET_BYTES) / ASSET_BYTES;
    Ok(scene.size(all, all / 10).min(affordable.max(FILES_EACH)))
}

fn name(nth: u64) -> String {
    format!("level-{:02}/asset-{:02}.pak", nth / FILES_EACH, nth % FILES_EACH)
}

fn content(nth: u64) -> Content {
    Content { seed: 10_000 + nth }
}

fn random(count: u64) -> Vec<u64> {
    let mut order: Vec<u64> = (0..count).collect();
    shuffle(&mut order, 1);
    order
}

pub(crate) fn bursts(count: u64) -> Vec<u64> {
    let mut folders: Vec<u64> = (0..count.div_ceil(FILES_EACH)).collect();
    shuffle(&mut folders, 2);
    let burst = |folder: u64| {
        let mut files: Vec<u64> = (folder * FILES_EACH..count.min((folder + 1) * FILES_EACH)).collect();
        shuffle(&mut files, folder);
        files
    };
    folders.into_iter().flat_map(burst).collect()
}

/// Opens, reads and closes each; in milliseconds.
pub(crate) fn load(folder: &Path, order: &[u64], threads: usize) -> io::Result<f64> {
    let start = Instant::now(); // clock: measures
    in_threads(threads, order, |&nth| {
        let mut asset = Vec::with_capacity(ASSET_LEN);
        File::open(folder.join(name(nth)))?.read_to_end(&mut asset)?;
        match asset.len() as u64 {
            ASSET_BYTES => Ok(()),
            short => Err(io::Error::other(format!("{} has {short} bytes", name(nth)))),
        }
    })?;
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}

pub(crate) fn verify(folder: &Path, order: &[u64]) -> io::Result<()> {
    in_threads(8, order, |&nth| {
        let file = File::open(folder.join(name(nth)))?;
        content(nth).check(&file, Part { start: 0, bytes: ASSET_BYTES })
    })
}
