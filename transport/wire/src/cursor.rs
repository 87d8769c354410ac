//! Reading and writing the parts of a message: fixed structs through zerocopy, the rest with a length in front.

use bytes::Bytes;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::DecodeError;

/// Takes parts off the front of a message; never past its end.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when there are fewer.
    pub fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated { what })?;
        self.rest = rest;
        Ok(head)
    }

    /// A copy of the struct that comes next.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when it is cut short.
    pub fn fixed<T: FromBytes + KnownLayout + Immutable + Unaligned>(
        &mut self,
        what: &'static str,
    ) -> Result<T, DecodeError> {
        let bytes = self.take(size_of::<T>(), what)?;
        T::read_from_bytes(bytes).map_err(|_| DecodeError::Truncated { what })
    }

    /// One byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(self.take(1, what)?[0])
    }

    /// A little-endian number of two bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when it is cut short.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        Ok(self.fixed::<zerocopy::little_endian::U16>(what)?.get())
    }

    /// A little-endian number of four bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when it is cut short.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        Ok(self.fixed::<zerocopy::little_endian::U32>(what)?.get())
    }

    /// A little-endian number of eight bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when it is cut short.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        Ok(self.fixed::<zerocopy::little_endian::U64>(what)?.get())
    }

    /// Bytes with their length (two bytes) in front, at most `max`.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] above `max`, [`DecodeError::Truncated`] when they are cut short.
    pub fn short_bytes(&mut self, max: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let len = usize::from(self.u16(what)?);
        if len > max {
            return Err(DecodeError::TooLong { what, len: len as u64 });
        }
        self.take(len, what)
    }

    /// A count (two bytes), at most `max`.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] above `max`.
    pub fn count(&mut self, max: usize, what: &'static str) -> Result<usize, DecodeError> {
        let count = usize::from(self.u16(what)?);
        if count > max {
            return Err(DecodeError::TooLong { what, len: count as u64 });
        }
        Ok(count)
    }

    /// What has not been taken yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Ends the message.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`] when bytes are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(DecodeError::Trailing { extra }),
        }
    }
}

/// Room that a message takes at once: most need no more.
pub(crate) const USUAL_BYTES: usize = 256;

/// Puts parts at the end of a message.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    head_bytes: usize,
}

impl Writer {
    /// An empty message.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// An empty message behind a head of so many bytes, which [`Writer::finish`] brings: the head says how long it is.
    pub fn behind(head_bytes: usize) -> Writer {
        let mut bytes = Vec::with_capacity(USUAL_BYTES.max(head_bytes));
        bytes.resize(head_bytes, 0);
        Writer { bytes, head_bytes }
    }

    /// The whole message, its head in front.
    ///
    /// # Panics
    /// When the head is not as long as announced.
    pub fn finish<H: IntoBytes + Immutable + Unaligned>(mut self, head: &H) -> Bytes {
        self.bytes[..self.head_bytes].copy_from_slice(head.as_bytes());
        self.bytes.into()
    }

    /// A struct as it lies in memory.
    pub fn fixed<T: IntoBytes + Immutable + Unaligned>(&mut self, part: &T) {
        self.bytes.extend_from_slice(part.as_bytes());
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// A little-endian number of two bytes.
    pub fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// A little-endian number of four bytes.
    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// A little-endian number of eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes with their length (two bytes) in front.
    ///
    /// # Panics
    /// Above 65,535 bytes; every caller's type is bounded far below.
    pub fn short_bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    /// A count in two bytes.
    ///
    /// # Panics
    /// Above 65,535; every caller's type is bounded far below.
    pub fn count(&mut self, count: usize) {
        self.u16(u16::try_from(count).expect("counts are bounded by limits.rs"));
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.head_bytes
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was written so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.head_bytes..]
    }

    /// The message, without a head.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
