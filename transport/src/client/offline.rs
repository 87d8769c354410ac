//! A client that begins without a session: its host is out of reach.

use std::sync::{Arc, atomic::AtomicU64};

use parking_lot::Mutex;
use tokio::time::Instant;
use wire::{Ticket, message::Welcome};

use super::{
    Client, ClientConfig, History, Loss, Owner, Shared, State, dial::Dialer, reconnect, shares::Shares,
    states::States,
};
use crate::error::ConnectError;

impl Client {
    /// A client as after the loss of a session that had `last` for its welcome, with our numbers of the shares: it tries
    /// until there is a session. Call it in a lane's runtime.
    ///
    /// # Errors
    /// [`ConnectError::Local`]; a host out of reach is none.
    pub fn offline(
        ticket: Ticket,
        config: ClientConfig,
        last: Welcome,
        why: &ConnectError,
    ) -> Result<Client, ConnectError> {
        let dialer = Dialer::bind(ticket, config)?;
        let history = History {
            shares: Shares::new(&last),
            welcome: Arc::new(last),
            lost_packets: 0,
            black_holes: 0,
            sent_bytes: 0,
            received_bytes: 0,
            sessions: 0,
            first_session: None,
            since: Instant::now(),
        };
        let reason: Arc<str> = why.to_string().into();
        let state = State::Lost(Loss { reason: reason.clone(), attempt: None, refused: false });
        let (history, held_up, pushes) = (Mutex::new(history), AtomicU64::new(0), Arc::default());
        let shared = Arc::new(Shared { dialer, state: States::new(state), history, held_up, pushes });
        tokio::spawn(reconnect::begin(shared.clone(), reason));
        Ok(Client { owner: Arc::new(Owner { shared }) })
    }
}

impl ConnectError {
    /// Whether it may be that the host is only out of reach: nobody who could be the host said no.
    pub fn is_out_of_reach(&self) -> bool {
        match self {
            ConnectError::Resolve { .. } | ConnectError::Unreachable { .. } | ConnectError::Busy => true,
            ConnectError::WrongHost { .. }
            | ConnectError::Refused
            | ConnectError::VersionMismatch
            | ConnectError::Broken { .. }
            | ConnectError::Local(_) => false,
        }
    }
}
