//! One buffer of the pool, in the states of its life: [`Slot`], [`Filled`], [`Bytes`].

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use crate::class::SlotClass;
use crate::pool::Loan;

/// A buffer that is ours and writable; it goes home to its pool when dropped.
///
/// 4 KiB-aligned, so it serves direct I/O as it is. Its memory is always initialised (zeros, or what its last user left).
pub struct Slot {
    loan: Loan,
}

impl Slot {
    pub(crate) fn new(loan: Loan) -> Slot {
        Slot { loan }
    }

    /// The class it was lent as.
    pub fn class(&self) -> SlotClass {
        self.loan.class()
    }

    /// Bytes it holds, the class's size.
    pub fn capacity(&self) -> usize {
        self.class().bytes()
    }

    /// The whole capacity, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let capacity = self.capacity();
        let start = self.loan.address();
        // SAFETY: the loan spans `capacity` bytes of the mapping, which lives as long as the loan's `Arc`; the memory
        // is anonymous, so initialised; the loan is the range's only one until it goes home, this `Slot` its only
        // holder, and `&mut self` keeps any other slice of it away for the lifetime of this one.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), capacity) }
    }

    /// Ends the writing: the first `len` bytes are what it holds.
    ///
    /// # Panics
    /// When `len` exceeds the capacity.
    pub fn fill(self, len: usize) -> Filled {
        assert!(len <= self.capacity(), "{len} bytes do not fit a slot of {}", self.capacity());
        Filled { loan: self.loan, len }
    }

    /// The address of a range inside the slot, for the kernel.
    pub(crate) fn address(&self, range: SlotRange) -> std::ptr::NonNull<u8> {
        range.check(self.capacity());
        // SAFETY: `check` asserted that the range, so its start, is inside the loan's bytes.
        unsafe { self.loan.address().add(range.start) }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("class", &self.class()).finish_non_exhaustive()
    }
}

/// A part of a slot, in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRange {
    /// First byte; a multiple of the device's block for direct I/O.
    pub start: usize,
    /// Number of bytes; `start + len` is at most the slot's capacity.
    pub len: usize,
}

impl SlotRange {
    /// The first `len` bytes.
    pub const fn first(len: usize) -> SlotRange {
        SlotRange { start: 0, len }
    }

    /// Panics when the range leaves a slot of `capacity` bytes.
    pub(crate) fn check(self, capacity: usize) {
        let end = self.start.checked_add(self.len).expect("a range of a slot does not wrap");
        assert!(end <= capacity, "range {}..{end} leaves a slot of {capacity} bytes", self.start);
    }

    pub(crate) fn indices(self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

/// A buffer whose first `len` bytes are written: ours and readable.
pub struct Filled {
    loan: Loan,
    len: usize,
}

impl Filled {
    /// Bytes it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the pool it occupies, at least `len`.
    pub fn capacity(&self) -> usize {
        self.loan.class().bytes()
    }

    /// Gives what was written up: the buffer is writable again.
    pub fn into_slot(self) -> Slot {
        Slot { loan: self.loan }
    }

    /// Shares it without a copy: the slot goes home when the last clone or slice of the result drops.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        let start = self.loan.address();
        // SAFETY: `fill` asserted `len <= capacity`, so the range is inside the loan, which lives as long as `self`;
        // anonymous memory is initialised; `fill` took the only writable handle, so nobody writes while this is read.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), self.len) }
    }
}

impl From<Filled> for Bytes {
    fn from(filled: Filled) -> Bytes {
        filled.freeze()
    }
}

impl fmt::Debug for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filled")
            .field("class", &self.loan.class())
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
