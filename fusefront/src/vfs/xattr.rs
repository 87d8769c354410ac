//! Extended attributes: the host's, but for those that mean something on the host alone.

use bytes::Bytes;
use tokio::time::Instant;
use wire::{ErrorCode, Reply, Request, limits};

use super::{Vfs, inode::NodeId, known::Extra, unexpected};
use crate::error::VfsError;

/// Whether a mount has no attributes of this kind, whatever the host has.
///
/// Security labels and capabilities belong to the host's policy, and access control lists to the host's users: this
/// kernel enforces neither, the host does when it reads. `ls -l` asks for two of them for each file.
pub fn is_of_host_alone(name: &[u8]) -> bool {
    name.starts_with(b"security.") || name.starts_with(b"system.posix_acl_")
}

/// There are no attributes of that kind here. `ls` asks no more then, where it would go on file by file if one were absent.
pub fn unsupported() -> VfsError {
    VfsError::Host { code: ErrorCode::NotSupported, detail: String::new() }
}

/// There is no attribute of that name.
pub fn absent() -> VfsError {
    VfsError::Host { code: ErrorCode::NoAttribute, detail: String::new() }
}

impl Vfs {
    /// The value of an extended attribute.
    ///
    /// # Errors
    /// What the host says; [`VfsError::Stale`].
    pub async fn xattr(&self, node: NodeId, name: &[u8], deadline: Instant) -> Result<Bytes, VfsError> {
        if is_of_host_alone(name) {
            return Err(unsupported());
        }
        if self.0.is_folder_of_shares(node) || name.is_empty() || name.len() > limits::XATTR_NAME_BYTES_MAX {
            return Err(absent());
        }
        let (target, _) = self.0.target(node)?;
        let request = Request::GetXattr { target, name: name.into() };
        match self.0.call_node(request, deadline).await {
            Ok(Reply::Value(value)) => {
                self.0.note_extra(node, Extra::Xattr(name), &value);
                Ok(value)
            }
            Ok(other) => Err(unexpected(&other)),
            Err(error) => self.extra_away(node, Extra::Xattr(name), error),
        }
    }

    /// The names of the extended attributes, each ended by a NUL.
    ///
    /// # Errors
    /// What the host says; [`VfsError::Stale`].
    pub async fn xattr_names(&self, node: NodeId, deadline: Instant) -> Result<Bytes, VfsError> {
        if self.0.is_folder_of_shares(node) {
            return Ok(Bytes::new());
        }
        let (target, _) = self.0.target(node)?;
        match self.0.call_node(Request::ListXattr(target), deadline).await {
            Ok(Reply::Value(names)) if are_names(&names) => {
                let names = without_host_names(names);
                self.0.note_extra(node, Extra::XattrNames, &names);
                Ok(names)
            }
            Ok(Reply::Value(_)) => {
                Err(VfsError::Protocol { reason: "a list of names that are empty or not ended".to_owned() })
            }
            Ok(other) => Err(unexpected(&other)),
            Err(error) => self.extra_away(node, Extra::XattrNames, error),
        }
    }
}

/// Whether these are names as listxattr(2) gives them: none empty, each ended by a NUL.
fn are_names(list: &[u8]) -> bool {
    list.split_inclusive(|&byte| byte == 0).all(|name| name.len() > 1 && name.ends_with(b"\0"))
}

fn without_host_names(names: Bytes) -> Bytes {
    if !names.split(|&byte| byte == 0).any(is_of_host_alone) {
        return names;
    }
    let kept = names.split_inclusive(|&byte| byte == 0).filter(|name| !is_of_host_alone(name));
    kept.flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_names_are_looked_through() {
        for good in [&b""[..], b"user.a\0", b"a\0b\0"] {
            assert!(are_names(good), "{good:?}");
        }
        for bad in [&b"\0"[..], b"user.a", b"a\0\0b\0", b"a\0b", b"a\0\0"] {
            assert!(!are_names(bad), "{bad:?}");
        }
    }

    #[test]
    fn labels_and_access_lists_of_the_host_stay_there() {
        let names = Bytes::from_static(b"user.a\0security.selinux\0user.b\0system.posix_acl_access\0");
        assert_eq!(without_host_names(names), b"user.a\0user.b\0"[..]);
        let plain = Bytes::from_static(b"user.security.x\0trusted.y\0");
        assert_eq!(without_host_names(plain.clone()), plain);
        assert_eq!(without_host_names(Bytes::new()), Bytes::new());
    }
}
