//! What is said over the control socket: one request, one answer, each a line of JSON.

use std::fmt;

use serde::{Deserialize, Serialize};
use wire::{Ticket, TicketId};

use crate::{
    status::HostStatus,
    tickets::{Revoked, TicketInfo, TicketRequest, json},
};

/// Bytes of a request's line.
pub const REQUEST_BYTES_MAX: usize = 64 << 10;
/// Bytes of an answer's line: a page of tickets with the longest names there are, and room to spare.
pub const ANSWER_BYTES_MAX: usize = 8 << 20;

/// What the owner of a host may ask of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Make a ticket.
    TicketNew(TicketRequest),
    /// A page of the list of tickets; an empty one is the last.
    TicketList {
        /// The last of the page before; nothing for the first page.
        after: Option<Id>,
    },
    /// End tickets for good; none of them if one is not found.
    TicketRevoke {
        /// Each by its id, the beginning of its id, or its label.
        which: Vec<String>,
    },
    /// How the host stands.
    Status,
}

/// The answer to the request of that kind.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// To [`Request::TicketNew`].
    Ticket(TicketText),
    /// To [`Request::TicketList`].
    Tickets(Vec<TicketInfo>),
    /// To [`Request::TicketRevoke`].
    Revoked(Vec<Revoked>),
    /// To [`Request::Status`].
    Status(Box<HostStatus>),
    /// To any: what is wrong and what to do, in one line.
    Error(String),
}

/// A ticket's id as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Id(#[serde(with = "json::id")] pub TicketId);

/// A ticket's one line, which is a password: `Debug` hides it.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct TicketText(String);

impl TicketText {
    pub(crate) fn of(ticket: &Ticket) -> TicketText {
        TicketText(ticket.to_string())
    }

    /// The line, to be handed to whoever asked for the ticket and to nobody else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TicketText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketText(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_a_ticket() {
        let response = Response::Ticket(TicketText("wh1_secret".into()));
        assert_eq!(format!("{response:?}"), "Ticket(TicketText(hidden))");
        assert_eq!(serde_json::to_string(&response).unwrap(), r#"{"ticket":"wh1_secret"}"#);
    }

    #[test]
    fn requests_in_writing() {
        let read = |text: &str| serde_json::from_str::<Request>(text);
        assert_eq!(read(r#""status""#).unwrap(), Request::Status);
        let list = read(r#"{"ticket_list":{"after":"0101010101010101"}}"#).unwrap();
        assert_eq!(list, Request::TicketList { after: Some(Id(TicketId([1; 8]))) });
        for wrong in ["", "{}", "[]", "\"stop\"", r#"{"ticket_list":{"after":"01"}}"#, r#"{"ticket_new":{}}"#]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
