//! Paths inside a share: names joined by `/`, never absolute, never above the root.

use std::{ffi::OsStr, fmt, os::unix::ffi::OsStrExt};

use crate::{error::DecodeError, limits, name::Name};

/// A path from a share's root (or a ticket's prefix): empty for the root itself, else valid names joined by `/`.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SharePath(Vec<u8>);

impl SharePath {
    /// The root.
    pub fn root() -> SharePath {
        SharePath::default()
    }

    /// Checks each component of `bytes`.
    ///
    /// # Errors
    /// [`DecodeError::BadName`] for an empty, dotted or oversized component, [`DecodeError::TooLong`] past
    /// [`limits::PATH_BYTES_MAX`].
    pub fn new(bytes: &[u8]) -> Result<SharePath, DecodeError> {
        if bytes.len() > limits::PATH_BYTES_MAX {
            return Err(DecodeError::TooLong { what: "path", len: bytes.len() as u64 });
        }
        if !bytes.is_empty() {
            for component in bytes.split(|&b| b == b'/') {
                Name::check(component)?;
            }
        }
        Ok(SharePath(bytes.into()))
    }

    /// The path of `name` in this directory.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] past [`limits::PATH_BYTES_MAX`].
    pub fn join(&self, name: &Name) -> Result<SharePath, DecodeError> {
        let slash = usize::from(!self.0.is_empty());
        let len = self.0.len() + slash + name.as_bytes().len();
        if len > limits::PATH_BYTES_MAX {
            return Err(DecodeError::TooLong { what: "path", len: len as u64 });
        }
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(&self.0);
        if slash == 1 {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name.as_bytes());
        Ok(SharePath(bytes))
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Its names from the top down; none of the root.
    pub fn names(&self) -> impl Iterator<Item = Name> + '_ {
        let names = self.0.split(|&b| b == b'/').filter(|name| !name.is_empty());
        names.map(|name| Name::new(name).expect("checked when the path was made"))
    }

    /// The bytes, without a leading slash; empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same bytes as the standard library's paths want them; empty for the root.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }
}

impl fmt::Debug for SharePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"/{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for SharePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0.escape_ascii())
    }
}
