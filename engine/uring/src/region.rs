//! The one mapping behind a pool, and every raw address into it.
//!
//! Invariant: a `Region` hands out addresses and slices of `[base, base + len)` only, and is unmapped when its last user
//! is gone. Who may touch which part, and when, is the loan's business (`slot.rs`, `flight.rs`): one loan, one range.

use std::io;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// An anonymous, private, zeroed, page-aligned mapping.
///
/// Not inherited by a forked child: a page that is copied on write while the device fills it would lose the data on one
/// of the two sides. Not part of a core dump: it holds users' files. No huge-page advice: an idle mount must stay
/// under 50 MB, and 2 MiB pages would keep twice the extents that are in use.
#[derive(Debug)]
pub(crate) struct Region {
    base: NonNull<u8>,
    len: usize,
}

/// Whether a part of the slab is lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A loan spans it.
    Someone,
    /// It is home: no code of ours may read or write it.
    Nobody,
}

// SAFETY: the mapping belongs to the process, not to a thread; `Region` itself only does address arithmetic, and its
// unsafe methods put the duty of exclusive access on their callers.
unsafe impl Send for Region {}
// SAFETY: as above; no method of `&Region` reads or writes the mapping without the caller's promise.
unsafe impl Sync for Region {}

impl Region {
    /// Maps `len` bytes, a positive multiple of the page size.
    pub(crate) fn map(len: usize) -> io::Result<Region> {
        // SAFETY: a null address with no MAP_FIXED lets the kernel choose, so that no existing mapping is replaced.
        let mapped = unsafe {
            mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        }?;
        let base =
            NonNull::new(mapped.cast::<u8>()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        let region = Region { base, len };
        for advice in [Advice::LinuxDontFork, Advice::LinuxDontDump] {
            // SAFETY: the range is the mapping made above, and neither advice changes what its bytes hold here.
            unsafe { madvise(region.base.as_ptr().cast(), len, advice) }?;
        }
        region.mark(0, len, Owner::Nobody);
        Ok(region)
    }

    /// The address of `[offset, offset + len)`.
    ///
    /// # Panics
    /// When the range leaves the mapping, which would be a bug of the pool.
    pub(crate) fn address(&self, offset: usize, len: usize) -> NonNull<u8> {
        let end = offset.checked_add(len).expect("a range of the slab does not wrap");
        assert!(end <= self.len, "range {offset}..{end} leaves the slab of {} bytes", self.len);
        // SAFETY: `offset <= end <= self.len` was asserted, so the address is inside the one mapping or at its end.
        unsafe { self.base.add(offset) }
    }

    /// Marks the range as someone's, or as nobody's: under the address sanitizer a touch of the latter is an error.
    /// Without it (`--cfg wormhole_asan`) nothing happens.
    pub(crate) fn mark(&self, offset: usize, len: usize, owner: Owner) {
        let _start = self.address(offset, len);
        #[cfg(wormhole_asan)]
        asan::mark(_start, len, owner);
        #[cfg(not(wormhole_asan))]
        let _ = owner;
    }

    /// Gives the memory of `[offset, offset + len)` back to the kernel; it reads as zeros when touched again.
    ///
    /// # Safety
    /// Nobody, the kernel's operations in flight included, may hold the range: its bytes are lost.
    pub(crate) unsafe fn give_back(&self, offset: usize, len: usize) -> io::Result<()> {
        let start = self.address(offset, len);
        // SAFETY: `address` asserted that the range is inside the mapping; the caller owns it alone.
        unsafe { madvise(start.as_ptr().cast(), len, Advice::LinuxDontNeed) }?;
        Ok(())
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        self.mark(0, self.len, Owner::Someone);
        // SAFETY: `base` and `len` are those of `map`; each loan holds an `Arc` of the pool that owns this region, and
        // each operation in flight holds its loan, so that nobody is left to touch the range.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "munmap of a whole mapping: {unmapped:?}");
    }
}

/// The address sanitizer's view of the slab, which it cannot know by itself: it only follows the heap.
#[cfg(wormhole_asan)]
pub(crate) mod asan {
    #[cfg(test)]
    use std::ffi::c_int;
    use std::ffi::c_void;
    use std::ptr::NonNull;

    use super::Owner;

    // SAFETY: the declarations of <sanitizer/asan_interface.h>.
    unsafe extern "C" {
        fn __asan_poison_memory_region(start: *const c_void, len: usize);
        fn __asan_unpoison_memory_region(start: *const c_void, len: usize);
        #[cfg(test)]
        fn __asan_address_is_poisoned(address: *const c_void) -> c_int;
    }

    pub(super) fn mark(start: NonNull<u8>, len: usize, owner: Owner) {
        let start = start.as_ptr().cast_const().cast();
        match owner {
            // SAFETY: changes the sanitizer's shadow of a range that the caller's region maps, no memory of ours.
            Owner::Someone => unsafe { __asan_unpoison_memory_region(start, len) },
            // SAFETY: as above.
            Owner::Nobody => unsafe { __asan_poison_memory_region(start, len) },
        }
    }

    /// Whether a touch of this byte would be reported.
    #[cfg(test)]
    pub(crate) fn is_poisoned(address: *const u8) -> bool {
        // SAFETY: reads the sanitizer's shadow of the address, not the address.
        unsafe { __asan_address_is_poisoned(address.cast()) != 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_past_the_end_is_refused() {
        let region = Region::map(4096).unwrap();
        assert_eq!(region.address(4096, 0).as_ptr() as usize - region.address(0, 1).as_ptr() as usize, 4096);
        assert!(std::panic::catch_unwind(|| region.address(4000, 97)).is_err());
        assert!(std::panic::catch_unwind(|| region.address(usize::MAX, 2)).is_err());
    }
}
