//! The owner's requests while no host runs: done on the files, under the lock that keeps a host out meanwhile.

use std::path::{Path, PathBuf};

use super::{
    ControlError,
    desk::PAGE,
    protocol::{Id, Request, Response, TicketText},
};
use crate::{
    state::StateDir,
    tickets::{Door, TicketInfo, Tickets, seconds_now},
};

/// The state directory of a host that does not run.
pub(super) struct Away {
    tickets: Tickets,
    path: PathBuf,
    // Last: the lock goes when nothing is written any more.
    state: StateDir,
}

impl Away {
    pub(super) fn open(state_dir: &Path) -> Result<Away, ControlError> {
        let state = StateDir::open(state_dir)?;
        let tickets = Tickets::open(state.ticket_key()?, state_dir)?;
        Ok(Away { tickets, path: state_dir.to_owned(), state })
    }

    pub(super) fn answer(&self, request: &Request) -> Result<Response, ControlError> {
        Ok(match request {
            Request::TicketNew(request) => {
                let last = self.tickets.last_start();
                let (addresses, shares) =
                    last.ok_or_else(|| ControlError::NeverStarted { state_dir: self.path.clone() })?;
                let door = Door { host_key: self.state.identity()?.public_key(), addresses };
                Response::Ticket(TicketText::of(&self.tickets.create(request, &shares, &door)?))
            }
            Request::TicketList { after } => {
                let now = seconds_now();
                let page = self.tickets.page(after.map(|Id(id)| id), PAGE);
                Response::Tickets(page.into_iter().map(|listed| TicketInfo::of(listed, now)).collect())
            }
            Request::TicketRevoke { which } => {
                let found: Result<Vec<_>, _> = which.iter().map(|text| self.tickets.find(text)).collect();
                Response::Revoked(self.tickets.revoke(&found?)?)
            }
            Request::Status => return Err(ControlError::NotRunning { state_dir: self.path.clone() }),
        })
    }
}
