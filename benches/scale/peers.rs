//! Many of them: a hundred mounts of one host, ten shares of one host.

use std::{
    fs::{self, File},
    io,
    path::Path,
    thread,
    time::Instant,
};

use wormhole_benches::{
    content::{Content, Part},
    daemons::{Host, Place},
    proc::Sampler,
    record::Target,
    route::Route,
};

use crate::{ACTIVE, Failed, Scale, figure};

const PEERS: u64 = 100;
const PEER_BYTES: u64 = 20 << 20;
const SHARES: u64 = 10;
const SHARE_BYTES: u64 = 16 << 20;
/// Each process of the peers is told apart by memory alone, and needs little of it.
const PEER_MEMORY: &str = "32MiB";

pub(crate) fn hundred(scale: &mut Scale) -> Result<(), Failed> {
    let peers = scale.size(PEERS);
    let place = Place::new()?;
    let source = place.folder("source")?;
    let content = Content { seed: PEERS };
    // Each reads a part of its own.
    content.keep(&source.join("shared"), peers * PEER_BYTES)?;
    let host = Host::start(&[&source], Route::Loopback, &["--handshakes-burst", "1000"])?;
    let mounts = (0..peers)
        .map(|_| host.mount(&["--memory", PEER_MEMORY, "--cache-size", "0"]))
        .collect::<Result<Vec<_>, _>>()?;
    let pids: Vec<u32> = mounts.iter().map(|mount| mount.pid()).collect();
    let sampler = Sampler::start(&[&[host.pid()], &pids])?;
    let start = Instant::now(); // clock: measures
    thread::scope(|scope| {
        let readers: Vec<_> = (0..)
            .zip(&mounts)
            .map(|(nth, mount)| {
                let part = Part { start: nth * PEER_BYTES, bytes: PEER_BYTES };
                scope.spawn(move || content.check(&File::open(mount.path().join("shared"))?, part))
            })
            .collect();
        readers.into_iter().try_for_each(|reader| reader.join().expect("a reader does not panic"))
    })?;
    let took = start.elapsed().as_secs_f64();
    let connected = mounts.iter().map(|mount| mount.report()).filter(|report| {
        report.as_ref().is_ok_and(|report| report.session.connected && report.session.reconnects == 0)
    });
    let connected = connected.count();
    let used = sampler.stop();
    for mount in mounts {
        mount.end()?;
    }
    host.end()?;
    let note = format!(
        "processes, all connected at once and still after reading {} MiB each, verified",
        PEER_BYTES >> 20
    );
    scale.add(
        figure("peers_100", "count", connected as f64).note(note),
        Some(Target::AtLeast(PEERS as f64)),
    )?;
    scale.add(figure("peers_100_sum", "MB/s", (peers * PEER_BYTES) as f64 / 1e6 / took), None)?;
    let host_rss = figure("peers_100_rss_host", "MiB", used[0].rss_max_mib());
    scale.add(host_rss, ACTIVE.rss_mib.map(Target::AtMost))?;
    let each = used[1].rss_max_mib() / peers as f64;
    scale.add(figure("peers_100_rss_mount_mean", "MiB", each), ACTIVE.rss_mib.map(Target::AtMost))
}

pub(crate) fn ten_shares(scale: &mut Scale) -> Result<(), Failed> {
    let place = Place::new()?;
    let sources: Vec<_> = (0..SHARES).map(|_| place.folder("share")).collect::<Result<_, _>>()?;
    for (nth, source) in (0..).zip(&sources) {
        Content { seed: nth }.keep(&source.join("take"), SHARE_BYTES)?;
    }
    let folders: Vec<&Path> = sources.iter().map(|source| source.as_path()).collect();
    let host = Host::start(&folders, Route::Loopback, &[])?;
    let mount = host.mount(&[])?;
    let sampler = Sampler::start(&[&[host.pid()], &[mount.pid()]])?;
    let start = Instant::now(); // clock: measures
    for (nth, source) in (0..).zip(&sources) {
        let name = source.file_name().ok_or("a share without a name")?;
        let file = File::open(mount.path().join(name).join("take"))?;
        Content { seed: nth }.check(&file, Part { start: 0, bytes: SHARE_BYTES })?;
    }
    let (took, used) = (start.elapsed().as_secs_f64(), sampler.stop());
    let shown = fs::read_dir(mount.path())?.collect::<io::Result<Vec<_>>>()?.len();
    mount.end()?;
    host.end()?;
    let note = format!(
        "in one mount, {} MiB of each read one after another and verified, {took:.2} s",
        SHARE_BYTES >> 20
    );
    scale.add(figure("shares_10", "count", shown as f64).note(note), Some(Target::AtLeast(SHARES as f64)))?;
    scale.add_used("shares_10", &used, ACTIVE)
}
