//! Tickets: issuing them, checking what a mount shows, ending them.
//!
//! A secret is derived from the ticket's claims and the host's key, so none is kept: a ticket whose proof holds is good
//! unless it ran out or was revoked, whether or not the registry knows it. The registry is for people: labels, last use.

mod book;
pub mod date;
mod file;
mod info;
pub(crate) mod json;
mod registry;
mod seat;

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use wire::{
    Name, SharePath, Ticket, TicketId,
    auth::{Claims, Mode, Secret},
    limits,
    message::Hello,
};

pub(crate) use book::Book;
pub use info::{TicketInfo, TicketSession, TicketState};
pub(crate) use registry::{Record, Registry};
pub(crate) use seat::{Occupant, Seat};

use crate::{
    attr::wall_clock,
    error::{HostError, TicketError},
    metrics,
};

const FIRST_ID_CONTEXT: &str = "wormhole 2026-11 id of the first ticket";
/// What the list calls the ticket that the host prints.
const FIRST_LABEL: &str = "first ticket";
/// Bytes of a label.
const LABEL_BYTES_MAX: usize = 255;

/// What a new ticket is to open, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TicketRequest {
    /// What people call it; may be empty, and need not be unique. No secret.
    pub label: String,
    /// The shares it opens; empty for all that the host has.
    #[serde(with = "json::names")]
    pub shares: Vec<Name>,
    /// The folder inside each share that a mount sees as its root.
    #[serde(with = "json::path")]
    pub prefix: SharePath,
    /// Seconds since 1970 from which it is refused; `None` for never.
    pub expires: Option<u64>,
}

/// Why a mount is not let in, or is let in no longer. For the host's own eyes: the mount is told `Refused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the proof is wrong")]
    WrongProof,
    #[error("the ticket was revoked")]
    Revoked,
    #[error("the ticket expired")]
    Expired,
}

/// Where the tickets of a host lead.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) host_key: [u8; 32],
    pub(crate) addresses: Vec<String>,
}

/// What a revocation did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoked {
    /// The ticket.
    #[serde(with = "json::id")]
    pub id: TicketId,
    /// What it is called; `None` where it is not in the list, which a mistyped id is not either.
    pub label: Option<String>,
    /// Live sessions it ended.
    pub sessions: usize,
}

/// The host's tickets: all follow from one key.
pub(crate) struct Tickets {
    key: [u8; 32],
    book: Arc<Book>,
}

impl Tickets {
    /// Tickets that nothing is kept of.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn in_memory(key: [u8; 32]) -> Tickets {
        Tickets { key, book: Arc::new(Book::in_memory()) }
    }

    /// The tickets of a state directory, whose lock the caller holds.
    ///
    /// # Errors
    /// When its registry cannot be read as a whole.
    pub(crate) fn open(key: [u8; 32], state_dir: &Path) -> Result<Tickets, HostError> {
        Ok(Tickets { key, book: Arc::new(Book::open(state_dir)?) })
    }

    /// The claims of the ticket that the host prints: every share, without end. The same at each start until it is
    /// revoked.
    pub(crate) fn first(&self) -> Claims {
        self.first_of(self.book.with(|pages| pages.registry.first_generation))
    }

    fn first_of(&self, generation: u32) -> Claims {
        let material = match generation {
            0 => self.key.into(),
            n => [&self.key[..], &n.to_le_bytes()].concat(),
        };
        let hash = blake3::derive_key(FIRST_ID_CONTEXT, &material);
        let mut id = [0; 8];
        id.copy_from_slice(&hash[..8]);
        Claims {
            id: TicketId(id),
            shares: Vec::new(),
            prefix: SharePath::root(),
            mode: Mode::ReadOnly,
            expires: 0,
        }
    }

    /// At a start: moves on from a first ticket that was revoked, and remembers what tickets made without a running
    /// host need.
    ///
    /// # Errors
    /// The kernel's, where the file cannot be written.
    pub(crate) fn begin(&self, addresses: &[String], shares: &[Name]) -> Result<(), HostError> {
        let now = seconds_now();
        self.book.with(|pages| {
            let registry = &mut pages.registry;
            let before = registry.clone();
            registry.prune(now);
            let mut first = self.first_of(registry.first_generation);
            // At most once for each id that is revoked.
            while registry.revoked_at(first.id).is_some() {
                registry.first_generation += 1;
                first = self.first_of(registry.first_generation);
            }
            if registry.get(first.id).is_none() {
                registry.insert(Record::of(&first, FIRST_LABEL.to_owned(), now));
            }
            registry.addresses = addresses.into();
            registry.shares = shares.into();
            if *registry != before {
                pages.changed();
            }
        });
        self.save().map_err(|source| HostError::State { path: self.book.path().to_owned(), source })
    }

    /// The addresses and shares of the last start; `None` where there was none.
    pub(crate) fn last_start(&self) -> Option<(Vec<String>, Vec<Name>)> {
        let last = self.book.with(|pages| (pages.registry.addresses.clone(), pages.registry.shares.clone()));
        (!last.0.is_empty()).then_some(last)
    }

    /// The ticket of `claims`.
    pub(crate) fn issue(&self, claims: Claims, door: &Door) -> Ticket {
        let secret = Secret::derive(&self.key, &claims);
        let Door { host_key, addresses } = door.clone();
        Ticket { host_key, addresses, claims, secret }
    }

    /// Makes a ticket and remembers it. Waits for the disk.
    ///
    /// # Errors
    /// When the request breaks a rule, the list is full, or it cannot be written; then no ticket was made.
    pub(crate) fn create(
        &self,
        request: &TicketRequest,
        served: &[Name],
        door: &Door,
    ) -> Result<Ticket, TicketError> {
        let now = seconds_now();
        check_request(request, served, now)?;
        let claims = self.book.with(|pages| {
            if pages.registry.prune(now) {
                pages.changed();
            }
            if !pages.registry.has_room() {
                return Err(TicketError::Full);
            }
            let claims = Claims {
                id: pages.registry.free_id()?,
                shares: request.shares.clone(),
                prefix: request.prefix.clone(),
                mode: Mode::ReadOnly,
                expires: request.expires.unwrap_or(0),
            };
            pages.registry.insert(Record::of(&claims, request.label.clone(), now));
            pages.changed();
            Ok(claims)
        })?;
        if let Err(source) = self.save() {
            self.book.with(|pages| pages.registry.remove(claims.id));
            return Err(TicketError::Save { path: self.book.path().to_owned(), source });
        }
        tracing::info!(ticket = %claims.id, label = request.label, "ticket made");
        Ok(self.issue(claims, door))
    }

    /// Whether the mount holds the ticket it names, on this connection, and it is still good.
    ///
    /// Everything is looked at, and only then decided, so that a refusal takes the same time whatever its reason.
    ///
    /// # Errors
    /// The reason, which is not for the mount.
    pub(crate) fn check(&self, hello: &Hello, channel: &[u8; 32]) -> Result<(), Refusal> {
        let Claims { id, expires, .. } = hello.claims;
        let secret = Secret::derive(&self.key, &hello.claims);
        let proved = secret.accepts(&hello.claims, channel, &hello.proof);
        let revoked = self.book.with(|pages| pages.registry.revoked_at(id).is_some());
        let ended = has_ended(expires);
        match (proved, revoked, ended) {
            (false, _, _) => Err(Refusal::WrongProof),
            (true, true, _) => Err(Refusal::Revoked),
            (true, false, true) => Err(Refusal::Expired),
            (true, false, false) => Ok(()),
        }
    }

    /// Takes in a session whose ticket was checked, and notes the ticket's use.
    ///
    /// # Errors
    /// When the ticket was revoked or ran out meanwhile.
    pub(crate) fn seat(
        &self,
        number: u64,
        claims: Claims,
        label: String,
        peer: SocketAddr,
    ) -> Result<Seat, Refusal> {
        let occupant = Arc::new(Occupant::new(number, claims, label, peer));
        occupant.check()?;
        self.book.with(|pages| {
            if pages.registry.revoked_at(occupant.claims.id).is_some() {
                return Err(Refusal::Revoked);
            }
            if pages.registry.note_use(occupant.claims.id, seconds_now()) {
                pages.changed();
            }
            pages.live.insert(number, Arc::clone(&occupant));
            Ok(())
        })?;
        Ok(Seat { occupant, book: Arc::clone(&self.book) })
    }

    /// The sessions that are live now, by their number.
    pub(crate) fn live(&self) -> Vec<Arc<Occupant>> {
        self.book.with(|pages| pages.live.values().cloned().collect())
    }

    /// Waits until no session of these tickets is left; without a deadline, which is the caller's.
    pub(crate) async fn vacated(&self, ids: &[TicketId]) {
        self.book.vacated(ids).await;
    }

    /// How many are in the list.
    pub(crate) fn count(&self) -> usize {
        self.book.with(|pages| pages.registry.len())
    }

    /// What is known of a ticket in the list.
    pub(crate) fn record(&self, id: TicketId) -> Option<Record> {
        self.book.with(|pages| pages.registry.get(id).cloned())
    }

    /// At most `count` tickets behind `after` by their id, with the time of their revocation and their live sessions.
    pub(crate) fn page(&self, after: Option<TicketId>, count: usize) -> Vec<Listed> {
        self.book.with(|pages| {
            let listed = |record: &Record| Listed {
                record: record.clone(),
                revoked: pages.registry.revoked_at(record.id),
                sessions: pages.sessions_of(record.id).cloned().collect(),
            };
            pages.registry.records(after).take(count).map(listed).collect()
        })
    }

    /// Which ticket people mean: its id, the beginning of its id, or its label. A whole id need not be in the list.
    ///
    /// # Errors
    /// When it is none, or several.
    pub(crate) fn find(&self, text: &str) -> Result<TicketId, TicketError> {
        let whole = TicketId::parse(text);
        if let Some(id) = whole.filter(|&id| self.record(id).is_some()) {
            return Ok(id);
        }
        let digits = text.to_ascii_lowercase();
        let mut found: Vec<(TicketId, String, bool)> = self.book.with(|pages| {
            let meant = |record: &&Record| {
                record.label == text || (!text.is_empty() && record.id.to_string().starts_with(&digits))
            };
            let revoked = |id| pages.registry.revoked_at(id).is_some();
            let all = pages.registry.records(None).filter(meant);
            all.map(|record| (record.id, record.label.clone(), revoked(record.id))).collect()
        });
        // A label is often given again once its ticket is revoked.
        if found.iter().any(|(_, _, revoked)| !revoked) {
            found.retain(|(_, _, revoked)| !revoked);
        }
        match &found[..] {
            [] => whole.ok_or_else(|| TicketError::Unknown { text: text.to_owned() }),
            [(id, _, _)] => Ok(*id),
            several => Err(TicketError::Ambiguous {
                text: text.to_owned(),
                found: several.iter().map(|(id, label, _)| (*id, label.clone())).collect(),
            }),
        }
    }

    /// Ends tickets for good: their sessions end at once, none is let in any more. Waits for the disk.
    ///
    /// # Errors
    /// [`TicketError::RevokedUnsaved`] when the file could not be written: it holds until the host stops.
    pub(crate) fn revoke(&self, ids: &[TicketId]) -> Result<Vec<Revoked>, TicketError> {
        let now = seconds_now();
        let revoked = self.book.with(|pages| {
            let mut done = Vec::with_capacity(ids.len());
            for &id in ids {
                if !pages.registry.revoke(id, now) {
                    return Err(TicketError::RevokedFull);
                }
                pages.changed();
                let sessions = pages.sessions_of(id).filter(|occupant| occupant.revoke()).count();
                let label = pages.registry.get(id).map(|record| record.label.clone());
                done.push(Revoked { id, label, sessions });
            }
            Ok(done)
        })?;
        for Revoked { id, label, sessions } in &revoked {
            metrics::revoked();
            tracing::info!(ticket = %id, label = label.as_deref().unwrap_or_default(), sessions, "ticket revoked");
        }
        self.save()
            .map_err(|source| TicketError::RevokedUnsaved { path: self.book.path().to_owned(), source })?;
        Ok(revoked)
    }

    /// Whether the file lacks something: the last use of a ticket, mostly.
    pub(crate) fn is_unsaved(&self) -> bool {
        self.book.is_unsaved()
    }

    /// Writes what the file lacks. Waits for the disk.
    ///
    /// # Errors
    /// The kernel's; it can be tried again.
    pub(crate) fn save(&self) -> io::Result<()> {
        self.book.save()
    }
}

/// One line of the list.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) record: Record,
    pub(crate) revoked: Option<u64>,
    pub(crate) sessions: Vec<Arc<Occupant>>,
}

impl Registry {
    /// An id that no ticket has.
    fn free_id(&self) -> Result<TicketId, TicketError> {
        loop {
            let mut id = [0; 8];
            SystemRandom::new().fill(&mut id).map_err(|_| TicketError::NoRandom)?;
            let id = TicketId(id);
            // Of 2^64, a few thousand are taken: a second round is not to be seen in practice.
            if self.get(id).is_none() && self.revoked_at(id).is_none() {
                return Ok(id);
            }
        }
    }
}

fn check_request(request: &TicketRequest, served: &[Name], now: u64) -> Result<(), TicketError> {
    let TicketRequest { label, shares, expires, .. } = request;
    if label.len() > LABEL_BYTES_MAX || label.chars().any(char::is_control) {
        return Err(TicketError::Label { bytes_max: LABEL_BYTES_MAX });
    }
    if shares.len() > limits::SHARES_MAX {
        return Err(TicketError::ShareCount { count: shares.len() });
    }
    if let Some(name) = shares.iter().find(|name| !served.contains(name)) {
        return Err(TicketError::UnknownShare { name: name.clone(), served: served.into() });
    }
    match *expires {
        Some(at) if at <= now => Err(TicketError::InThePast { at }),
        _ => Ok(()),
    }
}

/// Seconds since 1970.
pub(crate) fn seconds_now() -> u64 {
    wall_clock().secs.cast_unsigned()
}

/// Whether a ticket that runs out at `expires` (zero: never) has.
pub(crate) fn has_ended(expires: u64) -> bool {
    expires != 0 && expires <= seconds_now()
}

/// How long until then; `None` for ever.
fn seconds_left(expires: u64) -> Option<Duration> {
    (expires != 0).then(|| Duration::from_secs(expires.saturating_sub(seconds_now())))
}

#[cfg(test)]
mod tests;
