//! What can go wrong between two ends, by what the caller can do about it.

use std::{io, net::SocketAddr, time::Duration};

use wire::{DecodeError, ErrorCode};

/// Why no session came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No name service, no such name.
    #[error("{address} cannot be resolved: check the name, or use a ticket with a numeric address")]
    Resolve {
        /// As the ticket has it.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Nobody answered.
    #[error(
        "no host answered at {} within {:.1} s: check that `wormhole-engine host` runs there and that UDP reaches it",
        addresses.join(", "), deadline.as_secs_f32()
    )]
    Unreachable {
        /// All that were tried.
        addresses: Vec<String>,
        /// How long.
        deadline: Duration,
    },
    /// Another key than the ticket's.
    #[error("{address} is not the host of this ticket (its key differs): get a new ticket from the host")]
    WrongHost {
        /// Where it answered.
        address: SocketAddr,
    },
    /// The ticket does not open anything (any more).
    #[error("the host refused this ticket: it may have expired or been revoked; ask for a new one")]
    Refused,
    /// The host cannot take another mount now.
    #[error("the host is at a limit or stopping: try again a little later")]
    Busy,
    /// No common version.
    #[error("this wormhole and the host speak different protocol versions: update the older one")]
    VersionMismatch,
    /// The host is the right one and breaks the protocol.
    #[error(
        "the host at {address} answered against the protocol ({reason}): update wormhole on both machines"
    )]
    Broken {
        /// The host.
        address: SocketAddr,
        /// In what way.
        reason: String,
    },
    /// This machine has no socket for it.
    #[error("this machine gives no UDP socket")]
    Local(#[source] io::Error),
}

/// Why a call has no reply.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The host said so.
    #[error("{code}{}{detail}", if detail.is_empty() { "" } else { ": " })]
    Host {
        /// What can be done.
        code: ErrorCode,
        /// More, for people; may be empty.
        detail: String,
    },
    /// A live session did not bring the reply in time.
    #[error("the host did not answer in time")]
    Deadline,
    /// There was no session when the deadline came.
    #[error("the host is out of reach: {reason}")]
    Lost {
        /// Why the session went.
        reason: String,
    },
    /// The reply was not understood.
    #[error("the host's reply was not understood")]
    Protocol(#[from] DecodeError),
    /// A reply to another question than was asked: another kind, length or version.
    #[error("the host's reply does not fit the request: {reason}")]
    UnexpectedReply {
        /// What does not fit.
        reason: &'static str,
    },
    /// [`crate::Client::close`] was called.
    #[error("the session was closed")]
    Closed,
}

/// Why a host serves nobody.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken or not of this machine.
    #[error("cannot listen on {address}: choose another with --listen")]
    Address {
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The configuration names no address.
    #[error("no address to listen on")]
    NoAddress,
    /// The host key is of no use to TLS.
    #[error("the host key is not usable")]
    Key(#[source] rustls::Error),
}
