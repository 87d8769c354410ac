//! The rows of the node table: small, in chunks that are made and dropped as they fill and empty.
//!
//! A row stays where it is for as long as it lives, so other rows and indexes name it by its number. Its name lies with
//! those of its chunk, one after the other; a chunk packs them anew when too many of them are of rows that are gone.

use wire::FileKind;

use super::pages::Held;

/// Rows of a chunk. Their names together are at most 65,280 bytes, so a place among them is a `u16`.
const ROWS: usize = 256;

/// Bytes of names of one chunk, those of rows that are gone among them.
const NAMES_BYTES_MAX: usize = u16::MAX as usize;

/// The end of a chunk's list of free rows.
const NO_ROW: u32 = u32::MAX;

/// The number of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row(pub(super) u32);

impl Row {
    /// The root's: it is made first and never removed.
    pub(super) const ROOT: Row = Row(0);

    fn parts(self) -> (usize, usize) {
        (self.0 as usize / ROWS, self.0 as usize % ROWS)
    }
}

/// One node, but for its name and what few nodes have.
#[derive(Clone, Copy)]
pub(super) struct Node {
    /// The file's number on the host and birth; zero where the host could not look.
    pub(super) inode: u64,
    pub(super) birth: u64,
    /// The version that the kernel was told of last, hashed; zero before.
    pub(super) told: u64,
    /// The share and the file system in it, by their number in the table.
    pub(super) realm: u32,
    /// The row of the parent; of a free row, the next free one.
    pub(super) parent: u32,
    pub(super) generation: u32,
    /// Lookups that the kernel holds. At the most it stays there, and the node for as long as the mount.
    pub(super) lookups: u32,
    /// Nodes below it and open handles; likewise.
    pub(super) pins: u32,
    name_start: u16,
    name_len: u8,
    bits: u8,
}

// A million files are known at once in large trees, with 18 bytes of name and 6 to 11 of index each beside this.
const _: () = assert!(size_of::<Node>() == 48);

/// What is so of a node, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The row is in use.
    Live = 1 << 3,
    /// It is known which file it is.
    HasId = 1 << 4,
    /// Its number is the file's own.
    OwnNumber = 1 << 5,
    /// It is the root of the mount, or of a share.
    IsRoot = 1 << 6,
    /// Something in it was looked up since it was last met in the search for what can go.
    IsUsed = 1 << 7,
}

const KIND_BITS: u8 = (1 << 3) - 1;
const _: () = assert!(FileKind::ALL.len() <= KIND_BITS as usize);

impl Node {
    /// A node of that kind, of which nothing else is known yet.
    pub(super) fn new(kind: FileKind) -> Node {
        Node {
            inode: 0,
            birth: 0,
            told: 0,
            realm: 0,
            parent: Row::ROOT.0,
            generation: 0,
            lookups: 0,
            pins: 0,
            name_start: 0,
            name_len: 0,
            bits: kind as u8,
        }
    }

    fn free(next: u32) -> Node {
        Node { parent: next, ..Node::new(FileKind::Regular) }
    }

    pub(super) fn kind(&self) -> FileKind {
        FileKind::ALL[usize::from(self.bits & KIND_BITS)]
    }

    /// Its file, as it is found by.
    pub(super) fn file_key(&self) -> (u32, u64, u64) {
        (self.realm, self.inode, self.birth)
    }

    pub(super) fn is(&self, mark: Mark) -> bool {
        self.bits & mark as u8 != 0
    }

    pub(super) fn mark(&mut self, mark: Mark, is_so: bool) {
        if is_so {
            self.bits |= mark as u8;
        } else {
            self.bits &= !(mark as u8);
        }
    }
}

/// All rows.
#[derive(Default)]
pub(super) struct Rows {
    places: Vec<Place>,
    /// The chunks with free rows, and some that are full or gone by now; each is in it once at most.
    roomy: Vec<usize>,
    /// Places without a chunk.
    vacant: Vec<usize>,
    count: usize,
}

#[derive(Default)]
struct Place {
    chunk: Option<Box<Chunk>>,
    is_roomy: bool,
}

struct Chunk {
    nodes: [Node; ROWS],
    names: Vec<u8>,
    /// Of these, the bytes of rows that are gone and of earlier names.
    gone_bytes: usize,
    used: usize,
    /// The first free row.
    free: u32,
    /// What the kernel's pages are of; made with the first file of the chunk that is opened.
    held: Option<Box<[Option<Held>; ROWS]>>,
}

impl Rows {
    /// Rows in use.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Adds a row.
    pub(super) fn insert(&mut self, node: Node, name: &[u8]) -> Row {
        let place = self.place_with_room();
        self.count += 1;
        let chunk = self.places[place].chunk.as_mut().expect("a place with room has a chunk");
        let row = chunk.insert(node, name);
        Row(u32::try_from(place * ROWS + row).expect("memory ends before 2^32 rows"))
    }

    /// Takes a row out, if it is in use.
    pub(super) fn remove(&mut self, row: Row) -> Option<Node> {
        let (at, row) = row.parts();
        let place = self.places.get_mut(at)?;
        let chunk = place.chunk.as_mut()?;
        let node = chunk.remove(row)?;
        self.count -= 1;
        if chunk.used == 0 {
            place.chunk = None;
            self.vacant.push(at);
        } else if !std::mem::replace(&mut place.is_roomy, true) {
            self.roomy.push(at);
        }
        Some(node)
    }

    /// A row in use.
    pub(super) fn get(&self, row: Row) -> Option<&Node> {
        self.chunk(row)?.nodes.get(row.parts().1).filter(|node| node.is(Mark::Live))
    }

    /// A row in use.
    pub(super) fn get_mut(&mut self, row: Row) -> Option<&mut Node> {
        self.chunk_mut(row)?.nodes.get_mut(row.parts().1).filter(|node| node.is(Mark::Live))
    }

    /// A row's name; empty where there is none.
    pub(super) fn name(&self, row: Row) -> &[u8] {
        self.chunk(row).map_or(&[], |chunk| chunk.name(row.parts().1))
    }

    /// Gives a row another name.
    pub(super) fn rename(&mut self, row: Row, name: &[u8]) {
        if let Some(chunk) = self.chunk_mut(row) {
            chunk.drop_name(row.parts().1);
            chunk.add_name(row.parts().1, name);
        }
    }

    /// What the kernel's pages of a row are of.
    pub(super) fn held(&self, row: Row) -> Option<&Held> {
        self.chunk(row)?.held.as_ref()?[row.parts().1].as_ref()
    }

    /// The same, to change it.
    pub(super) fn held_mut(&mut self, row: Row) -> Option<&mut Held> {
        self.chunk_mut(row)?.held.as_mut()?[row.parts().1].as_mut()
    }

    /// Notes what the kernel's pages of a row are of.
    pub(super) fn hold(&mut self, row: Row, held: Held) {
        if let Some(chunk) = self.chunk_mut(row) {
            let all = chunk.held.get_or_insert_with(|| Box::new([const { None }; ROWS]));
            all[row.parts().1] = Some(held);
        }
    }

    /// Rows that there are places for, in use or not.
    pub(super) fn room(&self) -> u32 {
        u32::try_from(self.places.len() * ROWS).expect("memory ends before 2^32 rows")
    }

    fn chunk(&self, row: Row) -> Option<&Chunk> {
        self.places.get(row.parts().0)?.chunk.as_deref()
    }

    fn chunk_mut(&mut self, row: Row) -> Option<&mut Chunk> {
        self.places.get_mut(row.parts().0)?.chunk.as_deref_mut()
    }

    /// A place whose chunk has a free row: one in use before a new one, so that others may empty.
    fn place_with_room(&mut self) -> usize {
        while let Some(&at) = self.roomy.last() {
            if self.places[at].chunk.as_ref().is_some_and(|chunk| chunk.used < ROWS) {
                return at;
            }
            self.places[at].is_roomy = false;
            self.roomy.pop();
        }
        let at = self.vacant.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            self.places.len() - 1
        });
        self.places[at] = Place { chunk: Some(Box::new(Chunk::new())), is_roomy: true };
        self.roomy.push(at);
        at
    }
}

impl Chunk {
    fn new() -> Chunk {
        let mut nodes = [Node::free(NO_ROW); ROWS];
        for (next, node) in (1..).zip(&mut nodes[..ROWS - 1]) {
            node.parent = next;
        }
        Chunk { nodes, names: Vec::new(), gone_bytes: 0, used: 0, free: 0, held: None }
    }

    fn insert(&mut self, node: Node, name: &[u8]) -> usize {
        let row = self.free as usize;
        self.free = self.nodes[row].parent;
        self.nodes[row] = Node { name_start: 0, name_len: 0, ..node };
        self.nodes[row].mark(Mark::Live, true);
        self.used += 1;
        self.add_name(row, name);
        row
    }

    fn remove(&mut self, row: usize) -> Option<Node> {
        let node = Some(self.nodes[row]).filter(|node| node.is(Mark::Live))?;
        self.drop_name(row);
        if let Some(held) = &mut self.held {
            held[row] = None;
        }
        self.nodes[row] = Node::free(self.free);
        self.free = u32::try_from(row).expect("a row of a chunk");
        self.used -= 1;
        Some(node)
    }

    fn name(&self, row: usize) -> &[u8] {
        let node = &self.nodes[row];
        let start = usize::from(node.name_start);
        &self.names[start..start + usize::from(node.name_len)]
    }

    fn drop_name(&mut self, row: usize) {
        self.gone_bytes += usize::from(self.nodes[row].name_len);
        self.nodes[row].name_len = 0;
    }

    /// Appends a name, of a row that has none.
    fn add_name(&mut self, row: usize, name: &[u8]) {
        let is_too_long = self.names.len() + name.len() > NAMES_BYTES_MAX;
        if is_too_long || (self.names.len() + name.len() > self.names.capacity() && self.is_worth_packing()) {
            self.pack_names(name.len());
        }
        if self.names.capacity() - self.names.len() < name.len() {
            // An eighth of room at most stays unused, where doubling would leave a half.
            self.names.reserve_exact(name.len().max(self.names.len() / 8));
        }
        let node = &mut self.nodes[row];
        node.name_start = u16::try_from(self.names.len()).expect("packed names are within the limit");
        node.name_len = u8::try_from(name.len()).expect("a name is at most 255 bytes");
        self.names.extend_from_slice(name);
    }

    fn is_worth_packing(&self) -> bool {
        self.gone_bytes > self.names.len() / 8
    }

    /// Packs the names anew, with room for one of `len`.
    fn pack_names(&mut self, len: usize) {
        let live = self.names.len() - self.gone_bytes;
        let mut packed = Vec::with_capacity(live + len.max(live / 8));
        for row in 0..ROWS {
            let start = u16::try_from(packed.len()).expect("names of live rows are within the limit");
            packed.extend_from_slice(self.name(row));
            self.nodes[row].name_start = start;
        }
        (self.names, self.gone_bytes) = (packed, 0);
    }
}

#[cfg(test)]
mod tests;
