//! Which parts of the slab are free: a buddy allocator over 1 MiB extents.
//!
//! An extent splits in 8 chunks, a chunk in 8 blocks, a block in 4 pages. A unit is split only when no split one of its
//! size has room, and coalesces as soon as all its children are free, so that whole extents come back by themselves.
//! Plain bookkeeping: no memory is touched, and nothing is allocated after `new`.

use std::collections::VecDeque;

use crate::class::SlotClass;

/// Children of an extent, of a chunk and of a block.
const FANOUT: [usize; 3] = [8, 8, 4];

/// No node: the end of a list.
const NIL: u32 = u32::MAX;

/// One extent in bytes.
pub(crate) const EXTENT_BYTES: usize = SlotClass::Extent1M.bytes();

/// The free units of the slab, by class.
#[derive(Debug)]
pub(crate) struct Buddy {
    /// Whole free extents whose memory is resident; the most recently used at the back.
    warm: VecDeque<u32>,
    /// Whole free extents never touched or given back; their next use faults them in.
    cold: Vec<u32>,
    /// Split extents, split chunks, split blocks.
    split: [Level; 3],
    lent_bytes: usize,
}

/// The split units of one size, those with room in a list.
#[derive(Debug)]
struct Level {
    fanout: usize,
    nodes: Box<[Node]>,
    head: u32,
}

/// One unit: `free` has a bit for each free child, and is 0 while the unit is not split.
#[derive(Clone, Debug)]
struct Node {
    prev: u32,
    next: u32,
    free: u8,
}

impl Buddy {
    /// All of `extents` extents free and cold; at most 2^24 of them (16 TiB).
    pub(crate) fn new(extents: usize) -> Buddy {
        assert!(extents < 1 << 24, "{extents} extents do not fit the links of the free lists");
        let chunks = extents * FANOUT[0];
        let blocks = chunks * FANOUT[1];
        Buddy {
            warm: VecDeque::with_capacity(extents),
            cold: (0..extents).rev().map(link).collect(),
            split: [
                Level::new(extents, FANOUT[0]),
                Level::new(chunks, FANOUT[1]),
                Level::new(blocks, FANOUT[2]),
            ],
            lent_bytes: 0,
        }
    }

    /// Takes a free unit: its offset in the slab, in bytes, a multiple of the class.
    pub(crate) fn take(&mut self, class: SlotClass) -> Option<usize> {
        let index = self.take_at(depth(class))?;
        self.lent_bytes += class.bytes();
        Some(index * class.bytes())
    }

    /// Puts back what [`Buddy::take`] gave for the same class.
    ///
    /// # Panics
    /// When the unit is free already: two owners believed that it was theirs.
    pub(crate) fn put_back(&mut self, class: SlotClass, offset: usize) {
        assert!(offset.is_multiple_of(class.bytes()), "offset {offset} is not one of {class:?}");
        self.put_back_at(depth(class), offset / class.bytes());
        self.lent_bytes -= class.bytes();
    }

    /// Takes the least recently used free extent, if more than `floor` are warm; end with [`Buddy::chill`] or
    /// [`Buddy::rewarm`].
    pub(crate) fn take_idle(&mut self, floor: usize) -> Option<usize> {
        if self.warm.len() <= floor {
            return None;
        }
        self.warm.pop_front().map(|extent| extent as usize * EXTENT_BYTES)
    }

    /// Puts an extent of [`Buddy::take_idle`] back, its memory given to the kernel.
    pub(crate) fn chill(&mut self, offset: usize) {
        self.cold.push(link(offset / EXTENT_BYTES));
    }

    /// Puts an extent of [`Buddy::take_idle`] back as it was.
    pub(crate) fn rewarm(&mut self, offset: usize) {
        self.warm.push_back(link(offset / EXTENT_BYTES));
    }

    pub(crate) fn lent_bytes(&self) -> usize {
        self.lent_bytes
    }

    pub(crate) fn cold_bytes(&self) -> usize {
        self.cold.len() * EXTENT_BYTES
    }

    /// At most three calls deep: one for each size above the one asked for.
    fn take_at(&mut self, depth: usize) -> Option<usize> {
        let Some(parents) = depth.checked_sub(1) else {
            let extent = self.warm.pop_back().or_else(|| self.cold.pop());
            return extent.map(|extent| extent as usize);
        };
        if self.split[parents].head == NIL {
            let parent = self.take_at(parents)?;
            self.split[parents].split(parent);
        }
        Some(self.split[parents].take_child())
    }

    fn put_back_at(&mut self, depth: usize, index: usize) {
        let Some(parents) = depth.checked_sub(1) else {
            return self.warm.push_back(link(index));
        };
        if let Some(whole) = self.split[parents].put_back_child(index) {
            self.put_back_at(parents, whole);
        }
    }
}

impl Level {
    fn new(nodes: usize, fanout: usize) -> Level {
        Level { fanout, nodes: vec![Node { prev: NIL, next: NIL, free: 0 }; nodes].into(), head: NIL }
    }

    /// Makes the children of `node` available, all free.
    fn split(&mut self, node: usize) {
        debug_assert_eq!(self.nodes[node].free, 0);
        self.nodes[node].free = self.all_free();
        self.push(node);
    }

    /// Takes the lowest free child of the head; the list must not be empty.
    fn take_child(&mut self) -> usize {
        let node = self.head as usize;
        let child = self.nodes[node].free.trailing_zeros() as usize;
        self.nodes[node].free &= !(1 << child);
        if self.nodes[node].free == 0 {
            self.unlink(node);
        }
        node * self.fanout + child
    }

    /// Frees a child; the node's index once all its children are free, which is then no longer split.
    fn put_back_child(&mut self, index: usize) -> Option<usize> {
        let (node, bit) = (index / self.fanout, 1u8 << (index % self.fanout));
        let was = self.nodes[node].free;
        assert_eq!(was & bit, 0, "unit {index} of the slab came home twice");
        self.nodes[node].free = was | bit;
        if was == 0 {
            self.push(node);
        }
        if self.nodes[node].free != self.all_free() {
            return None;
        }
        self.unlink(node);
        self.nodes[node].free = 0;
        Some(node)
    }

    fn all_free(&self) -> u8 {
        u8::MAX >> (8 - self.fanout)
    }

    fn push(&mut self, node: usize) {
        let next = self.head;
        self.nodes[node].prev = NIL;
        self.nodes[node].next = next;
        if next != NIL {
            self.nodes[next as usize].prev = link(node);
        }
        self.head = link(node);
    }

    fn unlink(&mut self, node: usize) {
        let Node { prev, next, .. } = self.nodes[node];
        match prev {
            NIL => self.head = next,
            prev => self.nodes[prev as usize].next = next,
        }
        if next != NIL {
            self.nodes[next as usize].prev = prev;
        }
    }
}

/// How many times an extent was split to get this class.
fn depth(class: SlotClass) -> usize {
    match class {
        SlotClass::Extent1M => 0,
        SlotClass::Chunk128K => 1,
        SlotClass::Block16K => 2,
        SlotClass::Page4K => 3,
    }
}

fn link(index: usize) -> u32 {
    u32::try_from(index).expect("`new` bounds the number of units below 2^32")
}
