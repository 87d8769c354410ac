//! One request on the host: one stream from its first byte to the last ack.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use quinn::{RecvStream, SendStream, VarInt};
use tokio::{
    sync::SemaphorePermit,
    time::{self, Instant},
};
use wire::{
    DecodeError, ErrorCode, Request,
    codec::{self, CallDecoder},
    limits::{TARGET_BYTES_MAX, XATTR_BYTES_MAX},
    message::{Call, Class},
};

use super::session::Session;
use crate::{
    serve::{Answer, Serve},
    settings::code,
};

/// Pieces of a stream taken at once: a request is rarely more than one packet.
const PIECES: usize = 4;

/// Why a request did not arrive.
pub(super) enum ReceiveError {
    /// Bytes that are no request; the mount is told so.
    Malformed(DecodeError),
    /// The stream or the connection ended.
    Gone,
}

/// Reads one request to its end; bounded by the decoder and the stream's window.
pub(super) async fn receive(recv: &mut RecvStream) -> Result<Call, ReceiveError> {
    let mut decoder = CallDecoder::new();
    let mut pieces: [Bytes; PIECES] = std::array::from_fn(|_| Bytes::new());
    let mut call = None;
    loop {
        let count = match recv.read_chunks(&mut pieces).await {
            Ok(Some(count)) => count,
            Ok(None) => {
                return call.ok_or(ReceiveError::Malformed(DecodeError::Truncated { what: "request" }));
            }
            Err(_) => return Err(ReceiveError::Gone),
        };
        for piece in &mut pieces[..count] {
            if call.is_none() {
                call = decoder.feed(piece).map_err(ReceiveError::Malformed)?;
            }
            if call.is_some() && !piece.is_empty() {
                let extra = piece.len();
                return Err(ReceiveError::Malformed(DecodeError::Trailing { extra }));
            }
        }
    }
}

/// How the mount's class orders the answer among the others.
fn priority(class: Class) -> i32 {
    match class {
        Class::Demand => 10,
        Class::Metadata => 8,
        Class::Readahead => 0,
        Class::Warmup => -10,
    }
}

/// Answers one request. Ends when the mount has the answer, does not want it, or a deadline passes.
pub(super) async fn run<S: Serve>(session: Arc<Session<S>>, mut send: SendStream, mut recv: RecvStream) {
    let limits = &session.shared.limits;
    // As soon as the mount drops its end, or the connection ends, this is ready and everything else is dropped.
    let stopped = send.stopped();
    tokio::pin!(stopped);
    let outcome = tokio::select! {
        biased;
        end = &mut stopped => match end {
            Ok(None) => Ok(()),
            Ok(Some(_)) | Err(_) => Err(code::DONE),
        },
        outcome = async {
            let call = match time::timeout(limits.request_deadline, receive(&mut recv)).await {
                Ok(Ok(call)) => call,
                Ok(Err(ReceiveError::Malformed(error))) => {
                    tracing::debug!(%error, "malformed request");
                    let patience = Instant::now() + limits.request_deadline;
                    return deliver(&mut send, ErrorCode::Invalid.into(), patience).await;
                }
                Ok(Err(ReceiveError::Gone)) => return Err(code::DONE),
                Err(_) => return Err(code::DEADLINE),
            };
            session.requests.fetch_add(1, Ordering::Relaxed);
            respond(&session, &mut send, call).await
        } => outcome,
    };
    if let Err(code) = outcome {
        // An error means that the stream is reset or finished already.
        let _ = send.reset(code);
    }
}

/// From the whole request to the last ack.
async fn respond<S: Serve>(session: &Session<S>, send: &mut SendStream, call: Call) -> Result<(), VarInt> {
    let limits = &session.shared.limits;
    let patience = limits.answer_deadline.min(Duration::from_millis(call.deadline_ms.into()));
    let deadline = Instant::now() + patience;
    // Fails only when the stream is gone, which the caller notices.
    let _ = send.set_priority(priority(call.class));
    let answer = async {
        let permits = admit(session, &call).await;
        let answer = match call.request {
            // One ticket per session.
            Request::Hello(_) => ErrorCode::Invalid.into(),
            _ => session.shared.serve.answer(&session.state, call).await,
        };
        (permits, answer)
    };
    let (permits, answer) = time::timeout_at(deadline, answer).await.map_err(|_| code::DEADLINE)?;
    let answer = if answer.is_whole() {
        answer
    } else {
        tracing::error!(reply = ?answer.reply, data = answer.data.len(), "an answer whose data is not as long as it says");
        ErrorCode::Io.into()
    };
    // A mount on a slow link may take as long again to fetch what was read for it.
    let result = deliver(send, answer, Instant::now() + patience).await;
    drop(permits);
    result
}

/// Waits until the bytes of an answer fit into the session's budgets; held until the mount has them.
async fn admit<'s, S: Serve>(
    session: &'s Session<S>,
    call: &Call,
) -> (Option<SemaphorePermit<'s>>, Option<SemaphorePermit<'s>>) {
    let limits = &session.shared.limits;
    let bytes = answer_bytes_max(&call.request);
    // Nobody closes the semaphores; a budget smaller than one answer admits one at a time.
    let bulk = match call.class {
        Class::Readahead | Class::Warmup => {
            session.bulk.acquire_many(bytes.min(limits.bulk_bytes_max)).await.ok()
        }
        Class::Metadata | Class::Demand => None,
    };
    let any = session.answers.acquire_many(bytes.min(limits.answer_bytes_max)).await.ok();
    (bulk, any)
}

/// The most that the answer to a request holds: what a mount that never takes it would pin.
fn answer_bytes_max(request: &Request) -> u32 {
    let bytes = match request {
        Request::Read { extent, .. } => usize::try_from(extent.len.0).unwrap_or(usize::MAX),
        Request::List { bytes_max, .. } => *bytes_max as usize,
        Request::GetXattr { .. } | Request::ListXattr(_) => XATTR_BYTES_MAX,
        Request::Readlink(_) => TARGET_BYTES_MAX,
        Request::Hello(_) | Request::Stat(_) | Request::Statfs(_) | Request::Verify { .. } => 1024,
    };
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Sends an answer and waits until the mount has all of it.
async fn deliver(send: &mut SendStream, answer: Answer, deadline: Instant) -> Result<(), VarInt> {
    let head = codec::encode_reply(&answer.reply);
    let write = async {
        send.write_all_chunks(&mut [head, answer.data]).await.map_err(|_| code::DONE)?;
        send.finish().map_err(|_| code::DONE)?;
        match send.stopped().await {
            Ok(None) => Ok(()),
            Ok(Some(_)) | Err(_) => Err(code::DONE),
        }
    };
    time::timeout_at(deadline, write).await.unwrap_or(Err(code::DEADLINE))
}
