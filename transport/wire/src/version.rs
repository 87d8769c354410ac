//! Versions: of a file's contents, and of the protocol.

use crate::{ByteLen, Timestamp};

/// The state of a file's contents as far as its attributes tell: equal versions, equal bytes.
///
/// Not so in two cases, both the caller's to handle: a file changed less than two clock ticks ago
/// ([`crate::Attr::settled`]) and a writer through a shared memory map, who moves no timestamp at his second store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// Length of the file.
    pub size: ByteLen,
    /// Last change of the contents, which any program may set back.
    pub mtime: Timestamp,
    /// Last change of contents or attributes, which only the clock sets.
    pub ctime: Timestamp,
}

/// The protocol version spoken by this crate; the first number both ends compare.
pub const PROTOCOL_VERSION: u16 = 3;

/// The ALPN name of the protocol: a peer that does not know it is refused during the handshake.
pub const ALPN: &[u8] = b"wormhole/1";
