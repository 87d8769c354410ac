//! Tickets: issuing the first one, and checking what a mount shows.

use wire::{
    ErrorCode, SharePath, Ticket, TicketId,
    auth::{Claims, Mode, Secret},
    message::Hello,
};

use crate::attr::wall_clock;

const FIRST_ID_CONTEXT: &str = "wormhole 2026-11 id of the first ticket";

/// The host's tickets: all follow from one key.
pub(crate) struct Tickets {
    key: [u8; 32],
}

impl Tickets {
    pub(crate) fn new(key: [u8; 32]) -> Tickets {
        Tickets { key }
    }

    /// The claims of the ticket made at the first start: every share, without end. The same at each start.
    pub(crate) fn first(&self) -> Claims {
        let hash = blake3::derive_key(FIRST_ID_CONTEXT, &self.key);
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

    /// The ticket of `claims`.
    pub(crate) fn issue(&self, claims: Claims, host_key: [u8; 32], addresses: Vec<String>) -> Ticket {
        let secret = Secret::derive(&self.key, &claims);
        Ticket { host_key, addresses, claims, secret }
    }

    /// Whether the mount holds the ticket it names, on this connection, and it is still good.
    ///
    /// # Errors
    /// [`ErrorCode::Refused`], whatever the reason.
    pub(crate) fn check(&self, hello: &Hello, channel: &[u8; 32]) -> Result<(), ErrorCode> {
        let secret = Secret::derive(&self.key, &hello.claims);
        if !secret.accepts(&hello.claims, channel, &hello.proof) {
            return Err(ErrorCode::Refused);
        }
        check_expiry(&hello.claims)
    }
}

/// Whether the ticket has not run out.
pub(crate) fn check_expiry(claims: &Claims) -> Result<(), ErrorCode> {
    let now = wall_clock().secs.cast_unsigned();
    if claims.expires != 0 && claims.expires <= now { Err(ErrorCode::Refused) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(ticket: &Ticket, channel: &[u8; 32]) -> Hello {
        Hello {
            version_min: 1,
            version_max: 1,
            claims: ticket.claims.clone(),
            proof: ticket.secret.prove(&ticket.claims, channel),
            label: String::new(),
        }
    }

    fn issued(change: impl FnOnce(&mut Claims)) -> (Tickets, Ticket) {
        let tickets = Tickets::new([7; 32]);
        let mut claims = tickets.first();
        change(&mut claims);
        let ticket = tickets.issue(claims, [1; 32], vec!["h:1".into()]);
        (tickets, ticket)
    }

    #[test]
    fn the_first_ticket_is_the_same_at_each_start_and_differs_between_hosts() {
        assert_eq!(Tickets::new([7; 32]).first(), Tickets::new([7; 32]).first());
        assert_ne!(Tickets::new([7; 32]).first().id, Tickets::new([8; 32]).first().id);
    }

    #[test]
    fn only_the_holder_on_his_own_connection_is_let_in() {
        let (tickets, ticket) = issued(|_| {});
        let channel = [3; 32];
        assert_eq!(tickets.check(&hello(&ticket, &channel), &channel), Ok(()));
        assert_eq!(tickets.check(&hello(&ticket, &channel), &[4; 32]), Err(ErrorCode::Refused));
        let mut wider = hello(&issued(|c| c.prefix = SharePath::new(b"a").unwrap()).1, &channel);
        wider.claims.prefix = SharePath::root();
        assert_eq!(tickets.check(&wider, &channel), Err(ErrorCode::Refused));
    }

    #[test]
    fn a_ticket_that_ran_out_is_refused() {
        let channel = [3; 32];
        let (tickets, past) = issued(|c| c.expires = 1);
        assert_eq!(tickets.check(&hello(&past, &channel), &channel), Err(ErrorCode::Refused));
        let (tickets, future) = issued(|c| c.expires = u64::MAX);
        assert_eq!(tickets.check(&hello(&future, &channel), &channel), Ok(()));
    }
}
