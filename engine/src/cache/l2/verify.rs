//! Verifying: every record is read and checked, and what is bad is dropped.

use wire::{CHUNK_BYTES, Extent};

use super::L2;
use super::index::Entry;
use super::read::For;

/// How far a verification is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Records looked at.
    pub records: u64,
    /// Records that were there at the start.
    pub records_total: u64,
    /// Bytes looked at.
    pub bytes: u64,
}

/// What a verification found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Chunks whose bytes are those written.
    pub good: u64,
    /// Bytes of them.
    pub good_bytes: u64,
    /// Chunks that were not, and are dropped.
    pub bad: u64,
    /// Chunks that could not be read now, or were evicted meanwhile.
    pub unread: u64,
}

impl L2 {
    /// Reads every record and checks its hash, whether or not that was done before; drops what is bad.
    ///
    /// Takes as long as the disk takes to read everything; `progress` is told at least each thousand records. A dropped
    /// future ends it. To be called in a tokio runtime with time.
    pub async fn verify_all(&self, mut progress: impl FnMut(VerifyProgress)) -> Verified {
        let mut verified = Verified::default();
        let (pieces, records_total) = {
            let state = self.shared.state.lock();
            (state.index.pieces(), state.index.len() as u64)
        };
        let mut done = VerifyProgress { records_total, ..VerifyProgress::default() };
        for piece in 0..pieces {
            let mut entries: Vec<Entry> =
                self.shared.state.lock().index.piece(piece).map(|(_, entry)| *entry).collect();
            // As they lie on the disk.
            entries.sort_unstable_by_key(|entry| (entry.region, entry.block));
            for entry in entries {
                self.verify(&entry, &mut verified).await;
                done.records += 1;
                done.bytes += u64::from(entry.len());
            }
            progress(done);
        }
        verified
    }

    async fn verify(&self, entry: &Entry, verified: &mut Verified) {
        let start = u64::from(entry.chunk) * CHUNK_BYTES;
        let extent = Extent::new(start, u64::from(entry.len()));
        self.shared.state.lock().doubt(entry);
        let Some(found) = self.find(entry.content(), extent) else {
            verified.unread += 1;
            return;
        };
        let slot = self.shared.scratch.lend(found.class()).await;
        match self.shared.fill(&found, slot, For::Upkeep).await {
            Ok(_) => {
                verified.good += 1;
                verified.good_bytes += extent.len.0;
            }
            Err(_) if self.covered(entry.content(), extent) == 0 => verified.bad += 1,
            Err(_) => verified.unread += 1,
        }
    }
}
