//! What goes wrong meanwhile: the link, the disk, the host's process.

use std::{sync::Arc, time::Duration};

use uring::testing::DiskFaults;

use crate::{
    clock::{now, pass},
    rig::{HOST, MOUNT, Sim},
    rng::Rng,
};

/// Cuts and loss on the link, until dropped.
pub(crate) async fn on_the_link(sim: Arc<Sim>) {
    let mut rng = Rng::new(sim.profile.seed, 2);
    loop {
        pass(rng.millis(50, 9_000)).await;
        let lasts = rng.millis(20, 9_000);
        sim.expect_late(lasts);
        match rng.below(4) {
            0 => {
                sim.step(format_args!("link: cut for {lasts:?}"));
                sim.link.cut(HOST);
                sim.link.cut(MOUNT);
            }
            1 => {
                let end = *rng.pick(&[HOST, MOUNT]);
                sim.step(format_args!("link: nothing reaches {end} for {lasts:?}"));
                sim.link.cut(end);
            }
            2 => {
                sim.step(format_args!("link: loses a lot for {lasts:?}"));
                sim.link.shape(|link| link.loss_ppm = 300_000);
            }
            _ => {
                sim.step(format_args!("link: in disorder for {lasts:?}"));
                sim.link.shape(|link| (link.reorder_ppm, link.duplicate_ppm) = (400_000, 300_000));
            }
        }
        pass(lasts).await;
        sim.step("link: heals");
        sim.link.heal();
        sim.link.shape(|link| *link = sim.profile.link.clone());
    }
}

/// Errors, slowness and hangs of the disk, until dropped.
pub(crate) async fn on_the_disk(sim: Arc<Sim>) {
    let mut rng = Rng::new(sim.profile.seed, 3);
    loop {
        pass(rng.millis(50, 9_000)).await;
        let lasts = rng.millis(20, 6_000);
        match rng.below(3) {
            0 => {
                sim.step(format_args!("disk: errors for {lasts:?}"));
                sim.expect_broken(lasts);
                sim.disk.set(DiskFaults { error_ppm: 400_000, uncached_ppm: 800_000, ..sim.profile.disk });
            }
            1 => {
                sim.step(format_args!("disk: late for {lasts:?}"));
                let late_max = Duration::from_secs(8);
                sim.expect_late(lasts + late_max);
                sim.disk.set(DiskFaults {
                    late_ppm: 500_000,
                    late_max,
                    uncached_ppm: 800_000,
                    ..sim.profile.disk
                });
            }
            _ => {
                sim.step(format_args!("disk: hangs for {lasts:?}"));
                sim.expect_late(lasts);
                sim.disk.set(DiskFaults { uncached_ppm: 800_000, ..sim.profile.disk });
                sim.disk.hang_until(now() + lasts);
            }
        }
        pass(lasts).await;
        sim.step("disk: heals");
        sim.disk.heal();
        sim.disk.set(sim.profile.disk);
    }
}

/// The host dies or stops, and is there again a little later; until told to end, when it is up.
pub(crate) async fn on_the_host(sim: Arc<Sim>, mut end: tokio::sync::watch::Receiver<bool>) {
    let mut rng = Rng::new(sim.profile.seed, 4);
    while !*end.borrow_and_update() {
        let pause = pass(rng.millis(100, 12_000));
        tokio::select! {
            biased;
            () = pause => {}
            _ = end.changed() => continue,
        }
        let down = rng.millis(0, 4_000);
        sim.expect_late(down + Duration::from_secs(2));
        if rng.percent(60) {
            sim.step(format_args!("host: dies for {down:?}"));
            sim.kill_host();
        } else {
            sim.step(format_args!("host: stops for {down:?}"));
            sim.stop_host().await;
        }
        pass(down).await;
        sim.step("host: starts");
        sim.expect_late(Duration::ZERO);
        sim.start_host();
    }
}
