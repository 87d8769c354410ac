//! Names: one component of a path, raw bytes as the kernel has them.

use std::fmt;

use crate::{error::DecodeError, limits};

/// One path component: 1 to 255 bytes, no `/`, no NUL, neither `.` nor `..`. Any other byte is allowed,
/// since file systems keep bytes, not text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Checks `bytes` and takes them as a name.
    ///
    /// # Errors
    /// [`DecodeError::BadName`] when they are not one.
    pub fn new(bytes: &[u8]) -> Result<Name, DecodeError> {
        Name::check(bytes)?;
        Ok(Name(bytes.into()))
    }

    /// What [`Name::new`] checks, without keeping the bytes.
    pub(crate) fn check(bytes: &[u8]) -> Result<(), DecodeError> {
        let fits = !bytes.is_empty() && bytes.len() <= limits::NAME_BYTES_MAX;
        if !fits || bytes == b"." || bytes == b".." || bytes.iter().any(|&b| b == b'/' || b == 0) {
            return Err(DecodeError::BadName);
        }
        Ok(())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<std::ffi::OsStr> for Name {
    fn as_ref(&self) -> &std::ffi::OsStr {
        std::os::unix::ffi::OsStrExt::from_bytes(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}
