//! One request and its reply on one stream of a connection.

use std::fmt;

use bytes::Bytes;
use quinn::{Connection, ReadError, RecvStream, WriteError};
use tokio::time::{self, Instant};
use wire::{
    ErrorCode, Reply, Version,
    codec::{self, ReplyDecoder},
    message::{Call, FileWanted},
    timing::Timing,
};

use crate::{error::CallError, settings::code, waits::Stall};

/// Pieces of a stream taken at once. Each packet is one piece; one at a time costs 740 calls for a MiB.
const PIECES: usize = 64;

/// Where requests go.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) connection: &'a Connection,
    /// Requests that wait until fewer are under way.
    pub(super) crowded: &'a Stall,
}

/// Why an exchange failed.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// The session is gone; on the next one the request may be repeated.
    Lost(String),
    /// For good.
    Failed(CallError),
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExchangeError::Lost(reason) => f.write_str(reason),
            ExchangeError::Failed(error) => error.fmt(f),
        }
    }
}

impl<E: Into<CallError>> From<E> for ExchangeError {
    fn from(error: E) -> ExchangeError {
        ExchangeError::Failed(error.into())
    }
}

/// Sends a request that no data answers, and takes the reply.
pub(super) async fn call(way: Way<'_>, call: &Call, deadline: Instant) -> Result<Reply, ExchangeError> {
    within(deadline, async {
        let mut incoming = Incoming::ask(way, call).await?;
        match incoming.reply().await?.0 {
            Reply::Error { code, detail } => Err(CallError::Host { code, detail }.into()),
            Reply::Data { .. } | Reply::Files(_) => Err(unexpected("data that was not asked for")),
            reply => {
                incoming.finish().await?;
                Ok(reply)
            }
        }
    })
    .await
}

/// Sends a read and copies its data to `into`, which must be as long as the extent asked for; what the host says of its time.
pub(super) async fn read(
    way: Way<'_>,
    call: &Call,
    expected: Version,
    into: &mut [u8],
    deadline: Instant,
) -> Result<Timing, ExchangeError> {
    within(deadline, async {
        let mut incoming = Incoming::ask(way, call).await?;
        let (reply, timing) = incoming.reply().await?;
        match reply {
            Reply::Error { code, detail } => Err(CallError::Host { code, detail }.into()),
            Reply::Data { version, .. } if version != expected => Err(unexpected("data of another version")),
            Reply::Data { len, .. } if len as usize != into.len() => {
                Err(unexpected("data of another length"))
            }
            Reply::Data { .. } => {
                incoming.copy_to(into).await?;
                incoming.finish().await?;
                Ok(timing)
            }
            _ => Err(unexpected("no data")),
        }
    })
    .await
}

/// Sends a request for files and copies each to its place in `into`, which holds them all; what became of each, and what
/// the host says of its time.
pub(super) async fn read_files(
    way: Way<'_>,
    call: &Call,
    files: &[(FileWanted, usize)],
    into: &mut [u8],
    deadline: Instant,
) -> Result<(Vec<Result<(), ErrorCode>>, Timing), ExchangeError> {
    within(deadline, async {
        let mut incoming = Incoming::ask(way, call).await?;
        let (reply, timing) = incoming.reply().await?;
        let outcomes = match reply {
            Reply::Error { code, detail } => return Err(CallError::Host { code, detail }.into()),
            Reply::Files(outcomes) if outcomes.len() == files.len() => outcomes,
            Reply::Files(_) => return Err(unexpected("other files than asked for")),
            _ => return Err(unexpected("no files")),
        };
        for ((file, start), outcome) in files.iter().zip(&outcomes) {
            let Ok(len) = *outcome else { continue };
            if u64::from(len) != file.version.size.0 {
                return Err(unexpected("a file of another length"));
            }
            let room = into.get_mut(*start..).and_then(|room| room.get_mut(..len as usize));
            incoming.copy_to(room.ok_or_else(|| unexpected("a file of another length"))?).await?;
        }
        incoming.finish().await?;
        Ok((outcomes.into_iter().map(|outcome| outcome.map(|_| ())).collect(), timing))
    })
    .await
}

async fn within<T>(
    deadline: Instant,
    exchange: impl Future<Output = Result<T, ExchangeError>>,
) -> Result<T, ExchangeError> {
    time::timeout_at(deadline, exchange).await.unwrap_or(Err(CallError::Deadline.into()))
}

fn unexpected(reason: &'static str) -> ExchangeError {
    CallError::UnexpectedReply { reason }.into()
}

/// The reply's side of a stream. Dropping it before its end tells the host to stop.
struct Incoming {
    recv: RecvStream,
    pieces: Box<[Bytes; PIECES]>,
    /// Which of the pieces are not consumed yet.
    held: std::ops::Range<usize>,
}

impl Incoming {
    async fn ask(way: Way<'_>, call: &Call) -> Result<Incoming, ExchangeError> {
        let opened = way.crowded.watch(way.connection.open_bi()).await;
        let (mut send, recv) = opened.map_err(|error| ExchangeError::Lost(error.to_string()))?;
        let incoming = Incoming { recv, pieces: Box::new(std::array::from_fn(|_| Bytes::new())), held: 0..0 };
        match send.write_all_chunks(&mut [codec::encode_call(call)]).await {
            Ok(()) => {
                // Fails only where the host stopped the stream; its reply says why.
                let _ = send.finish();
            }
            // The host wants no more of the request; its reply says why.
            Err(WriteError::Stopped(_)) => {}
            Err(error) => return Err(ExchangeError::Lost(error.to_string())),
        }
        Ok(incoming)
    }

    /// The reply up to its data, and what the host says of its time.
    async fn reply(&mut self) -> Result<(Reply, Timing), ExchangeError> {
        let mut decoder = ReplyDecoder::new();
        loop {
            let Some(piece) = self.piece().await? else { return Err(unexpected("the reply is cut short")) };
            if let Some(reply) = decoder.feed(piece)? {
                return Ok((reply, decoder.timing()));
            }
        }
    }

    /// Copies data to where it stays, as much as that takes. A received piece pins the whole batch it came in (64 KiB), so it
    /// cannot stay itself.
    async fn copy_to(&mut self, into: &mut [u8]) -> Result<(), ExchangeError> {
        let mut at = 0;
        while at < into.len() {
            let Some(piece) = self.piece().await? else { return Err(unexpected("the data is cut short")) };
            let data = piece.split_to(piece.len().min(into.len() - at));
            into[at..at + data.len()].copy_from_slice(&data);
            at += data.len();
        }
        Ok(())
    }

    /// Takes the end of the stream, so that the host sees all of it acked and nothing stopped.
    async fn finish(mut self) -> Result<(), ExchangeError> {
        match self.piece().await? {
            None => Ok(()),
            Some(_) => Err(unexpected("bytes after its end")),
        }
    }

    /// The next piece that is not empty; `None` at the end of the stream.
    async fn piece(&mut self) -> Result<Option<&mut Bytes>, ExchangeError> {
        while self.held.start < self.held.end && self.pieces[self.held.start].is_empty() {
            self.held.start += 1;
        }
        // A read of a stream that is not at its end brings at least one byte.
        if self.held.is_empty() {
            match self.recv.read_chunks(&mut self.pieces[..]).await {
                Ok(Some(count)) => self.held = 0..count,
                Ok(None) => return Ok(None),
                Err(error) => return Err(failed(&error)),
            }
        }
        Ok(self.pieces.get_mut(self.held.start))
    }
}

fn failed(error: &ReadError) -> ExchangeError {
    match error {
        ReadError::Reset(code) if *code == code::DEADLINE => CallError::Deadline.into(),
        ReadError::Reset(_) => unexpected("the host broke off the reply"),
        ReadError::ConnectionLost(error) => ExchangeError::Lost(error.to_string()),
        ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
            ExchangeError::Lost(error.to_string())
        }
    }
}
