//! What is written is what is read, however the stream cuts it.

use bytes::Bytes;
use proptest::prelude::*;
use wormhole_wire::{
    DecodeError, Reply, Ticket,
    auth::Claims,
    codec::{
        CallDecoder, PushDecoder, ReplyDecoder, encode_call, encode_push, encode_reply, encode_reply_as,
    },
    cursor::{Reader, Writer},
    limits,
    message::Call,
    timing::Timing,
};

use crate::values;

/// Feeds `bytes` in pieces of the given sizes, round and round; asserts that nothing is left over.
fn in_pieces<T>(
    bytes: &Bytes,
    sizes: &[usize],
    mut feed: impl FnMut(&mut Bytes) -> Result<Option<T>, DecodeError>,
) -> T {
    let mut rest = bytes.clone();
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let mut piece = rest.split_to((*sizes.next().unwrap()).min(rest.len()));
        let value = feed(&mut piece).unwrap();
        assert!(piece.is_empty(), "a piece inside the message is taken whole");
        match value {
            Some(value) => {
                assert!(rest.is_empty(), "whole before its last byte");
                return value;
            }
            None => assert!(!rest.is_empty(), "not whole after its last byte"),
        }
    }
    unreachable!("a message has bytes")
}

fn call_of(bytes: &Bytes, sizes: &[usize]) -> Call {
    let mut decoder = CallDecoder::new();
    in_pieces(bytes, sizes, |piece| decoder.feed(piece))
}

fn reply_of(bytes: &Bytes, sizes: &[usize]) -> Reply {
    let mut decoder = ReplyDecoder::new();
    in_pieces(bytes, sizes, |piece| decoder.feed(piece))
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(1..200_usize, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn calls_come_back(call in values::call(), sizes in sizes()) {
        let bytes = encode_call(&call);
        prop_assert_eq!(&call_of(&bytes, &[bytes.len()]), &call);
        prop_assert_eq!(&call_of(&bytes, &sizes), &call);
    }

    #[test]
    fn replies_come_back(reply in values::reply(), sizes in sizes()) {
        let bytes = encode_reply(&reply);
        prop_assert_eq!(&reply_of(&bytes, &[bytes.len()]), &reply);
        prop_assert_eq!(&reply_of(&bytes, &sizes), &reply);
    }

    #[test]
    fn packed_replies_come_back_and_are_no_longer(reply in values::reply(), sizes in sizes()) {
        let bytes = encode_reply_as(&reply, Timing::default(), true);
        prop_assert_eq!(&reply_of(&bytes, &sizes), &reply);
        prop_assert!(bytes.len() <= encode_reply(&reply).len());
    }

    /// One stream carries all of them.
    #[test]
    fn pushes_come_back_one_after_the_other(
        pushes in proptest::collection::vec(values::push(), 1..4),
        sizes in sizes(),
    ) {
        let stream: Vec<u8> = pushes.iter().flat_map(encode_push).collect();
        let mut rest = Bytes::from(stream);
        let (mut decoder, mut found) = (PushDecoder::new(), Vec::new());
        for size in sizes.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let mut piece = rest.split_to(size.min(rest.len()));
            while let Some(push) = decoder.feed(&mut piece).unwrap() {
                found.push(push);
            }
            prop_assert!(piece.is_empty(), "a piece inside a push is taken whole");
        }
        prop_assert!(!decoder.is_within());
        prop_assert_eq!(found, pushes);
    }

    #[test]
    fn data_after_a_reply_is_left_alone(reply in values::reply(), data: Vec<u8>) {
        let mut input = Bytes::from([&encode_reply(&reply)[..], &data[..]].concat());
        prop_assert_eq!(ReplyDecoder::new().feed(&mut input).unwrap(), Some(reply));
        prop_assert_eq!(&input[..], &data[..]);
    }

    #[test]
    fn tickets_come_back(ticket in values::ticket()) {
        let text = format!("  {ticket}\n");
        prop_assert_eq!(Ticket::parse(&text), Ok(ticket));
    }

    #[test]
    fn claims_come_back(claims in values::claims()) {
        let mut out = Writer::new();
        claims.write(&mut out);
        let mut from = Reader::new(out.as_bytes());
        prop_assert_eq!(Claims::read(&mut from), Ok(claims));
        prop_assert_eq!(from.finish(), Ok(()));
    }
}

#[test]
fn the_longest_value_comes_back() {
    let reply = Reply::Value(Bytes::from(vec![7; limits::XATTR_BYTES_MAX]));
    assert_eq!(reply_of(&encode_reply(&reply), &[1000]), reply);
}

#[test]
fn a_long_detail_is_cut_at_a_character() {
    let reply = Reply::Error { code: wormhole_wire::ErrorCode::Io, detail: format!("x{}", "é".repeat(400)) };
    let Reply::Error { detail, .. } = reply_of(&encode_reply(&reply), &[9]) else { panic!("an error") };
    assert_eq!(detail, format!("x{}", "é".repeat(255)));
}
