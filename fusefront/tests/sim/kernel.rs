//! What the kernel would hold: the pages of each file, which any handle's reads fill and every handle's program sees.

use std::collections::HashMap;

use parking_lot::Mutex;
use wire::Extent;
use wormhole_fusefront::vfs::{attr::NodeAttr, inode::NodeId};

use crate::{
    check::Opened,
    world::{Key, Seq, Span, World},
};

/// A node as the kernel tells it from earlier ones of its number.
pub(crate) type Inode = (NodeId, u64);

pub(crate) fn inode_of(found: &NodeAttr) -> Inode {
    (found.node, found.generation)
}

/// The pages of all inodes: all that was read since the last open that dropped them.
#[derive(Default)]
pub(crate) struct PageCache(Mutex<HashMap<Inode, Opened>>);

impl PageCache {
    /// A file was opened; panics when pages are kept that are not of the version opened.
    pub(crate) fn opened(&self, world: &World, (inode, key): (Inode, Key), span: Span, keep_pages: bool) {
        let mut inodes = self.0.lock();
        if keep_pages {
            inodes.get_mut(&inode).expect("pages are kept where there are some").narrow(world, span);
        } else {
            inodes.insert(inode, Opened::new(world, key, span.from, span));
        }
    }

    /// Bytes come from a read; panics when they are not of the version that the pages here are of.
    pub(crate) fn filled(&self, world: &World, inode: Inode, (extent, bytes): (Extent, &[u8]), until: Seq) {
        self.0.lock().get_mut(&inode).expect("it is open").check_read(world, extent, bytes, until);
    }
}
