//! Any bytes as a reply, in pieces of any size: what a mount reads of a host, listing pages among it.

use bytes::Bytes;
use wire::{
    Attr, Name, Reply,
    codec::{ReplyDecoder, encode_reply},
    limits,
};

/// Bytes of a reply's header.
const HEADER_BYTES: usize = 16;

/// The first byte is the size of the pieces, zero for one piece; the others are the stream.
pub(super) fn run(bytes: &[u8]) {
    let Some((&piece, stream)) = bytes.split_first() else { return };
    let stream = Bytes::copy_from_slice(stream);
    let mut whole = stream.clone();
    let at_once = ReplyDecoder::new().feed(&mut whole);

    let mut decoder = ReplyDecoder::new();
    let mut rest = stream.clone();
    let mut taken = 0;
    let in_pieces = loop {
        let len = if piece == 0 { rest.len() } else { rest.len().min(piece.into()) };
        let mut next = rest.split_to(len);
        let outcome = decoder.feed(&mut next);
        taken += len - next.len();
        match outcome {
            Ok(None) if !rest.is_empty() => assert!(next.is_empty(), "a piece inside a reply is taken whole"),
            outcome => break outcome,
        }
    };
    assert_eq!(in_pieces, at_once, "the pieces change the reply");

    let Ok(Some(reply)) = at_once else { return };
    assert_eq!(taken, stream.len() - whole.len(), "the pieces change where the reply, and so the data, ends");
    check(&reply);
    // Flags that are not known are dropped and a text is mended: what was read is kept, not each byte of it.
    let again = encode_reply(&reply);
    if !matches!(reply, Reply::Error { .. }) {
        assert_eq!(again.len(), taken, "{reply:?}");
    }
    let mut input = again.clone();
    assert_eq!(ReplyDecoder::new().feed(&mut input), Ok(Some(reply)));
    assert!(input.is_empty());
}

/// What a mount relies on.
fn check(reply: &Reply) {
    match reply {
        Reply::Welcome(welcome) => {
            assert!(welcome.shares.len() <= limits::SHARES_MAX);
            for share in &welcome.shares {
                check_name(&share.name);
                check_attr(&share.root);
            }
        }
        Reply::Attr(attr) => check_attr(attr),
        Reply::Listing(listing) => {
            check_attr(&listing.dir);
            let mut bytes = HEADER_BYTES;
            for entry in &listing.entries {
                check_name(&entry.name);
                if let Some(attr) = &entry.attr {
                    check_attr(attr);
                }
                bytes += entry.wire_bytes();
            }
            assert!(bytes <= HEADER_BYTES + limits::REPLY_BODY_BYTES_MAX);
        }
        Reply::Link(text) => {
            assert!(!text.is_empty() && text.len() <= limits::TARGET_BYTES_MAX && !text.contains(&0));
        }
        Reply::Data { version, len } => {
            assert!(u64::from(*len) <= limits::READ_BYTES_MAX && i64::try_from(version.size.0).is_ok());
        }
        Reply::Verified { attr, equal } => {
            check_attr(attr);
            assert!(equal.len() <= limits::VERIFY_RANGES_MAX);
        }
        Reply::Value(value) => assert!(value.len() <= limits::XATTR_BYTES_MAX),
        Reply::Error { detail, .. } => assert!(detail.len() <= limits::DETAIL_BYTES_MAX),
        Reply::Leased { dir, .. } => check_attr(dir),
        Reply::Files(files) => {
            assert!(files.len() <= limits::FILES_MAX && reply.data_bytes() <= limits::READ_BYTES_MAX);
        }
        Reply::Statfs(_) | Reply::Released => {}
    }
}

fn check_name(name: &Name) {
    let bytes = name.as_bytes();
    assert!(!bytes.is_empty() && bytes.len() <= limits::NAME_BYTES_MAX && bytes != b"." && bytes != b"..");
    assert!(!bytes.contains(&b'/') && !bytes.contains(&0), "{name:?}");
}

fn check_attr(attr: &Attr) {
    assert!(attr.perm <= 0o7777 && i64::try_from(attr.size.0).is_ok());
    assert!([attr.atime, attr.mtime, attr.ctime].iter().all(|time| time.nanos < 1_000_000_000));
}
