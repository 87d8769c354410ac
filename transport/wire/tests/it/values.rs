//! Arbitrary valid messages.

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};
use wormhole_wire::{
    Attr, ByteLen, Change, Changes, Entry, ErrorCode, Extent, FileId, FileKind, Grant, LeaseId, Listing,
    Name, Push, Reply, Request, ShareId, SharePath, Ticket, TicketId, Timestamp, Version,
    auth::{Claims, Mode, Proof, Secret},
    chunk::ContentHash,
    fingerprint::Fingerprint,
    limits,
    listing::Statfs,
    message::{Call, Class, FileWanted, Hello, ShareInfo, Target, Welcome},
};

pub(crate) fn name() -> impl Strategy<Value = Name> {
    vec(any::<u8>(), 1..=255).prop_filter_map("a name", |bytes| {
        let clean: Vec<u8> = bytes.into_iter().map(|b| if b == 0 || b == b'/' { b'x' } else { b }).collect();
        Name::new(&clean).ok()
    })
}

fn path() -> impl Strategy<Value = SharePath> {
    vec(name(), 0..12)
        .prop_map(|names| names.iter().fold(SharePath::root(), |path, name| path.join(name).unwrap()))
}

fn time() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0..1_000_000_000_u32).prop_map(|(secs, nanos)| Timestamp { secs, nanos })
}

fn file_id() -> impl Strategy<Value = FileId> {
    any::<(u64, u64, u64)>().prop_map(|(fs, inode, birth)| FileId { fs, inode, birth })
}

fn kind() -> impl Strategy<Value = FileKind> {
    (0..7_usize).prop_map(|index| FileKind::ALL[index])
}

fn version() -> impl Strategy<Value = Version> {
    (0..1_u64 << 63, time(), time()).prop_map(|(size, mtime, ctime)| Version {
        size: ByteLen(size),
        mtime,
        ctime,
    })
}

fn attr() -> impl Strategy<Value = Attr> {
    let numbers = any::<(u32, u32, u32, u32, u32, u64, bool)>();
    (file_id(), kind(), 0..=0o7777_u16, numbers, time(), version()).prop_map(
        |(id, kind, perm, n, atime, v)| Attr {
            id,
            kind,
            perm,
            links: n.0,
            uid: n.1,
            gid: n.2,
            rdev: n.3,
            block_bytes: n.4,
            size: v.size,
            blocks: n.5,
            atime,
            mtime: v.mtime,
            ctime: v.ctime,
            settled: n.6,
        },
    )
}

fn target() -> impl Strategy<Value = Target> {
    (any::<u16>(), path(), option::of(file_id())).prop_map(|(share, path, id)| Target {
        share: ShareId(share),
        path,
        id,
    })
}

fn extent() -> impl Strategy<Value = Extent> {
    (0..1_u64 << 62, 0..=limits::READ_BYTES_MAX).prop_map(|(start, len)| Extent::new(start, len))
}

pub(crate) fn claims() -> impl Strategy<Value = Claims> {
    (any::<[u8; 8]>(), vec(name(), 0..=limits::SHARES_MAX), path(), any::<u64>()).prop_map(
        |(id, shares, prefix, expires)| Claims {
            id: TicketId(id),
            shares,
            prefix,
            mode: Mode::ReadOnly,
            expires,
        },
    )
}

fn hello() -> impl Strategy<Value = Hello> {
    (any::<(u16, u16, [u8; 32])>(), claims(), vec(any::<char>(), 0..60)).prop_map(|(n, claims, label)| {
        Hello {
            version_min: n.0,
            version_max: n.1,
            claims,
            proof: Proof(n.2),
            label: label.into_iter().collect(),
        }
    })
}

fn read() -> impl Strategy<Value = Request> {
    (target(), version(), 1..=limits::READ_BYTES_MAX, any::<u64>()).prop_map(
        |(target, mut version, len, at)| {
            version.size = ByteLen(version.size.0.max(len));
            let extent = Extent::new(at % (version.size.0 - len + 1), len);
            Request::Read { target, version, extent }
        },
    )
}

fn lease() -> impl Strategy<Value = LeaseId> {
    (1..=u64::MAX).prop_map(LeaseId)
}

/// A file that fits as often as a request may ask for one.
fn file_wanted() -> impl Strategy<Value = FileWanted> {
    (name(), file_id(), version(), 0..=limits::READ_BYTES_MAX / limits::FILES_MAX as u64).prop_map(
        |(name, id, version, len)| FileWanted {
            name,
            id,
            version: Version { size: ByteLen(len), ..version },
        },
    )
}

fn grant() -> impl Strategy<Value = Grant> {
    (0..3_usize).prop_map(|index| [Grant::Granted, Grant::Unwatchable, Grant::Exhausted][index])
}

/// Files that are here and such that are not.
fn files() -> impl Strategy<Value = Vec<Result<u32, ErrorCode>>> {
    let len_max = u32::try_from(limits::READ_BYTES_MAX).unwrap() / 128;
    let file = prop_oneof![
        (0..=len_max).prop_map(Ok),
        (1..=u16::MAX).prop_map(|number| Err(ErrorCode::from_number(number))),
    ];
    vec(file, 0..=limits::FILES_MAX)
}

pub(crate) fn push() -> impl Strategy<Value = Push> {
    let change = (name(), any::<u8>(), option::of(file_id())).prop_map(|(name, bits, linked)| Change {
        name,
        what: Changes::from_bits(bits),
        linked,
    });
    prop_oneof![
        (lease(), vec(change, 0..=200)).prop_map(|(lease, changes)| Push::Changed { lease, changes }),
        vec(lease(), 0..=limits::REVOKED_MAX).prop_map(Push::Revoked),
        Just(Push::RevokedAll),
    ]
}

pub(crate) fn request() -> impl Strategy<Value = Request> {
    let fingerprint = prop_oneof![
        any::<[u8; 32]>().prop_map(|hash| Fingerprint::Blake3(ContentHash(hash))),
        any::<u128>().prop_map(Fingerprint::Xxh3),
    ];
    let ranges = vec((extent(), fingerprint), 0..=limits::VERIFY_RANGES_MAX);
    prop_oneof![
        hello().prop_map(Request::Hello),
        target().prop_map(Request::Stat),
        (target(), any::<u64>(), 0..=limits::LISTING_BYTES_MAX, option::of(lease())).prop_map(
            |(target, cookie, bytes_max, lease)| Request::List { target, cookie, bytes_max, lease }
        ),
        target().prop_map(Request::Readlink),
        read(),
        (target(), ranges).prop_map(|(target, ranges)| Request::Verify { target, ranges }),
        any::<u16>().prop_map(|share| Request::Statfs(ShareId(share))),
        (target(), vec(1..=255_u8, 1..=255)).prop_map(|(target, name)| Request::GetXattr { target, name }),
        target().prop_map(Request::ListXattr),
        (target(), lease()).prop_map(|(target, lease)| Request::Lease { target, lease }),
        vec(lease(), 0..=limits::RELEASE_MAX).prop_map(Request::Release),
        (target(), vec(file_wanted(), 0..=limits::FILES_MAX))
            .prop_map(|(dir, files)| Request::ReadFiles { dir, files }),
    ]
}

pub(crate) fn call() -> impl Strategy<Value = Call> {
    let classes = [Class::Warmup, Class::Readahead, Class::Metadata, Class::Demand];
    let parts = (0..4_usize, any::<u64>(), any::<u32>(), any::<bool>(), request());
    parts.prop_map(move |(class, id, deadline_ms, packs, request)| Call {
        class: classes[class],
        id,
        deadline_ms,
        packs,
        request,
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    (name(), any::<u64>(), option::of(kind()), option::of(attr()))
        .prop_map(|(name, cookie, kind, attr)| Entry { name, cookie, kind, attr })
}

fn share() -> impl Strategy<Value = ShareInfo> {
    (any::<u16>(), name(), attr()).prop_map(|(id, name, root)| ShareInfo { id: ShareId(id), name, root })
}

fn statfs() -> impl Strategy<Value = Statfs> {
    any::<(u32, u32, [u64; 5])>().prop_map(|(block_bytes, name_bytes_max, n)| Statfs {
        block_bytes,
        name_bytes_max,
        blocks: n[0],
        blocks_free: n[1],
        blocks_available: n[2],
        files: n[3],
        files_free: n[4],
    })
}

pub(crate) fn reply() -> impl Strategy<Value = Reply> {
    let data_max = u32::try_from(limits::READ_BYTES_MAX).unwrap();
    prop_oneof![
        (any::<(u16, u64, u64)>(), vec(share(), 0..=limits::SHARES_MAX)).prop_map(|(n, shares)| {
            Reply::Welcome(Welcome { version: n.0, session: n.1, boot: n.2, shares })
        }),
        attr().prop_map(Reply::Attr),
        (attr(), vec(entry(), 0..40), any::<bool>(), option::of(grant()))
            .prop_map(|(dir, entries, end, grant)| Reply::Listing(Listing { dir, entries, end, grant })),
        vec(1..=255_u8, 1..=limits::TARGET_BYTES_MAX).prop_map(|bytes| Reply::Link(Bytes::from(bytes))),
        (version(), 0..=data_max).prop_map(|(version, len)| Reply::Data { version, len }),
        (attr(), vec(any::<bool>(), 0..=limits::VERIFY_RANGES_MAX))
            .prop_map(|(attr, equal)| Reply::Verified { attr, equal }),
        statfs().prop_map(Reply::Statfs),
        vec(any::<u8>(), 0..2000).prop_map(|bytes| Reply::Value(Bytes::from(bytes))),
        (attr(), grant()).prop_map(|(dir, grant)| Reply::Leased { dir, grant }),
        Just(Reply::Released),
        files().prop_map(Reply::Files),
        (1..=u16::MAX, vec(any::<char>(), 0..100)).prop_map(|(number, detail)| Reply::Error {
            code: ErrorCode::from_number(number),
            detail: detail.into_iter().collect(),
        }),
    ]
}

pub(crate) fn ticket() -> impl Strategy<Value = Ticket> {
    let address = (vec(b'a'..=b'z', 1..=250), 1..=u16::MAX)
        .prop_map(|(host, port)| format!("{}:{port}", String::from_utf8(host).unwrap()));
    (any::<([u8; 32], [u8; 32])>(), vec(address, 1..=limits::ADDRESSES_MAX), claims()).prop_map(
        |((host_key, secret), addresses, claims)| Ticket {
            host_key,
            addresses,
            claims,
            secret: Secret::from_bytes(secret),
        },
    )
}
