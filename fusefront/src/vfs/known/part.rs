//! What is known, folder by folder, on its way to a snapshot and back.

use wire::{
    FileId, ShareId,
    cursor::{Reader, Writer},
};

use super::{
    FOLDER_OVERHEAD_BYTES, Folder, LastKnown, Names, RECORD_OVERHEAD_BYTES, Record, record::RECORD_BYTES_MAX,
};

/// Bytes of a snapshot put together at once, under the lock of the tree: some tens of microseconds.
const PART_BYTES: usize = 64 << 10;

/// Follows a folder.
const MORE: u8 = 1;
/// Follows nothing more.
const END: u8 = 0;

/// The folders that a snapshot is still to have, the one used last at the end.
pub struct Parts(Vec<Folder>);

/// A snapshot that says what no snapshot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot be right")]
pub struct Damaged(pub &'static str);

impl LastKnown {
    /// What a snapshot is to have.
    pub fn parts(&self) -> Parts {
        Parts(self.by_use.values().rev().copied().collect())
    }

    /// The next part of a snapshot; `false` when it was the last one.
    pub fn write(&self, parts: &mut Parts, out: &mut Writer) -> bool {
        while out.len() < PART_BYTES {
            let Some(folder) = parts.0.pop() else {
                out.u8(END);
                return false;
            };
            // Given up meanwhile.
            let Some(names) = self.folders.get(&folder) else { continue };
            out.u8(MORE);
            out.u16(folder.0.0);
            for part in [folder.1.fs, folder.1.inode, folder.1.birth] {
                out.u64(part);
            }
            out.u8(names.is_complete.into());
            out.u8(names.mark);
            out.u32(u32::try_from(names.records.len()).unwrap_or(u32::MAX));
            for record in &names.records {
                out.short_bytes(record.bytes());
            }
        }
        true
    }

    /// Takes in what a snapshot has.
    ///
    /// # Errors
    /// [`Damaged`]: nothing of it is taken in then.
    pub fn read(&mut self, from: &mut Reader<'_>) -> Result<(), Damaged> {
        let mut folders = Vec::new();
        while let Some(folder) = read_folder(from)? {
            folders.push(folder);
        }
        self.take_in_folders(folders.into_iter().rev());
        Ok(())
    }

    /// Takes in what another mount knew: of folders that are known here, nothing.
    pub fn take_in(&mut self, mut other: LastKnown) {
        let folders = std::mem::take(&mut other.by_use).into_values().rev();
        let folders: Vec<_> = folders.filter_map(|folder| other.folders.remove_entry(&folder)).collect();
        self.take_in_folders(folders.into_iter());
    }

    /// Takes in folders, the one used last first, as far as there is room: all of them are older than those known.
    fn take_in_folders(&mut self, folders: impl Iterator<Item = (Folder, Names)>) {
        let mut at = self.by_use.keys().next().copied().unwrap_or(self.uses);
        for (folder, names) in folders {
            if self.bytes + names.bytes > self.bytes_max {
                break;
            }
            if self.folders.contains_key(&folder) {
                continue;
            }
            at -= 1;
            self.bytes += names.bytes;
            self.by_use.insert(at, folder);
            self.folders.insert(folder, Names { used: at, ..names });
        }
    }
}

fn read_folder(from: &mut Reader<'_>) -> Result<Option<(Folder, Names)>, Damaged> {
    let broken = |_| Damaged("a folder");
    if from.u8("more").map_err(broken)? != MORE {
        return Ok(None);
    }
    let share = ShareId(from.u16("share").map_err(broken)?);
    let mut number = || from.u64("file").map_err(broken);
    let id = FileId { fs: number()?, inode: number()?, birth: number()? };
    let is_complete = from.u8("complete").map_err(broken)? == 1;
    let mark = from.u8("mark").map_err(broken)?;
    let count = from.u32("names").map_err(broken)?;
    let mut names = Names { is_complete, mark, bytes: FOLDER_OVERHEAD_BYTES, ..Names::default() };
    for _ in 0..count {
        let bytes = from.short_bytes(RECORD_BYTES_MAX, "a name").map_err(|_| Damaged("a name"))?;
        let record = Record::parse(bytes, id.fs).ok_or(Damaged("a name"))?;
        names.bytes += bytes.len() + RECORD_OVERHEAD_BYTES;
        if let Some(twice) = names.records.replace(record) {
            names.bytes -= twice.bytes().len() + RECORD_OVERHEAD_BYTES;
        }
    }
    Ok(Some(((share, id), names)))
}
