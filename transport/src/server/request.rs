//! One request on the host: one stream from its first byte to the last ack.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use quinn::{RecvStream, SendStream, VarInt};
use tokio::time::{self, Instant};
use tracing::Instrument;
use wire::{
    DecodeError, ErrorCode, Request,
    codec::{self, CallDecoder},
    limits::{TARGET_BYTES_MAX, XATTR_BYTES_MAX},
    message::{Call, Class},
    timing::Timing,
};

use super::{
    admission::{Busy, Permit},
    session::Session,
    watch::Watch,
};
use crate::{
    serve::{Answer, Serve},
    settings::code,
};

/// Bytes of requests that a session may have here, whole or not, until each is answered: 1,024 of usual length (a path), or 128
/// of the longest verifies. A peer that begins 1,024 of the longest would hold 64 MiB otherwise.
const REQUEST_BYTES_MAX: usize = 4 << 20;
/// Requests of a session that may be here in part. A mount of ours sends each whole, so only loss leaves some like that; of a
/// stream with gaps, QUIC may keep 32 KiB more than it has bytes: 8 MiB for all of these, and 32 MiB without the bound.
const BEGUN_MAX: usize = 256;
/// Pieces of a stream taken at once: a request is rarely more than one packet.
const PIECES: usize = 4;

/// Why a request did not arrive.
pub(super) enum ReceiveError {
    /// Bytes that are no request; the mount is told so.
    Malformed(DecodeError),
    /// The session has too much of that under way.
    Crowded,
    /// The stream or the connection ended.
    Gone,
}

/// Reads one request to its end; bounded by the decoder and the stream's window. `may_hold` is asked about all bytes before
/// they are kept.
pub(super) async fn receive(
    recv: &mut RecvStream,
    mut may_hold: impl FnMut(usize) -> bool,
) -> Result<Call, ReceiveError> {
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
            if !may_hold(piece.len()) {
                return Err(ReceiveError::Crowded);
            }
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

/// Priorities of one class: as many requests of a session are told apart by the order they came in.
const TURNS: i32 = 1 << 28;

/// How the mount's class orders the answer among the others; within a class, who asked first is answered first. QUIC
/// shares the link out among streams of one priority, and all extents of a window would come at the same, last moment.
fn priority(class: Class, turn: u64) -> i32 {
    let class = match class {
        Class::Demand => 2,
        Class::Metadata => 1,
        Class::Readahead => 0,
        Class::Warmup => -1,
    };
    // Once in 268 million requests, those of the next round overtake the last ones of the round before.
    let turn = i32::try_from(turn % TURNS.unsigned_abs() as u64).unwrap_or(0);
    class * TURNS - turn
}

/// What a request counts for in one of its session's bounds, until it is dropped.
struct Held<'s> {
    all: &'s AtomicUsize,
    count: usize,
}

impl<'s> Held<'s> {
    fn nothing(all: &'s AtomicUsize) -> Held<'s> {
        Held { all, count: 0 }
    }

    /// Adds to it; whether all is within `max` then.
    fn grow(&mut self, count: usize, max: usize) -> bool {
        self.count += count;
        self.all.fetch_add(count, Ordering::Relaxed) + count <= max
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// Answers one request. Ends when the mount has the answer, does not want it, or a deadline passes.
pub(super) async fn run<S: Serve>(session: Arc<Session<S>>, mut send: SendStream, mut recv: RecvStream) {
    // As soon as the mount drops its end, or the connection ends, this is ready and everything else is dropped.
    let stopped = send.stopped();
    tokio::pin!(stopped);
    let outcome = tokio::select! {
        biased;
        end = &mut stopped => match end {
            Ok(None) => Ok(()),
            Ok(Some(_)) | Err(_) => Err(code::DONE),
        },
        outcome = exchange(&session, &mut send, &mut recv) => outcome,
    };
    if let Err(code) = outcome {
        // An error means that the stream is reset or finished already.
        let _ = send.reset(code);
    }
}

/// The request and its answer.
async fn exchange<S: Serve>(
    session: &Session<S>,
    send: &mut SendStream,
    recv: &mut RecvStream,
) -> Result<(), VarInt> {
    let limits = &session.shared.occupancy.limits;
    let mut held = Held::nothing(&session.request_bytes);
    let mut begun = Held::nothing(&session.begun);
    let received = if begun.grow(1, BEGUN_MAX) {
        let receive = receive(recv, |bytes| held.grow(bytes, REQUEST_BYTES_MAX));
        time::timeout(limits.request_deadline, receive).await
    } else {
        Ok(Err(ReceiveError::Crowded))
    };
    drop(begun);
    let refusal = match received {
        Ok(Ok(Call { request: Request::Hello(_), .. })) => {
            // One ticket per session.
            session.violated();
            ErrorCode::Invalid
        }
        Ok(Ok(call)) => {
            let turn = session.requests.fetch_add(1, Ordering::Relaxed);
            let span = tracing::debug_span!(parent: &session.span, "request", request = call.id);
            return respond(session, send, (call, turn)).instrument(span).await;
        }
        Ok(Err(ReceiveError::Malformed(error))) => {
            tracing::debug!(parent: &session.span, %error, "malformed request");
            session.violated();
            ErrorCode::Invalid
        }
        Ok(Err(ReceiveError::Crowded)) => {
            session.shared.occupancy.admission.turned_away();
            ErrorCode::Busy
        }
        Ok(Err(ReceiveError::Gone)) => return Err(code::DONE),
        Err(_) => return Err(code::DEADLINE),
    };
    drop(held);
    let answer = Answer::from(refusal);
    let head = codec::encode_reply(&answer.reply);
    deliver(send, [head, answer.data], (Instant::now() + limits.request_deadline, &session.watch)).await
}

/// From the whole request to the last ack.
async fn respond<S: Serve>(
    session: &Session<S>,
    send: &mut SendStream,
    (call, turn): (Call, u64),
) -> Result<(), VarInt> {
    let limits = &session.shared.occupancy.limits;
    let patience = limits.answer_deadline.min(Duration::from_millis(call.deadline_ms.into()));
    let arrived = Instant::now();
    let watch = &session.watch;
    let _busy = watch.busy.hold(arrived);
    let deadline = arrived + patience;
    let is_read = matches!(call.request, Request::Read { .. });
    let packs = call.packs;
    // Fails only when the stream is gone, which the caller notices.
    let _ = send.set_priority(priority(call.class, turn));
    let answer = async {
        match session.guest.admit(call.class, answer_bytes_max(&call.request)).await {
            Ok(permit) => (Some(permit), session.shared.serve.answer(&session.state, call).await),
            Err(Busy) => (None, ErrorCode::Busy.into()),
        }
    };
    let (mut permit, answer) = time::timeout_at(deadline, answer).await.map_err(|_| code::DEADLINE)?;
    let answer = if answer.is_whole() {
        answer
    } else {
        tracing::error!(reply = ?answer.reply, data = answer.data.len(), "an answer whose data is not as long as it says");
        ErrorCode::Io.into()
    };
    let answered = Instant::now();
    // Who did not wait was admitted at once: a look at the clock is saved.
    let admitted = permit.as_ref().and_then(Permit::waited_until).unwrap_or(arrived);
    let bound = watch.bound();
    let timing = Timing { queue: admitted - arrived, read: answered - admitted, bound };
    let stages = &session.shared.occupancy.stages;
    stages.answered(is_read, timing);
    let head = codec::encode_reply_as(&answer.reply, timing, packs);
    if let Some(permit) = &mut permit {
        permit.shrink(head.len() + answer.data.len());
    }
    // A mount on a slow link may take as long again to fetch what was read for it.
    let result = deliver(send, [head, answer.data], (answered + patience, watch)).await;
    if is_read && result.is_ok() {
        stages.sent(answered.elapsed());
    }
    drop(permit);
    result
}

/// The most that the answer to a request holds: what a mount that never takes it would pin.
fn answer_bytes_max(request: &Request) -> u32 {
    let bytes = match request {
        Request::Read { extent, .. } => usize::try_from(extent.len.0).unwrap_or(usize::MAX),
        Request::List { bytes_max, .. } => *bytes_max as usize,
        Request::GetXattr { .. } | Request::ListXattr(_) => XATTR_BYTES_MAX,
        Request::Readlink(_) => TARGET_BYTES_MAX,
        Request::ReadFiles { files, .. } => {
            let bytes = files.iter().map(|file| file.version.size.0).sum::<u64>() + 1024;
            usize::try_from(bytes).unwrap_or(usize::MAX)
        }
        Request::Hello(_)
        | Request::Stat(_)
        | Request::Statfs(_)
        | Request::Verify { .. }
        | Request::Lease { .. }
        | Request::Release(_) => 1024,
    };
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Sends head and data of an answer and waits until the mount has all of it.
async fn deliver(
    send: &mut SendStream,
    mut answer: [Bytes; 2],
    (deadline, watch): (Instant, &Watch),
) -> Result<(), VarInt> {
    let write = async {
        watch.sending.watch(send.write_all_chunks(&mut answer)).await.map_err(|_| code::DONE)?;
        send.finish().map_err(|_| code::DONE)?;
        match send.stopped().await {
            Ok(None) => Ok(()),
            Ok(Some(_)) | Err(_) => Err(code::DONE),
        }
    };
    time::timeout_at(deadline, write).await.unwrap_or(Err(code::DEADLINE))
}
