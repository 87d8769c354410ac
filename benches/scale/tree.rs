//! A share of a million files: 1,000 folders of 1,000, made once and kept. They are holes of a length that follows from
//! their number, so that a wrong one shows in its attributes.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use wormhole_benches::{
    content::{kept_folder, scatter},
    daemons::{Daemon, Host},
    proc::Sampler,
    route::Route,
};

use crate::{ACTIVE, Failed, Scale, figure};

const FOLDERS: u64 = 1_000;
const FILES_EACH: u64 = 1_000;
/// Files whose attributes are compared afterwards.
const ASKED: u64 = 1_000;
const READY: &str = "ready";

pub(crate) fn million(scale: &mut Scale) -> Result<(), Failed> {
    let folders = scale.size(FOLDERS);
    let root = make(folders)?;
    let host = Host::start(&[&root], Route::Loopback, &[])?;
    let mount = host.mount(&[])?;
    let sampler = Sampler::start(&[&[host.pid()], &[mount.pid()]])?;
    for pass in ["cold", "warm"] {
        let start = Instant::now(); // clock: measures
        let found = find(mount.path())?;
        let took = start.elapsed().as_secs_f64();
        let expected = folders * FILES_EACH;
        if found != expected {
            return Err(format!("find saw {found} files of {expected}").into());
        }
        let record = figure("files_1m_find", "s", took).cache(pass);
        scale.add(
            record.note(format!("`find -type f` saw {found} files, {:.0} a second", found as f64 / took)),
            None,
        )?;
    }
    let start = Instant::now(); // clock: measures
    for nth in 0..ASKED {
        let file = scatter(nth) % (folders * FILES_EACH);
        let bytes = fs::metadata(mount.path().join(name(file)))?.len();
        if bytes != file {
            return Err(format!("{} has {bytes} bytes, not {file}", name(file)).into());
        }
    }
    let each = start.elapsed().as_secs_f64() * 1000.0 / ASKED as f64;
    let used = sampler.stop();
    mount.end()?;
    host.end()?;
    scale.add(
        figure("files_1m_stat_mean", "ms", each).note("1,000 of them, all over the tree, sizes right"),
        None,
    )?;
    scale.add_used("files_1m", &used, ACTIVE)
}

fn name(file: u64) -> String {
    format!("folder-{:03}/frame-{:03}.exr", file / FILES_EACH, file % FILES_EACH)
}

/// The tree; its last entry says that it is whole.
fn make(folders: u64) -> Result<PathBuf, Failed> {
    let root = kept_folder("wormhole-scale")?;
    let (tree, ready) = (root.join(format!("tree-{folders}")), root.join(format!("tree-{folders}.{READY}")));
    if ready.exists() {
        return Ok(tree);
    }
    for folder in 0..folders {
        fs::create_dir_all(tree.join(format!("folder-{folder:03}")))?;
        for file in folder * FILES_EACH..(folder + 1) * FILES_EACH {
            File::create(tree.join(name(file)))?.set_len(file)?;
        }
    }
    File::create(ready)?;
    Ok(tree)
}

/// What `find` sees, as its users run it.
fn find(root: &Path) -> Result<u64, Failed> {
    let mut command = Command::new("find");
    command.arg(root).args(["-type", "f", "-printf", "."]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut find = Daemon::spawn(&mut command)?;
    let mut seen = BufReader::new(find.output().ok_or("find has no standard output")?);
    let mut count = 0;
    loop {
        let part = seen.fill_buf()?;
        let bytes = part.len();
        if bytes == 0 {
            break;
        }
        if part.iter().any(|&byte| byte != b'.') {
            return Err(io::Error::other("find printed something else than was asked for").into());
        }
        count += bytes as u64;
        seen.consume(bytes);
    }
    find.wait()?;
    Ok(count)
}
