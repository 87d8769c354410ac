//! The bytes of each kind of message, frozen.

use std::{fmt::Write, fs, path::PathBuf, time::Duration};

use bytes::Bytes;
use wormhole_wire::{
    Attr, ByteLen, Change, Changes, Entry, ErrorCode, Extent, FileId, FileKind, Grant, LeaseId, Listing,
    Name, Push, Reply, Request, ShareId, SharePath, Ticket, TicketId, Timestamp, Version,
    auth::{Claims, Mode, Proof, Secret},
    bound::Bound,
    chunk::ContentHash,
    codec::{ReplyDecoder, encode_call, encode_push, encode_reply, encode_reply_as},
    fingerprint::Fingerprint,
    listing::Statfs,
    message::{Call, Class, FileWanted, Hello, ShareInfo, Target, Welcome},
    timing::Timing,
};

const TIME: Timestamp = Timestamp { secs: 1_700_000_000, nanos: 5 };
const ID: FileId = FileId { fs: 0x11, inode: 0x22, birth: 0x33 };
const VERSION: Version =
    Version { size: ByteLen(4096), mtime: TIME, ctime: Timestamp { secs: -1, nanos: 6 } };

const TIMING: Timing =
    Timing { queue: Duration::from_millis(1), read: Duration::from_nanos(5_001), bound: Some(Bound::Cubic) };

fn attr() -> Attr {
    Attr {
        id: ID,
        kind: FileKind::Regular,
        perm: 0o644,
        links: 1,
        uid: 1000,
        gid: 1001,
        rdev: 0,
        block_bytes: 4096,
        size: VERSION.size,
        blocks: 8,
        atime: TIME,
        mtime: VERSION.mtime,
        ctime: VERSION.ctime,
        settled: true,
    }
}

fn claims() -> Claims {
    Claims {
        id: TicketId(*b"ticketid"),
        shares: vec![Name::new(b"films").unwrap()],
        prefix: SharePath::new(b"shots/010").unwrap(),
        mode: Mode::ReadOnly,
        expires: 1_800_000_000,
    }
}

fn target() -> Target {
    Target { share: ShareId(1), path: SharePath::new(b"a/b").unwrap(), id: Some(ID) }
}

fn requests() -> Vec<(&'static str, Request)> {
    let hello = Hello {
        version_min: 1,
        version_max: 2,
        claims: claims(),
        proof: Proof([0xee; 32]),
        label: "node7:/mnt".into(),
    };
    let root = Target { share: ShareId(1), path: SharePath::root(), id: None };
    let ranges = vec![
        (Extent::new(131_072, 512), Fingerprint::Blake3(ContentHash([0xcc; 32]))),
        (Extent::new(512, 4096), Fingerprint::Xxh3(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100)),
    ];
    vec![
        ("request_hello", Request::Hello(hello)),
        ("request_stat", Request::Stat(target())),
        (
            "request_list",
            Request::List { target: root, cookie: 7, bytes_max: 65_536, lease: Some(LeaseId(0x44)) },
        ),
        ("request_readlink", Request::Readlink(target())),
        (
            "request_read",
            Request::Read { target: target(), version: VERSION, extent: Extent::new(1024, 2048) },
        ),
        ("request_verify", Request::Verify { target: target(), ranges }),
        ("request_statfs", Request::Statfs(ShareId(1))),
        ("request_getxattr", Request::GetXattr { target: target(), name: b"user.note".into() }),
        ("request_listxattr", Request::ListXattr(target())),
        ("request_lease", Request::Lease { target: target(), lease: LeaseId(0x44) }),
        ("request_release", Request::Release(vec![LeaseId(0x44), LeaseId(0x45)])),
        (
            "request_readfiles",
            Request::ReadFiles {
                dir: target(),
                files: vec![FileWanted { name: Name::new(b"c").unwrap(), id: ID, version: VERSION }],
            },
        ),
    ]
}

fn replies() -> Vec<(&'static str, Reply)> {
    let shares = vec![ShareInfo { id: ShareId(1), name: Name::new(b"films").unwrap(), root: attr() }];
    let entry = |name: &[u8], attr| Entry {
        name: Name::new(name).unwrap(),
        cookie: 9,
        kind: Some(FileKind::Fifo),
        attr,
    };
    let entries = vec![entry(b"whole", Some(attr())), entry(b"bare\xff", None)];
    let statfs = Statfs {
        block_bytes: 4096,
        name_bytes_max: 255,
        blocks: 1,
        blocks_free: 2,
        blocks_available: 3,
        files: 4,
        files_free: 5,
    };
    vec![
        ("reply_welcome", Reply::Welcome(Welcome { version: 2, session: 2, boot: 3, shares })),
        ("reply_attr", Reply::Attr(attr())),
        (
            "reply_listing",
            Reply::Listing(Listing { dir: attr(), entries, end: true, grant: Some(Grant::Granted) }),
        ),
        ("reply_link", Reply::Link(Bytes::from_static(b"../c"))),
        ("reply_data", Reply::Data { version: VERSION, len: 2048 }),
        ("reply_verified", Reply::Verified { attr: attr(), equal: vec![true, false] }),
        ("reply_statfs", Reply::Statfs(statfs)),
        ("reply_value", Reply::Value(Bytes::from_static(b"good"))),
        ("reply_leased", Reply::Leased { dir: attr(), grant: Grant::Exhausted }),
        ("reply_released", Reply::Released),
        ("reply_files", Reply::Files(vec![Ok(4096), Err(ErrorCode::Stale), Ok(0)])),
        ("reply_error", Reply::Error { code: ErrorCode::Stale, detail: "moved".into() }),
    ]
}

fn pushes() -> Vec<(&'static str, Push)> {
    let change = |name: &[u8], what, linked| Change { name: Name::new(name).unwrap(), what, linked };
    let changes = vec![
        change(b"c", Changes::CREATED, Some(ID)),
        change(b"d\xff", Changes::CONTENT | Changes::ATTR, None),
    ];
    vec![
        ("push_changed", Push::Changed { lease: LeaseId(0x44), changes }),
        ("push_revoked", Push::Revoked(vec![LeaseId(0x44), LeaseId(0x45)])),
        ("push_revoked_all", Push::RevokedAll),
    ]
}

fn all() -> Vec<(&'static str, Vec<u8>)> {
    let call =
        |request| Call { class: Class::Demand, id: 0x0102_0304, deadline_ms: 30_000, packs: false, request };
    let mut all: Vec<(&str, Vec<u8>)> = Vec::new();
    all.extend(requests().into_iter().map(|(name, request)| (name, encode_call(&call(request)).into())));
    all.extend(replies().into_iter().map(|(name, reply)| (name, encode_reply(&reply).into())));
    all.extend(pushes().into_iter().map(|(name, push)| (name, encode_push(&push).into())));
    let timed = Reply::Data { version: VERSION, len: 2048 };
    all.push(("reply_data_timed", encode_reply_as(&timed, TIMING, false).into()));
    let secret = Secret::derive(&[5; 32], &claims());
    all.push(("proof", secret.prove(&claims(), &[6; 32]).0.into()));
    let addresses = vec!["server.example:4433".to_owned()];
    let ticket = Ticket { host_key: [0xaa; 32], addresses, claims: claims(), secret };
    all.push(("ticket", ticket.to_string().into()));
    all
}

/// Sixteen bytes a line.
fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(16) {
        for (at, byte) in line.iter().enumerate() {
            write!(text, "{}{byte:02x}", if at == 0 { "" } else { " " }).unwrap();
        }
        text.push('\n');
    }
    text
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn encodings_are_frozen() {
    let regenerate = std::env::var_os("WORMHOLE_GOLDEN").is_some_and(|value| value == "write");
    for (name, bytes) in all() {
        let path = root().join("tests/golden").join(format!("{name}.hex"));
        if regenerate {
            fs::write(&path, hex(&bytes)).unwrap();
        }
        let frozen = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            hex(&bytes),
            frozen,
            "{name} changed: that is a new protocol version. If it is meant: \
             WORMHOLE_GOLDEN=write cargo test -p wormhole-wire encodings_are_frozen"
        );
    }
}

#[test]
fn the_example_in_the_document_is_right() {
    let document = fs::read_to_string(root().join("PROTOCOL.md")).unwrap();
    let all = all();
    for name in ["request_stat", "reply_error"] {
        let (_, bytes) = all.iter().find(|(found, _)| *found == name).unwrap();
        assert!(document.contains(&hex(bytes)), "PROTOCOL.md lacks the bytes of {name}:\n{}", hex(bytes));
    }
}

#[test]
fn numbers_of_classes_and_file_kinds_are_frozen() {
    let request = Request::Statfs(ShareId(1));
    for (number, class) in
        [(1, Class::Warmup), (2, Class::Readahead), (3, Class::Metadata), (4, Class::Demand)]
    {
        let bytes =
            encode_call(&Call { class, id: 0, deadline_ms: 0, packs: false, request: request.clone() });
        assert_eq!(bytes[1], number, "{class:?}");
    }
    let kinds = [
        (1, FileKind::Regular),
        (2, FileKind::Directory),
        (3, FileKind::Symlink),
        (4, FileKind::Fifo),
        (5, FileKind::Socket),
        (6, FileKind::CharDevice),
        (7, FileKind::BlockDevice),
    ];
    for (number, kind) in kinds {
        let bytes = encode_reply(&Reply::Attr(Attr { kind, ..attr() }));
        assert_eq!(bytes[16 + 24], number, "{kind:?}");
    }
}

#[test]
fn a_reply_tells_its_time_to_who_asks() {
    let reply = Reply::Data { version: VERSION, len: 2048 };
    let mut decoder = ReplyDecoder::new();
    assert_eq!(decoder.timing(), Timing::default());
    assert_eq!(decoder.feed(&mut encode_reply_as(&reply, TIMING, false)).unwrap(), Some(reply));
    let Timing { queue, read, bound } = decoder.timing();
    assert_eq!(bound, TIMING.bound);
    // Rounded down by a thousandth at most.
    assert!(queue <= TIMING.queue && queue.as_nanos() >= 999_000, "{queue:?}");
    assert!(read <= TIMING.read && read.as_nanos() >= 4_996, "{read:?}");
}
