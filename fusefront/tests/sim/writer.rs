//! What happens to the host's files meanwhile.

use std::sync::Arc;

use wire::FileKind;

use crate::{
    clock::{Grain, pass},
    rig::{HOT, Sim, file_len},
    rng::Rng,
    world::World,
};

const FOLDERS_MAX: usize = 4;

/// A program on the host that changes files.
pub(crate) struct Writer {
    sim: Arc<Sim>,
    rng: Rng,
    changes: u64,
}

impl Writer {
    pub(crate) fn new(sim: &Arc<Sim>, changes: u64) -> Writer {
        Writer { sim: sim.clone(), rng: Rng::new(sim.profile.seed, 1), changes }
    }

    pub(crate) async fn run(mut self) {
        for _ in 0..self.changes {
            let done = {
                let mut world = self.sim.world.lock();
                change(&mut world, &mut self.rng)
            };
            self.sim.step(format_args!("host: {done}"));
            if self.sim.profile.grain == Grain::Tick && self.rng.percent(40) {
                self.overwrite_within_a_tick().await;
            }
            // Several within a tick, some between a request and its answer, some after everything settled.
            let pause = match self.rng.below(10) {
                0..3 => self.rng.millis(0, 3),
                3..6 => self.rng.millis(1, 60),
                6..9 => self.rng.millis(10, 800),
                _ => self.rng.millis(500, 4_000),
            };
            pass(pause).await;
        }
    }
}

impl Writer {
    /// Other bytes of the same size, several times at once: where the clock is coarse, under one version.
    async fn overwrite_within_a_tick(&mut self) {
        for _ in 0..self.rng.between(2, 4) {
            {
                let mut world = self.sim.world.lock();
                let Some(key) = world.at(HOT) else { return };
                let len = world.current(key).bytes.len();
                let bytes = self.rng.bytes(len);
                world.write(HOT, len, 0, &bytes);
            }
            self.sim.step(format_args!("host: overwrite {HOT} once more"));
            pass(self.rng.millis(1, 8)).await;
        }
    }
}

fn name(rng: &mut Rng, world: &World) -> String {
    let folders = world.paths(FileKind::Directory);
    let folder = rng.pick(&folders).clone();
    crate::world::join(&folder, &format!("f{}", rng.below(4)))
}

/// One change; what it was.
fn change(world: &mut World, rng: &mut Rng) -> String {
    let files: Vec<String> =
        world.paths(FileKind::Regular).into_iter().filter(|path| !path.starts_with("crowd/")).collect();
    if files.is_empty() {
        let path = name(rng, world);
        return write_new(world, rng, &path);
    }
    let path = rng.pick(&files).clone();
    match rng.below(100) {
        0..40 => write_in_place(world, rng, &path),
        40..52 => {
            let path = name(rng, world);
            write_new(world, rng, &path)
        }
        52..64 => {
            let to = name(rng, world);
            world.rename(&path, &to);
            format!("rename {path} to {to}")
        }
        64..70 => {
            world.unlink(&path);
            format!("unlink {path}")
        }
        70..75 => {
            let to = name(rng, world);
            if world.at(&to).is_some() {
                return format!("{to} is there");
            }
            world.link(&path, &to);
            format!("link {path} to {to}")
        }
        75..84 => {
            let perm = *rng.pick(&[0o600, 0o644, 0o755]);
            world.chmod(&path, perm);
            format!("chmod {path} {perm:o}")
        }
        84..89 => swap_symlink(world, rng),
        89..95 => change_folder(world, rng),
        _ => change_crowd(world, rng),
    }
}

fn write_in_place(world: &mut World, rng: &mut Rng, path: &str) -> String {
    let len = world.current(world.at(path).unwrap()).bytes.len();
    match rng.below(6) {
        // The same size: only the times tell.
        0 | 1 => {
            let at = rng.below(len as u64 + 1) as usize;
            let part = rng.between(0, (len - at) as u64) as usize;
            let (at, part) = if rng.percent(50) { (0, len) } else { (at, part) };
            let bytes = rng.bytes(part);
            world.write(path, len, at, &bytes);
            format!("overwrite {path} from {at} on, {part} bytes")
        }
        2 | 3 => {
            let more = rng.between(1, 100_000) as usize;
            let bytes = rng.bytes(more);
            world.write(path, len, len, &bytes);
            format!("append {more} bytes to {path} after {len}")
        }
        4 => {
            let cut = rng.below(len as u64 + 1) as usize;
            world.write(path, cut, 0, b"");
            format!("cut {path} to {cut}")
        }
        _ => {
            let new = file_len(rng);
            let bytes = rng.bytes(new);
            world.write(path, 0, 0, &bytes);
            format!("rewrite {path} with {new} bytes")
        }
    }
}

/// As editors do: beside the file, then over it.
fn write_new(world: &mut World, rng: &mut Rng, path: &str) -> String {
    let len = file_len(rng);
    let bytes = rng.bytes(len);
    if world.at(path).is_none() && rng.percent(50) {
        world.create(path, bytes);
        return format!("create {path} with {len} bytes");
    }
    let beside = format!("{path}.new");
    world.create(&beside, bytes);
    world.rename(&beside, path);
    format!("replace {path} by {len} bytes")
}

fn swap_symlink(world: &mut World, rng: &mut Rng) -> String {
    let (path, text) = (format!("s{}", rng.below(2)), format!("f{}", rng.below(1000)));
    if world.at(&path).is_none() {
        world.symlink(&path, &text);
    } else {
        world.symlink("s.new", &text);
        world.rename("s.new", &path);
    }
    format!("symlink {path} to {text}")
}

fn change_folder(world: &mut World, rng: &mut Rng) -> String {
    let folders: Vec<String> = world.paths(FileKind::Directory);
    let to = format!("d{}", rng.below(6));
    if world.at(&to).is_some() {
        return format!("{to} is there");
    }
    let movable: Vec<&String> = folders.iter().filter(|path| path.starts_with('d')).collect();
    if folders.len() < FOLDERS_MAX && rng.percent(50) || movable.is_empty() {
        world.mkdir(&to);
        return format!("mkdir {to}");
    }
    let from = (*rng.pick(&movable)).clone();
    world.rename(&from, &to);
    format!("rename folder {from} to {to}")
}

fn change_crowd(world: &mut World, rng: &mut Rng) -> String {
    if world.at("crowd").is_none() {
        return "nothing".to_owned();
    }
    let path = format!("crowd/new-{}", rng.below(50));
    if world.at(&path).is_some() {
        world.unlink(&path);
        format!("unlink {path}")
    } else {
        world.create(&path, Vec::new());
        format!("create {path}")
    }
}
