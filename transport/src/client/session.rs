//! One admitted connection: the hello, then one stream per request.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        OnceLock,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use quinn::{Connection, ConnectionError, ConnectionStats, ReadError, RecvStream};
use tokio::time::Instant;
use wire::{
    ErrorCode, Reply, Request, ShareId, Ticket,
    bound::Bound,
    codec::PushDecoder,
    message::{Call, Class, Hello, Welcome},
    timing::Timing,
    version::PROTOCOL_VERSION,
};

use super::{
    FilesCall, ReadCall,
    exchange::{self, ExchangeError, Way},
    pushes::Mailbox,
    shares::Shares,
};
use crate::{
    error::{CallError, ConnectError},
    settings::code,
    tls,
    waits::Stall,
};

/// From this round trip on listings are wanted compressed: such paths carry less than compression does.
const PACKS_FROM_RTT: Duration = Duration::from_millis(1);
/// Pieces of the stream of pushes taken at once: they are rare.
const PUSH_PIECES: usize = 4;
/// Characters of the host's reason that people are shown.
const DISMISSAL_CHARS_MAX: usize = 200;

/// A session that is admitted.
#[derive(Debug)]
pub(super) struct Session {
    connection: Connection,
    /// As the host sent it.
    pub(super) welcome: Welcome,
    /// Our number and the host's of each share.
    shares: OnceLock<Vec<(ShareId, ShareId)>>,
    next_call: AtomicU64,
    /// How it was lost, as the first call that met it saw.
    lost: OnceLock<String>,
    /// Requests that wait until fewer are under way.
    crowded: Stall,
    /// The number of what bounds the session, as the host says; zero before it does.
    bound: AtomicU8,
}

impl Session {
    /// Says hello on a new connection; the connection is closed when it does not become a session.
    pub(super) async fn open(
        connection: Connection,
        ticket: &Ticket,
        label: &str,
        deadline: Instant,
    ) -> Result<Session, ConnectError> {
        let opened = greet(&connection, ticket, label, deadline).await;
        if opened.is_err() {
            connection.close(code::DONE, b"no session");
        }
        let welcome = opened?;
        Ok(Session {
            connection,
            welcome,
            shares: OnceLock::new(),
            next_call: AtomicU64::new(1),
            lost: OnceLock::new(),
            crowded: Stall::default(),
            bound: AtomicU8::new(0),
        })
    }

    /// Fixes the share numbers of this session; before it is shared.
    pub(super) fn number_shares(&self, shares: &Shares) {
        // Called once; a second translation would be the same.
        let _ = self.shares.set(shares.translation(&self.welcome));
    }

    /// One request and its reply.
    pub(super) async fn call(
        &self,
        request: &Request,
        class: Class,
        deadline: Instant,
    ) -> Result<Reply, ExchangeError> {
        let request = self.translate(request.clone())?;
        let call = self.number(class, request, deadline);
        let outcome = exchange::call(self.way(), &call, deadline).await;
        self.note(&call, outcome.as_ref().err());
        outcome
    }

    /// One read into `into`, which has the extent's length; what the host says of its time.
    pub(super) async fn read(&self, read: &ReadCall, into: &mut [u8]) -> Result<Timing, ExchangeError> {
        let ReadCall { target, version, extent, class, deadline } = read.clone();
        let request = self.translate(Request::Read { target, version, extent })?;
        let call = self.number(class, request, deadline);
        let outcome = exchange::read(self.way(), &call, version, into, deadline).await;
        if let Ok(timing) = &outcome {
            self.hear(timing);
        }
        self.note(&call, outcome.as_ref().err());
        outcome
    }

    /// Some files to their places in `into`, which holds them; what became of each, and what the host says of its time.
    pub(super) async fn read_files(
        &self,
        call: &FilesCall,
        into: &mut [u8],
    ) -> Result<(Vec<Result<(), ErrorCode>>, Timing), ExchangeError> {
        let files = call.files.iter().map(|(file, _)| file.clone()).collect();
        let request = self.translate(Request::ReadFiles { dir: call.dir.clone(), files })?;
        let asked = self.number(call.class, request, call.deadline);
        let outcome = exchange::read_files(self.way(), &asked, &call.files, into, call.deadline).await;
        if let Ok((_, timing)) = &outcome {
            self.hear(timing);
        }
        self.note(&asked, outcome.as_ref().err());
        outcome
    }

    fn hear(&self, timing: &Timing) {
        if let Some(bound) = timing.bound {
            self.bound.store(bound.number(), Ordering::Relaxed);
        }
    }

    fn way(&self) -> Way<'_> {
        Way { connection: &self.connection, crowded: &self.crowded }
    }

    /// What bounds the session, as the host said last.
    pub(super) fn bound(&self) -> Option<Bound> {
        Bound::from_number(self.bound.load(Ordering::Relaxed))
    }

    /// For how long requests waited until fewer were under way.
    pub(super) fn requests_waited(&self) -> Duration {
        self.crowded.total(Instant::now())
    }

    /// One line for the log, under the numbers that the host's log has for session and request.
    fn note(&self, call: &Call, error: Option<&ExchangeError>) {
        let (session, request, class) = (self.welcome.session, call.id, call.class);
        match error {
            None => tracing::trace!(session, request, ?class, "answered"),
            Some(error) => tracing::debug!(session, request, ?class, %error, "request failed"),
        }
    }

    fn number(&self, class: Class, request: Request, deadline: Instant) -> Call {
        let id = self.next_call.fetch_add(1, Ordering::Relaxed);
        let patience = deadline.saturating_duration_since(Instant::now());
        let deadline_ms = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        let packs = self.connection.rtt() >= PACKS_FROM_RTT;
        Call { class, id, deadline_ms, packs, request }
    }

    /// The request with the host's share number.
    fn translate(&self, mut request: Request) -> Result<Request, ExchangeError> {
        let share = match &mut request {
            // Leases are the session's own, whatever share they are in.
            Request::Hello(_) | Request::Release(_) => return Ok(request),
            Request::Statfs(share) => share,
            Request::Stat(target)
            | Request::List { target, .. }
            | Request::Lease { target, .. }
            | Request::ReadFiles { dir: target, .. }
            | Request::Readlink(target)
            | Request::Read { target, .. }
            | Request::Verify { target, .. }
            | Request::GetXattr { target, .. }
            | Request::ListXattr(target) => &mut target.share,
        };
        let known = self.shares.get().map_or(&[][..], Vec::as_slice);
        match known.iter().find(|(ours, _)| ours == share) {
            Some((_, theirs)) => {
                *share = *theirs;
                Ok(request)
            }
            // A host that restarted with fewer shares: what is open there is stale.
            None => Err(ExchangeError::Failed(CallError::Host {
                code: ErrorCode::Stale,
                detail: "the host no longer has this share".to_owned(),
            })),
        }
    }

    /// Takes the host's pushes for as long as the session lasts; a host that does not keep to the protocol in that loses
    /// the session. Dropped with it.
    pub(super) async fn listen(&self, mailbox: &Mailbox) -> Infallible {
        if let Ok(recv) = self.connection.accept_uni().await
            && let Some(why) = take_pushes(recv, mailbox).await
        {
            // The first reason stands.
            let _ = self.lost.set(why.clone());
            self.connection.close(code::INVALID, why.as_bytes());
        }
        std::future::pending().await
    }

    /// Resolves when the connection is over, with the reason for people.
    pub(super) async fn ended(&self) -> String {
        let reason = self.connection.closed().await.to_string();
        self.dismissal().or_else(|| self.lost.get().cloned()).unwrap_or(reason)
    }

    /// That the host ended the session for good, and why, in a line for people; `None` where it did not.
    pub(super) fn dismissal(&self) -> Option<String> {
        match self.connection.close_reason() {
            Some(ConnectionError::ApplicationClosed(close)) if close.error_code == code::REFUSED => {
                let reason = String::from_utf8_lossy(&close.reason);
                // The host's words end on a terminal.
                let reason: String =
                    reason.chars().filter(|c| !c.is_control()).take(DISMISSAL_CHARS_MAX).collect();
                Some(format!("the host ended this session: {reason}"))
            }
            _ => None,
        }
    }

    /// Ends the connection that a call found lost, and keeps why: closing it here hides that.
    pub(super) fn give_up(&self, reason: &str) {
        let _ = self.lost.set(reason.to_owned());
        self.abandon();
    }

    /// Ends the connection; the host is told, if it can be.
    pub(super) fn abandon(&self) {
        self.connection.close(code::DONE, b"done");
    }

    pub(super) fn stats(&self) -> ConnectionStats {
        self.connection.stats()
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.connection.remote_address()
    }
}

/// Passes on each push as it comes; what the host did wrong, or `None` where the connection ended.
async fn take_pushes(mut recv: RecvStream, mailbox: &Mailbox) -> Option<String> {
    let mut decoder = PushDecoder::new();
    let mut pieces: [Bytes; PUSH_PIECES] = std::array::from_fn(|_| Bytes::new());
    loop {
        let count = match recv.read_chunks(&mut pieces).await {
            Ok(Some(count)) => count,
            Ok(None) => return Some("the host ended its pushes".to_owned()),
            Err(ReadError::Reset(_)) => return Some("the host broke off its pushes".to_owned()),
            Err(_) => return None,
        };
        for piece in &mut pieces[..count] {
            loop {
                match decoder.feed(piece) {
                    Ok(Some(push)) => mailbox.deliver(push),
                    Ok(None) => break,
                    Err(error) => return Some(format!("a push of the host is none: {error}")),
                }
            }
        }
    }
}

async fn greet(
    connection: &Connection,
    ticket: &Ticket,
    label: &str,
    deadline: Instant,
) -> Result<Welcome, ConnectError> {
    let address = connection.remote_address();
    let broken = |reason: String| ConnectError::Broken { address, reason };
    let channel = tls::channel(connection).ok_or_else(|| broken("no TLS exporter".to_owned()))?;
    let hello = Hello {
        version_min: PROTOCOL_VERSION,
        version_max: PROTOCOL_VERSION,
        claims: ticket.claims.clone(),
        proof: ticket.secret.prove(&ticket.claims, &channel),
        label: label.to_owned(),
    };
    let patience = deadline.saturating_duration_since(Instant::now());
    let deadline_ms = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
    let request = Request::Hello(hello);
    let call = Call { class: Class::Metadata, id: 0, deadline_ms, packs: false, request };
    let crowded = Stall::default();
    match exchange::call(Way { connection, crowded: &crowded }, &call, deadline).await {
        Ok(Reply::Welcome(welcome)) if welcome.version == PROTOCOL_VERSION => Ok(welcome),
        Ok(Reply::Welcome(_)) => Err(ConnectError::VersionMismatch),
        Ok(_) => Err(broken("another reply than a welcome".to_owned())),
        Err(ExchangeError::Failed(CallError::Host { code, .. })) => Err(admission(code)),
        Err(ExchangeError::Failed(CallError::Deadline)) => {
            Err(ConnectError::Unreachable { addresses: vec![address.to_string()], deadline: patience })
        }
        Err(ExchangeError::Failed(error)) => Err(broken(error.to_string())),
        Err(ExchangeError::Lost(reason)) => match connection.close_reason() {
            // The close may overtake the refusal.
            Some(ConnectionError::ApplicationClosed(close)) if close.error_code == code::REFUSED => {
                Err(ConnectError::Refused)
            }
            Some(ConnectionError::ApplicationClosed(close))
                if [code::STOPPING, code::BUSY].contains(&close.error_code) =>
            {
                Err(ConnectError::Busy)
            }
            _ => Err(broken(reason)),
        },
    }
}

/// What a host's answer to the hello means.
fn admission(code: ErrorCode) -> ConnectError {
    match code {
        ErrorCode::VersionMismatch => ConnectError::VersionMismatch,
        ErrorCode::Busy | ErrorCode::Stopping => ConnectError::Busy,
        _ => ConnectError::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_host_tell_what_to_do() {
        assert!(matches!(admission(ErrorCode::Refused), ConnectError::Refused));
        assert!(matches!(admission(ErrorCode::Stopping), ConnectError::Busy));
        assert!(matches!(admission(ErrorCode::VersionMismatch), ConnectError::VersionMismatch));
        assert!(matches!(admission(ErrorCode::Unknown(999)), ConnectError::Refused));
    }
}
