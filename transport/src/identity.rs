//! The host's key: what a mount knows a host by.

use std::{
    fmt, fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};

/// A PKCS#8 document of an Ed25519 key has 85 bytes; what is longer is no key of ours.
const KEY_FILE_BYTES_MAX: u64 = 1024;

/// The host's Ed25519 key pair. Its `Debug` form shows the public half alone; clones share it.
#[derive(Clone)]
pub struct Identity {
    pkcs8: Arc<[u8]>,
    public: [u8; 32],
}

/// Why there is no host key.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file or its folder could not be read or made.
    #[error("host key {} cannot be read or made", path.display())]
    File {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others on the machine may read the file.
    #[error("host key {} is open to other users (mode {mode:o}): chmod 600 it, or delete it to get a new key and new tickets", path.display())]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error("host key {} is damaged: restore it, or delete it to get a new key and new tickets", path.display())]
    Damaged {
        /// The key file.
        path: PathBuf,
    },
    /// The system gave no random numbers.
    #[error("no random numbers for a host key from this system")]
    NoRandom,
}

impl Identity {
    /// The key in `path` (PKCS#8, mode 0600); made there, with its folder (mode 0700), when absent.
    ///
    /// Two processes that start at once must be kept apart by their caller (the state folder's lock).
    ///
    /// # Errors
    /// Any [`IdentityError`]; a file that exists is never replaced.
    pub fn load_or_create(path: &Path) -> Result<Identity, IdentityError> {
        let failed = |source| IdentityError::File { path: path.to_owned(), source };
        match fs::metadata(path) {
            Ok(meta) => {
                let mode = meta.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(IdentityError::Exposed { path: path.to_owned(), mode });
                }
                if meta.len() > KEY_FILE_BYTES_MAX {
                    return Err(IdentityError::Damaged { path: path.to_owned() });
                }
                let pkcs8 = fs::read(path).map_err(failed)?;
                Identity::from_pkcs8(pkcs8).ok_or_else(|| IdentityError::Damaged { path: path.to_owned() })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let identity = Identity::generate()?;
                identity.save(path).map_err(failed)?;
                Ok(identity)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// A new key.
    ///
    /// # Errors
    /// [`IdentityError::NoRandom`].
    pub fn generate() -> Result<Identity, IdentityError> {
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| IdentityError::NoRandom)?;
        Identity::from_pkcs8(document.as_ref().into()).ok_or(IdentityError::NoRandom)
    }

    /// The public key: what a ticket carries.
    pub fn public_key(&self) -> [u8; 32] {
        self.public
    }

    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// A secret for another purpose, which tells nothing about the key and survives a restart with it.
    pub(crate) fn derive(&self, context: &str) -> [u8; 32] {
        blake3::derive_key(context, &self.pkcs8)
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> Option<Identity> {
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).ok()?;
        let public = pair.public_key().as_ref().try_into().ok()?;
        Some(Identity { pkcs8: pkcs8.into(), public })
    }

    /// Writes beside `path` first, so that a crash leaves no half a key.
    fn save(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut partial = path.as_os_str().to_owned();
        partial.push(".new");
        let partial = PathBuf::from(partial);
        // A partial file of a crash holds nothing that anybody uses.
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        let written = file.write_all(&self.pkcs8).and_then(|()| file.sync_all());
        if let Err(error) = written.and_then(|()| fs::rename(&partial, path)) {
            // What is left of it is of no use; the first error is the one to tell.
            drop(fs::remove_file(&partial));
            return Err(error);
        }
        fs::File::open(folder)?.sync_all()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", blake3::Hash::from_bytes(self.public).to_hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/host.key");
        let made = Identity::load_or_create(&path).unwrap();
        let read = Identity::load_or_create(&path).unwrap();
        assert_eq!(made.public_key(), read.public_key());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn an_exposed_or_damaged_key_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host.key");
        Identity::load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Identity::load_or_create(&path).unwrap_err();
        assert!(matches!(error, IdentityError::Exposed { mode: 0o640, .. }), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, b"no key").unwrap();
        let error = Identity::load_or_create(&path).unwrap_err();
        assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"no key");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), b"").unwrap();
        let error = Identity::load_or_create(&folder.path().join("file/host.key")).unwrap_err();
        assert!(matches!(error, IdentityError::File { .. }), "{error}");
    }
}
