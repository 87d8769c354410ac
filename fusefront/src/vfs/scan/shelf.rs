//! The files of one folder, as a scan sees them: in the order of the listing, and in that of their names.

use std::collections::HashMap;

use wire::{Attr, Entry, FileId, FileKind, Name, Version};

/// Files up to this size are fetched as a whole, and many at once.
pub const SMALL_BYTES_MAX: u64 = 64 * 1024;
/// Entries of a folder beyond which no order is kept of it: 24 bytes each, names apart.
pub const ENTRIES_MAX: usize = 1 << 18;

/// One regular file of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name.
    pub name: Name,
    /// Which file.
    pub id: FileId,
    /// Its version when it was listed.
    pub version: Version,
}

impl Item {
    /// The file of an entry, if its contents can be fetched before it is opened: a regular file whose version tells
    /// every change, and that holds something.
    pub fn of(entry: &Entry) -> Option<Item> {
        let attr: &Attr = entry.attr.as_ref()?;
        let is_fit = attr.kind == FileKind::Regular && attr.settled && attr.size.0 > 0;
        is_fit.then(|| Item { name: entry.name.clone(), id: attr.id, version: attr.version() })
    }

    /// Whether it is fetched as a whole.
    pub fn is_small(&self) -> bool {
        self.version.size.0 <= SMALL_BYTES_MAX
    }
}

/// The files of a folder that may be fetched ahead.
#[derive(Debug)]
pub struct Shelf {
    /// As they are listed.
    items: Vec<Item>,
    /// Places in `items`, in the order of the names.
    by_name: Vec<u32>,
    /// Where each place is in `by_name`.
    ranks: Vec<u32>,
    places: HashMap<Name, u32>,
}

impl Shelf {
    /// The shelf of a listing's files; `None` where they are more than [`ENTRIES_MAX`].
    pub fn new(items: Vec<Item>) -> Option<Shelf> {
        let count = u32::try_from(items.len()).ok().filter(|_| items.len() <= ENTRIES_MAX)?;
        let mut by_name: Vec<u32> = (0..count).collect();
        by_name.sort_unstable_by(|a, b| {
            items[*a as usize].name.as_bytes().cmp(items[*b as usize].name.as_bytes())
        });
        let mut ranks = vec![0; items.len()];
        for (rank, place) in (0_u32..).zip(&by_name) {
            ranks[*place as usize] = rank;
        }
        let places = (0_u32..).zip(&items).map(|(place, item)| (item.name.clone(), place)).collect();
        Some(Shelf { items, by_name, ranks, places })
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The file at a place.
    pub fn item(&self, place: usize) -> &Item {
        &self.items[place]
    }

    /// Where the file of this name is.
    pub fn find(&self, name: &Name) -> Option<usize> {
        self.places.get(name).map(|place| *place as usize)
    }

    /// How many names come before that of the file at a place.
    pub fn rank(&self, place: usize) -> usize {
        self.ranks[place] as usize
    }

    /// The place of the file with so many names before its own.
    pub fn at_rank(&self, rank: usize) -> usize {
        self.by_name[rank] as usize
    }
}
