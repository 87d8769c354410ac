//! `cargo ci dist`: what an installation takes, in one folder.
//!
//! The programs make their completions and manual pages themselves, so that these cannot differ from what they read.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::failure::Failure;
use crate::repo::Repo;
use crate::step;

/// The programs, each with its package.
const PROGRAMS: [(&str, &str); 2] =
    [("wormhole-engine", "wormhole-engine"), ("wormhole", "wormhole-fusefront")];

/// A shell, and what it wants before and behind a program's name to find the file.
const SHELLS: [(&str, &str, &str); 3] = [("bash", "", ""), ("zsh", "_", ""), ("fish", "", ".fish")];

/// Builds the programs for release and fills `target/dist` anew.
pub(crate) fn run(repo: &Repo) -> Result<(), Failure> {
    let dist = repo.target().join("dist");
    let mut build = step::cargo(repo);
    build.args(["build", "--quiet", "--release", "--bins"]);
    for (_, package) in PROGRAMS {
        build.args(["--package", package]);
    }
    step::run(&mut build)?;
    if dist.exists() {
        fs::remove_dir_all(&dist).map_err(|why| format!("cannot empty {}: {why}", dist.display()))?;
    }
    let (bin, man) = (dist.join("bin"), dist.join("man/man1"));
    make(&bin)?;
    for (program, _) in PROGRAMS {
        let built = repo.target().join("release").join(program);
        let copy = bin.join(program);
        fs::copy(&built, &copy).map_err(|why| format!("cannot copy {}: {why}", built.display()))?;
        step::run(Command::new(&copy).args(["man", "--out"]).arg(&man))?;
        for (shell, before, behind) in SHELLS {
            let folder = dist.join("completions").join(shell);
            make(&folder)?;
            completions(&copy, shell, &folder.join(format!("{before}{program}{behind}")))?;
        }
    }
    for sample in ["engine/host.example.toml", "fusefront/mount.example.toml"] {
        let from = repo.root().join(sample);
        let name = from.file_name().ok_or_else(|| format!("{sample} is no file"))?;
        fs::copy(&from, dist.join(name)).map_err(|why| format!("cannot copy {sample}: {why}"))?;
    }
    println!("ci: made {}: {} files", dist.display(), count(&dist)?);
    Ok(())
}

fn make(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|why| format!("cannot make {}: {why}", folder.display()).into())
}

/// Writes what the program prints for a shell; nothing would be a fault.
fn completions(program: &Path, shell: &str, file: &Path) -> Result<(), Failure> {
    let out = Command::new(program)
        .args(["completions", shell])
        .output()
        .map_err(|why| format!("cannot run {}: {why}", program.display()))?;
    if !out.status.success() || out.stdout.is_empty() {
        return Err(format!("{} has no completions for {shell}", program.display()).into());
    }
    fs::write(file, out.stdout).map_err(|why| format!("cannot write {}: {why}", file.display()).into())
}

/// Files below a folder, which is as deep as this module makes it.
fn count(folder: &Path) -> Result<usize, Failure> {
    let mut files = 0;
    let listed = fs::read_dir(folder).map_err(|why| format!("cannot list {}: {why}", folder.display()))?;
    for entry in listed {
        let path = entry.map_err(|why| format!("cannot list {}: {why}", folder.display()))?.path();
        files += if path.is_dir() { count(&path)? } else { 1 };
    }
    Ok(files)
}
