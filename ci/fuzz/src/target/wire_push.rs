//! Any bytes as the stream of pushes, in pieces of any size: what a host says of its own accord.

use bytes::Bytes;
use wire::{
    DecodeError, Push,
    codec::{PushDecoder, encode_push},
    limits,
};

/// The first byte is the size of the pieces, zero for one piece; the others are the stream.
pub(super) fn run(bytes: &[u8]) {
    let Some((&piece, stream)) = bytes.split_first() else { return };
    let stream = Bytes::copy_from_slice(stream);
    let at_once = all(&stream, stream.len());
    if piece != 0 {
        assert_eq!(all(&stream, piece.into()), at_once, "the pieces change the pushes");
    }
    for push in &at_once.0 {
        check(push);
        assert_eq!(all(&encode_push(push), usize::MAX), (vec![push.clone()], Ok(())));
    }
}

/// The pushes of a stream, and what ended them.
fn all(stream: &Bytes, piece: usize) -> (Vec<Push>, Result<(), DecodeError>) {
    let (mut decoder, mut rest, mut pushes) = (PushDecoder::new(), stream.clone(), Vec::new());
    while !rest.is_empty() {
        let mut next = rest.split_to(piece.min(rest.len()));
        loop {
            match decoder.feed(&mut next) {
                Ok(Some(push)) => pushes.push(push),
                Ok(None) => break,
                Err(error) => return (pushes, Err(error)),
            }
        }
        assert!(next.is_empty(), "a piece inside a push is taken whole");
    }
    (pushes, Ok(()))
}

/// What a mount relies on.
fn check(push: &Push) {
    match push {
        Push::Changed { lease, changes } => {
            assert!(lease.0 != 0);
            let bytes: usize = changes.iter().map(wire::Change::wire_bytes).sum();
            assert!(bytes <= limits::PUSH_BYTES_MAX);
        }
        Push::Revoked(leases) => {
            assert!(leases.len() <= limits::REVOKED_MAX && leases.iter().all(|lease| lease.0 != 0));
        }
        Push::RevokedAll => {}
    }
}
