//! Names of a directory that changed lately: who writes a file often has it read elsewhere soon, sooner than a push comes.

use std::time::Duration;

use tokio::time::Instant;
use wire::{Change, Name};

use super::{Folders, NodeId};

/// For how long after a push about a file an open of it asks the host although a lease would answer: until then the next
/// change may be on its way.
const LATELY: Duration = Duration::from_secs(10);

/// Names remembered of a directory; with more of them, all of it changed lately.
const NAMES_MAX: usize = 16;

/// What changed lately in one directory.
#[derive(Default)]
pub(super) struct Recent {
    names: Vec<(Name, Instant)>,
    /// When a name was left out.
    crowded: Option<Instant>,
}

impl Recent {
    /// Takes note of a change.
    pub(super) fn note(&mut self, name: &Name, now: Instant) {
        self.names.retain(|(other, at)| other != name && is_lately(*at, now));
        if self.names.len() < NAMES_MAX {
            self.names.push((name.clone(), now));
        } else {
            self.crowded = Some(now);
        }
    }

    /// Whether nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.crowded.is_none()
    }

    /// Whether a name may have changed lately.
    pub(super) fn has(&self, name: &Name, now: Instant) -> bool {
        self.crowded.is_some_and(|at| is_lately(at, now))
            || self.names.iter().any(|(other, at)| other == name && is_lately(*at, now))
    }
}

impl Folders {
    /// Takes note of when names changed.
    pub fn note_changes(&mut self, dir: NodeId, changes: &[Change], now: Instant) {
        if let Some(folder) = self.folders.get_mut(&dir) {
            changes.iter().for_each(|change| folder.recent.note(&change.name, now));
        }
    }

    /// As when nothing changed lately.
    #[cfg(test)]
    pub fn forget_changes(&mut self, dir: NodeId) {
        if let Some(folder) = self.folders.get_mut(&dir) {
            folder.recent = Recent::default();
        }
    }

    /// Whether any change in a directory is remembered: without one, no name needs to be looked for.
    pub fn has_changes(&self, dir: NodeId) -> bool {
        self.folders.get(&dir).is_some_and(|folder| !folder.recent.is_empty())
    }

    /// Whether a file may have changed so lately that the push of its next change may be on its way.
    pub fn changed_lately(&self, dir: NodeId, name: &Name, now: Instant) -> bool {
        self.folders.get(&dir).is_some_and(|folder| folder.recent.has(name, now))
    }
}

fn is_lately(at: Instant, now: Instant) -> bool {
    at + LATELY > now
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Name {
        Name::new(format!("n{number}").as_bytes()).unwrap()
    }

    #[test]
    fn a_name_is_remembered_for_a_while_and_too_many_are_all() {
        let (mut recent, now) = (Recent::default(), Instant::now()); // clock: an origin, nothing waits
        recent.note(&name(1), now);
        assert!(recent.has(&name(1), now + LATELY / 2));
        assert!(!recent.has(&name(1), now + LATELY));
        assert!(!recent.has(&name(2), now));
        let later = now + LATELY;
        for number in 0..10 * NAMES_MAX {
            recent.note(&name(number), later);
            assert!(recent.has(&name(number), later));
        }
        assert_eq!(recent.names.len(), NAMES_MAX);
        assert!(recent.has(&name(usize::MAX), later), "it may be one of those left out");
        assert!(!recent.has(&name(usize::MAX), later + LATELY));
    }
}
