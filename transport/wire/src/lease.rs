//! Leases: what a mount may trust without asking, and what the host pushes when it must not any more.

use std::ops::{BitOr, BitOrAssign};

use crate::{FileId, LeaseId, Name};

/// What a host says to the wish for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The directory was watched before it was looked at: every later change is pushed.
    Granted,
    /// The host cannot see every change there: a network or FUSE file system, or one it does not know.
    Unwatchable,
    /// The host, or this session, watches as many directories as it may.
    Exhausted,
}

/// What a host sends of its own accord, about leases it granted in this session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// Names in a leased directory that may be other than before. The directory's own attributes are in doubt too, and
    /// they alone where there are no names.
    Changed {
        /// The directory's lease, which holds on.
        lease: LeaseId,
        /// At most [`crate::limits::PUSH_BYTES_MAX`] bytes of them; a name at most once.
        changes: Vec<Change>,
    },
    /// These leases hold no more: at most [`crate::limits::REVOKED_MAX`].
    Revoked(Vec<LeaseId>),
    /// No lease of the session holds any more.
    RevokedAll,
}

/// What may have happened to one name of a leased directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The name.
    pub name: Name,
    /// What happened, as far as the host knows.
    pub what: Changes,
    /// A file with several names that appeared under this one, or of which the host saw a change through this one: its
    /// attributes changed under the other names too.
    pub linked: Option<FileId>,
}

impl Change {
    /// Bytes it takes in a push: what a host counts against [`crate::limits::PUSH_BYTES_MAX`].
    pub fn wire_bytes(&self) -> usize {
        crate::codec::change_bytes(self)
    }
}

/// A set of the ways in which a name can change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Changes(u8);

impl Changes {
    /// The name came to be: created, linked or moved here, perhaps over another file.
    pub const CREATED: Changes = Changes(1);
    /// The name is gone, or was between.
    pub const REMOVED: Changes = Changes(2);
    /// The file's bytes or length changed.
    pub const CONTENT: Changes = Changes(4);
    /// Its attributes changed.
    pub const ATTR: Changes = Changes(8);

    const ALL: u8 = 15;

    /// The set of these bits; those that mean nothing here are left out.
    pub fn from_bits(bits: u8) -> Changes {
        Changes(bits & Changes::ALL)
    }

    /// The set as bits.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Whether all of `other` is in it.
    pub fn contains(self, other: Changes) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Changes {
    type Output = Changes;

    fn bitor(self, other: Changes) -> Changes {
        Changes(self.0 | other.0)
    }
}

impl BitOrAssign for Changes {
    fn bitor_assign(&mut self, other: Changes) {
        self.0 |= other.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_that_mean_nothing_are_left_out() {
        let both = Changes::CREATED | Changes::ATTR;
        assert_eq!(Changes::from_bits(0xf0 | both.bits()), both);
        assert!(both.contains(Changes::ATTR) && !both.contains(Changes::ATTR | Changes::CONTENT));
        assert!(both.contains(Changes::default()));
    }
}
