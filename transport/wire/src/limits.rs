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
/// Ranges of one `Verify`: with a fingerprint and an extent each, about half of a request.
pub const VERIFY_RANGES_MAX: usize = 640;
/// Leases of one `Release`.
pub const RELEASE_MAX: usize = 1024;
/// Files of one `ReadFiles`; together at most [`READ_BYTES_MAX`].
pub const FILES_MAX: usize = 128;
/// Bytes of a push.
pub const PUSH_BYTES_MAX: usize = 64 * 1024;
/// Leases that one push takes back.
pub const REVOKED_MAX: usize = 4096;
/// Bytes of an extended attribute's name (`XATTR_NAME_MAX`, limits.h).
pub const XATTR_NAME_BYTES_MAX: usize = 255;
/// Bytes of an extended attribute's value or of the list of their names (`XATTR_SIZE_MAX`, limits.h).
pub const XATTR_BYTES_MAX: usize = 65_536;
/// Bytes of the text that explains an error to a person.
pub const DETAIL_BYTES_MAX: usize = 512;

// What the bounds above promise about each other; PROTOCOL.md, "Limits".
const SHORT_BYTES: usize = 2;
const TARGET_MAX: usize = 2 + SHORT_BYTES + PATH_BYTES_MAX + 1 + 24;
const CLAIMS_MAX: usize =
    8 + 1 + 8 + SHORT_BYTES + PATH_BYTES_MAX + 2 + SHARES_MAX * (SHORT_BYTES + NAME_BYTES_MAX);
const ATTR_BYTES: usize = 100;
const ENTRY_MAX: usize = 8 + 1 + 1 + SHORT_BYTES + NAME_BYTES_MAX + ATTR_BYTES;

const _: () = assert!(TARGET_MAX + 2 + VERIFY_RANGES_MAX * (12 + 1 + 32) <= REQUEST_BYTES_MAX);
const _: () = assert!(2 + RELEASE_MAX * 8 <= REQUEST_BYTES_MAX);
const _: () =
    assert!(TARGET_MAX + 2 + FILES_MAX * (SHORT_BYTES + NAME_BYTES_MAX + 24 + 32) <= REQUEST_BYTES_MAX);
const _: () = assert!(2 + REVOKED_MAX * 8 <= PUSH_BYTES_MAX);
// The count of a push's changes is two bytes; a change takes at least 5.
const _: () = assert!(PUSH_BYTES_MAX / 5 <= u16::MAX as usize);
const _: () = assert!(TARGET_MAX + SHORT_BYTES + XATTR_NAME_BYTES_MAX <= REQUEST_BYTES_MAX);
const _: () = assert!(2 + 2 + 32 + CLAIMS_MAX + SHORT_BYTES + NAME_BYTES_MAX <= REQUEST_BYTES_MAX);
// A page may run over by the entry that did not fit, where a host sends at least one.
const _: () = assert!(ATTR_BYTES + 4 + LISTING_BYTES_MAX as usize + ENTRY_MAX <= REPLY_BODY_BYTES_MAX);
// The count of a page's entries is two bytes; an entry takes at least 13.
const _: () = assert!(REPLY_BODY_BYTES_MAX / 13 <= u16::MAX as usize);
const _: () = assert!(XATTR_BYTES_MAX <= REPLY_BODY_BYTES_MAX);
const _: () = assert!(ATTR_BYTES + 2 + VERIFY_RANGES_MAX <= REPLY_BODY_BYTES_MAX);
const _: () =
    assert!(18 + 2 + SHARES_MAX * (2 + SHORT_BYTES + NAME_BYTES_MAX + ATTR_BYTES) <= REPLY_BODY_BYTES_MAX);
const _: () = assert!(
    32 + 32 + CLAIMS_MAX + 2 + ADDRESSES_MAX * (SHORT_BYTES + ADDRESS_BYTES_MAX) + 4 <= TICKET_BYTES_MAX
);
