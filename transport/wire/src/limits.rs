//! The largest of everything that a peer may send; checked before anything is allocated.

/// Bytes of one path component (`NAME_MAX`, limits.h).
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of a path inside a share (`PATH_MAX`, limits.h).
pub const PATH_BYTES_MAX: usize = 4096;
/// Bytes of a symlink's target.
pub const TARGET_BYTES_MAX: usize = 4096;
/// Shares of one host, and of one ticket.
pub const SHARES_MAX: usize = 10;
/// Addresses in a ticket: a host with several interfaces, each with IPv4 and IPv6.
pub const ADDRESSES_MAX: usize = 16;
/// Bytes of one address in a ticket: a DNS name (253) with its port.
pub const ADDRESS_BYTES_MAX: usize = 260;
/// Bytes of a ticket before its text encoding.
pub const TICKET_BYTES_MAX: usize = 12 * 1024;
/// Bytes of one read: a whole extent of the slab.
pub const READ_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of a request: a path, an attribute's name and a full [`VERIFY_RANGES_MAX`] with room to spare.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a reply's body, the data of a read apart.
pub const REPLY_BODY_BYTES_MAX: usize = 256 * 1024;
/// Bytes a mount may ask for as one page of a listing.
pub const LISTING_BYTES_MAX: u32 = 192 * 1024;
/// Ranges of one `Verify`: with a hash and an extent each, about half of a request.
pub const VERIFY_RANGES_MAX: usize = 640;
/// Bytes of an extended attribute's name (`XATTR_NAME_MAX`, limits.h).
pub const XATTR_NAME_BYTES_MAX: usize = 255;
/// Bytes of an extended attribute's value or of the list of their names (`XATTR_SIZE_MAX`, limits.h).
pub const XATTR_BYTES_MAX: usize = 65_536;
/// Bytes of the text that explains an error to a person.
pub const DETAIL_BYTES_MAX: usize = 512;
