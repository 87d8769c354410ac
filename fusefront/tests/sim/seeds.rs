//! Seeds, one after the other, and which of them failed.

use std::{
    env,
    path::Path,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use engine::testing::TimesGuard;
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinSet, time::timeout};

use crate::{
    clock::HostClock,
    faults,
    program::Program,
    rig::{self, Outcome, Profile, Sim, Tally},
    rng::Rng,
    world::World,
    writer::Writer,
};

/// Seeds in a run of all tests: less than a minute of two cores, without optimisation.
const SEEDS_DEFAULT: u64 = 1_000;
/// Virtual time that no run comes near.
const STUCK: Duration = Duration::from_secs(24 * 3600);

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// In memory where that can be had: a run writes and removes a few hundred files.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let builder = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix("wormhole-sim-");
        builder
    };
    builder().tempdir_in(memory).or_else(|_| builder().tempdir()).unwrap()
}

/// Says which seed failed when a run unwinds.
struct Announce(u64);

impl Drop for Announce {
    fn drop(&mut self) {
        if thread::panicking() {
            let seed = self.0;
            println!("SEED {seed} FAILED: {:?}", Profile::of(seed));
            println!(
                "again: WORMHOLE_SIM_SEED={seed} WORMHOLE_SIM_TRACE=1 cargo test -p wormhole-fusefront --test sim"
            );
        }
    }
}

/// Runs one seed.
fn run(seed: u64) -> Outcome {
    let _announce = Announce(seed);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async { timeout(STUCK, simulate(seed)).await.expect("the run ends") })
}

async fn simulate(seed: u64) -> Outcome {
    let profile = Profile::of(seed);
    let folder = scratch();
    let clock = rig::clock(&profile);
    let _times = TimesGuard::set(Rc::new(HostClock(clock.clone())));
    let mut world = World::new(folder.path(), clock.clone());
    let mut rng = Rng::new(seed, 5);
    rig::first_files(&mut world, &mut rng, &profile);
    clock.run();
    let sim = Arc::new(Sim::start(profile, folder.path(), world).await);

    let mut programs = JoinSet::new();
    for number in 0..sim.profile.programs {
        programs.spawn(Program::new(&sim, number, rng.between(5, 25)).run());
    }
    programs.spawn(Writer::new(&sim, rng.between(5, 80)).run());
    let mut troubles = JoinSet::new();
    let (end, ending) = watch::channel(false);
    if sim.profile.link_faults {
        troubles.spawn(faults::on_the_link(sim.clone()));
    }
    if sim.profile.disk_faults {
        troubles.spawn(faults::on_the_disk(sim.clone()));
    }
    let mut restarts = JoinSet::new();
    if sim.profile.restarts {
        restarts.spawn(faults::on_the_host(sim.clone(), ending));
    }
    join(&mut programs).await;
    end.send_replace(true);
    join(&mut restarts).await;
    troubles.shutdown().await;
    let sim = Arc::into_inner(sim).expect("programs, faults and writers have ended");
    sim.finish().await
}

/// Waits for all of them; a panic of one is this one's.
async fn join(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

#[test]
fn every_answer_is_one_that_the_model_allows() {
    if let Some(seed) = number("WORMHOLE_SIM_SEED") {
        println!("seed {seed}: {:?}", Profile::of(seed));
        println!("{:#?}", run(seed).tally);
        return;
    }
    let count = number("WORMHOLE_SIM_SEEDS").unwrap_or(SEEDS_DEFAULT);
    let (next, failed) = (AtomicU64::new(1), AtomicBool::new(false));
    let total = Mutex::new(Tally::new());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !failed.load(Relaxed) {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed > count {
                        return;
                    }
                    let Ok(outcome) = std::panic::catch_unwind(|| run(seed)) else {
                        return failed.store(true, Relaxed);
                    };
                    let mut total = total.lock();
                    for (what, n) in outcome.tally {
                        *total.entry(what).or_default() += n;
                    }
                }
            });
        }
    });
    println!("{count} seeds: {:#?}", total.into_inner());
    assert!(!failed.load(Relaxed), "a seed failed; its number and how to run it again stand above");
}

#[test]
fn a_seed_repeats_itself() {
    for seed in 1..=10 {
        assert_eq!(run(seed).digest, run(seed).digest, "seed {seed}");
    }
}
