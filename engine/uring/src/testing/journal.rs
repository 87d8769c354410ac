//! What a disk with a volatile cache may still lose: every sector's earlier contents since the last flush.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

/// The unit that a disk writes whole or not at all, bytes.
const SECTOR_BYTES: u64 = 4096;

/// Earlier contents of sectors, oldest first; as long as a test writes.
#[derive(Debug, Default)]
pub(super) struct Journal {
    sectors: HashMap<(u64, u64), Sector>,
}

#[derive(Debug)]
struct Sector {
    file: Arc<File>,
    earlier: Vec<Vec<u8>>,
}

impl Journal {
    /// Keeps what the sectors of `len` bytes at `offset` hold now, before they are written.
    pub(super) fn keep(&mut self, file: &Arc<File>, offset: u64, len: usize) {
        let Ok(inode) = file.metadata().map(|meta| meta.ino()) else { return };
        let end = offset + len as u64;
        for number in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let Ok(before) = read(file, number) else { continue };
            let sector = self
                .sectors
                .entry((inode, number))
                .or_insert_with(|| Sector { file: Arc::clone(file), earlier: Vec::new() });
            sector.earlier.push(before);
        }
    }

    /// Leaves each sector with any of its contents since the last flush, drawn by itself; how many went back.
    pub(super) fn cut(&mut self, mut draw: impl FnMut() -> u64) -> io::Result<u64> {
        let mut sectors: Vec<_> = self.sectors.drain().collect();
        // The same draws for the same history, whatever the map's order.
        sectors.sort_by_key(|(place, _)| *place);
        let mut reverted = 0;
        for ((_, number), sector) in sectors {
            let choices = sector.earlier.len() as u64 + 1;
            let choice = usize::try_from(draw() % choices).unwrap_or(usize::MAX);
            if let Some(earlier) = sector.earlier.get(choice) {
                sector.file.write_all_at(earlier, number * SECTOR_BYTES)?;
                reverted += 1;
            }
        }
        Ok(reverted)
    }
}

/// A sector's contents, as far as the file goes.
fn read(file: &File, number: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(SECTOR_BYTES).unwrap_or(4096)];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], number * SECTOR_BYTES + filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
