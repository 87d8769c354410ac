//! The four sizes in which the slab is lent.

/// Size of a slot: each class is a whole number of the one below it, so that a slot splits and coalesces in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlotClass {
    /// 4 KiB: the kernel's page, and the smallest demand read.
    Page4K,
    /// 16 KiB: a demand read whose neighbours hit.
    Block16K,
    /// 128 KiB: one chunk, the unit of hashing and of L2 records.
    Chunk128K,
    /// 1 MiB: one whole extent of the slab, for sequential cursors.
    Extent1M,
}

impl SlotClass {
    /// Every class, smallest first.
    pub const ALL: [SlotClass; 4] =
        [SlotClass::Page4K, SlotClass::Block16K, SlotClass::Chunk128K, SlotClass::Extent1M];

    /// Capacity of a slot of this class, in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            SlotClass::Page4K => 4 << 10,
            SlotClass::Block16K => 16 << 10,
            SlotClass::Chunk128K => 128 << 10,
            SlotClass::Extent1M => 1 << 20,
        }
    }

    /// The smallest class that holds `len` bytes; `None` above 1 MiB.
    pub fn for_len(len: usize) -> Option<SlotClass> {
        Self::ALL.into_iter().find(|class| len <= class.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_class_that_holds_it_is_chosen() {
        assert_eq!(SlotClass::for_len(0), Some(SlotClass::Page4K));
        for class in SlotClass::ALL {
            assert_eq!(SlotClass::for_len(class.bytes()), Some(class));
        }
        assert_eq!(SlotClass::for_len(4097), Some(SlotClass::Block16K));
        assert_eq!(SlotClass::for_len((128 << 10) + 1), Some(SlotClass::Extent1M));
        assert_eq!(SlotClass::for_len((1 << 20) + 1), None);
    }
}
