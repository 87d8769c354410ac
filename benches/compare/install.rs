//! Programs that rivals need, from Debian where they are not there.

use std::{
    env,
    error::Error,
    path::Path,
    process::{Command, Stdio},
};

use nix::unistd::geteuid;

/// A file that shows that something is there, by its path or as a program by its name; and the package that brings it.
pub(crate) struct Needs(pub(crate) &'static str, pub(crate) &'static str);

/// Seconds for all of it: a mirror that does not answer is no reason to wait for ever.
const PATIENCE_SECONDS: &str = "300";

/// Installs what is missing.
///
/// # Errors
/// Where it is still missing afterwards: what, and which package has it.
pub(crate) fn provide(needs: &[Needs]) -> Result<(), Box<dyn Error>> {
    let missing = |needs: &[Needs]| -> Vec<&'static str> {
        needs.iter().filter(|needs| !is_there(needs.0)).map(|needs| needs.1).collect()
    };
    let packages = missing(needs);
    if packages.is_empty() {
        return Ok(());
    }
    if !geteuid().is_root() || !is_there("apt-get") {
        return Err(format!("not installed: {}: run apt-get install as root", packages.join(" ")).into());
    }
    eprintln!("apt-get install {}", packages.join(" "));
    let output = Command::new("timeout")
        .args([PATIENCE_SECONDS, "apt-get", "install", "--yes", "--quiet", "--no-install-recommends"])
        .args(&packages)
        // No questions, and none of the services that come along starts (invoke-rc.d(8)).
        .envs([("DEBIAN_FRONTEND", "noninteractive"), ("RUNLEVEL", "1")])
        .stdin(Stdio::null())
        .output()?;
    let still = missing(needs);
    if still.is_empty() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let why = said.trim().lines().last().unwrap_or("apt-get said nothing");
    Err(format!("not installed: {}: {why}", still.join(" ")).into())
}

fn is_there(what: &str) -> bool {
    if what.starts_with('/') {
        return Path::new(what).exists();
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).any(|folder| folder.join(what).is_file())
}
