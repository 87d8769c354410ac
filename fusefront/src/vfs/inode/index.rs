//! A table of numbers by the hash of what they stand for.
//!
//! It is in shards, so that it never moves more than one of them at once: a table of a million numbers in one piece
//! stalls its users for tens of milliseconds when it grows.

use hashbrown::HashTable;

/// As many shards: of 16 million numbers each holds 65,536, which it moves in about a millisecond.
const SHARDS: usize = 256;

/// A shard of at most so many numbers never shrinks.
const KEPT_MAX: usize = 16;

/// Numbers by the hash of what they stand for; about 6 to 11 bytes each, 23 after most were removed.
///
/// The caller knows the keys: it compares and hashes them anew.
pub(super) struct Index {
    shards: Box<[HashTable<u32>]>,
}

impl Index {
    /// An empty index.
    pub(super) fn new() -> Index {
        Index { shards: (0..SHARDS).map(|_| HashTable::new()).collect() }
    }

    /// The number under a hash that `is_it` accepts.
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.shards[shard_of(hash)].find(hash, |&number| is_it(number)).copied()
    }

    /// Adds a number that is not in it; `hash_of` gives the hash of each number.
    pub(super) fn insert(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        self.shards[shard_of(hash)].insert_unique(hash, number, |&number| hash_of(number));
    }

    /// Takes a number out, if it is in; `hash_of` as with [`Index::insert`].
    pub(super) fn remove(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        let shard = &mut self.shards[shard_of(hash)];
        if let Ok(entry) = shard.find_entry(hash, |&other| other == number) {
            entry.remove();
        }
        if shard.capacity() > KEPT_MAX && shard.len() < shard.capacity() / 4 {
            shard.shrink_to((2 * shard.len()).max(KEPT_MAX), |&number| hash_of(number));
        }
    }

    /// How many numbers are in it.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(HashTable::len).sum()
    }
}

/// Bits that a shard's own table does not use: that takes the lowest ones and the highest seven.
fn shard_of(hash: u64) -> usize {
    usize::from(hash.to_le_bytes()[5])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u32) -> u64 {
        u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    #[test]
    fn a_number_is_found_until_it_is_removed() {
        let mut index = Index::new();
        for number in 0..10_000 {
            index.insert(hash(number), number, hash);
        }
        assert!((0..10_000).all(|number| index.find(hash(number), |it| it == number) == Some(number)));
        assert_eq!(index.find(hash(10_000), |it| it == 10_000), None);
        for number in 0..9_999 {
            index.remove(hash(number), number, hash);
        }
        assert_eq!(index.len(), 1);
        assert_eq!(index.find(hash(9_999), |it| it == 9_999), Some(9_999));
        index.remove(hash(5), 5, hash);
        assert_eq!(index.len(), 1, "what is not in it is not removed");
    }

    #[test]
    fn numbers_of_one_hash_are_told_apart() {
        let mut index = Index::new();
        for number in 0..100 {
            index.insert(7, number, |_| 7);
        }
        assert_eq!(index.find(7, |it| it == 42), Some(42));
        index.remove(7, 42, |_| 7);
        assert_eq!(index.find(7, |it| it == 42), None);
        assert_eq!(index.find(7, |it| it == 43), Some(43));
    }

    #[test]
    fn an_index_that_emptied_gives_its_memory_back() {
        let mut index = Index::new();
        for number in 0..100_000 {
            index.insert(hash(number), number, hash);
        }
        for number in 0..100_000 {
            index.remove(hash(number), number, hash);
        }
        let left = index.shards.iter().map(HashTable::capacity).sum::<usize>();
        assert!(left <= SHARDS * 2 * KEPT_MAX, "room for {left}");
    }
}
