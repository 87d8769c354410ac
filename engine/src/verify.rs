//! Verify: whether ranges of a file still hold the bytes a mount has.

use std::{fs::File, io, os::unix::fs::FileExt};

use uring::{Slot, SlotClass};
use wire::{Attr, CHUNK_BYTES, ErrorCode, Extent, fingerprint::Fingerprint, limits};

use crate::{
    disk::{Asked, Disk, look_at},
    error::Fault,
    files::OpenFile,
    read::await_writer,
    turns::Turns,
    work::{Asker, Patience},
};

impl Disk {
    /// For each range whether it holds the bytes of its fingerprint, and the file's attributes, which did not change meanwhile.
    /// Waits for its turn among those of the session, then among all.
    pub(crate) async fn verify(
        &self,
        asked: &Asked,
        ranges: Vec<(Extent, Fingerprint)>,
        session: &Turns,
    ) -> Result<(Attr, Vec<bool>), Fault> {
        let too_long = ranges.iter().find(|(extent, _)| extent.len.0 > limits::READ_BYTES_MAX);
        if let Some((extent, _)) = too_long {
            return Err(Fault::with(ErrorCode::Invalid, format!("{extent} in one range")));
        }
        // Bounded by the ranges of a request, each checked above.
        let bytes = ranges.iter().map(|(extent, _)| extent.len.0).sum();
        let _own = session.take(bytes, asked.deadline).await?;
        let _turn = self.hashing.take(bytes, asked.deadline).await?;
        let open = self.open(asked).await?;
        let slot = self.slot(SlotClass::Chunk128K, asked).await?;
        let deadline = asked.deadline;
        let (asker, patience) = Asker::new(deadline);
        let compared = self.work.run(deadline, move || compare(&open, slot, &ranges, &patience)).await;
        drop(asker);
        compared
    }
}

fn compare(
    open: &OpenFile,
    mut slot: Slot,
    ranges: &[(Extent, Fingerprint)],
    patience: &Patience,
) -> Result<(Attr, Vec<bool>), Fault> {
    let before = look_at(&open.file)?;
    if before.may_be_written() {
        await_writer(&open.file, 0);
    }
    let mut equal = Vec::with_capacity(ranges.len());
    for (extent, expected) in ranges {
        // The mount has given up: hashing on would only keep a thread from others.
        if patience.is_over() {
            return Err(Fault::late("time to hash every range"));
        }
        let found = fingerprint(&open.file, slot.bytes_mut(), (extent, expected))?;
        equal.push(found == Some(*expected));
    }
    let after = look_at(&open.file)?;
    if before.version() != after.version() {
        return Err(Fault::with(ErrorCode::Stale, "the file changed while it was hashed"));
    }
    Ok((after.attr(open.fs)?, equal))
}

/// The fingerprint of a range, of the kind expected; `None` when the file ends inside it.
fn fingerprint(
    file: &File,
    buffer: &mut [u8],
    (extent, expected): (&Extent, &Fingerprint),
) -> Result<Option<Fingerprint>, Fault> {
    let mut made = expected.fingerprinter();
    let mut at = extent.start.0;
    let Some(end) = extent.start.checked_add(extent.len) else { return Ok(None) };
    while at < end.0 {
        let want =
            usize::try_from((end.0 - at).min(CHUNK_BYTES)).map_err(|_| Fault::new(ErrorCode::Invalid))?;
        let want = want.min(buffer.len());
        match file.read_at(&mut buffer[..want], at) {
            Ok(0) => return Ok(None),
            Ok(n) => {
                made.update(&buffer[..n]);
                at += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(made.finish()))
}
