//! What the host said last: names, attributes, texts of symlinks, extended attributes and whole listings, for a mount
//! that serves stale data while its host is away.
//!
//! It is an answer only where a call failed for want of a session. What was never said stays unknown: a folder is listed
//! only if some pass over it came to its end, and a name that is not here is not absent.

mod part;
mod record;

use std::collections::{BTreeMap, HashMap, HashSet};

use wire::{Attr, Entry, FileId, FileKind, Name, ShareId};

use super::dir::Page;
pub use part::{Damaged, Parts};
pub use record::Extra;
use record::{Leads, Record};
pub use record::{read_attr, write_attr};

/// Memory for what is known where nothing less is asked for: about 250,000 names.
pub const KNOWN_BYTES_MAX: usize = 32 << 20;

/// A directory as reached through a share: two shares may hold one directory, and hide different names in it.
pub type Folder = (ShareId, FileId);

/// The name under which a folder has what is known of itself.
pub const ITSELF: &[u8] = b"";

/// What a record takes beside its bytes: its place in the table, and what the allocator adds.
const RECORD_OVERHEAD_BYTES: usize = 48;
/// What a folder takes beside its records.
const FOLDER_OVERHEAD_BYTES: usize = 320;
/// The number of the first use; what a snapshot brings is older.
const FIRST_USE: u64 = 1 << 62;

/// What the host said last of names.
///
/// Bounded in bytes: the folder that was used longest ago goes first, as a whole. A folder that alone takes more than
/// half keeps the names that have room, and is not listed.
pub struct LastKnown {
    folders: HashMap<Folder, Names>,
    /// The folders by when they were used last.
    by_use: BTreeMap<u64, Folder>,
    uses: u64,
    bytes: usize,
    bytes_max: usize,
    changes: u64,
}

#[derive(Default)]
struct Names {
    used: u64,
    records: HashSet<Record>,
    bytes: usize,
    /// Whether these are all the names: some pass over the folder came to its end.
    is_complete: bool,
    pass: Option<Pass>,
    /// What the pass under way, or else the last one, marks names with.
    mark: u8,
}

/// A pass over a folder under way.
struct Pass {
    /// The cookie of the page that comes next.
    next: u64,
    /// Whether a name found no room.
    has_gap: bool,
}

impl LastKnown {
    /// Nothing known yet, and room for so many bytes.
    pub fn new(bytes_max: usize) -> LastKnown {
        LastKnown {
            folders: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: FIRST_USE,
            bytes: 0,
            bytes_max,
            changes: 0,
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.folders.clear();
        self.by_use.clear();
        self.bytes = 0;
        self.changes += 1;
    }

    /// Names held.
    pub fn names(&self) -> usize {
        self.folders.values().map(|names| names.records.len()).sum()
    }

    /// How often something changed; a snapshot taken at this number is up to date.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Notes what a name in a folder leads to.
    pub fn note(&mut self, folder: Folder, name: &[u8], attr: Attr) {
        let leads = Leads { kind: attr.kind, attr: Some(attr) };
        self.touch(folder);
        let mark = self.folders.get(&folder).map_or(0, |names| names.mark);
        self.put(folder, name, &leads, mark);
    }

    /// The same, if the name is known to lead to that file.
    pub fn renew(&mut self, folder: Folder, name: &[u8], attr: Attr) {
        if self.find(folder, name).is_some_and(|known| known.id == attr.id) {
            self.note(folder, name, attr);
        }
    }

    /// Notes that the host said there is no such name.
    pub fn forget(&mut self, folder: Folder, name: &[u8]) {
        let Some(names) = self.folders.get_mut(&folder) else { return };
        if let Some(gone) = names.records.take(name) {
            let bytes = gone.bytes().len() + RECORD_OVERHEAD_BYTES;
            names.bytes -= bytes;
            self.bytes -= bytes;
            self.changes += 1;
        }
    }

    /// What the name led to last.
    pub fn find(&self, folder: Folder, name: &[u8]) -> Option<Attr> {
        self.folders.get(&folder)?.records.get(name)?.leads(folder.1.fs)?.attr
    }

    /// Notes what is beside the attributes of the file `id` that a name leads to.
    pub fn note_extra(
        &mut self,
        (folder, name): (Folder, &[u8]),
        id: FileId,
        extra: Extra<'_>,
        value: &[u8],
    ) {
        let fs = folder.1.fs;
        if self.find(folder, name).is_none_or(|known| known.id != id) {
            return;
        }
        self.touch(folder);
        let Some(names) = self.folders.get_mut(&folder) else { return };
        let Some(old) = names.records.get(name).filter(|old| old.extra(extra, fs) != Some(value)) else {
            return;
        };
        let Some(new) = old.with_extra(extra, value, fs) else { return };
        let (before, after) = (old.bytes().len(), new.bytes().len());
        names.records.replace(new);
        names.bytes = names.bytes + after - before;
        self.bytes = self.bytes + after - before;
        self.changes += 1;
        self.make_room(folder);
    }

    /// What was beside the attributes of the file `id` that a name led to last.
    pub fn extra(&self, (folder, name): (Folder, &[u8]), id: FileId, extra: Extra<'_>) -> Option<&[u8]> {
        self.find(folder, name).filter(|known| known.id == id)?;
        self.folders.get(&folder)?.records.get(name)?.extra(extra, folder.1.fs)
    }

    /// Notes a page of a folder, whose own attributes came with it. Names that a whole pass did not meet are gone.
    pub fn note_page(&mut self, folder: Folder, own: Attr, page: &Page) {
        self.note(folder, ITSELF, own);
        let Some(names) = self.folders.get_mut(&folder) else { return };
        if page.start == 0 {
            names.next_mark();
            names.pass = Some(Pass { next: 0, has_gap: false });
        }
        let mark = names.mark;
        let is_in_turn = names.pass.as_ref().is_some_and(|pass| pass.next == page.start);
        let mut has_gap = false;
        for entry in &page.entries {
            let kind = entry.attr.map_or(entry.kind, |attr| Some(attr.kind)).unwrap_or(FileKind::Regular);
            let leads = Leads { kind, attr: entry.attr };
            has_gap |= !self.put(folder, entry.name.as_bytes(), &leads, mark);
        }
        let Some(names) = self.folders.get_mut(&folder) else { return };
        if !is_in_turn {
            return;
        }
        match (&mut names.pass, page.next()) {
            (Some(pass), Some(next)) => {
                pass.next = next;
                pass.has_gap |= has_gap;
            }
            (Some(pass), None) => {
                names.is_complete = !(pass.has_gap || has_gap);
                names.pass = None;
                self.bytes -= names.sweep();
                self.changes += 1;
            }
            (None, _) => {}
        }
    }

    /// All entries of a folder, if all are known, and its own attributes: one page, its places this listing's own.
    pub fn listing(&mut self, folder: Folder) -> Option<(Attr, Page)> {
        let own = self.find(folder, ITSELF)?;
        let names = self.folders.get(&folder).filter(|names| names.is_complete)?;
        let mut records: Vec<&Record> =
            names.records.iter().filter(|record| record.name() != ITSELF).collect();
        records.sort_unstable_by_key(|record| record.name());
        let entry = |(index, record): (usize, &&Record)| {
            let Leads { kind, attr } = record.leads(folder.1.fs)?;
            let name = Name::new(record.name()).ok()?;
            Some(Entry { name, cookie: index as u64 + 1, kind: Some(kind), attr })
        };
        let entries = records.iter().enumerate().map(entry).collect::<Option<Vec<_>>>()?;
        self.touch(folder);
        Some((own, Page { start: 0, entries, end: true }))
    }

    /// Puts a record; whether it has room.
    fn put(&mut self, folder: Folder, name: &[u8], leads: &Leads, mark: u8) -> bool {
        let bytes_max = self.bytes_max / 2;
        let Some(names) = self.folders.get_mut(&folder) else { return false };
        let old = names.records.get(name);
        let record = Record::new(name, mark, leads, (folder.1.fs, old));
        if old.is_some_and(|old| old.bytes() == record.bytes()) {
            return true;
        }
        let before = old.map_or(0, |old| old.bytes().len() + RECORD_OVERHEAD_BYTES);
        let after = record.bytes().len() + RECORD_OVERHEAD_BYTES;
        if names.bytes + after > bytes_max + before {
            // What is known of the name is not true any more.
            names.is_complete = false;
            self.forget(folder, name);
            return false;
        }
        names.records.replace(record);
        names.bytes = names.bytes + after - before;
        self.bytes = self.bytes + after - before;
        self.changes += 1;
        self.make_room(folder);
        true
    }

    /// Makes a folder the one used last; it is there then.
    fn touch(&mut self, folder: Folder) {
        let names = self.folders.entry(folder).or_insert_with(|| {
            self.bytes += FOLDER_OVERHEAD_BYTES;
            Names { bytes: FOLDER_OVERHEAD_BYTES, ..Names::default() }
        });
        if names.used != self.uses {
            self.by_use.remove(&names.used);
            self.uses += 1;
            names.used = self.uses;
            self.by_use.insert(self.uses, folder);
        }
        self.make_room(folder);
    }

    /// Gives up what was used longest ago, but not `kept`, and before the folders above it what is below them: nobody
    /// gets to a folder whose name is not known.
    fn make_room(&mut self, kept: Folder) {
        // Folders of a host that are in each other are all above one.
        let mut put_off_max = self.folders.len();
        while self.bytes > self.bytes_max
            && self.folders.len() > 1
            && let Some((&used, &folder)) = self.by_use.first_key_value()
        {
            self.by_use.remove(&used);
            if folder == kept || (put_off_max > 0 && self.is_above_another(folder)) {
                put_off_max = put_off_max.saturating_sub(1);
                self.uses += 1;
                self.by_use.insert(self.uses, folder);
                self.folders.entry(folder).and_modify(|names| names.used = self.uses);
                continue;
            }
            self.bytes -= self.folders.remove(&folder).map_or(0, |names| names.bytes);
            self.changes += 1;
        }
    }

    /// Whether something is known of a folder in this one.
    fn is_above_another(&self, (share, id): Folder) -> bool {
        let Some(names) = self.folders.get(&(share, id)) else { return false };
        names.records.iter().filter(|record| record.name() != ITSELF).any(|record| {
            let below = record.leads(id.fs).and_then(|leads| leads.attr);
            below.is_some_and(|attr| {
                attr.kind == FileKind::Directory && self.folders.contains_key(&(share, attr.id))
            })
        })
    }
}

impl Names {
    /// A mark that no name has.
    fn next_mark(&mut self) {
        if self.mark == u8::MAX {
            self.records = self.records.drain().map(Record::unmarked).collect();
            self.mark = 0;
        }
        self.mark += 1;
    }

    /// Drops the names that the last pass did not meet; how many bytes they took.
    fn sweep(&mut self) -> usize {
        let (mark, mut bytes) = (self.mark, 0);
        self.records.retain(|record| {
            let is_met = record.mark() == mark || record.name() == ITSELF;
            bytes += if is_met { 0 } else { record.bytes().len() + RECORD_OVERHEAD_BYTES };
            is_met
        });
        self.bytes -= bytes;
        bytes
    }
}

#[cfg(test)]
mod tests;
