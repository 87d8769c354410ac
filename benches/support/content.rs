//! Bytes that follow from a seed and where they stand, so that any part of a file can be written and checked alone; and
//! random orders that come out the same each time.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::run;

/// Bytes written and checked at once.
const BLOCK: usize = 1 << 20;
const WORD: u64 = 8;

/// A folder of cargo's for what is made once and kept: `target/tmp/NAME`.
///
/// # Errors
/// What the file system says.
pub fn kept_folder(name: &str) -> io::Result<PathBuf> {
    let path = run::target_folder()?.join("tmp").join(name);
    fs::create_dir_all(&path)?;
    Ok(path)
}

/// One of 2^64 that look random. Source: splitmix64 (Steele, Lea, Flood, 2014).
pub fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Puts them in a random order, the same for the same seed.
pub fn shuffle<T>(items: &mut [T], seed: u64) {
    for last in (1..items.len()).rev() {
        let other = scatter(seed.wrapping_add(last as u64)) % (last as u64 + 1);
        items.swap(last, usize::try_from(other).unwrap_or(last));
    }
}

/// The contents of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Two files of different seeds are the same nowhere.
    pub seed: u64,
}

impl Content {
    /// What stands from `start` on, a multiple of 8.
    pub fn fill(self, start: u64, buffer: &mut [u8]) {
        let first = scatter(self.seed).wrapping_add(start / WORD);
        for (nth, word) in buffer.chunks_mut(8).enumerate() {
            let bytes = scatter(first.wrapping_add(nth as u64)).to_le_bytes();
            word.copy_from_slice(&bytes[..word.len()]);
        }
    }

    /// Writes a part of a file.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(self, file: &File, part: Part) -> io::Result<()> {
        part.in_blocks(|start, buffer| {
            self.fill(start, buffer);
            file.write_all_at(buffer, start)
        })
    }

    /// Reads a part of a file and compares it.
    ///
    /// # Errors
    /// What the file system says; `InvalidData` where other bytes stand there.
    pub fn check(self, file: &File, part: Part) -> io::Result<()> {
        let mut expected = vec![0; BLOCK];
        part.in_blocks(|start, buffer| {
            file.read_exact_at(buffer, start)?;
            let expected = &mut expected[..buffer.len()];
            self.fill(start, expected);
            if buffer == expected {
                return Ok(());
            }
            let at = buffer.iter().zip(expected).position(|(found, expected)| found != expected).unwrap_or(0);
            let wrong =
                format!("wrong byte at {}: the file system gave others than were written", start + at as u64);
            Err(io::Error::new(io::ErrorKind::InvalidData, wrong))
        })
    }

    /// Makes a file of so many bytes, unless it is there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep(self, path: &Path, bytes: u64) -> io::Result<()> {
        if fs::metadata(path).is_ok_and(|found| found.len() == bytes) {
            return Ok(());
        }
        // Under its name only when it is whole.
        let fresh = path.with_extension("new");
        self.write(&File::create(&fresh)?, Part { start: 0, bytes })?;
        fs::rename(fresh, path)
    }
}

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it begins, a multiple of 8.
    pub start: u64,
    /// How long it is.
    pub bytes: u64,
}

impl Part {
    fn in_blocks(self, mut each: impl FnMut(u64, &mut [u8]) -> io::Result<()>) -> io::Result<()> {
        let mut buffer = vec![0; usize::try_from(self.bytes).unwrap_or(BLOCK).min(BLOCK)];
        let (mut at, end) = (self.start, self.start + self.bytes);
        while at < end {
            let now = usize::try_from(end - at).unwrap_or(BLOCK).min(buffer.len());
            each(at, &mut buffer[..now])?;
            at += now as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_checked_alone_and_a_wrong_byte_is_found() {
        let file = tempfile::tempfile().unwrap();
        let content = Content { seed: 3 };
        content.write(&file, Part { start: 0, bytes: 3 << 20 }).unwrap();
        let part = Part { start: (1 << 20) + 8, bytes: (1 << 20) + 3 };
        content.check(&file, part).unwrap();
        assert!(Content { seed: 4 }.check(&file, part).is_err());
        let mut byte = [0];
        file.read_exact_at(&mut byte, part.start + 5).unwrap();
        file.write_all_at(&[!byte[0]], part.start + 5).unwrap();
        let wrong = content.check(&file, part).unwrap_err().to_string();
        assert!(wrong.starts_with(&format!("wrong byte at {}:", part.start + 5)), "{wrong}");
    }

    #[test]
    fn a_shuffle_keeps_all_and_repeats() {
        let order = |seed| {
            let mut items: Vec<u32> = (0..100).collect();
            shuffle(&mut items, seed);
            items
        };
        let (mut first, again) = (order(1), order(1));
        assert!(first == again && first != order(2));
        first.sort_unstable();
        assert_eq!(first, (0..100).collect::<Vec<_>>());
    }
}
