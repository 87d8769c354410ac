//! Share numbers that stay, whatever a host that restarted calls its shares.

use wire::{Name, ShareId, message::Welcome};

/// The names of the shares, each at the place of its number here. A share keeps its number for the client's life.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares {
    known: Vec<(Name, ShareId)>,
}

impl Shares {
    /// The numbers of the first welcome are kept as they are.
    pub(super) fn new(welcome: &Welcome) -> Shares {
        Shares { known: welcome.shares.iter().map(|share| (share.name.clone(), share.id)).collect() }
    }

    /// Numbers what is new: with the host's number where that is free.
    ///
    /// Grows by at most [`wire::limits::SHARES_MAX`] names with each session; names that are gone are forgotten once more than
    /// [`KNOWN_MAX`] are known.
    pub(super) fn learn(&mut self, welcome: &Welcome) {
        if self.known.len() > KNOWN_MAX {
            self.known.retain(|(name, _)| welcome.shares.iter().any(|share| share.name == *name));
        }
        for share in &welcome.shares {
            if self.known.iter().any(|(name, _)| *name == share.name) {
                continue;
            }
            let taken = |id: ShareId| self.known.iter().any(|(_, known)| *known == id);
            let mut id = share.id;
            while taken(id) {
                id = ShareId(id.0.wrapping_add(1));
            }
            self.known.push((share.name.clone(), id));
        }
    }

    /// The welcome with our numbers.
    pub(super) fn renumber(&self, welcome: &Welcome) -> Welcome {
        let mut welcome = welcome.clone();
        for share in &mut welcome.shares {
            if let Some((_, id)) = self.known.iter().find(|(name, _)| *name == share.name) {
                share.id = *id;
            }
        }
        welcome
    }

    /// Our number and the host's for each share of this session.
    pub(super) fn translation(&self, welcome: &Welcome) -> Vec<(ShareId, ShareId)> {
        let ours = self.renumber(welcome);
        ours.shares.iter().zip(&welcome.shares).map(|(ours, theirs)| (ours.id, theirs.id)).collect()
    }
}

/// Names kept of earlier sessions.
const KNOWN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use wire::{Attr, ByteLen, FileId, FileKind, Timestamp, message::ShareInfo, version::PROTOCOL_VERSION};

    use super::*;

    fn welcome(shares: &[(&str, u16)]) -> Welcome {
        let share = |&(name, id): &(&str, u16)| ShareInfo {
            id: ShareId(id),
            name: Name::new(name.as_bytes()).unwrap(),
            root: root(),
        };
        Welcome { version: PROTOCOL_VERSION, session: 1, boot: 1, shares: shares.iter().map(share).collect() }
    }

    fn root() -> Attr {
        Attr {
            id: FileId { fs: 1, inode: 2, birth: 3 },
            kind: FileKind::Directory,
            perm: 0o755,
            links: 2,
            uid: 0,
            gid: 0,
            rdev: 0,
            block_bytes: 4096,
            size: ByteLen(0),
            blocks: 0,
            atime: Timestamp::default(),
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
            settled: true,
        }
    }

    fn ids(welcome: &Welcome) -> Vec<u16> {
        welcome.shares.iter().map(|share| share.id.0).collect()
    }

    #[test]
    fn a_share_keeps_its_number_when_the_host_renumbers() {
        let mut shares = Shares::new(&welcome(&[("a", 1), ("b", 2)]));
        let again = welcome(&[("c", 1), ("a", 2)]);
        shares.learn(&again);
        assert_eq!(ids(&shares.renumber(&again)), [3, 1]);
        let pairs = shares.translation(&again);
        assert_eq!(pairs, [(ShareId(3), ShareId(1)), (ShareId(1), ShareId(2))]);
    }

    #[test]
    fn a_share_that_comes_back_has_its_number_back() {
        let mut shares = Shares::new(&welcome(&[("a", 1), ("b", 2)]));
        shares.learn(&welcome(&[("a", 1)]));
        let again = welcome(&[("b", 1), ("a", 2)]);
        shares.learn(&again);
        assert_eq!(ids(&shares.renumber(&again)), [2, 1]);
    }

    #[test]
    fn names_of_long_ago_are_forgotten() {
        let mut shares = Shares::new(&welcome(&[("keep", 0)]));
        for n in 0..500 {
            let name = format!("share-{n}");
            shares.learn(&welcome(&[("keep", 0), (&name, 1)]));
            assert!(shares.known.len() <= KNOWN_MAX + 2);
        }
        assert_eq!(ids(&shares.renumber(&welcome(&[("keep", 9)]))), [0]);
    }
}
