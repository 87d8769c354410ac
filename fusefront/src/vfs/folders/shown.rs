//! Listings that the kernel keeps: a directory opened again under an unchanged lease is then listed without us.
//!
//! The kernel keeps one listing of a directory, filled by whoever reads it from its start, and drops it at an open that does
//! not say otherwise. It is said only where what it was filled with is, entry for entry, what memory has now: each listing
//! in memory notes that the kernel was given it, and any push makes it another one.

use std::sync::Arc;

use tokio::time::Instant;

use super::{FolderListing, Folders, Listed, NodeId, Phase, Taking};
use crate::vfs::attr::LEASED_TTL;

/// What an open of a directory means for the listing that the kernel keeps of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelListing {
    /// It keeps none, and asks for each entry.
    None,
    /// It drops what it has, and keeps what it is given with this open.
    Filled,
    /// What it has is good.
    Kept,
}

/// Where the entries of an open directory come from.
pub enum ShownFrom<'a> {
    /// From this listing in memory.
    Memory(&'a Arc<FolderListing>),
    /// From the host, and memory takes them in.
    Host(Taking),
}

impl Folders {
    /// Takes note that the kernel is given the entries of an open directory, and tells what it may keep.
    ///
    /// The names and attributes that came with a listing hold for [`LEASED_TTL`]: it is given anew before they end, or each
    /// of them would be asked for by itself.
    pub fn show(&mut self, dir: NodeId, from: &ShownFrom<'_>, now: Instant) -> KernelListing {
        let Some(folder) = self.folders.get_mut(&dir).filter(|folder| folder.phase == Phase::Held) else {
            return KernelListing::None;
        };
        let is_it = |listed: &Listed| match from {
            ShownFrom::Memory(entries) => Arc::ptr_eq(&listed.entries, entries),
            ShownFrom::Host(taking) => listed.taking == *taking,
        };
        if let Some(listed) =
            folder.listing.as_mut().filter(|listed| listed.dirty.is_empty() && is_it(listed))
        {
            let is_good = listed.shown.is_some_and(|shown| now < shown + LEASED_TTL / 2);
            if is_good && matches!(from, ShownFrom::Memory(_)) {
                return KernelListing::Kept;
            }
            listed.shown = Some(now);
            return KernelListing::Filled;
        }
        match (from, &mut folder.taken) {
            (ShownFrom::Host(taking), Some(taken)) if taken.taking == *taking => {
                taken.shown = Some(now);
                KernelListing::Filled
            }
            _ => KernelListing::None,
        }
    }
}
