//! Any bytes at all: a value or an error, never a panic.

use bytes::Bytes;
use proptest::prelude::*;
use wormhole_wire::{
    Name, SharePath, Ticket,
    auth::Claims,
    codec::{CallDecoder, PushDecoder, ReplyDecoder, encode_call, encode_push, encode_reply},
    cursor::{Reader, Writer},
};

use crate::values;

/// A value that a decoder accepts is valid: written and read again, it is the same.
fn all_decoders(bytes: &[u8]) {
    if let Ok(Some(call)) = CallDecoder::new().feed(&mut Bytes::copy_from_slice(bytes)) {
        let mut again = encode_call(&call);
        assert_eq!(CallDecoder::new().feed(&mut again), Ok(Some(call)));
    }
    if let Ok(Some(reply)) = ReplyDecoder::new().feed(&mut Bytes::copy_from_slice(bytes)) {
        let mut again = encode_reply(&reply);
        assert_eq!(ReplyDecoder::new().feed(&mut again), Ok(Some(reply)));
    }
    if let Ok(Some(push)) = PushDecoder::new().feed(&mut Bytes::copy_from_slice(bytes)) {
        let mut again = encode_push(&push);
        assert_eq!(PushDecoder::new().feed(&mut again), Ok(Some(push)));
    }
}

fn bend(bytes: &[u8], at: usize, with: u8, keep: usize) -> Vec<u8> {
    let mut bent = bytes.to_owned();
    let at = at % bent.len();
    bent[at] ^= with;
    bent.truncate(bent.len() - keep % 4);
    bent
}

proptest! {
    #[test]
    fn decoders_take_any_bytes(bytes: Vec<u8>) {
        all_decoders(&bytes);
        let _ = Claims::read(&mut Reader::new(&bytes));
    }

    /// A right header, so that the bodies are reached.
    #[test]
    fn bodies_take_any_bytes(kind in 0..14_u8, status in 0..3_u8, body: Vec<u8>) {
        let len = u32::try_from(body.len()).unwrap().to_le_bytes();
        let mut call = vec![kind, 4, 0, 0];
        call.extend(len);
        call.extend([0; 16]);
        call.extend(&body);
        all_decoders(&call);
        let mut reply = vec![status, 0, kind, 0];
        reply.extend(len);
        reply.extend([0; 8]);
        reply.extend(&body);
        all_decoders(&reply);
        let mut push = vec![kind % 5, 0, 0, 0];
        push.extend(len);
        push.extend(&body);
        all_decoders(&push);
    }

    #[test]
    fn bent_messages_are_refused_or_valid(call in values::call(), reply in values::reply(), push in values::push(), at: usize, with: u8, keep: usize) {
        all_decoders(&bend(&encode_call(&call), at, with, keep));
        all_decoders(&bend(&encode_reply(&reply), at, with, keep));
        all_decoders(&bend(&encode_push(&push), at, with, keep));
    }

    #[test]
    fn a_bent_ticket_is_refused(ticket in values::ticket(), at in 4..1000_usize, with in 1..128_u8) {
        let mut bent = ticket.to_string().into_bytes();
        let at = 4 + at % (bent.len() - 4);
        bent[at] = (bent[at] ^ with) & 0x7f;
        if let Ok(read) = Ticket::parse(&String::from_utf8(bent).unwrap()) {
            // White space at the end is ignored; nothing else may pass.
            prop_assert_eq!(read, ticket);
        }
    }

    #[test]
    fn any_text_is_a_ticket_or_not(chars: Vec<char>, body: Vec<u8>) {
        let text: String = chars.into_iter().collect();
        let _ = Ticket::parse(&text);
        for rest in [text, body.escape_ascii().to_string()] {
            let read = Ticket::parse(&format!("wh1_{rest}"));
            prop_assert!(read.is_err(), "a checksum by chance");
        }
    }

    #[test]
    fn names_and_paths_keep_their_rules(bytes: Vec<u8>) {
        if let Ok(name) = Name::new(&bytes) {
            prop_assert!(!bytes.contains(&b'/') && !bytes.contains(&0));
            prop_assert_eq!(name.as_bytes(), &bytes[..]);
        }
        if let Ok(path) = SharePath::new(&bytes) {
            prop_assert_eq!(path.as_bytes(), &bytes[..]);
            prop_assert!(bytes.is_empty() || bytes.split(|&b| b == b'/').all(|part| Name::new(part).is_ok()));
        }
    }

    #[test]
    fn bent_claims_never_panic(claims in values::claims(), at: usize, with: u8, keep: usize) {
        let mut out = Writer::new();
        claims.write(&mut out);
        let _ = Claims::read(&mut Reader::new(&bend(out.as_bytes(), at, with, keep)));
    }
}
