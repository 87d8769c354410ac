//! Messages as bytes on a stream, and back; incremental, since a stream brings bytes as they come.
//!
//! A request is a [`RequestHeader`] and a body; the sender ends the stream after it. A reply is a [`ReplyHeader`],
//! a body and, for a read, the data. A [`PushHeader`] and a
//! body are a push, and the next one follows. `PROTOCOL.md` gives every byte.

use bytes::{Buf, Bytes};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

use crate::{
    DecodeError, Reply,
    cursor::{Reader, USUAL_BYTES, Writer},
    limits,
    message::{Call, Class},
    timing::Timing,
};

mod attr;
mod packed;
mod push;
mod reply;
mod request;

pub(crate) use push::change_bytes;
pub use push::{PushDecoder, PushHeader, encode_push};
pub(crate) use reply::entry_bytes;

/// A flag of [`RequestHeader`].
const CALL_PACKS: u16 = 1;

/// In front of every request.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RequestHeader {
    /// Which request: `PROTOCOL.md`, "Requests".
    pub kind: u8,
    /// [`Class`] as a number from 1.
    pub class: u8,
    /// Bit 0: a listing may come compressed. The others are zero; a reader ignores them.
    pub flags: U16,
    /// Bytes of the body, at most [`limits::REQUEST_BYTES_MAX`].
    pub body_len: U32,
    /// The mount's patience in milliseconds.
    pub deadline_ms: U32,
    /// Zero; a reader ignores it.
    pub reserved_2: U32,
    /// The mount's number for the request.
    pub id: U64,
}

/// In front of every reply.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ReplyHeader {
    /// Zero, or the number of an [`crate::ErrorCode`].
    pub status: U16,
    /// Which reply: `PROTOCOL.md`, "Replies"; zero with an error.
    pub kind: u8,
    /// The number of a [`crate::bound::Bound`], or zero.
    pub bound: u8,
    /// Bytes of the body, at most [`limits::REPLY_BODY_BYTES_MAX`].
    pub body_len: U32,
    /// Bytes of data after the body, at most [`limits::READ_BYTES_MAX`]; zero except for reads.
    pub data_len: U32,
    /// The times of a [`Timing`], or zero.
    pub times: U32,
}

const _: () = assert!(size_of::<RequestHeader>() == 24);
const _: () = assert!(size_of::<ReplyHeader>() == 16);

/// The bytes of a request, whole.
pub fn encode_call(call: &Call) -> Bytes {
    let mut body = Writer::behind(size_of::<RequestHeader>());
    let kind = request::write(&call.request, &mut body);
    let header = RequestHeader {
        kind,
        class: class_number(call.class),
        flags: U16::new(if call.packs { CALL_PACKS } else { 0 }),
        body_len: U32::new(body_len(&body)),
        deadline_ms: U32::new(call.deadline_ms),
        reserved_2: U32::ZERO,
        id: U64::new(call.id),
    };
    body.finish(&header)
}

/// The bytes of a reply up to its data, which the caller sends after them; nothing is said about its time.
pub fn encode_reply(reply: &Reply) -> Bytes {
    encode_reply_as(reply, Timing::default(), false)
}

/// The same, with the time it took; a listing compressed where that `packs` it well.
pub fn encode_reply_as(reply: &Reply, timing: Timing, packs: bool) -> Bytes {
    let mut body = Writer::behind(size_of::<ReplyHeader>());
    let (status, kind) = match (reply, packs) {
        (Reply::Listing(listing), true) => (0, packed::write(listing, &mut body)),
        _ => reply::write(reply, &mut body),
    };
    let data_len = u32::try_from(reply.data_bytes()).expect("data is bounded by limits.rs");
    let (bound, times) = timing.encode();
    let header = ReplyHeader {
        status: U16::new(status),
        kind,
        bound,
        body_len: U32::new(body_len(&body)),
        data_len: U32::new(data_len),
        times,
    };
    body.finish(&header)
}

fn body_len(body: &Writer) -> u32 {
    u32::try_from(body.len()).expect("bodies are bounded by limits.rs")
}

/// Collects a request from the pieces of a stream.
#[derive(Debug, Default)]
pub struct CallDecoder(Gather<RequestHeader>);

/// Collects a reply up to its data from the pieces of a stream.
#[derive(Debug, Default)]
pub struct ReplyDecoder(Gather<ReplyHeader>);

impl CallDecoder {
    /// A decoder at the start of a stream.
    pub fn new() -> CallDecoder {
        CallDecoder::default()
    }

    /// Takes what it needs off the front of `input`; the request once it is whole.
    ///
    /// # Errors
    /// Any [`DecodeError`]; the stream is of no use after one.
    pub fn feed(&mut self, input: &mut Bytes) -> Result<Option<Call>, DecodeError> {
        let Some((header, body)) = self.0.feed(input)? else { return Ok(None) };
        let class = class_from(header.class)?;
        let mut from = Reader::new(body);
        let request = request::read(header.kind, &mut from)?;
        from.finish()?;
        let packs = header.flags.get() & CALL_PACKS != 0;
        Ok(Some(Call { class, id: header.id.get(), deadline_ms: header.deadline_ms.get(), packs, request }))
    }
}

impl ReplyDecoder {
    /// A decoder at the start of a stream.
    pub fn new() -> ReplyDecoder {
        ReplyDecoder::default()
    }

    /// Takes what it needs off the front of `input`; the reply once it is whole. What is left of `input` then,
    /// and all that follows on the stream, is the data of a [`Reply::Data`] or a [`Reply::Files`].
    ///
    /// # Errors
    /// Any [`DecodeError`]; the stream is of no use after one.
    pub fn feed(&mut self, input: &mut Bytes) -> Result<Option<Reply>, DecodeError> {
        let Some((header, body)) = self.0.feed(input)? else { return Ok(None) };
        let mut from = Reader::new(body);
        let reply = reply::read(&header, &mut from)?;
        from.finish()?;
        Ok(Some(reply))
    }

    /// What the host said of the reply's time; nothing before its header is here.
    pub fn timing(&self) -> Timing {
        self.0.header.map_or(Timing::default(), |header| Timing::decode(header.bound, header.times))
    }
}

/// A header that says how long its body is.
trait Header: FromBytes + KnownLayout + Immutable + Unaligned + Copy {
    const WHAT: &'static str;
    const BODY_BYTES_MAX: usize;
    fn body_len(&self) -> u32;
}

impl Header for RequestHeader {
    const WHAT: &'static str = "request body";
    const BODY_BYTES_MAX: usize = limits::REQUEST_BYTES_MAX;
    fn body_len(&self) -> u32 {
        self.body_len.get()
    }
}

impl Header for ReplyHeader {
    const WHAT: &'static str = "reply body";
    const BODY_BYTES_MAX: usize = limits::REPLY_BODY_BYTES_MAX;
    fn body_len(&self) -> u32 {
        self.body_len.get()
    }
}

/// Bytes of a header and its body, as far as they have come.
#[derive(Debug)]
struct Gather<H> {
    bytes: Vec<u8>,
    header: Option<H>,
}

impl<H> Default for Gather<H> {
    fn default() -> Self {
        Gather { bytes: Vec::new(), header: None }
    }
}

impl<H: Header> Gather<H> {
    /// Grows with what has arrived, never further ahead of it than [`USUAL_BYTES`]: a claimed length allocates nothing.
    fn feed(&mut self, input: &mut Bytes) -> Result<Option<(H, &[u8])>, DecodeError> {
        let head = size_of::<H>();
        if self.header.is_none() {
            self.take(head, input);
            if self.bytes.len() < head {
                return Ok(None);
            }
            let header = Reader::new(&self.bytes).fixed::<H>(H::WHAT)?;
            let len = header.body_len();
            if len as usize > H::BODY_BYTES_MAX {
                return Err(DecodeError::TooLong { what: H::WHAT, len: len.into() });
            }
            self.header = Some(header);
        }
        let Some(header) = self.header else { return Ok(None) };
        let whole = head + header.body_len() as usize;
        self.take(whole, input);
        Ok((self.bytes.len() == whole).then(|| (header, &self.bytes[head..])))
    }

    /// Ready for the next message.
    fn restart(&mut self) {
        self.bytes = Vec::new();
        self.header = None;
    }

    fn take(&mut self, up_to: usize, input: &mut Bytes) {
        let len = up_to.saturating_sub(self.bytes.len()).min(input.len());
        if self.bytes.is_empty() {
            self.bytes.reserve(input.len().min(USUAL_BYTES));
        }
        self.bytes.extend_from_slice(&input[..len]);
        input.advance(len);
    }
}

fn class_number(class: Class) -> u8 {
    match class {
        Class::Warmup => 1,
        Class::Readahead => 2,
        Class::Metadata => 3,
        Class::Demand => 4,
    }
}

fn class_from(number: u8) -> Result<Class, DecodeError> {
    match number {
        1 => Ok(Class::Warmup),
        2 => Ok(Class::Readahead),
        3 => Ok(Class::Metadata),
        4 => Ok(Class::Demand),
        n => Err(DecodeError::Unknown { what: "class", value: n.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header that claims the longest body, and little after it.
    #[test]
    fn a_claimed_length_allocates_nothing() {
        let mut gather = Gather::<ReplyHeader>::default();
        let claim = u32::try_from(limits::REPLY_BODY_BYTES_MAX).unwrap();
        let mut bytes = vec![0_u8; size_of::<ReplyHeader>() + 100];
        bytes[4..8].copy_from_slice(&claim.to_le_bytes());
        let mut input = Bytes::from(bytes);
        assert!(gather.feed(&mut input).unwrap().is_none());
        assert!(input.is_empty());
        assert!(gather.bytes.capacity() <= 1024, "{}", gather.bytes.capacity());
    }

    #[test]
    fn gather_leaves_what_follows_the_body() {
        let mut gather = Gather::<ReplyHeader>::default();
        let mut bytes = vec![0_u8; 16];
        bytes[4] = 2;
        bytes.extend_from_slice(b"abcd");
        let mut input = Bytes::from(bytes);
        let (_, body) = gather.feed(&mut input).unwrap().unwrap();
        assert_eq!(body, b"ab");
        assert_eq!(&input[..], b"cd");
    }
}
