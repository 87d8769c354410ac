//! One mount's session on the host: handshake, hello, requests, end.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quinn::{Connection, ConnectionError, Endpoint, Incoming, RecvStream, SendStream, VarInt};
use tokio::{sync::Semaphore, task::JoinSet, time};
use tracing::Instrument;
use wire::{
    ErrorCode, Reply, Request, codec,
    message::{Hello, Welcome},
};

use super::{Shared, request};
use crate::{
    serve::{Serve, SessionEnd, SessionSummary},
    settings::{self, code},
    tls,
};

/// Bytes of one request that may be on their way: a whole one.
pub(super) const STREAM_WINDOW_BYTES: u32 = 128 << 10;
/// Bytes that somebody who is not admitted may send.
pub(super) const STRANGER_WINDOW_BYTES: u32 = 16 << 10;
/// Bytes of requests of a session that may be on their way.
const SESSION_WINDOW_BYTES: u32 = 4 << 20;
/// How long a refused mount has to take its refusal before the connection closes.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);

/// An admitted session, as its requests see it.
pub(super) struct Session<S: Serve> {
    pub(super) shared: Arc<Shared<S>>,
    pub(super) state: Arc<S::Session>,
    /// Bytes of read-ahead and warm-up that may still be admitted.
    pub(super) bulk: Semaphore,
    /// Bytes of any answer that may still be admitted.
    pub(super) answers: Semaphore,
    pub(super) requests: AtomicU64,
}

/// Takes connections until the endpoint closes.
pub(super) async fn accept<S: Serve>(shared: Arc<Shared<S>>, endpoint: Endpoint) {
    let limits = &shared.limits;
    while let Some(incoming) = endpoint.accept().await {
        if endpoint.open_connections() > limits.connections_max {
            incoming.refuse();
            continue;
        }
        let crowded = shared.strangers.available_permits() <= limits.strangers_max / 2;
        if crowded && incoming.may_retry() && !incoming.remote_address_validated() {
            // It may only be retried once, which the condition says.
            let _ = incoming.retry();
            continue;
        }
        let Ok(stranger) = shared.strangers.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let peer = incoming.remote_address();
        let span = tracing::info_span!("session", %peer);
        tokio::spawn(run(shared.clone(), incoming, stranger).instrument(span));
    }
}

/// The whole life of one connection.
async fn run<S: Serve>(
    shared: Arc<Shared<S>>,
    incoming: Incoming,
    stranger: tokio::sync::OwnedSemaphorePermit,
) {
    let peer = incoming.remote_address();
    let config = Arc::new(shared.quic(peer));
    let Ok(connecting) = incoming.accept_with(config) else { return };
    let connection = match time::timeout(shared.limits.handshake_deadline, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%error, "handshake failed"),
        Err(_) => return tracing::debug!("handshake took too long"),
    };
    let Some((state, send)) = greet(&shared, &connection, peer).await else { return };
    drop(stranger);
    let limits = &shared.limits;
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(limits.requests_max));
    connection.set_receive_window(VarInt::from_u32(SESSION_WINDOW_BYTES));
    let session = Arc::new(Session {
        state,
        bulk: Semaphore::new(limits.bulk_bytes_max as usize),
        answers: Semaphore::new(limits.answer_bytes_max as usize),
        requests: AtomicU64::new(0),
        shared,
    });
    drop(send);
    session.shared.sessions.fetch_add(1, Ordering::Relaxed);
    session.shared.live.lock().insert(connection.stable_id(), connection.clone());
    let ending = Ending { session, connection: connection.clone() };
    serve(&ending.session, &connection).await;
}

/// Reports the end of an admitted session, also when its task is dropped with the runtime.
struct Ending<S: Serve> {
    session: Arc<Session<S>>,
    connection: Connection,
}

impl<S: Serve> Drop for Ending<S> {
    fn drop(&mut self) {
        let Session { shared, state, requests, .. } = &*self.session;
        shared.sessions.fetch_sub(1, Ordering::Relaxed);
        shared.live.lock().remove(&self.connection.stable_id());
        let stats = self.connection.stats();
        let (end, reason) = end_of(self.connection.close_reason());
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
async fn serve<S: Serve>(session: &Arc<Session<S>>, connection: &Connection) {
    let mut tasks = JoinSet::new();
    let dismissed = session.shared.serve.dismissed(&session.state);
    tokio::pin!(dismissed);
    loop {
        let stream = tokio::select! {
            biased;
            why = &mut dismissed => {
                connection.close(code::REFUSED, why.as_bytes());
                break;
            }
            stream = connection.accept_bi() => stream,
        };
        let Ok((send, recv)) = stream else { break };
        while tasks.try_join_next().is_some() {}
        // At most as many tasks as streams are allowed at once.
        tasks.spawn(request::run(session.clone(), send, recv));
    }
    tasks.shutdown().await;
}

/// Hears the hello and answers it; `None` when the mount was not admitted, and the connection is closed.
///
/// Whatever is wrong, the answer is the same refusal, so that nothing is learned by trying.
async fn greet<S: Serve>(
    shared: &Arc<Shared<S>>,
    connection: &Connection,
    peer: SocketAddr,
) -> Option<(Arc<S::Session>, SendStream)> {
    let deadline = time::Instant::now() + shared.limits.hello_deadline;
    let hear = async {
        let (send, mut recv) = connection.accept_bi().await.ok()?;
        let hello = hear_hello(&mut recv).await;
        Some((send, hello))
    };
    let Ok(Some((mut send, hello))) = time::timeout_at(deadline, hear).await else {
        // Not a refusal, which a mount takes for the host's last word: on a bad link an honest hello comes too late.
        connection.close(code::DEADLINE, b"no hello");
        return None;
    };
    let decision = match (hello, tls::channel(connection)) {
        (Some(hello), Some(channel)) => {
            let admit = shared.serve.admit(hello, channel, peer);
            time::timeout_at(deadline, admit).await.unwrap_or(Err(ErrorCode::Busy))
        }
        _ => Err(ErrorCode::Refused),
    };
    match decision {
        Ok((state, welcome)) => {
            welcome_in(&mut send, welcome, deadline).await?;
            Some((state, send))
        }
        Err(code) => {
            tracing::info!(%code, "mount not admitted");
            refuse(connection, &mut send, code).await;
            None
        }
    }
}

/// The first request, if it is a hello.
async fn hear_hello(recv: &mut RecvStream) -> Option<Hello> {
    match request::receive(recv).await {
        Ok(call) => match call.request {
            Request::Hello(hello) => Some(hello),
            _ => None,
        },
        Err(_) => None,
    }
}

async fn welcome_in(send: &mut SendStream, welcome: Welcome, deadline: time::Instant) -> Option<()> {
    let reply = codec::encode_reply(&Reply::Welcome(welcome));
    time::timeout_at(deadline, send.write_all_chunks(&mut [reply])).await.ok()?.ok()?;
    send.finish().ok()
}

async fn refuse(connection: &Connection, send: &mut SendStream, reason: ErrorCode) {
    let reply = codec::encode_reply(&Reply::error(reason));
    let tell = async {
        if send.write_all_chunks(&mut [reply]).await.is_ok() && send.finish().is_ok() {
            // Either way the mount has it, or will never have it.
            let _ = send.stopped().await;
        }
    };
    // A mount that takes no answer learns it from the close.
    let _ = time::timeout(REFUSAL_PATIENCE, tell).await;
    // The close may overtake the reply, and then is all that the mount learns.
    let close = match reason {
        ErrorCode::Busy | ErrorCode::Stopping => code::BUSY,
        _ => code::REFUSED,
    };
    connection.close(close, b"not admitted");
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
