//! A ticket as the list shows it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use wire::{Name, SharePath, TicketId};

use super::{Listed, Occupant, Record, json};

/// A ticket of the list. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketInfo {
    /// Its public number.
    #[serde(with = "json::id")]
    pub id: TicketId,
    /// What people call it.
    pub label: String,
    /// The shares it opens; empty for all.
    #[serde(with = "json::names")]
    pub shares: Vec<Name>,
    /// The folder inside each share that it opens; empty for the whole share.
    #[serde(with = "json::path")]
    pub prefix: SharePath,
    /// When it runs out, if it does.
    pub expires: Option<u64>,
    /// When it was made; of the first ticket, when it was first seen.
    pub created: u64,
    /// When a mount last connected with it.
    pub last_used: Option<u64>,
    /// When it was revoked.
    pub revoked: Option<u64>,
    /// Whether it opens anything.
    pub state: TicketState,
    /// The mounts that are connected with it.
    pub sessions: Vec<TicketSession>,
}

/// Whether a ticket opens anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TicketState {
    /// It lets mounts in.
    Good,
    /// Its time is over.
    Expired,
    /// It was ended by hand.
    Revoked,
}

impl TicketState {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            TicketState::Good => "good",
            TicketState::Expired => "expired",
            TicketState::Revoked => "revoked",
        }
    }
}

/// A mount that is connected with a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketSession {
    /// Its number, as the log has it.
    pub session: u64,
    /// What it calls itself.
    pub label: String,
    /// Where it is.
    pub peer: SocketAddr,
    /// For how long it has been connected, in seconds.
    pub connected_s: u64,
}

impl TicketInfo {
    pub(crate) fn of(listed: Listed, now: u64) -> TicketInfo {
        let Listed { record, revoked, sessions } = listed;
        let Record { id, label, shares, prefix, expires, created, last_used } = record;
        let state = match revoked {
            Some(_) => TicketState::Revoked,
            None if expires != 0 && expires <= now => TicketState::Expired,
            None => TicketState::Good,
        };
        let sessions = sessions.iter().map(|occupant| TicketSession::of(occupant)).collect();
        let expires = (expires != 0).then_some(expires);
        TicketInfo { id, label, shares, prefix, expires, created, last_used, revoked, state, sessions }
    }
}

impl TicketSession {
    fn of(occupant: &Occupant) -> TicketSession {
        TicketSession {
            session: occupant.number,
            label: occupant.label.clone(),
            peer: occupant.peer,
            connected_s: occupant.since.elapsed().as_secs(),
        }
    }
}
