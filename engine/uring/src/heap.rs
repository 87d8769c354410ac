//! The allocator's free memory.
//!
//! Invariant: none of ours; the calls take no pointer and touch free memory only.

/// Bytes that may stay free at the end of each heap: what bursts of packets and listings take and give back.
#[cfg(target_env = "gnu")]
const FREE_BYTES_MAX: std::ffi::c_int = 4 << 20;

/// An allocation of at least so many bytes is a mapping of its own, which goes back when it is freed.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES_MIN: std::ffi::c_int = 1 << 20;

/// Bounds what the allocator keeps free at the end of its heaps, for the rest of this process.
///
/// glibc lets it grow with the largest block that was ever freed, up to 64 MiB for each heap, of which there is one for
/// each few threads; and [`trim_heap`] leaves that part alone. Does nothing with other C libraries.
pub fn bound_free_heap() {
    #[cfg(target_env = "gnu")]
    for (option, bytes) in [(M_TRIM_THRESHOLD, FREE_BYTES_MAX), (M_MMAP_THRESHOLD, MAPPED_BYTES_MIN)] {
        // SAFETY: mallopt(3) has no preconditions, and is safe in threads; both values are within its range.
        unsafe { mallopt(option, bytes) };
    }
}

/// Gives memory that is free, but that the allocator keeps, back to the kernel.
///
/// glibc gives back by itself what is free at the end of a heap alone: one small block there holds back all before it.
/// Takes about a millisecond for each 4 MB given back, in which allocations of other threads may wait: for rest, not for
/// every day. Does nothing with other C libraries.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: malloc_trim(3) has no preconditions, and is safe in threads.
        unsafe { malloc_trim(0) };
    }
}

/// From malloc.h.
#[cfg(target_env = "gnu")]
const M_TRIM_THRESHOLD: std::ffi::c_int = -1;
#[cfg(target_env = "gnu")]
const M_MMAP_THRESHOLD: std::ffi::c_int = -3;

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    /// mallopt(3); whether the value was taken.
    fn mallopt(option: std::ffi::c_int, value: std::ffi::c_int) -> std::ffi::c_int;
    /// malloc_trim(3); whether anything was given back.
    fn malloc_trim(pad: usize) -> std::ffi::c_int;
}

#[cfg(all(test, target_env = "gnu", not(wormhole_asan)))]
mod tests {
    use super::*;

    fn resident_bytes() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("procfs");
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
    }

    #[test]
    fn freed_memory_below_a_block_in_use_goes_back() {
        const BLOCK: usize = 12 << 10;
        let mut blocks: Vec<Vec<u8>> = (0..16_384).map(|_| vec![1; BLOCK]).collect();
        let last = blocks.pop();
        let full = resident_bytes();
        drop(blocks);
        trim_heap();
        let left = resident_bytes();
        // Other tests of this process come and go: a quarter is for them.
        assert!(full - left > 16_384 * BLOCK / 4 * 3, "{full} bytes before, {left} after");
        assert_eq!(last.map_or(0, |last| last.len()), BLOCK);
    }
}
