//! Pushes: one after the other on the stream that the host opens.

use bytes::Bytes;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian::U32};

use super::{
    Gather, Header,
    attr::{read_id, write_id},
    request::{read_lease, read_leases, write_leases},
};
use crate::{
    DecodeError, Name,
    cursor::{Reader, Writer},
    lease::{Change, Changes, Push},
    limits,
};

// Numbers of pushes: never reused. PROTOCOL.md, "Pushes".
const CHANGED: u8 = 1;
const REVOKED: u8 = 2;
const REVOKED_ALL: u8 = 3;

const CHANGE_HAS_FILE_ID: u8 = 1;

/// In front of every push.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct PushHeader {
    /// Which push: `PROTOCOL.md`, "Pushes".
    pub kind: u8,
    /// Zero; a reader ignores it.
    pub reserved: [u8; 3],
    /// Bytes of the body, at most [`limits::PUSH_BYTES_MAX`].
    pub body_len: U32,
}

const _: () = assert!(size_of::<PushHeader>() == 8);

impl Header for PushHeader {
    const WHAT: &'static str = "push";
    const BODY_BYTES_MAX: usize = limits::PUSH_BYTES_MAX;
    fn body_len(&self) -> u32 {
        self.body_len.get()
    }
}

/// The bytes of a push, whole.
///
/// # Panics
/// When it is longer than [`limits::PUSH_BYTES_MAX`], which its maker counts.
pub fn encode_push(push: &Push) -> Bytes {
    let mut body = Writer::behind(size_of::<PushHeader>());
    let kind = match push {
        Push::Changed { lease, changes } => {
            body.u64(lease.0);
            body.count(changes.len());
            for change in changes {
                write_change(change, &mut body);
            }
            CHANGED
        }
        Push::Revoked(leases) => {
            write_leases(leases, &mut body);
            REVOKED
        }
        Push::RevokedAll => REVOKED_ALL,
    };
    assert!(body.len() <= limits::PUSH_BYTES_MAX, "a push of {} bytes", body.len());
    let body_len = U32::new(super::body_len(&body));
    body.finish(&PushHeader { kind, reserved: [0; 3], body_len })
}

/// Collects pushes from the pieces of a stream, one after the other.
#[derive(Debug, Default)]
pub struct PushDecoder(Gather<PushHeader>);

impl PushDecoder {
    /// A decoder at the start of a stream.
    pub fn new() -> PushDecoder {
        PushDecoder::default()
    }

    /// Takes what it needs off the front of `input`; a push once it is whole, and the decoder is ready for the next then.
    ///
    /// # Errors
    /// Any [`DecodeError`]; the stream is of no use after one.
    pub fn feed(&mut self, input: &mut Bytes) -> Result<Option<Push>, DecodeError> {
        let Some((header, body)) = self.0.feed(input)? else { return Ok(None) };
        let mut from = Reader::new(body);
        let push = read(header.kind, &mut from)?;
        from.finish()?;
        self.0.restart();
        Ok(Some(push))
    }

    /// Whether a push has begun and is not whole: a stream that ends here is cut short.
    pub fn is_within(&self) -> bool {
        !self.0.bytes.is_empty()
    }
}

fn read(kind: u8, from: &mut Reader<'_>) -> Result<Push, DecodeError> {
    Ok(match kind {
        CHANGED => {
            let lease = read_lease(from)?;
            let count = usize::from(from.u16("changes")?);
            // A change takes at least 5 bytes here and ten times that in memory: the vector grows with what is there.
            let mut changes = Vec::with_capacity(count.min(from.rest().len() / 5).min(256));
            for _ in 0..count {
                changes.push(read_change(from)?);
            }
            Push::Changed { lease, changes }
        }
        REVOKED => Push::Revoked(read_leases(from, limits::REVOKED_MAX)?),
        REVOKED_ALL => Push::RevokedAll,
        n => return Err(DecodeError::Unknown { what: "push", value: n.into() }),
    })
}

/// Bytes of a change on the wire.
pub(crate) fn change_bytes(change: &Change) -> usize {
    const FIXED: usize = 1 + 1 + 2;
    const FILE_ID: usize = 24;
    FIXED + change.name.as_bytes().len() + if change.linked.is_some() { FILE_ID } else { 0 }
}

fn write_change(change: &Change, out: &mut Writer) {
    out.u8(change.what.bits());
    out.u8(if change.linked.is_some() { CHANGE_HAS_FILE_ID } else { 0 });
    out.short_bytes(change.name.as_bytes());
    if let Some(id) = change.linked {
        write_id(id, out);
    }
}

fn read_change(from: &mut Reader<'_>) -> Result<Change, DecodeError> {
    let what = Changes::from_bits(from.u8("change")?);
    let flags = from.u8("change flags")?;
    let name = Name::new(from.short_bytes(limits::NAME_BYTES_MAX, "name")?)?;
    let linked = if flags & CHANGE_HAS_FILE_ID != 0 { Some(read_id(from)?) } else { None };
    Ok(Change { name, what, linked })
}
