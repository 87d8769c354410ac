//! The first request of a connection: the hello, and who is let in for it.

use std::{net::SocketAddr, sync::Arc, sync::atomic::Ordering, time::Duration};

use quinn::{Connection, RecvStream, SendStream};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{self, Instant},
};
use wire::{
    ErrorCode, Reply, Request, codec,
    message::{Hello, Welcome},
};

use super::{Shared, request};
use crate::{
    serve::{Serve, SessionEnd, SessionSummary},
    settings::code,
    tls,
};

/// A refusal leaves this long after its hello came, or the next multiple of it: so its time does not tell how far the
/// hello got. Longer than any check of a ticket takes (some microseconds, all of them in memory), and short for a person.
const REFUSAL_AFTER: Duration = Duration::from_millis(50);
/// How long a refused mount has to take its refusal before the connection closes.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);

/// A mount that was let in and knows it.
pub(super) struct Admitted<A> {
    pub(super) state: Arc<A>,
    /// As the welcome has it.
    pub(super) number: u64,
    pub(super) place: OwnedSemaphorePermit,
}

/// Hears the hello and answers it; `None` when the mount was not admitted, and the connection is closed.
///
/// Whatever is wrong, the answer is the same refusal, so that nothing is learned by trying.
pub(super) async fn greet<S: Serve>(
    shared: &Arc<Shared<S>>,
    connection: &Connection,
    peer: SocketAddr,
) -> Option<Admitted<S::Session>> {
    let deadline = Instant::now() + shared.occupancy.limits.hello_deadline;
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
    let heard = Instant::now();
    if hello.is_none() {
        shared.occupancy.violations.fetch_add(1, Ordering::Relaxed);
    }
    let decision = match (hello, tls::channel(connection)) {
        (Some(hello), Some(channel)) => {
            let decide = decide(shared, hello, channel, peer);
            time::timeout_at(deadline, decide).await.unwrap_or(Err(ErrorCode::Busy))
        }
        _ => Err(ErrorCode::Refused),
    };
    match decision {
        Ok((state, welcome, place)) => {
            let number = welcome.session;
            if welcome_in(&mut send, welcome, deadline).await.is_some() {
                return Some(Admitted { state, number, place });
            }
            let stats = connection.stats();
            let summary = SessionSummary {
                requests: 0,
                sent_bytes: stats.udp_tx.bytes,
                received_bytes: stats.udp_rx.bytes,
                end: SessionEnd::Lost,
                reason: "it went before it was welcomed".to_owned(),
            };
            shared.serve.ended(&state, &summary);
            None
        }
        Err(code) => {
            tracing::debug!(%code, "mount not admitted");
            time::sleep_until(refusal_at(heard, Instant::now())).await;
            refuse(connection, &mut send, code).await;
            None
        }
    }
}

/// Lets the host decide, where there is a place for one more.
async fn decide<S: Serve>(
    shared: &Shared<S>,
    hello: Hello,
    channel: [u8; 32],
    peer: SocketAddr,
) -> Result<(Arc<S::Session>, Welcome, OwnedSemaphorePermit), ErrorCode> {
    // Before the host looks at the ticket: a full one tells everybody the same, and spends nothing on it.
    let Ok(place) = shared.occupancy.places.clone().try_acquire_owned() else {
        shared.occupancy.turned_away.fetch_add(1, Ordering::Relaxed);
        return Err(ErrorCode::Busy);
    };
    let (state, welcome) = shared.serve.admit(hello, channel, peer).await?;
    Ok((state, welcome, place))
}

/// The first multiple of [`REFUSAL_AFTER`] since `heard` that is not over.
fn refusal_at(heard: Instant, now: Instant) -> Instant {
    let passed = now.saturating_duration_since(heard).as_nanos();
    let steps = passed.div_ceil(REFUSAL_AFTER.as_nanos()).max(1);
    heard + REFUSAL_AFTER * u32::try_from(steps).unwrap_or(u32::MAX)
}

/// The first request, if it is a hello.
async fn hear_hello(recv: &mut RecvStream) -> Option<Hello> {
    match request::receive(recv, |_| true).await {
        Ok(call) => match call.request {
            Request::Hello(hello) => Some(hello),
            _ => None,
        },
        Err(_) => None,
    }
}

async fn welcome_in(send: &mut SendStream, welcome: Welcome, deadline: Instant) -> Option<()> {
    let reply = codec::encode_reply(&Reply::Welcome(welcome));
    time::timeout_at(deadline, send.write_all_chunks(&mut [reply])).await.ok()?.ok()?;
    send.finish().ok()
}

/// Tells the mount why, and closes the connection; bytes and order are the same for each reason of a code.
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
