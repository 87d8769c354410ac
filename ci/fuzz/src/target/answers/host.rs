//! The host that lies: answers decoded from the input.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use transport::{Answer, Serve, SessionSummary};
use wire::{
    Attr, ByteLen, Entry, ErrorCode, FileId, FileKind, Grant, Listing, Name, Reply, Request, ShareId,
    Timestamp, Version, limits,
    listing::Statfs,
    message::{Call, FileWanted, Hello, ShareInfo, Welcome},
    version::PROTOCOL_VERSION,
};

use crate::{input::Input, target::attr::directory};

/// Bytes of data in the answers to one input: beyond it nothing new is found, only slowly.
const DATA_BYTES_MAX: usize = 2 << 20;
/// Entries of one page, for the same reason.
const ENTRIES_MAX: u8 = 12;

/// The answers to come; clones are the same list.
#[derive(Clone, Default)]
pub(super) struct Script(Arc<Mutex<Tape>>);

#[derive(Default)]
struct Tape {
    bytes: Vec<u8>,
    at: usize,
    data_left: usize,
}

impl Script {
    /// Begins anew.
    pub(super) fn load(&self, bytes: &[u8]) {
        *self.0.lock() = Tape { bytes: bytes.to_owned(), at: 0, data_left: DATA_BYTES_MAX };
    }

    /// The next answer; `None` for one that never comes.
    fn answer(&self, request: &Request) -> Option<Answer> {
        let mut tape = self.0.lock();
        let Tape { bytes, at, data_left } = &mut *tape;
        let mut input = Input::new(&bytes[*at..]);
        let answer = answer(request, &mut input, data_left);
        *at = bytes.len() - input.rest().len();
        answer
    }
}

/// A host that lets everybody in and answers by its script.
pub(super) struct Liar(Script);

impl Liar {
    pub(super) fn new(script: Script) -> Arc<Liar> {
        Arc::new(Liar(script))
    }
}

impl Serve for Liar {
    type Session = ();

    async fn admit(&self, _: Hello, _: [u8; 32], _: SocketAddr) -> Result<(Arc<()>, Welcome), ErrorCode> {
        let share = |id: u8| ShareInfo {
            id: ShareId(id.into()),
            name: Name::new(&[b'a' + id]).expect("a letter"),
            root: directory(),
        };
        let shares = (0..3).map(share).collect();
        Ok((Arc::new(()), Welcome { version: PROTOCOL_VERSION, session: 1, boot: 1, shares }))
    }

    async fn answer(&self, _: &Arc<()>, call: Call) -> Answer {
        match self.0.answer(&call.request) {
            Some(answer) => answer,
            // Until the mount gives up, which drops this.
            None => std::future::pending().await,
        }
    }

    fn ended(&self, _: &Arc<()>, _: &SessionSummary) {}
}

/// The byte of every file at an offset, by which a mount's reads are checked.
pub(super) fn pattern(at: u64) -> u8 {
    at.to_le_bytes().into_iter().fold(7, |sum, byte| sum ^ byte)
}

fn answer(request: &Request, input: &mut Input<'_>, data_left: &mut usize) -> Option<Answer> {
    Some(match input.u8() % 16 {
        0..=9 => fitting(request, input, data_left),
        10 | 11 => error(input).into(),
        12 => ErrorCode::Busy.into(),
        13 => return None,
        14 => of_kind(input.u8(), input).into(),
        _ => torn(request, input, data_left),
    })
}

fn error(input: &mut Input<'_>) -> Reply {
    let (number, detail) = (u16::from(input.u8()) + 1, input.short());
    Reply::Error {
        code: ErrorCode::from_number(number),
        detail: String::from_utf8_lossy(detail).into_owned(),
    }
}

/// An answer of the kind that was asked for.
fn fitting(request: &Request, input: &mut Input<'_>, data_left: &mut usize) -> Answer {
    let kind = match request {
        Request::Hello(_) => 0,
        Request::Stat(_) => 1,
        Request::List { .. } => 2,
        Request::Readlink(_) => 3,
        Request::Read { version, extent, .. } => {
            return data(*version, extent.start.0, extent.len.0, data_left);
        }
        Request::Verify { ranges, .. } => {
            // About as many as were asked about.
            let count =
                (ranges.len() + usize::from(input.u8() % 3)).saturating_sub(usize::from(input.u8() % 3));
            let equal = input.u8();
            let equal =
                (0..count.min(limits::VERIFY_RANGES_MAX)).map(|at| equal >> (at % 8) & 1 == 0).collect();
            return Reply::Verified { attr: attr(input), equal }.into();
        }
        Request::Statfs(_) => 5,
        Request::GetXattr { .. } | Request::ListXattr(_) => 6,
        Request::Lease { .. } => 8,
        Request::Release(_) => 9,
        Request::ReadFiles { files, .. } => return small_files(files, input, data_left),
    };
    of_kind(kind, input).into()
}

/// The data of a read, as long as asked for, while there is any left.
fn data(version: Version, start: u64, len: u64, data_left: &mut usize) -> Answer {
    let len_bytes = usize::try_from(len).unwrap_or(usize::MAX);
    let Some(left) = data_left.checked_sub(len_bytes) else { return ErrorCode::Io.into() };
    *data_left = left;
    let data: Bytes = (start..start + len).map(pattern).collect();
    Answer { reply: Reply::Data { version, len: u32::try_from(len).unwrap_or(u32::MAX) }, data }
}

/// The data of each file that the input does not refuse, while there is any left.
fn small_files(files: &[FileWanted], input: &mut Input<'_>, data_left: &mut usize) -> Answer {
    let mut all = Vec::new();
    let replies = files.iter().map(|file| {
        let len = file.version.size.0;
        let left = usize::try_from(len).ok().and_then(|len| data_left.checked_sub(len));
        let (Some(left), false) = (left, input.u8() % 8 == 7) else { return Err(ErrorCode::Stale) };
        *data_left = left;
        all.extend((0..len).map(pattern));
        Ok(u32::try_from(len).unwrap_or(u32::MAX))
    });
    Answer { reply: Reply::Files(replies.collect()), data: all.into() }
}

fn grant(number: u8) -> Option<Grant> {
    [None, Some(Grant::Granted), Some(Grant::Unwatchable), Some(Grant::Exhausted)][usize::from(number % 4)]
}

/// Data of another version or length than was asked for.
fn torn(request: &Request, input: &mut Input<'_>, data_left: &mut usize) -> Answer {
    let Request::Read { version, extent, .. } = request else { return of_kind(4, input).into() };
    let mut version = *version;
    let mut len = extent.len.0;
    match input.u8() % 3 {
        0 => version = attr(input).version(),
        1 => len = len.saturating_sub(input.u8().into()),
        _ => len = (len + u64::from(input.u8())).min(limits::READ_BYTES_MAX),
    }
    data(version, extent.start.0, len, data_left)
}

/// A reply of any kind, its contents from the input.
fn of_kind(kind: u8, input: &mut Input<'_>) -> Reply {
    match kind % 10 {
        0 => {
            let shares = (0..input.u8() % 4).map(|_| ShareInfo {
                id: ShareId(input.u16()),
                name: name(input),
                root: attr(input),
            });
            Reply::Welcome(Welcome {
                shares: shares.collect(),
                version: PROTOCOL_VERSION,
                session: 1,
                boot: 1,
            })
        }
        1 => Reply::Attr(attr(input)),
        2 => listing(input),
        3 => {
            let text: Vec<u8> = input.short().iter().map(|&byte| byte.max(1)).collect();
            Reply::Link(if text.is_empty() { Bytes::from_static(b"..") } else { text.into() })
        }
        4 => Reply::Data { version: attr(input).version(), len: 0 },
        5 => Reply::Statfs(Statfs {
            block_bytes: input.u32(),
            name_bytes_max: input.u32(),
            blocks: input.sized(),
            blocks_free: input.sized(),
            blocks_available: input.sized(),
            files: input.sized(),
            files_free: input.sized(),
        }),
        6 => Reply::Value(Bytes::copy_from_slice(input.short())),
        7 => Reply::Verified { attr: attr(input), equal: vec![true; usize::from(input.u8())] },
        8 => Reply::Leased { dir: attr(input), grant: grant(input.u8()).unwrap_or(Grant::Exhausted) },
        _ => Reply::Released,
    }
}

fn listing(input: &mut Input<'_>) -> Reply {
    let (count, flags) = (input.u8() % ENTRIES_MAX, input.u8());
    let (end, grant) = (!flags.is_multiple_of(4), grant(flags >> 6));
    let entries = (0..count).map(|_| {
        let (flags, name, cookie) = (input.u8(), name(input), input.sized());
        let kind = (flags & 1 == 0).then(|| kind_of(flags >> 4));
        let attr = (flags & 2 == 0).then(|| attr(input));
        Entry { name, cookie, kind, attr }
    });
    let entries = entries.collect();
    Reply::Listing(Listing { dir: attr(input), entries, end, grant })
}

/// One of a few names, so that they meet again; or any.
fn name(input: &mut Input<'_>) -> Name {
    match input.u8() {
        choice @ 0..=7 => Name::new(&[b'a' + choice]),
        _ => Name::new(input.short()),
    }
    .unwrap_or_else(|_| Name::new(b"\xff").expect("one byte"))
}

fn kind_of(number: u8) -> FileKind {
    FileKind::ALL[usize::from(number) % FileKind::ALL.len()]
}

/// Attributes of one of a few files, so that they meet again, and of any size.
fn attr(input: &mut Input<'_>) -> Attr {
    let (which, flags) = (input.u8(), input.u8());
    let inode = match which % 16 {
        15 => input.u64(),
        few => few.into(),
    };
    let time = |secs: u8| Timestamp { secs: i64::from(secs % 4), nanos: 0 };
    Attr {
        id: FileId { fs: u64::from(which >> 4) % 2 + 1, inode, birth: u64::from(which >> 5) % 2 * 3 },
        kind: kind_of(flags % 8),
        perm: u16::from(flags) << 4,
        links: flags.into(),
        size: ByteLen(input.sized().min(i64::MAX.unsigned_abs())),
        mtime: time(flags >> 3),
        ctime: time(flags >> 5),
        settled: flags & 0x80 == 0,
        ..directory()
    }
}
