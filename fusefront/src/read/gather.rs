//! One slice out of several: fuser replies with one, and the kernel asks across blocks.

use bytes::Bytes;
use engine::cache::l1::Pressure;
use uring::SlotClass;

use super::{Inner, Piece};

impl Inner {
    /// The pieces as one slice; `None` when one is missing or short: never fewer bytes than asked for.
    ///
    /// One piece is passed on as it is. Several are copied into a slot, since fuser 0.18 takes a single slice.
    pub(super) fn assemble(&self, pieces: &[Piece]) -> Option<Bytes> {
        match pieces {
            [] => Some(Bytes::new()),
            [piece] => piece.ready(),
            _ => {
                let parts = pieces.iter().map(Piece::ready).collect::<Option<Vec<_>>>()?;
                Some(self.copy_gather(&parts))
            }
        }
    }

    fn copy_gather(&self, pieces: &[Bytes]) -> Bytes {
        let len: usize = pieces.iter().map(Bytes::len).sum();
        self.stats.copied_gather_bytes.add(len as u64);
        let slot = SlotClass::for_len(len).and_then(|class| self.l1.try_lend(class, Pressure::Served));
        let Some(mut slot) = slot else { return pieces.concat().into() };
        let mut at = 0;
        for piece in pieces {
            slot.bytes_mut()[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }
        slot.fill(len).freeze()
    }
}
