//! What a host must answer.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use wire::{
    ErrorCode, Push, Reply,
    message::{Call, Hello, Welcome},
};

/// The host behind a [`crate::Server`]: who is let in, and what each request gets.
///
/// All methods run on the server's lane: none may block its thread.
pub trait Serve: Send + Sync + 'static {
    /// What the host keeps for one session.
    type Session: Send + Sync + 'static;

    /// Decides about a mount that introduced itself. `channel` is the TLS session's exporter, to which the proof
    /// in `hello` is bound. The code goes to the mount and the session is closed.
    fn admit(
        &self,
        hello: Hello,
        channel: [u8; 32],
        peer: SocketAddr,
    ) -> impl Future<Output = Result<(Arc<Self::Session>, Welcome), ErrorCode>> + Send;

    /// Answers one request of an admitted session.
    ///
    /// The future is dropped when the mount loses interest, its deadline passes, or the session ends.
    fn answer(&self, session: &Arc<Self::Session>, call: Call) -> impl Future<Output = Answer> + Send;

    /// Waits until the host wants the session to end, because its ticket is no longer good; then says why, in a few words
    /// that go to the mount and to the log. The session ends at once, whatever it is doing.
    fn dismissed(&self, session: &Arc<Self::Session>) -> impl Future<Output = String> + Send {
        let _ = session;
        // Without a deadline: a host that never dismisses lets sessions end in the other ways.
        std::future::pending()
    }

    /// Waits for what is to be said to the mount of the host's own accord. It is asked again once the mount's flow
    /// control lets the push go: until then the host keeps what comes, and bounds it. Without a deadline: there may be
    /// nothing to say for as long as the session lasts, at whose end the future is dropped.
    fn next_push(&self, session: &Arc<Self::Session>) -> impl Future<Output = Push> + Send {
        let _ = session;
        std::future::pending()
    }

    /// For how long so far the session's requests waited for what the host has too little of.
    fn held_up(&self, session: &Arc<Self::Session>) -> HeldUp {
        let _ = session;
        HeldUp::default()
    }

    /// A session that was admitted is over; called once, after its last answer.
    fn ended(&self, session: &Arc<Self::Session>, summary: &SessionSummary);
}

/// For how long at least one request of a session waited for the host's means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldUp {
    /// For a buffer.
    pub memory: Duration,
    /// For the disk.
    pub disk: Duration,
}

/// A reply with the bytes that follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The reply.
    pub reply: Reply,
    /// The data of a [`Reply::Data`] or a [`Reply::Files`], as long as it says; empty for every other reply.
    pub data: Bytes,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Answer {
        Answer { reply, data: Bytes::new() }
    }
}

impl From<ErrorCode> for Answer {
    fn from(code: ErrorCode) -> Answer {
        Reply::error(code).into()
    }
}

impl Answer {
    /// Whether the data is as long as the reply says.
    pub(crate) fn is_whole(&self) -> bool {
        self.data.len() as u64 == self.reply.data_bytes()
    }
}

/// What a session was, once it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSummary {
    /// Requests that were answered, cancelled ones included.
    pub requests: u64,
    /// Bytes of UDP payload sent to the mount.
    pub sent_bytes: u64,
    /// Bytes of UDP payload received from it.
    pub received_bytes: u64,
    /// How it ended.
    pub end: SessionEnd,
    /// Why it ended, for the log.
    pub reason: String,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// The mount said that it leaves.
    Left,
    /// The mount fell silent: killed, cut off or asleep.
    Lost,
    /// The host ended it, as it does when it stops.
    Closed,
    /// The mount broke the protocol.
    Broken,
}
