//! Fingerprints: by which the bytes of a range are recognised again.

use twox_hash::XxHash3_128;

use crate::chunk::ContentHash;

/// What the bytes of a range are recognised by: equal fingerprints of one kind, equal bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fingerprint {
    /// What the disk cache has of its chunks.
    Blake3(ContentHash),
    /// XXH3, 128 bits: a fifth of the time, for what is in memory and compared with the file it came from. Whoever could
    /// make two contents of one fingerprint can write the file anyway.
    Xxh3(u128),
}

impl Fingerprint {
    /// The fingerprint of bytes in memory.
    pub fn of(bytes: &[u8]) -> Fingerprint {
        Fingerprint::Xxh3(XxHash3_128::oneshot(bytes))
    }

    /// What makes a fingerprint of this kind, to compare with this one.
    pub fn fingerprinter(&self) -> Fingerprinter {
        match self {
            Fingerprint::Blake3(_) => Fingerprinter::Blake3(Box::default()),
            Fingerprint::Xxh3(_) => Fingerprinter::Xxh3(Box::default()),
        }
    }
}

/// A fingerprint in the making.
pub enum Fingerprinter {
    /// Of a [`Fingerprint::Blake3`].
    Blake3(Box<blake3::Hasher>),
    /// Of a [`Fingerprint::Xxh3`].
    Xxh3(Box<XxHash3_128>),
}

impl Fingerprinter {
    /// Takes the bytes that follow.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Fingerprinter::Blake3(hasher) => _ = hasher.update(bytes),
            Fingerprinter::Xxh3(hasher) => hasher.write(bytes),
        }
    }

    /// The fingerprint of all that was taken.
    pub fn finish(self) -> Fingerprint {
        match self {
            Fingerprinter::Blake3(hasher) => Fingerprint::Blake3(ContentHash(*hasher.finalize().as_bytes())),
            Fingerprinter::Xxh3(hasher) => Fingerprint::Xxh3(hasher.finish_128()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_in_pieces_is_that_of_the_whole() {
        let bytes: Vec<u8> = (0..300_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for expected in [Fingerprint::of(&bytes), Fingerprint::Blake3(ContentHash::of(&bytes))] {
            let mut made = expected.fingerprinter();
            bytes.chunks(131_072).for_each(|piece| made.update(piece));
            assert_eq!(made.finish(), expected);
        }
    }

    #[test]
    fn a_fingerprint_is_the_published_one() {
        // xxhsum -H2 of nothing (XXH3_128bits).
        assert_eq!(Fingerprint::of(b""), Fingerprint::Xxh3(0x99aa_06d3_0147_98d8_6001_c324_468d_497f));
        assert_ne!(Fingerprint::of(b"a"), Fingerprint::of(b"b"));
    }
}
