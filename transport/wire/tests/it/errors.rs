//! Every way to refuse, caused.

use bytes::Bytes;
use wormhole_wire::{
    Attr, ByteLen, Change, Changes, Class, DecodeError, Entry, ErrorCode, FileId, FileKind, LeaseId, Listing,
    Name, Push, Reply, Request, ShareId, SharePath, Ticket, TicketId, Timestamp, Version,
    auth::{Claims, Mode, Secret},
    codec::{
        CallDecoder, PushDecoder, ReplyDecoder, encode_call, encode_push, encode_reply, encode_reply_as,
    },
    limits,
    message::{Call, FileWanted, Target},
    ticket::{TicketError, is_address},
    timing::Timing,
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
fn a_lease_has_a_number() {
    let bytes = [0_u8; 8];
    assert_eq!(call(10, 4, 8, &bytes), Err(DecodeError::OutOfRange { what: "lease" }));
    let one = [&[1, 0], &bytes[..]].concat();
    assert_eq!(call(11, 4, 10, &one), Err(DecodeError::OutOfRange { what: "lease" }));
    let many = u16::try_from(limits::RELEASE_MAX).unwrap() + 1;
    let error = DecodeError::TooLong { what: "leases", len: many.into() };
    assert_eq!(call(11, 4, 2, &many.to_le_bytes()), Err(error));
}

#[test]
fn files_are_no_longer_than_a_read_together() {
    let file = |size: u64| FileWanted {
        name: Name::new(b"f").unwrap(),
        id: FileId { fs: 1, inode: 2, birth: 3 },
        version: Version { size: ByteLen(size), mtime: Timestamp::default(), ctime: Timestamp::default() },
    };
    let ask = |sizes: &[u64]| {
        let dir = Target { share: ShareId(1), path: SharePath::root(), id: None };
        let request = Request::ReadFiles { dir, files: sizes.iter().map(|&size| file(size)).collect() };
        let call = Call { class: Class::Demand, id: 1, deadline_ms: 1, packs: false, request };
        CallDecoder::new().feed(&mut encode_call(&call)).map(|call| call.is_some())
    };
    let max = limits::READ_BYTES_MAX;
    assert_eq!(ask(&[0, max - 1, 1, 0]), Ok(true));
    assert_eq!(ask(&[0, max - 1, 2]), Err(DecodeError::TooLong { what: "files", len: max + 1 }));
    let long = i64::MAX.unsigned_abs();
    assert_eq!(ask(&[1, long]), Err(DecodeError::TooLong { what: "files", len: long + 1 }));
    assert_eq!(ask(&[0; limits::FILES_MAX + 1]), Err(DecodeError::TooLong { what: "files", len: 129 }));
}

#[test]
fn lengths_of_files_are_those_of_the_data() {
    let reply = Reply::Files(vec![Ok(3), Err(ErrorCode::Stale)]);
    let bytes = encode_reply(&reply).to_vec();
    let read = |bytes: &[u8]| ReplyDecoder::new().feed(&mut Bytes::copy_from_slice(bytes));
    assert_eq!(read(&bytes), Ok(Some(reply)));
    let with = |at: usize, value: u8| {
        let mut bent = bytes.clone();
        bent[at] = value;
        read(&bent)
    };
    // The header's length of all data, the length of the first file, that of the one that is not here.
    for (at, value) in [(8, 4), (16 + 4, 2)] {
        assert_eq!(with(at, value), Err(DecodeError::OutOfRange { what: "data length" }));
    }
    assert_eq!(with(16 + 2 + 6 + 2, 1), Err(DecodeError::OutOfRange { what: "file length" }));
    assert_eq!(with(8 + 3, 1), Err(DecodeError::TooLong { what: "data", len: (1 << 24) + 3 }));
}

/// A folder as people have them: names that count up, one owner, times of one day.
fn frames() -> Listing {
    let time = |secs: i64| Timestamp { secs: 1_790_000_000 + secs, nanos: 123_456_789 };
    let attr = |number: u64| Attr {
        id: FileId { fs: 7, inode: 1000 + number, birth: 1_790_000_000_000_000_000 + number * 7_919_113 },
        kind: FileKind::Regular,
        perm: 0o644,
        links: 1,
        uid: 1000,
        gid: 1000,
        rdev: 0,
        block_bytes: 4096,
        size: ByteLen(10_240 + number * 977 % 4096),
        blocks: 24,
        atime: time(3),
        mtime: time(2),
        ctime: time(2),
        settled: true,
    };
    let entry = |number: u64| Entry {
        name: Name::new(format!("shot.{number:04}.exr").as_bytes()).unwrap(),
        cookie: number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 1,
        kind: Some(FileKind::Regular),
        attr: Some(attr(number)),
    };
    Listing { dir: attr(0), entries: (1..=700).map(entry).collect(), end: true, grant: None }
}

#[test]
fn a_packed_listing_is_small_and_is_what_it_says() {
    let reply = Reply::Listing(frames());
    let plain = encode_reply(&reply).len();
    let packed = encode_reply_as(&reply, Timing::default(), true);
    assert!(packed.len() * 2 < plain, "{} of {plain} bytes", packed.len());
    let read = |bytes: &[u8]| ReplyDecoder::new().feed(&mut Bytes::copy_from_slice(bytes));
    assert_eq!(read(&packed), Ok(Some(reply)));
    let claims = |len: u32| {
        let mut bent = packed.to_vec();
        bent[16..20].copy_from_slice(&len.to_le_bytes());
        read(&bent)
    };
    let len = u32::from_le_bytes(packed[16..20].try_into().unwrap());
    for other in [0, len - 1, len + 1] {
        assert_eq!(claims(other), Err(DecodeError::OutOfRange { what: "packed listing" }), "{other}");
    }
    assert_eq!(claims(1 << 30), Err(DecodeError::TooLong { what: "packed listing", len: 1 << 30 }));
}

/// A push with this header and body.
fn push(kind: u8, len: u32, body: &[u8]) -> Result<Option<Push>, DecodeError> {
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend(len.to_le_bytes());
    bytes.extend(body);
    PushDecoder::new().feed(&mut Bytes::from(bytes))
}

#[test]
fn pushes_that_are_none_are_refused() {
    let len = u32::try_from(limits::PUSH_BYTES_MAX).unwrap();
    assert_eq!(push(3, len + 1, &[]), Err(DecodeError::TooLong { what: "push", len: (len + 1).into() }));
    assert_eq!(push(3, len, &[]), Ok(None));
    assert_eq!(push(9, 0, &[]), Err(DecodeError::Unknown { what: "push", value: 9 }));
    assert_eq!(push(3, 1, &[0]), Err(DecodeError::Trailing { extra: 1 }));
    assert_eq!(push(1, 10, &[0; 10]), Err(DecodeError::OutOfRange { what: "lease" }));
    assert_eq!(push(1, 10, &[1, 0, 0, 0, 0, 0, 0, 0, 9, 0]), Err(DecodeError::Truncated { what: "change" }));
    assert_eq!(push(2, 2, &[1, 16]), Err(DecodeError::TooLong { what: "leases", len: 4097 }));
    let dotted = [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0, b'.'];
    assert_eq!(push(1, 15, &dotted), Err(DecodeError::BadName));
}

#[test]
fn a_push_over_its_limit_is_a_bug_of_its_maker() {
    let name = Name::new(&[b'x'; 255]).unwrap();
    let changes = vec![Change { name, what: Changes::ATTR, linked: None }; 254];
    let push = Push::Changed { lease: LeaseId(1), changes };
    assert!(std::panic::catch_unwind(|| encode_push(&push)).is_err());
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
