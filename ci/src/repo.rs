//! Where the checkout and its build products are, and which files belong to it.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;

/// A checkout of the project.
#[derive(Debug)]
pub(crate) struct Repo {
    root: PathBuf,
    target: PathBuf,
}

impl Repo {
    /// The checkout this program was built from.
    pub(crate) fn locate() -> Result<Self, Failure> {
        // Cargo sets it for `cargo run`, so a checkout that was moved is still found.
        let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let package = PathBuf::from(package);
        let root = package
            .parent()
            .filter(|root| root.join("Cargo.lock").is_file())
            .ok_or_else(|| format!("{} is not inside the checkout; run it as `cargo ci`", package.display()))?
            .to_path_buf();
        // This program stands in `<target>/<profile>/`, wherever the user's configuration puts the target folder.
        let target = env::current_exe()
            .ok()
            .and_then(|exe| exe.parent()?.parent().map(Path::to_path_buf))
            .unwrap_or_else(|| root.join("target"));
        Ok(Self { root, target })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's target folder.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// The paths Git tracks or would track, relative to the root; files deleted but not yet committed are left out.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, Failure> {
        let out = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(&self.root)
            .output()
            .map_err(|why| format!("cannot run git: {why}; install git"))?;
        if !out.status.success() {
            let why = String::from_utf8_lossy(&out.stderr);
            return Err(format!("git ls-files in {}: {}", self.root.display(), why.trim()).into());
        }
        let mut files: Vec<PathBuf> = out
            .stdout
            .split(|&byte| byte == 0)
            .filter(|path| !path.is_empty())
            .map(|path| PathBuf::from(OsStr::from_bytes(path)))
            .filter(|path| self.root.join(path).is_file())
            .collect();
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// The text of a tracked file.
    pub(crate) fn read(&self, path: &Path) -> Result<String, Failure> {
        fs::read_to_string(self.root.join(path))
            .map_err(|why| format!("cannot read {}: {why}", path.display()).into())
    }
}
