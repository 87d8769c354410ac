//! Which blocks to fetch for bytes that are in no cache. Pure.
//!
//! A sequential reader takes whole extents of 1 MiB, so that later replies are one slice. Any other read takes the
//! smallest aligned block that holds all of what is left of it, so that a 4 KiB read costs 4 KiB; above 128 KiB it is
//! cut at whole extents too. A file of at most one chunk is one block: it is mostly read to its end, and the kernel's
//! first request asks for less.

use uring::SlotClass;

use crate::readahead::Whole;

/// The class of the block to fetch at `at` for a read that goes on to `end` (exclusive), in a file of `size` bytes.
///
/// Blocks of runs are whole extents where `whole` says so, chunks elsewhere.
pub(super) fn class_at(at: u64, end: u64, whole: Whole, size: u64) -> SlotClass {
    if size <= wire::CHUNK_BYTES {
        return SlotClass::Chunk128K;
    }
    let extent = SlotClass::Extent1M.bytes() as u64;
    let start = at - at % extent;
    match whole {
        Whole::From(from) if start >= from => return SlotClass::Extent1M,
        Whole::Before(before) if start + extent <= before => return SlotClass::Extent1M,
        // The head of a run, before its first whole extent: smaller blocks would only be more requests.
        Whole::From(_) | Whole::Before(_) => return SlotClass::Chunk128K,
        Whole::Never => {}
    }
    let holds = |class: &SlotClass| {
        let bytes = class.bytes() as u64;
        end <= at - at % bytes + bytes
    };
    SlotClass::ALL.into_iter().find(holds).unwrap_or(SlotClass::Chunk128K)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;
    const RANDOM: Whole = Whole::Never;
    const LARGE: u64 = 1 << 30;

    #[test]
    fn lone_reads_fetch_the_smallest_block_that_holds_them() {
        assert_eq!(class_at(0, 4 * KIB, RANDOM, LARGE), SlotClass::Page4K);
        assert_eq!(class_at(12 * KIB, 16 * KIB, RANDOM, LARGE), SlotClass::Page4K);
        assert_eq!(class_at(0, 10 * KIB, RANDOM, LARGE), SlotClass::Block16K);
        assert_eq!(
            class_at(12 * KIB, 20 * KIB, RANDOM, LARGE),
            SlotClass::Chunk128K,
            "straddles two blocks of 16 KiB"
        );
        assert_eq!(class_at(0, 128 * KIB, RANDOM, LARGE), SlotClass::Chunk128K);
        assert_eq!(class_at(0, 256 * KIB, RANDOM, LARGE), SlotClass::Extent1M);
        assert_eq!(
            class_at(1000 * KIB, 1100 * KIB, RANDOM, LARGE),
            SlotClass::Chunk128K,
            "straddles two extents"
        );
    }

    #[test]
    fn small_file_is_one_block() {
        assert_eq!(class_at(0, 4 * KIB, RANDOM, 128 * KIB), SlotClass::Chunk128K);
        assert_eq!(class_at(0, 4 * KIB, RANDOM, 128 * KIB + 1), SlotClass::Page4K);
    }

    #[test]
    fn sequential_reads_fetch_whole_extents_past_the_head() {
        let head = Whole::From(256 * KIB);
        assert_eq!(class_at(256 * KIB, 512 * KIB, head, LARGE), SlotClass::Chunk128K);
        assert_eq!(class_at(1024 * KIB, 1028 * KIB, head, LARGE), SlotClass::Extent1M);
        assert_eq!(class_at(0, 4 * KIB, Whole::From(0), LARGE), SlotClass::Extent1M);
    }

    #[test]
    fn backward_reads_fetch_whole_extents_before_the_head() {
        let head = Whole::Before(3000 * KIB);
        assert_eq!(class_at(1500 * KIB, 1600 * KIB, head, LARGE), SlotClass::Extent1M);
        assert_eq!(class_at(2900 * KIB, 3000 * KIB, head, LARGE), SlotClass::Chunk128K);
    }
}
