//! Extended attributes: the host's, but for those that mean something on the host alone.

use bytes::Bytes;
use tokio::time::Instant;
use wire::{ErrorCode, Reply, Request, limits};

use super::{Vfs, inode::NodeId, unexpected};
use crate::error::VfsError;

/// Whether a mount has no attribute of this name, whatever the host has.
///
/// Security labels and capabilities belong to the host's policy, and access control lists to the host's users: this
/// kernel enforces neither, the host does when it reads. `ls -l` asks for two of them for each file, which would be
/// two round trips: on 20,000 files 6 s instead of 0.1 s.
pub fn is_of_host_alone(name: &[u8]) -> bool {
    name.starts_with(b"security.") || name.starts_with(b"system.posix_acl_")
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
        if is_of_host_alone(name) || name.is_empty() || name.len() > limits::XATTR_NAME_BYTES_MAX {
            return Err(absent());
        }
        let (target, _) = self.0.target(node)?;
        let request = Request::GetXattr { target, name: name.into() };
        match self.0.call_node(request, deadline).await? {
            Reply::Value(value) => Ok(value),
            other => Err(unexpected(&other)),
        }
    }

    /// The names of the extended attributes, each ended by a NUL.
    ///
    /// # Errors
    /// What the host says; [`VfsError::Stale`].
    pub async fn xattr_names(&self, node: NodeId, deadline: Instant) -> Result<Bytes, VfsError> {
        let (target, _) = self.0.target(node)?;
        match self.0.call_node(Request::ListXattr(target), deadline).await? {
            Reply::Value(names) => Ok(without_host_names(names)),
            other => Err(unexpected(&other)),
        }
    }
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
    fn labels_and_access_lists_of_the_host_stay_there() {
        let names = Bytes::from_static(b"user.a\0security.selinux\0user.b\0system.posix_acl_access\0");
        assert_eq!(without_host_names(names), b"user.a\0user.b\0"[..]);
        let plain = Bytes::from_static(b"user.security.x\0trusted.y\0");
        assert_eq!(without_host_names(plain.clone()), plain);
        assert_eq!(without_host_names(Bytes::new()), Bytes::new());
    }
}
