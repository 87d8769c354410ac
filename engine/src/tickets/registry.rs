//! What is remembered about tickets: those issued, those revoked, and what a ticket needs besides its claims.
//!
//! No secret is among it: they are derived. A plain value without clock or disk: `now` comes in as seconds since 1970.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wire::{Name, SharePath, TicketId, auth::Claims, auth::Mode};

use super::json;
use crate::config::TICKETS_MAX;

/// How long a ticket that ran out stays in the list.
const KEPT_AFTER_END_S: u64 = 30 * 24 * 3600;

/// One ticket that was issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    #[serde(with = "json::id")]
    pub(crate) id: TicketId,
    pub(crate) label: String,
    #[serde(with = "json::names")]
    pub(crate) shares: Vec<Name>,
    #[serde(with = "json::path")]
    pub(crate) prefix: SharePath,
    /// Zero for never, as in the claims.
    pub(crate) expires: u64,
    pub(crate) created: u64,
    pub(crate) last_used: Option<u64>,
}

/// One ticket that opens nothing any more, whatever its claims say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Revocation {
    #[serde(with = "json::id")]
    id: TicketId,
    at: u64,
}

/// The registry as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    first_generation: u32,
    addresses: Vec<String>,
    #[serde(with = "json::names")]
    shares: Vec<Name>,
    issued: Vec<Record>,
    revoked: Vec<Revocation>,
}

/// Issued and revoked tickets by their id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registry {
    /// Which first ticket this is: one more for each that was revoked.
    pub(crate) first_generation: u32,
    /// What the host last advertised, for tickets made while it is away.
    pub(crate) addresses: Vec<String>,
    /// The shares it last served, likewise.
    pub(crate) shares: Vec<Name>,
    issued: BTreeMap<TicketId, Record>,
    revoked: BTreeMap<TicketId, u64>,
}

impl Record {
    pub(crate) fn of(claims: &Claims, label: String, now: u64) -> Record {
        let Claims { id, shares, prefix, mode: Mode::ReadOnly, expires } = claims.clone();
        Record { id, label, shares, prefix, expires, created: now, last_used: None }
    }
}

impl Registry {
    pub(crate) fn get(&self, id: TicketId) -> Option<&Record> {
        self.issued.get(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.issued.len()
    }

    /// The records behind `after`, by id.
    pub(crate) fn records(&self, after: Option<TicketId>) -> impl Iterator<Item = &Record> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.issued.range((from, Unbounded)).map(|(_, record)| record)
    }

    /// When the ticket was revoked.
    pub(crate) fn revoked_at(&self, id: TicketId) -> Option<u64> {
        self.revoked.get(&id).copied()
    }

    /// Whether another ticket can be remembered.
    pub(crate) fn has_room(&self) -> bool {
        self.issued.len() < TICKETS_MAX
    }

    pub(crate) fn insert(&mut self, record: Record) {
        self.issued.insert(record.id, record);
    }

    pub(crate) fn remove(&mut self, id: TicketId) {
        self.issued.remove(&id);
    }

    /// Whether this changed anything.
    pub(crate) fn note_use(&mut self, id: TicketId, now: u64) -> bool {
        match self.issued.get_mut(&id) {
            Some(record) => record.last_used.replace(now) != Some(now),
            None => false,
        }
    }

    /// `false` where there is no room for one more: only for tickets that are not in the list.
    pub(crate) fn revoke(&mut self, id: TicketId, now: u64) -> bool {
        let room = self.issued.contains_key(&id) || self.revoked.len() < 2 * TICKETS_MAX;
        if room {
            self.revoked.entry(id).or_insert(now);
        }
        room
    }

    /// Forgets what ran out long ago: its claims close the door without a list. Whether that changed anything.
    pub(crate) fn prune(&mut self, now: u64) -> bool {
        let long_over =
            |record: &Record| record.expires != 0 && record.expires.saturating_add(KEPT_AFTER_END_S) <= now;
        let before = self.issued.len();
        let revoked = &mut self.revoked;
        self.issued.retain(|id, record| {
            let over = long_over(record);
            if over {
                revoked.remove(id);
            }
            !over
        });
        before != self.issued.len()
    }

    pub(crate) fn to_stored(&self) -> Stored {
        Stored {
            first_generation: self.first_generation,
            addresses: self.addresses.clone(),
            shares: self.shares.clone(),
            issued: self.issued.values().cloned().collect(),
            revoked: self.revoked.iter().map(|(&id, &at)| Revocation { id, at }).collect(),
        }
    }

    pub(crate) fn from_stored(stored: Stored) -> Registry {
        let Stored { first_generation, addresses, shares, issued, revoked } = stored;
        Registry {
            first_generation,
            addresses,
            shares,
            issued: issued.into_iter().map(|record| (record.id, record)).collect(),
            revoked: revoked.into_iter().map(|Revocation { id, at }| (id, at)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u8, expires: u64) -> Record {
        let claims = Claims {
            id: TicketId([id; 8]),
            shares: vec![Name::new(b"caf\xc3\xa9").unwrap(), Name::new(b"\xff").unwrap()],
            prefix: SharePath::new(b"a/\xfe").unwrap(),
            mode: Mode::ReadOnly,
            expires,
        };
        Record::of(&claims, "label \"x\"".to_owned(), 5)
    }

    #[test]
    fn it_comes_back_as_it_was_written() {
        let mut registry = Registry { first_generation: 2, ..Registry::default() };
        registry.addresses.push("host:1".to_owned());
        registry.insert(record(1, 0));
        registry.insert(record(2, 77));
        assert!(registry.note_use(TicketId([1; 8]), 9));
        assert!(registry.revoke(TicketId([2; 8]), 8) && registry.revoke(TicketId([3; 8]), 8));
        let text = serde_json::to_string(&registry.to_stored()).unwrap();
        assert!(text.contains("café") && text.contains("0101010101010101"), "{text}");
        assert_eq!(Registry::from_stored(serde_json::from_str(&text).unwrap()), registry);
    }

    #[test]
    fn what_ran_out_is_forgotten_a_month_later_and_what_never_ends_is_kept() {
        let mut registry = Registry::default();
        for (id, expires) in [(1, 0), (2, 100)] {
            registry.insert(record(id, expires));
            assert!(registry.revoke(TicketId([id; 8]), 50));
        }
        assert!(!registry.prune(100 + KEPT_AFTER_END_S - 1));
        assert!(registry.prune(100 + KEPT_AFTER_END_S));
        assert_eq!(registry.records(None).count(), 1);
        assert_eq!(registry.revoked_at(TicketId([1; 8])), Some(50));
        assert_eq!(registry.revoked_at(TicketId([2; 8])), None);
    }

    #[test]
    fn what_is_revoked_without_being_listed_is_bounded() {
        let mut registry = Registry::default();
        registry.insert(record(255, 0));
        for n in 0..2 * TICKETS_MAX as u64 {
            assert!(registry.revoke(TicketId(n.to_le_bytes()), 1));
        }
        assert!(!registry.revoke(TicketId([254; 8]), 1));
        assert!(registry.revoke(TicketId([255; 8]), 1), "one of the list always can be");
    }

    #[test]
    fn pages_go_on_where_they_ended() {
        let mut registry = Registry::default();
        for id in 1..=3 {
            registry.insert(record(id, 0));
        }
        let ids = |after| registry.records(after).map(|r| r.id.0[0]).collect::<Vec<_>>();
        assert_eq!((ids(None), ids(Some(TicketId([2; 8])))), (vec![1, 2, 3], vec![3]));
    }
}
