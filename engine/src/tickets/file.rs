//! The registry's file, `tickets.json` in the state directory.
//!
//! A version, a checksum and the registry. It fails closed: a file that cannot be read as a whole stops the host, since
//! a revocation lost from it would open a door again.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::registry::{Registry, Stored};
use crate::{error::HostError, state::write_private};

pub(crate) const FILE_NAME: &str = "tickets.json";
const VERSION: u32 = 1;
/// Ten thousand tickets with the longest names, prefixes and labels there are.
const FILE_BYTES_MAX: u64 = 128 << 20;

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    /// BLAKE3 of the JSON text of `tickets`: a bit that flipped in an id is still JSON.
    checksum: String,
    tickets: Stored,
}

/// Reads the registry; an empty one where there is no file yet.
///
/// # Errors
/// [`HostError::TicketsDamaged`] or [`HostError::TicketsNewer`], and the kernel's.
pub(crate) fn load(path: &Path) -> Result<Registry, HostError> {
    let damaged = || HostError::TicketsDamaged { path: path.to_owned() };
    let bytes = match read(path) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Err(damaged()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Registry::default()),
        Err(source) => return Err(HostError::State { path: path.to_owned(), source }),
    };
    let Version { version } = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
    if version > VERSION {
        return Err(HostError::TicketsNewer { path: path.to_owned() });
    }
    let document: Document = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
    let sum = checksum(&document.tickets).map_err(|_| damaged())?;
    if version == 0 || sum != document.checksum {
        return Err(damaged());
    }
    Ok(Registry::from_stored(document.tickets))
}

/// The file's bytes; `None` when it is larger than any of ours.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= FILE_BYTES_MAX).then_some(bytes))
}

/// Replaces the file, and returns once the disk has it.
///
/// # Errors
/// The kernel's; the file is then as it was.
pub(crate) fn save(path: &Path, registry: &Registry) -> io::Result<()> {
    let tickets = registry.to_stored();
    let checksum = checksum(&tickets)?;
    let mut text = serde_json::to_vec_pretty(&Document { version: VERSION, checksum, tickets })?;
    text.push(b'\n');
    write_private(path, &text)?;
    let folder = File::open(path.parent().unwrap_or(Path::new(".")))?;
    give_to_owner(path, &folder)?;
    // The new name as well: a revocation must outlive a power cut.
    folder.sync_all()
}

/// Root that works on another user's state directory leaves files that the user's host can read.
fn give_to_owner(path: &Path, folder: &File) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = folder.metadata()?;
    if owner.uid() != 0 {
        std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

fn checksum(tickets: &Stored) -> io::Result<String> {
    Ok(blake3::hash(&serde_json::to_vec(tickets)?).to_hex().to_string())
}

/// Where the registry of a state directory is.
pub(crate) fn path_in(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE_NAME)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use wire::TicketId;

    use super::*;

    fn registry() -> Registry {
        let mut registry = Registry::default();
        registry.first_generation = 3;
        registry.addresses.push("h:1".to_owned());
        assert!(registry.revoke(TicketId([0xab; 8]), 12));
        registry
    }

    #[test]
    fn it_is_kept_privately() {
        let dir = tempfile::tempdir().unwrap();
        let path = path_in(dir.path());
        assert_eq!(load(&path).unwrap(), Registry::default());
        save(&path, &registry()).unwrap();
        assert_eq!(load(&path).unwrap(), registry());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn any_damage_stops_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = path_in(dir.path());
        save(&path, &registry()).unwrap();
        let good = std::fs::read(&path).unwrap();
        let text = String::from_utf8(good.clone()).unwrap();
        let cases = [
            good[..good.len() / 2].to_owned(),
            Vec::new(),
            b"[]".to_vec(),
            text.replace("abab", "abac").into_bytes(),
            text.replace("\"version\": 1", "\"version\": 0").into_bytes(),
            text.replace("\"at\"", "\"when\"").into_bytes(),
        ];
        for bytes in cases {
            assert_ne!(bytes, good);
            std::fs::write(&path, &bytes).unwrap();
            let error = load(&path).unwrap_err();
            assert!(matches!(error, HostError::TicketsDamaged { .. }), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "left as it is");
        }
        std::fs::write(&path, text.replace("\"version\": 1", "\"version\": 2")).unwrap();
        assert!(matches!(load(&path), Err(HostError::TicketsNewer { .. })));
    }

    #[test]
    fn what_root_writes_belongs_to_the_owner_of_the_folder() {
        if !rustix::process::geteuid().is_root() {
            #[expect(clippy::print_stderr, reason = "a skipped test says so")]
            let () = eprintln!("SKIPPED: only root can write for others");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(dir.path(), Some(65_534), Some(65_534)).unwrap();
        save(&path_in(dir.path()), &registry()).unwrap();
        assert_eq!(path_in(dir.path()).metadata().unwrap().uid(), 65_534);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(path_in(dir.path())).unwrap();
        assert!(matches!(load(&path_in(dir.path())), Err(HostError::State { .. })));
    }
}
