//! Asking the host whether what was handed out of a changed file is still in it.

use std::{sync::Arc, time::Duration};

use engine::cache::BlockKey;
use tokio::time::{Instant, sleep, timeout_at};
use wire::{
    Attr, ByteLen, CHUNK_BYTES, Class, Extent, Reply, Request, Version,
    chunk::ChunkIndex,
    fingerprint::Fingerprint,
    limits::{READ_BYTES_MAX, VERIFY_RANGES_MAX},
    message::Target,
};

use super::{
    Inner, Locate,
    content::{Content, Standing},
};
use crate::error::VfsError;

/// How soon a file that changed while it was looked at is looked at again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// Why a look at the host came to nothing.
pub(super) enum Failed {
    /// The file changed meanwhile: look again.
    Moved,
    For(VfsError),
}

impl From<VfsError> for Failed {
    fn from(error: VfsError) -> Failed {
        match error {
            VfsError::Stale => Failed::Moved,
            other => Failed::For(other),
        }
    }
}

/// A block in L1 that nobody was given: if it is not in the host's file any more, it only leaves the cache.
struct Unread {
    key: BlockKey,
    claim: (Extent, Fingerprint),
}

impl Inner {
    /// Settles contents in doubt: they move to the host's version, or are stale.
    ///
    /// A dropped future leaves them in doubt, for the next read to settle.
    pub(super) async fn revalidate(
        &self,
        content: &Arc<Content>,
        locate: &dyn Locate,
        deadline: Instant,
    ) -> Result<(), VfsError> {
        let Ok(_gate) = timeout_at(deadline, content.gate.lock()).await else {
            return Err(VfsError::Deadline);
        };
        // Before a look at what memory holds of them.
        if content.standing() == Standing::Suspect {
            self.note_moved(content);
        }
        let (mut pause, pause_max) = PAUSE;
        loop {
            match content.standing() {
                Standing::Current => return Ok(()),
                Standing::Stale => return Err(VfsError::Stale),
                Standing::Suspect => {}
            }
            match self.look(content, locate, deadline).await {
                Ok(()) => {}
                Err(Failed::For(error)) => return Err(error),
                Err(Failed::Moved) if Instant::now() + pause >= deadline => return Err(VfsError::Deadline),
                Err(Failed::Moved) => {
                    sleep(pause).await;
                    pause = (pause * 2).min(pause_max);
                }
            }
        }
    }

    /// One look: the host's version, and whether all that was handed out is in it.
    async fn look(&self, content: &Content, locate: &dyn Locate, deadline: Instant) -> Result<(), Failed> {
        let target = locate.target().map_err(Failed::For)?;
        let attr = match self.stat(&target, deadline).await {
            // It is another file, whatever its version: so says a host that contradicts itself.
            Ok(attr) if target.id.is_some_and(|id| id != attr.id) => {
                content.condemn();
                return Ok(());
            }
            // Its name leads to another file, or nowhere, and the host has let it go: it cannot be read any more.
            Err(VfsError::Stale) => {
                content.condemn();
                return Ok(());
            }
            outcome => outcome?,
        };
        let version = attr.version();
        self.prove_kept(content).await;
        let claims = content.claims();
        // The same version says nothing while it is not settled; the first look after that has to agree.
        let same = version == claims.version && (claims.settled || !attr.settled);
        // Never one shorter than the kernel may know of, even if nothing was handed out: it would show zeros from the new end
        // on when a notification of this file comes between a read of it and the answer.
        let ranges = claims.ranges.filter(|_| version.size >= claims.told);
        if !same {
            let Some(ranges) = ranges else {
                content.condemn();
                return Ok(());
            };
            self.stats.verifications.add(1);
            if !self.verify(&target, &version, &ranges, deadline).await?.iter().all(|&equal| equal) {
                content.condemn();
                return Ok(());
            }
            self.verify_unread(content, &target, (&claims.version, &version), deadline).await?;
        }
        content.settle_on(version, attr.settled);
        Ok(())
    }

    /// Fetches the hashes that the disk cache was to have; what it has not any more stays unproved.
    async fn prove_kept(&self, content: &Content) {
        let Some(disk) = &self.config.l2 else { return };
        'ranges: for (key, range) in content.kept() {
            let mut hashes = Vec::new();
            for chunk in range.chunks() {
                match disk.hash_of(key, ChunkIndex(chunk.start.0 / CHUNK_BYTES)).await {
                    Some(hash) => hashes.push(hash),
                    None => continue 'ranges,
                }
            }
            content.prove(range, hashes.into());
        }
    }

    /// Drops the blocks in L1 that are not in the host's file any more.
    async fn verify_unread(
        &self,
        content: &Content,
        target: &Target,
        (from, to): (&Version, &Version),
        deadline: Instant,
    ) -> Result<(), Failed> {
        let mut unread = Vec::new();
        for (key, bytes) in self.l1.blocks_of(&content.key()) {
            if key.extent(to.size).len != ByteLen(bytes.len() as u64) {
                // The last block of a file that grew: short of its place now.
                self.l1.remove(&key);
                continue;
            }
            let claim = (key.extent(from.size), Fingerprint::of(&bytes));
            unread.push(Unread { key, claim });
        }
        let claims: Vec<_> = unread.iter().map(|block| block.claim).collect();
        let equal = self.verify(target, to, &claims, deadline).await?;
        for (block, _) in unread.iter().zip(equal).filter(|(_, equal)| !equal) {
            self.l1.remove(&block.key);
        }
        Ok(())
    }

    /// Which ranges are the same in the host's file at `version`.
    pub(super) async fn verify(
        &self,
        target: &Target,
        version: &Version,
        ranges: &[(Extent, Fingerprint)],
        deadline: Instant,
    ) -> Result<Vec<bool>, Failed> {
        debug_assert!(
            ranges.iter().all(|(extent, _)| extent.len.0 <= READ_BYTES_MAX),
            "a reply is one extent at most"
        );
        let mut all = Vec::with_capacity(ranges.len());
        for batch in ranges.chunks(VERIFY_RANGES_MAX) {
            let request = Request::Verify { target: target.clone(), ranges: batch.into() };
            let reply = self.client.call(request, Class::Metadata, deadline).await;
            let reply = reply.map_err(|error| VfsError::from(error).about_a_found_file())?;
            match reply {
                Reply::Verified { attr, equal } if equal.len() == batch.len() => {
                    if attr.version() != *version {
                        return Err(Failed::Moved);
                    }
                    all.extend(equal);
                }
                _ => return Err(Failed::For(wrong("a verification"))),
            }
        }
        Ok(all)
    }

    async fn stat(&self, target: &Target, deadline: Instant) -> Result<Attr, VfsError> {
        match self.client.call(Request::Stat(target.clone()), Class::Metadata, deadline).await {
            Ok(Reply::Attr(attr)) => Ok(attr),
            Ok(_) => Err(wrong("attributes")),
            Err(error) => Err(VfsError::from(error).about_a_found_file()),
        }
    }
}

fn wrong(expected: &str) -> VfsError {
    VfsError::Protocol { reason: format!("a reply that is not {expected}") }
}
