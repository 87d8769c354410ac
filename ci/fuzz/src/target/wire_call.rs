//! Any bytes as a request, in pieces of any size: what the host reads of a mount.

use bytes::Bytes;
use wire::{
    Name, Request, SharePath,
    codec::{CallDecoder, encode_call},
    limits,
    message::{Call, Target},
};

/// The first byte is the size of the pieces, zero for one piece; the others are the stream.
pub(super) fn run(bytes: &[u8]) {
    let Some((&piece, stream)) = bytes.split_first() else { return };
    let stream = Bytes::copy_from_slice(stream);
    let mut whole = stream.clone();
    let at_once = CallDecoder::new().feed(&mut whole);

    let mut decoder = CallDecoder::new();
    let mut rest = stream.clone();
    let mut taken = 0;
    let in_pieces = loop {
        let len = if piece == 0 { rest.len() } else { rest.len().min(piece.into()) };
        let mut next = rest.split_to(len);
        let outcome = decoder.feed(&mut next);
        taken += len - next.len();
        match outcome {
            Ok(None) if !rest.is_empty() => {
                assert!(next.is_empty(), "a piece inside a request is taken whole")
            }
            outcome => break outcome,
        }
    };
    assert_eq!(in_pieces, at_once, "the pieces change the request");

    let Ok(Some(call)) = at_once else { return };
    assert_eq!(taken, stream.len() - whole.len(), "the pieces change where the request ends");
    check(&call);
    // All but the reserved fields is kept.
    let mut canonical = stream[..taken].to_owned();
    canonical[2..4].fill(0);
    canonical[12..16].fill(0);
    let again = encode_call(&call);
    assert!(again == canonical, "{call:?} is written as {again:?}, it was read from {canonical:?}");
}

/// What the host relies on.
fn check(call: &Call) {
    match &call.request {
        Request::Hello(hello) => {
            assert!(hello.claims.shares.len() <= limits::SHARES_MAX);
            assert!(hello.label.len() <= limits::NAME_BYTES_MAX);
            check_path(&hello.claims.prefix);
        }
        Request::List { target, bytes_max, .. } => {
            assert!(*bytes_max <= limits::LISTING_BYTES_MAX);
            check_target(target);
        }
        Request::Read { target, version, extent } => {
            assert!(!extent.is_empty() && extent.len.0 <= limits::READ_BYTES_MAX);
            assert!(extent.end().0 <= version.size.0 && i64::try_from(version.size.0).is_ok());
            check_target(target);
        }
        Request::Verify { target, ranges } => {
            assert!(ranges.len() <= limits::VERIFY_RANGES_MAX);
            for (extent, _) in ranges {
                assert!(extent.len.0 <= limits::READ_BYTES_MAX && i64::try_from(extent.end().0).is_ok());
            }
            check_target(target);
        }
        Request::GetXattr { target, name } => {
            assert!(!name.is_empty() && name.len() <= limits::XATTR_NAME_BYTES_MAX && !name.contains(&0));
            check_target(target);
        }
        Request::Stat(target) | Request::Readlink(target) | Request::ListXattr(target) => {
            check_target(target);
        }
        Request::Lease { target, lease } => {
            assert!(lease.0 != 0);
            check_target(target);
        }
        Request::Release(leases) => {
            assert!(leases.len() <= limits::RELEASE_MAX && leases.iter().all(|lease| lease.0 != 0));
        }
        Request::ReadFiles { dir, files } => {
            assert!(files.len() <= limits::FILES_MAX);
            assert!(files.iter().map(|file| file.version.size.0).sum::<u64>() <= limits::READ_BYTES_MAX);
            check_target(dir);
        }
        Request::Statfs(_) => {}
    }
}

fn check_target(target: &Target) {
    check_path(&target.path);
}

/// Nothing that leaves the folder it is resolved in.
fn check_path(path: &SharePath) {
    assert!(path.as_bytes().len() <= limits::PATH_BYTES_MAX);
    let mut parts = path.as_bytes().split(|&byte| byte == b'/');
    assert!(path.is_root() || parts.all(|part| Name::new(part).is_ok()), "{path:?}");
}
