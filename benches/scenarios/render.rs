//! A render that is restarted: the first run is cold and fills the disk cache, then the mount ends and another one
//! takes its cache; the second run's bytes come from there, not from the host.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use wormhole_benches::{
    daemons::{Host, Mount},
    figures::Figures,
    record::Target,
};

use crate::{
    game,
    scene::{Failed, Scene, mb_per_s},
    vfx,
};

const LOADERS: usize = 8;
/// Of the bytes of the second run, in percent.
const FROM_HOST_MAX: f64 = 1.0;
/// The disk cache has taken all it will when it has written nothing for so long.
const QUIET: Duration = Duration::from_millis(500);
const QUIET_WITHIN: Duration = Duration::from_secs(30);

pub(crate) fn run(scene: &Scene, figures: &mut Figures) -> Result<(), Failed> {
    let assets = game::ready(scene)?;
    vfx::ready(scene)?;
    let order = game::bursts(assets);
    let bytes = assets * game::ASSET_BYTES + vfx::scene_bytes(scene);
    if scene.affordable(bytes) < bytes {
        // The second run would not have everything on the disk.
        return Err(format!("render reads {} MB: too much for {}", bytes / 1_000_000, scene.route).into());
    }
    let host = scene.host()?;
    let (mut cold, mut again, mut from_host, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for nth in 0..scene.runs {
        let cache = host.place().join(format!("render-{nth}"));
        let (mount, first) = render(scene, &host, &cache, &order)?;
        written(&mount)?;
        mount.end()?;
        let (mount, second) = render(scene, &host, &cache, &order)?;
        from_host.push(100.0 * mount.report()?.reads.host_bytes as f64 / bytes as f64);
        mount.end()?;
        cold.push(mb_per_s(bytes, first));
        again.push(mb_per_s(bytes, second));
        times.push((first.as_secs_f64(), second.as_secs_f64()));
        if nth + 1 == scene.runs {
            verify(scene, &host, &cache, &order)?;
        }
        std::fs::remove_dir_all(&cache)?;
    }
    host.end()?;
    let figure = |name, unit, values: &[f64], cache| scene.figure(name, unit, values).cache(cache);
    let (first, second): (Vec<f64>, Vec<f64>) = times.into_iter().unzip();
    figures.add(figure("render_first_run", "MB/s", &cold, "cold"))?;
    figures.add(figure("render_first_run_time", "s", &first, "cold"))?;
    figures.add(figure("render_restart", "MB/s", &again, "L2"))?;
    figures.add(figure("render_restart_time", "s", &second, "L2"))?;
    let from_host = figure("render_restart_from_host", "%", &from_host, "L2");
    Ok(figures.add(from_host.target(Target::AtMost(FROM_HOST_MAX)))?)
}

/// Mounts and reads everything once: the assets, then the textures.
fn render(scene: &Scene, host: &Host, cache: &Path, order: &[u64]) -> Result<(Mount, Duration), Failed> {
    let mount = host.mount_with_cache(cache, &[])?;
    let start = Instant::now(); // clock: measures
    game::load(&mount.path().join(game::FOLDER), order, LOADERS)?;
    vfx::read(scene, &mount.path().join(vfx::FOLDER), &vfx::SCENE)?;
    let took = start.elapsed();
    Ok((mount, took))
}

/// Waits until nothing is written any more.
fn written(mount: &Mount) -> Result<(), Failed> {
    let deadline = Instant::now() + QUIET_WITHIN; // clock: a disk that never comes to rest
    let mut before = None;
    while Instant::now() < deadline {
        let now = mount.report()?.cache.map(|cache| cache.written_bytes);
        if now.is_some() && now == before {
            return Ok(());
        }
        before = now;
        thread::sleep(QUIET); // clock: counters at rest, no event tells of it
    }
    Err(format!("the disk cache still writes after {QUIET_WITHIN:?}").into())
}

/// Compares everything with what was written, from the disk cache once more.
fn verify(scene: &Scene, host: &Host, cache: &Path, order: &[u64]) -> Result<(), Failed> {
    let mount = host.mount_with_cache(cache, &[])?;
    game::verify(&mount.path().join(game::FOLDER), order)?;
    vfx::verify(scene, &mount.path().join(vfx::FOLDER), &vfx::SCENE)?;
    mount.end()
}
