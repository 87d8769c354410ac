//! What the pages are of that the kernel holds of a file, for as long as the file is a node.

use std::sync::{Arc, Weak};

use crate::read::content::Content;

/// What an open means for the pages that the kernel holds of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// They are of this version: keep them.
    Keep,
    /// There are none, or they may be of other contents under the same version: drop them.
    Drop,
    /// They are of another version: drop them, and who reads them must open again.
    Replaced,
}

/// The contents that the kernel may hold pages of.
///
/// 16 bytes, since a tree may be read through: of contents that are gone, their version is told by its hash.
pub(super) struct Held {
    content: Weak<Content>,
    /// As they were when they were opened last; contents that live know better.
    sealed: Seal,
}

const _: () = assert!(size_of::<Option<Held>>() == 16);

/// A version and whether it is settled, hashed: two are the same but for one chance in 2^63.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seal(u64);

impl Seal {
    const SETTLED: u64 = 1;

    /// Of a version's hash.
    pub(super) fn new(hash: u64, settled: bool) -> Seal {
        Seal(hash & !Seal::SETTLED | u64::from(settled))
    }

    fn is_of_version(self, other: Seal) -> bool {
        self.0 | Seal::SETTLED == other.0 | Seal::SETTLED
    }

    fn is_settled(self) -> bool {
        self.0 & Seal::SETTLED != 0
    }
}

impl Held {
    /// Contents as they are opened.
    pub(super) fn new(content: &Arc<Content>, sealed: Seal) -> Held {
        Held { content: Arc::downgrade(content), sealed }
    }

    /// The contents, while they are remembered.
    pub(super) fn content(&self) -> Option<Arc<Content>> {
        self.content.upgrade()
    }

    /// What an open at `opened` means for the pages; `live` is how the contents are now, and whether stale.
    pub(super) fn pages(&self, opened: Seal, live: Option<(Seal, bool)>) -> Pages {
        let (held, is_stale) = live.unwrap_or((self.sealed, false));
        if !held.is_of_version(opened) || is_stale {
            Pages::Replaced
        } else if held.is_settled() && opened.is_settled() {
            Pages::Keep
        } else {
            Pages::Drop
        }
    }

    /// Forgets contents that only the caller still holds: a weak reference keeps their memory. Their version stays.
    pub(super) fn let_go(&mut self, content: &Arc<Content>, sealed: Seal) {
        let ours = Weak::as_ptr(&self.content) == Arc::as_ptr(content);
        if ours && Arc::strong_count(content) == 1 && !content.is_stale() {
            self.sealed = sealed;
            self.content = Weak::new();
        }
    }
}
