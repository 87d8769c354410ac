//! The folders in a listed folder: in the order of the listing, and in that of their names.

use crate::vfs::folders::FolderListing;

/// Folders of one folder beyond which no order is kept of them.
pub(super) const SUBFOLDERS_MAX: usize = 1 << 16;

/// In which order a program comes to the folders of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they are listed: `find`, `tar`.
    Listing,
    /// By their names: `ls -R`, `rsync`, a shell's pattern.
    Names,
}

/// The folders of a folder, each at a *place*: how many come before it in the listing.
#[derive(Debug)]
pub struct Subfolders {
    /// Indices in the listing.
    indices: Vec<u32>,
    /// Places, in the order of the names.
    by_name: Vec<u32>,
    /// Where each place is in `by_name`.
    ranks: Vec<u32>,
}

impl Subfolders {
    /// Those of a listing; `None` where they are more than `SUBFOLDERS_MAX`.
    pub fn of(listing: &FolderListing) -> Option<Subfolders> {
        let count = u32::try_from(listing.len()).ok()?;
        let indices: Vec<u32> =
            (0..count).filter(|index| listing.is_dir(*index as usize)).take(SUBFOLDERS_MAX + 1).collect();
        let places = u32::try_from(indices.len()).ok().filter(|_| indices.len() <= SUBFOLDERS_MAX)?;
        let name = |place: &u32| listing.name(indices[*place as usize] as usize);
        let mut by_name: Vec<u32> = (0..places).collect();
        by_name.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        let mut ranks = vec![0; indices.len()];
        for (rank, place) in (0_u32..).zip(&by_name) {
            ranks[*place as usize] = rank;
        }
        Some(Subfolders { indices, by_name, ranks })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// The place of the folder at an index of the listing.
    pub fn place(&self, index: usize) -> Option<usize> {
        let index = u32::try_from(index).ok()?;
        self.indices.binary_search(&index).ok()
    }

    /// How many folders come before that at `place` in an order.
    pub fn rank(&self, place: usize, order: Order) -> usize {
        match order {
            Order::Listing => place,
            Order::Names => self.ranks[place] as usize,
        }
    }

    /// The index in the listing of the folder with so many before it.
    pub fn at_rank(&self, rank: usize, order: Order) -> Option<usize> {
        let place = match order {
            Order::Listing => rank,
            Order::Names => *self.by_name.get(rank)? as usize,
        };
        self.indices.get(place).map(|index| *index as usize)
    }

    /// The order in which `to` comes sooner after `from`, or sooner of all; `None` where both are as good.
    pub fn order(&self, from: Option<usize>, to: usize) -> Option<Order> {
        let way = |order| {
            let to = self.rank(to, order);
            from.map_or(to, |from| to.abs_diff(self.rank(from, order)))
        };
        match way(Order::Listing).cmp(&way(Order::Names)) {
            std::cmp::Ordering::Less => Some(Order::Listing),
            std::cmp::Ordering::Greater => Some(Order::Names),
            std::cmp::Ordering::Equal => None,
        }
    }
}
