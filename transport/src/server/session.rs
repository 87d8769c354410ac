//! One mount's session on the host: handshake, hello, requests, end.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

use quinn::{Connection, ConnectionError, Endpoint, Incoming, VarInt};
use tokio::{sync::OwnedSemaphorePermit, task::JoinSet, time};
use tracing::{Instrument, Span};

use super::{
    Shared,
    admission::Guest,
    door::Knock,
    greeting::{self, Admitted},
    occupancy::Occupancy,
    push, request,
    watch::Watch,
};
use crate::{
    serve::{Serve, SessionEnd, SessionSummary},
    settings::{self, code},
    waits,
};

/// Bytes of one request that may be on their way: a whole one.
pub(super) const STREAM_WINDOW_BYTES: u32 = 128 << 10;
/// Bytes that somebody who is not admitted may send.
pub(super) const STRANGER_WINDOW_BYTES: u32 = 16 << 10;
/// Bytes of requests of a session that may be on their way; a thousand requests of usual length. What waits unread is held
/// in whole receive batches.
const SESSION_WINDOW_BYTES: u32 = 1 << 20;
/// Malformed requests after which a session ends: a mount of ours sends none, and each costs a task and an answer.
const VIOLATIONS_MAX: u32 = 16;

/// Streams that a session takes before it is another's turn: 1,000 that come at once would be 1,000 tasks in a row on the lane,
/// and whoever shares it would wait for all of them.
const STREAMS_IN_TURN: u32 = 16;

/// An admitted session, as its requests see it.
pub(super) struct Session<S: Serve> {
    pub(super) shared: Arc<Shared<S>>,
    pub(super) state: Arc<S::Session>,
    /// Its place among those whose answers are admitted.
    pub(super) guest: Arc<Guest>,
    /// What holds it up.
    pub(super) watch: Arc<Watch>,
    pub(super) requests: AtomicU64,
    /// Bytes of requests that are held, whole or not.
    pub(super) request_bytes: AtomicUsize,
    /// Requests that are not whole yet.
    pub(super) begun: AtomicUsize,
    pub(super) span: Span,
    pub(super) connection: Connection,
    violations: AtomicU32,
    /// Why this end closed the connection.
    closed: OnceLock<(SessionEnd, String)>,
    /// Held as long as the session is.
    _place: OwnedSemaphorePermit,
}

impl<S: Serve> Session<S> {
    /// A request broke the protocol; too many of them end the session.
    pub(super) fn violated(&self) {
        self.shared.occupancy.violations.fetch_add(1, Ordering::Relaxed);
        if self.violations.fetch_add(1, Ordering::Relaxed) + 1 >= VIOLATIONS_MAX {
            let why = format!("{VIOLATIONS_MAX} malformed requests");
            self.close(code::INVALID, SessionEnd::Broken, why);
        }
    }

    /// The mount takes no pushes: it would trust what the host knows to be over.
    pub(super) fn refused_pushes(&self) {
        self.close(code::INVALID, SessionEnd::Broken, "the mount takes no pushes".to_owned());
    }

    /// Takes note of what held it up.
    fn look(&self) {
        let held_up = self.shared.serve.held_up(&self.state);
        self.watch.look(&self.connection, &self.guest, held_up);
    }

    fn close(&self, code: VarInt, end: SessionEnd, why: String) {
        self.connection.close(code, why.as_bytes());
        // The first reason stands.
        let _ = self.closed.set((end, why));
    }
}

/// Takes connections until the endpoint closes.
pub(super) async fn accept<S: Serve>(shared: Arc<Shared<S>>, endpoint: Endpoint) {
    let Occupancy { limits, strangers, .. } = &*shared.occupancy;
    while let Some(incoming) = endpoint.accept().await {
        if endpoint.open_connections() > limits.connections_max {
            incoming.refuse();
            continue;
        }
        let crowded = strangers.available_permits() <= limits.strangers_max / 2;
        let knock = match knock(&shared.occupancy, &incoming) {
            Knock::Open if crowded && !incoming.remote_address_validated() => Knock::Prove,
            knock => knock,
        };
        match knock {
            Knock::Open => {}
            Knock::Prove if incoming.may_retry() => {
                // It may only be retried once, which the condition says.
                let _ = incoming.retry();
                continue;
            }
            Knock::Prove | Knock::Refuse => {
                incoming.refuse();
                continue;
            }
        }
        let Ok(stranger) = strangers.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let peer = incoming.remote_address();
        let span = tracing::info_span!("session", %peer, session = tracing::field::Empty);
        tokio::spawn(run(shared.clone(), incoming, stranger).instrument(span));
    }
}

/// What the peer's address may do; counts those over its rate.
fn knock(occupancy: &Occupancy, incoming: &Incoming) -> Knock {
    let proved = incoming.remote_address_validated();
    let knock = occupancy.door.lock().knock(time::Instant::now(), incoming.remote_address().ip(), proved);
    if knock != Knock::Open {
        occupancy.handshakes_limited.fetch_add(1, Ordering::Relaxed);
    }
    knock
}

/// The whole life of one connection.
async fn run<S: Serve>(shared: Arc<Shared<S>>, incoming: Incoming, stranger: OwnedSemaphorePermit) {
    let peer = incoming.remote_address();
    let config = Arc::new(shared.quic(peer));
    let Ok(connecting) = incoming.accept_with(config) else { return };
    let connection = match time::timeout(shared.occupancy.limits.handshake_deadline, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%error, "handshake failed"),
        Err(_) => return tracing::debug!("handshake took too long"),
    };
    let Some(Admitted { state, number, place }) = greeting::greet(&shared, &connection, peer).await else {
        return;
    };
    drop(stranger);
    let span = Span::current();
    span.record("session", number);
    let occupancy = &shared.occupancy;
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(occupancy.limits.requests_max));
    connection.set_receive_window(VarInt::from_u32(SESSION_WINDOW_BYTES));
    let guest = Arc::new(occupancy.admission.join());
    let watch = Arc::new(Watch::default());
    let live = (connection.clone(), guest.clone(), watch.clone());
    occupancy.live.lock().insert(connection.stable_id(), live);
    let session = Arc::new(Session {
        state,
        guest,
        watch,
        requests: AtomicU64::new(0),
        request_bytes: AtomicUsize::new(0),
        begun: AtomicUsize::new(0),
        span,
        connection,
        violations: AtomicU32::new(0),
        closed: OnceLock::new(),
        _place: place,
        shared,
    });
    let ending = Ending { session };
    serve(&ending.session).await;
}

/// Reports the end of an admitted session, also when its task is dropped with the runtime.
struct Ending<S: Serve> {
    session: Arc<Session<S>>,
}

impl<S: Serve> Drop for Ending<S> {
    fn drop(&mut self) {
        let Session { shared, state, requests, connection, closed, .. } = &*self.session;
        let occupancy = &shared.occupancy;
        drop(occupancy.live.lock().remove(&connection.stable_id()));
        let stats = connection.stats();
        let reason = connection.close_reason();
        if let Some(ConnectionError::TransportError(_)) = reason {
            // Streams of a kind that is not allowed, datagrams, frames that make no sense: QUIC ends the session at once.
            occupancy.violations.fetch_add(1, Ordering::Relaxed);
        }
        let (end, reason) = match (reason, closed.get()) {
            (Some(ConnectionError::LocallyClosed), Some((end, why))) => (*end, why.clone()),
            (reason, _) => end_of(reason),
        };
        let summary = SessionSummary {
            requests: requests.load(Ordering::Relaxed),
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            end,
            reason,
        };
        shared.serve.ended(state, &summary);
    }
}

/// How a connection ended, in kind and in words; `None` where it was dropped open.
fn end_of(reason: Option<ConnectionError>) -> (SessionEnd, String) {
    let Some(reason) = reason else { return (SessionEnd::Closed, "the host dropped it".to_owned()) };
    let end = match &reason {
        ConnectionError::TimedOut => {
            let silence = format!("no answer for {} s", settings::SILENCE.as_secs());
            return (SessionEnd::Lost, silence);
        }
        ConnectionError::ApplicationClosed(_) => SessionEnd::Left,
        ConnectionError::LocallyClosed => SessionEnd::Closed,
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::Reset
        | ConnectionError::CidsExhausted => SessionEnd::Broken,
    };
    (end, reason.to_string())
}

/// Answers requests until the connection ends; all its tasks are gone afterwards.
async fn serve<S: Serve>(session: &Arc<Session<S>>) {
    let mut tasks = JoinSet::new();
    tasks.spawn(push::run(session.clone()));
    let dismissed = session.shared.serve.dismissed(&session.state);
    tokio::pin!(dismissed);
    // Where it wraps around, one turn is shorter.
    let mut taken = 0_u32;
    let mut looks = time::interval(waits::LOOK_EVERY);
    looks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        taken = taken.wrapping_add(1);
        if taken.is_multiple_of(STREAMS_IN_TURN) {
            tokio::task::yield_now().await;
        }
        let stream = tokio::select! {
            biased;
            why = &mut dismissed => {
                session.close(code::REFUSED, SessionEnd::Closed, why);
                break;
            }
            stream = session.connection.accept_bi() => stream,
            _ = looks.tick() => {
                session.look();
                continue;
            }
        };
        let Ok((send, recv)) = stream else { break };
        while tasks.try_join_next().is_some() {}
        // At most as many tasks as streams are allowed at once, and the one for pushes.
        tasks.spawn(request::run(session.clone(), send, recv));
    }
    tasks.shutdown().await;
}

#[cfg(test)]
mod tests {
    use quinn::ApplicationClose;

    use super::*;

    #[test]
    fn the_end_says_who_went() {
        let end = |reason| end_of(reason).0;
        let leaving = ApplicationClose { error_code: code::DONE, reason: "done".into() };
        assert_eq!(end(Some(ConnectionError::ApplicationClosed(leaving))), SessionEnd::Left);
        assert_eq!(end(Some(ConnectionError::LocallyClosed)), SessionEnd::Closed);
        assert_eq!(end(None), SessionEnd::Closed);
        assert_eq!(end(Some(ConnectionError::Reset)), SessionEnd::Broken);
        let (end, reason) = end_of(Some(ConnectionError::TimedOut));
        assert_eq!((end, reason.as_str()), (SessionEnd::Lost, "no answer for 5 s"));
    }
}
