//! Scrubbing a film: 4K ProRes of 62 MB/s in a file of 50 GB, played with jumps.
//!
//! A player shows 24 frames a second. After a jump it begins when the first frame is there: that is the allowance, told as
//! a figure of its own. From then on it asks for each frame one period before it is due, no earlier, and a frame is
//! **late** when it is not whole by then. A late frame is still read, and the schedule stays.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use wormhole_benches::{
    content::{Content, Part, scatter},
    corpus::settle,
    figures::Figures,
    record::Target,
};

use crate::scene::{Failed, Scene, TIME_MAX, mb_per_s};

const FILM_BYTES: u64 = 50_000_000_000;
/// 62.4 MB/s at 24 frames a second.
const FRAME_BYTES: u64 = FRAME as u64;
const FRAME: usize = 2_600_000;
const PERIOD: Duration = Duration::from_nanos(1_000_000_000 / 24);
const CONTENT: Content = Content { seed: 24 };
/// Bytes a second that playback takes.
const RATE: f64 = FRAME_BYTES as f64 * 24.0;
const SUSTAINED_MB_PER_S: f64 = 60.0;
/// "First byte latency" of TARGETS.md; the first frame is asked to be whole in it.
const SEEK_MS: f64 = 100.0;

/// Where it is played, in frames.
struct Cut {
    start: u64,
    frames: u64,
}

#[derive(Default)]
struct Played {
    frame_ms: Vec<f64>,
    seek_ms: Vec<f64>,
    late: u64,
}

pub(crate) fn run(scene: &Scene, figures: &mut Figures) -> Result<(), Failed> {
    let cuts = cuts(scene);
    let name = film(scene, &cuts)?;
    // The host's page cache is warm then.
    verify(scene, &scene.root.join(&name), &cuts)?;
    let host = scene.host()?;
    let (mut played, mut late_percent, mut sustained) = (Played::default(), Vec::new(), Vec::new());
    for _ in 0..scene.runs {
        let mount = host.mount(&[])?;
        let now = play(&mount.path().join(&name), &cuts)?;
        mount.end()?;
        late_percent.push(100.0 * now.late as f64 / now.frame_ms.len().max(1) as f64);
        played.late += now.late;
        played.frame_ms.extend(now.frame_ms);
        played.seek_ms.extend(now.seek_ms);
        let mount = host.mount(&[])?;
        sustained.push(scrub(&mount.path().join(&name), &cuts)?);
        mount.end()?;
    }
    let mount = host.mount(&[])?;
    verify(scene, &mount.path().join(&name), &cuts)?;
    mount.end()?;
    host.end()?;

    let Played { frame_ms, seek_ms, late } = played;
    let period_ms = PERIOD.as_secs_f64() * 1000.0;
    let told = format!("{late} of {} frames late, of {} jumps", frame_ms.len(), seek_ms.len());
    let late = scene.figure("video_late_frames", "%", &late_percent);
    figures.add(scene.held(late, Target::AtMost(0.0), RATE).note(told))?;
    let mut frame = scene.figure("video_frame_time", "ms", &frame_ms);
    frame.value = frame.spread.p99;
    figures.add(scene.held(frame, Target::AtMost(period_ms), RATE).note("the figure is p99, in playback"))?;
    let seek = scene.figure("video_first_frame_after_jump", "ms", &seek_ms);
    figures.add(scene.held(seek, Target::AtMost(SEEK_MS), RATE))?;
    let sustained = scene.figure("video_sustained", "MB/s", &sustained);
    figures.add(scene.held(sustained, Target::AtLeast(SUSTAINED_MB_PER_S), SUSTAINED_MB_PER_S * 1e6))?;
    Ok(())
}

pub(crate) fn make(scene: &Scene) -> Result<(), Failed> {
    film(scene, &cuts(scene)).map(drop)
}

fn cuts(scene: &Scene) -> Vec<Cut> {
    let (count, frames) = scene.size((8, 120), (3, 24));
    let places = FILM_BYTES / FRAME_BYTES - frames;
    (0..count).map(|nth| Cut { start: scatter(nth) % places, frames }).collect()
}

/// Holes but for what is played.
fn film(scene: &Scene, cuts: &[Cut]) -> Result<String, Failed> {
    let name = format!("film-50GB-{}-cuts-of-{}", cuts.len(), cuts[0].frames);
    let path = scene.root.join(&name);
    if !path.exists() {
        let fresh = path.with_extension("new");
        let file = File::create(&fresh)?;
        file.set_len(FILM_BYTES)?;
        cuts.iter().try_for_each(|cut| CONTENT.write(&file, cut.part(cut.frames)))?;
        fs::rename(fresh, &path)?;
    }
    settle(&path)?;
    Ok(name)
}

impl Cut {
    fn part(&self, frames: u64) -> Part {
        Part { start: self.start * FRAME_BYTES, bytes: frames.min(self.frames) * FRAME_BYTES }
    }
}

fn play(path: &Path, cuts: &[Cut]) -> io::Result<Played> {
    let (file, mut buffer, mut played) = (File::open(path)?, vec![0; FRAME], Played::default());
    for cut in cuts {
        let jump = Instant::now(); // clock: measures
        file.read_exact_at(&mut buffer, cut.start * FRAME_BYTES)?;
        played.seek_ms.push(ms(jump.elapsed()));
        let shown = Instant::now(); // clock: playback is in real time
        for nth in 1..cut.frames {
            let due = shown + PERIOD.saturating_mul(u32::try_from(nth).unwrap_or(u32::MAX));
            // clock: playback is in real time
            thread::sleep((due - PERIOD).saturating_duration_since(Instant::now()));
            let asked = Instant::now();
            file.read_exact_at(&mut buffer, (cut.start + nth) * FRAME_BYTES)?;
            played.frame_ms.push(ms(asked.elapsed()));
            played.late += u64::from(Instant::now() > due);
            // A link that cannot carry it: the verdict is known.
            if shown.elapsed() > TIME_MAX {
                return Ok(played);
            }
        }
    }
    Ok(played)
}

/// The same as fast as it goes, jumps and all.
fn scrub(path: &Path, cuts: &[Cut]) -> io::Result<f64> {
    let (file, mut buffer, mut bytes) = (File::open(path)?, vec![0; FRAME], 0);
    let start = Instant::now(); // clock: measures
    for cut in cuts {
        for nth in 0..cut.frames {
            file.read_exact_at(&mut buffer, (cut.start + nth) * FRAME_BYTES)?;
            bytes += FRAME_BYTES;
            if start.elapsed() > TIME_MAX {
                return Ok(mb_per_s(bytes, start.elapsed()));
            }
        }
    }
    Ok(mb_per_s(bytes, start.elapsed()))
}

/// Every byte that is played, or as many of each cut as a slow link has time for.
fn verify(scene: &Scene, path: &Path, cuts: &[Cut]) -> io::Result<()> {
    let file = File::open(path)?;
    let frames = scene.affordable(cuts.iter().map(|cut| cut.frames).sum::<u64>() * FRAME_BYTES) / FRAME_BYTES;
    let each = (frames / cuts.len() as u64).max(1);
    cuts.iter().try_for_each(|cut| CONTENT.check(&file, cut.part(each)))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
