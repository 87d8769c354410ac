//! `SSLKEYLOGFILE`: the file that sessions write their TLS secrets to, for a look at their packets.

use std::{env, ffi::OsStr, fs::File, io, os::unix::fs::OpenOptionsExt, path::Path};

use anyhow::Context;
use rustix::fs::OFlags;
use transport::KeyLog;

/// The variable, as browsers and curl know it.
const VARIABLE: &str = "SSLKEYLOGFILE";

/// The log that the environment asks for, which it warns of; `None` where the variable is unset or empty. Call it when
/// the process logs.
///
/// # Errors
/// When the file cannot be opened: who asked for keys must not record a session without them.
pub fn from_env() -> anyhow::Result<Option<KeyLog>> {
    match env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        Some(path) => open(&path).map(Some),
        None => Ok(None),
    }
}

fn open(path: &OsStr) -> anyhow::Result<KeyLog> {
    let path = Path::new(path);
    let log = append(path).map(KeyLog::new).with_context(|| {
        format!("the TLS key log {path:?} of {VARIABLE} cannot be opened: name a file that can be written, or unset it")
    })?;
    tracing::warn!(
        file = %path.display(),
        "{VARIABLE} is set: TLS keys are written to this file, and whoever has it can decrypt these sessions"
    );
    Ok(log)
}

/// Opens it to append; a new one is its owner's alone. A FIFO that nobody reads fails instead of waiting.
fn append(path: &Path) -> io::Result<File> {
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    File::options().create(true).append(true).mode(0o600).custom_flags(nonblocking).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_log_is_private_and_an_old_one_grows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        drop(open(path.as_os_str()).unwrap());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "kept\n").unwrap();
        drop(open(path.as_os_str()).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept\n");
    }

    #[test]
    fn a_log_that_cannot_be_opened_says_which_and_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("missing/keys");
        let line = crate::cli::failure::one_line(&open(path.as_os_str()).unwrap_err());
        assert!(line.contains(path.to_str().unwrap()) && line.contains("SSLKEYLOGFILE"), "{line}");
        assert!(line.contains("No such file") && !line.contains('\n'), "{line}");
    }
}
