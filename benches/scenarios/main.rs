//! The scenarios of TARGETS.md, by the built `wormhole-engine host` and `wormhole mount`, over loopback or a named link.
//!
//! `cargo build --release && cargo bench -p wormhole-benches --bench scenarios -- --help`. Each figure is printed with its
//! target and its verdict, and kept as a record. A scenario that fails, by wrong bytes too, is kept with its reason and the
//! others go on; it and a missed target fail the program.

#![forbid(unsafe_code)]
#![allow(clippy::print_stderr, reason = "a program that talks to people")]

mod game;
mod render;
mod scene;
mod vfx;
mod video;

use std::{error::Error, process::ExitCode, time::Instant};

use wormhole_benches::{
    arguments::Arguments,
    corpus::settle_together,
    figures::{Figures, RUN},
    record::Record,
    undo,
};

use scene::Scene;

const HELP: &str = "\
Scenarios with their targets, by the built programs: `cargo build --release` first.

  cargo bench -p wormhole-benches --bench scenarios [-- SCENARIO...] [--profile PATH] [--runs N] [--quick]

  video   scrubbing a film of 50 GB: playback at 24 frames a second with jumps, and the same as fast as it goes (50 s a run)
  game    10,000 files of 10 KB in a tree, in random order and in bursts, by 1, 8 and 16 threads (25 s a run)
  vfx     textures of 100 MB to 1 GB, 4 and 8 streams at once (50 s a run)
  render  a cold run, a restart of the mount, the same from the disk cache (20 s a run)

PATH is loopback (unless said), lan, wan-good, wan-poor or wan-bad. 3 runs each unless said; their median is held against the
target. A target that the link cannot carry at all is not asked for. --quick reads a fraction, which shows that it works.
Files are made once and kept, 6.6 GB, in tmp/wormhole-scenarios of cargo's target folder; the disk cache of a run takes
4 GB beside them and goes with it. Figures: wormhole-records/scenarios.jsonl.";

type Scenario = fn(&Scene, &mut Figures) -> Result<(), Box<dyn Error>>;

const SCENARIOS: [(&str, Scenario); 4] =
    [("video", video::run), ("game", game::run), ("vfx", vfx::run), ("render", render::run)];

/// The files of a scenario: those of all are a minute old by one wait.
fn make(scene: &Scene, name: &str) -> Result<(), Box<dyn Error>> {
    match name {
        "video" => video::make(scene),
        "game" => game::make(scene),
        "vfx" => vfx::make(scene),
        _ => game::make(scene).and_then(|()| vfx::make(scene)),
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let names = SCENARIOS.map(|(name, _)| name);
    let Some(given) = Arguments::of_this_run(&names, HELP)? else { return Ok(ExitCode::SUCCESS) };
    undo::at_signals()?;
    let mut figures = Figures::resume(scene::PART)?;
    let scene = Scene::new(&given)?;
    // What fails here fails again where it is told.
    let _ = settle_together(|| given.names.iter().try_for_each(|name| make(&scene, name)));
    for name in given.names {
        let Some((_, scenario)) = SCENARIOS.iter().find(|(known, _)| *known == name) else { continue };
        let started = Instant::now(); // clock: told to those who wait
        let ended = scenario(&scene, &mut figures);
        eprintln!("{name}: {:.0} s", started.elapsed().as_secs_f64());
        figures.ended(Record::absent(scene::PART, name, RUN, "").link(scene.route.name()), ended)?;
    }
    Ok(figures.verdict())
}
