//! Every way to refuse, caused.

use bytes::Bytes;
use wormhole_wire::{
    DecodeError, ErrorCode, Name, Reply, SharePath, Ticket, TicketId,
    auth::{Claims, Mode, Secret},
    codec::{CallDecoder, ReplyDecoder, encode_reply},
    limits,
    message::Call,
    ticket::{TicketError, is_address},
};

/// A request with this header and body.
fn call(kind: u8, class: u8, len: u32, body: &[u8]) -> Result<Option<Call>, DecodeError> {
    let mut bytes = vec![kind, class, 0, 0];
    bytes.extend(len.to_le_bytes());
    bytes.extend([0; 16]);
    bytes.extend(body);
    CallDecoder::new().feed(&mut Bytes::from(bytes))
}

fn ticket(addresses: &[&str]) -> Ticket {
    let claims = Claims {
        id: TicketId([1; 8]),
        shares: vec![],
        prefix: SharePath::root(),
        mode: Mode::ReadOnly,
        expires: 0,
    };
    let addresses = addresses.iter().map(|text| (*text).to_owned()).collect();
    Ticket { host_key: [2; 32], addresses, claims, secret: Secret::from_bytes([0xab; 32]) }
}

#[test]
fn a_short_body_is_truncated() {
    assert_eq!(call(7, 4, 1, &[0]), Err(DecodeError::Truncated { what: "share" }));
}

#[test]
fn a_long_body_is_trailing() {
    assert_eq!(call(7, 4, 3, &[0; 3]), Err(DecodeError::Trailing { extra: 1 }));
}

#[test]
fn a_claimed_length_over_the_limit_is_refused_at_the_header() {
    let len = u32::try_from(limits::REQUEST_BYTES_MAX).unwrap() + 1;
    assert_eq!(call(7, 4, len, &[]), Err(DecodeError::TooLong { what: "request body", len: len.into() }));
    assert_eq!(call(7, 4, len - 1, &[]), Ok(None));
}

#[test]
fn unknown_kinds_and_classes_are_named() {
    assert_eq!(call(99, 4, 0, &[]), Err(DecodeError::Unknown { what: "request", value: 99 }));
    assert_eq!(call(7, 9, 2, &[0; 2]), Err(DecodeError::Unknown { what: "class", value: 9 }));
}

#[test]
fn bad_names_are_refused() {
    for bytes in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'x'; 256]] {
        assert_eq!(Name::new(bytes), Err(DecodeError::BadName));
    }
    for bytes in [&b"/"[..], b"/a", b"a/", b"a//b", b"a/../b"] {
        assert_eq!(SharePath::new(bytes), Err(DecodeError::BadName));
    }
    assert_eq!(SharePath::new(&[b'x'; 4097]), Err(DecodeError::TooLong { what: "path", len: 4097 }));
}

#[test]
fn data_belongs_to_a_read_that_succeeded() {
    let mut bytes = encode_reply(&Reply::error(ErrorCode::Io)).to_vec();
    bytes[2] = 5;
    bytes[8] = 1;
    let result = ReplyDecoder::new().feed(&mut Bytes::from(bytes));
    assert_eq!(result, Err(DecodeError::OutOfRange { what: "data length" }));
}

#[test]
fn tickets_say_what_is_wrong() {
    assert_eq!(Ticket::parse("hello"), Err(TicketError::NotATicket));
    assert_eq!(Ticket::parse("wh2_abc"), Err(TicketError::Newer));
    let text = ticket(&["host:4433"]).to_string();
    assert_eq!(Ticket::parse(&text[..text.len() - 3]), Err(TicketError::Damaged));
    assert_eq!(Ticket::parse("wh1_"), Err(TicketError::Damaged));
    let none = DecodeError::OutOfRange { what: "number of addresses" };
    assert_eq!(Ticket::parse(&ticket(&[]).to_string()), Err(TicketError::Malformed(none)));
}

#[test]
fn addresses_have_a_host_and_a_port() {
    for good in ["host:1", "10.0.0.1:4433", "[::1]:65535"] {
        assert!(is_address(good), "{good}");
    }
    for bad in ["", "host", ":1", "host:", "host:0", "host:+1", "host:65536", "a b:1", "höst:1"] {
        assert!(!is_address(bad), "{bad}");
    }
}

#[test]
fn a_ticket_in_a_log_shows_no_secret() {
    let shown = format!("{:?}", ticket(&["host:1"]));
    assert!(shown.contains("Secret(hidden)"));
    assert!(!shown.contains("171, 171"), "{shown}");
}
