//! The mount's side: one session with a host, made again whenever it is lost.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{self, Instant};
use uring::{Filled, Slot};
use wire::{
    ErrorCode, Extent, Reply, Request, Ticket, Version,
    bound::Bound,
    limits::{FILES_MAX, READ_BYTES_MAX},
    message::{Class, FileWanted, Target, Welcome},
    timing::Timing,
};

use crate::{
    error::{CallError, ConnectError},
    keylog::KeyLog,
    settings::PacketSize,
};

mod backoff;
mod dial;
mod exchange;
mod offline;
mod pushes;
mod reconnect;
mod session;
mod shares;
mod states;
mod waiting;

use dial::Dialer;
use pushes::Mailbox;
pub use pushes::{Pushed, Pushes};
use session::Session;
use shares::Shares;
use states::States;
use waiting::Waiting;

/// What becomes of calls while there is no session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLoss {
    /// They wait for the next one until their deadline, and are sent again.
    #[default]
    Wait,
    /// They fail with [`CallError::Lost`] at once, those in flight as soon as the loss is noticed.
    Fail,
}

/// Why there is no session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// How the last session ended.
    pub reason: Arc<str>,
    /// How the latest attempt at another one failed; `None` while the first is under way.
    pub attempt: Option<Arc<str>>,
    /// Whether the host refuses the ticket: then calls fail at once, and not when their time is up.
    pub refused: bool,
}

/// How a mount connects.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Who it is, for the host's log: host name and mountpoint.
    pub label: String,
    /// How long the first connect may take, name look-ups included.
    pub connect_deadline: Duration,
    /// How long one attempt to connect again may take before the next begins.
    pub reconnect_deadline: Duration,
    /// What becomes of calls while there is no session.
    pub on_loss: OnLoss,
    /// Bytes the host may have on their way to this mount.
    pub receive_window_bytes: u32,
    /// How large packets may become.
    pub packets: PacketSize,
    /// Where the secrets of sessions are written; nowhere unless somebody is to decrypt them.
    pub key_log: Option<KeyLog>,
}

impl Default for ClientConfig {
    fn default() -> ClientConfig {
        ClientConfig {
            label: String::new(),
            connect_deadline: Duration::from_secs(10),
            reconnect_deadline: Duration::from_secs(3),
            on_loss: OnLoss::default(),
            receive_window_bytes: 16 << 20,
            packets: PacketSize::Auto,
            key_log: None,
        }
    }
}

/// A read as [`Client::read`] takes it.
#[derive(Clone, Debug)]
pub struct ReadCall {
    /// The file.
    pub target: Target,
    /// The version expected.
    pub version: Version,
    /// Which bytes; at most [`READ_BYTES_MAX`], and at most the slot's capacity.
    pub extent: Extent,
    /// How urgent it is.
    pub class: Class,
    /// When the caller stops waiting.
    pub deadline: Instant,
}

/// Whole files of one folder, as [`Client::read_files`] takes them.
#[derive(Clone, Debug)]
pub struct FilesCall {
    /// The folder.
    pub dir: Target,
    /// Its files, each with where in the slot it is to begin: in ascending order, none over the next one's begin, and at
    /// most [`FILES_MAX`] of them. Together at most [`READ_BYTES_MAX`] bytes.
    pub files: Vec<(FileWanted, usize)>,
    /// How urgent it is.
    pub class: Class,
    /// When the caller stops waiting.
    pub deadline: Instant,
}

impl FilesCall {
    /// Where the last one ends; `None` where they are not in order.
    fn end(&self) -> Option<usize> {
        let mut end = 0;
        for (file, start) in &self.files {
            let len = usize::try_from(file.version.size.0).ok()?;
            end = (*start >= end).then(|| start.checked_add(len)).flatten()?;
        }
        Some(end)
    }
}

/// What [`Client::read_files`] brought.
#[derive(Debug)]
pub struct FilesRead {
    /// The slot, filled to the end of the last file; what lies between files, and in place of those that failed, is of
    /// no meaning.
    pub filled: Filled,
    /// What became of each file, in the order of the call: all of its bytes are there, or none.
    pub outcomes: Vec<Result<(), ErrorCode>>,
    /// Where the time went.
    pub trip: Trip,
}

/// Where the time of a [`Client::read`] went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trip {
    /// When the request was sent, the last time if the session was lost or the host busy.
    pub sent: Instant,
    /// When all of the answer was here.
    pub arrived: Instant,
    /// The host's part of the time between.
    pub host: Timing,
}

/// What a session is like at one moment. Counters run over all sessions of the client.
#[derive(Clone, Copy, Debug)]
pub struct SessionStats {
    /// Whether there is a session.
    pub connected: bool,
    /// The host's address in it.
    pub peer: Option<SocketAddr>,
    /// Its round trip in microseconds, smoothed.
    pub rtt_us: u64,
    /// Bytes of UDP payload the path is known to carry from here to the host.
    pub mtu_bytes: u16,
    /// The congestion window towards the host.
    pub cwnd_bytes: u64,
    /// Packets to the host that were lost.
    pub lost_packets: u64,
    /// Times the path stopped to carry packets of the size found: above zero, something is wrong with it.
    pub black_holes: u64,
    /// Bytes of UDP payload sent.
    pub sent_bytes: u64,
    /// Bytes of UDP payload received.
    pub received_bytes: u64,
    /// When the first session began; `None` where none did yet.
    pub first_session: Option<Instant>,
    /// Sessions after the first.
    pub reconnects: u64,
    /// Calls that a busy or stopping host put off; each counts once, however often it was asked again.
    pub busy_calls: u64,
    /// What bounded the session lately, as the host says with its answers.
    pub host_bound: Option<Bound>,
    /// For how long requests of this session waited because it had as many under way as the host allows.
    pub requests_waited: Duration,
    /// Since when it has been connected, or not.
    pub since: Instant,
}

/// A mount's way to its host: cheap to clone, usable from any runtime once made.
///
/// Its tasks live on the runtime that [`Client::connect`] ran on. When the last clone drops, the session ends.
#[derive(Clone, Debug)]
pub struct Client {
    owner: Arc<Owner>,
}

/// Ends the session when the last [`Client`] goes.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
}

/// What the client's handles and its reconnecting task share.
#[derive(Debug)]
struct Shared {
    dialer: Dialer,
    state: States,
    history: Mutex<History>,
    /// Calls that met a busy host: each pauses in a time of its own.
    held_up: AtomicU64,
    pushes: Arc<Mailbox>,
}

/// Where the client stands.
#[derive(Clone, Debug)]
enum State {
    Connected(Arc<Session>),
    /// On the way; why it is.
    Lost(Loss),
    /// The host does not let us in any more, as the text says: calls fail at once, and it is asked again now and then.
    Refused(ErrorCode, Arc<str>),
    Closed,
}

/// What outlives a session.
#[derive(Debug)]
struct History {
    shares: Shares,
    welcome: Arc<Welcome>,
    lost_packets: u64,
    black_holes: u64,
    sent_bytes: u64,
    received_bytes: u64,
    /// Sessions there have been.
    sessions: u64,
    /// When the first began.
    first_session: Option<Instant>,
    since: Instant,
}

/// How long [`Client::close`] waits for the host to have heard of it.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// A client over a socket that is there.
#[cfg(feature = "testing")]
pub(crate) async fn over_socket(
    socket: Arc<dyn quinn::AsyncUdpSocket>,
    seed: [u8; 32],
    ticket: Ticket,
    config: ClientConfig,
) -> Result<Client, ConnectError> {
    let endpoint = crate::endpoint::client(socket, Some(seed))?;
    Client::over(Dialer::over(ticket, config, vec![endpoint])).await
}

impl Client {
    /// Connects to the host of `ticket` and proves the ticket; call it in a lane's runtime.
    ///
    /// The ticket's addresses are tried 250 ms apart, or as soon as the one before failed; the first that admits wins.
    ///
    /// # Errors
    /// Any [`ConnectError`]; a dropped future leaves nothing behind.
    pub async fn connect(ticket: Ticket, config: ClientConfig) -> Result<Client, ConnectError> {
        let dialer = Dialer::bind(ticket, config)?;
        Client::over(dialer).await
    }

    async fn over(dialer: Dialer) -> Result<Client, ConnectError> {
        let deadline = dialer.config().connect_deadline;
        let session = Arc::new(dialer.dial(deadline).await?);
        tracing::info!(session = session.welcome.session, peer = %session.peer(), "connected");
        let shares = Shares::new(&session.welcome);
        session.number_shares(&shares);
        let history = History {
            welcome: Arc::new(shares.renumber(&session.welcome)),
            shares,
            lost_packets: 0,
            black_holes: 0,
            sent_bytes: 0,
            received_bytes: 0,
            sessions: 1,
            first_session: Some(Instant::now()),
            since: Instant::now(),
        };
        let state = States::new(State::Connected(session.clone()));
        let (history, held_up, pushes) = (Mutex::new(history), AtomicU64::new(0), Arc::default());
        let shared = Arc::new(Shared { dialer, state, history, held_up, pushes });
        shared.pushes.session_begun();
        tokio::spawn(reconnect::run(shared.clone(), session));
        Ok(Client { owner: Arc::new(Owner { shared }) })
    }

    /// Sends a request and waits for its reply; not for reads, which [`Client::read`] does.
    ///
    /// When the session is lost, waits for the next and asks again, until the deadline: every request may be repeated.
    /// With [`OnLoss::Fail`] it does not wait. A busy host is asked again until the deadline. Dropping the future withdraws the request.
    ///
    /// # Errors
    /// Any [`CallError`]; [`CallError::Host`] carries the host's own answer.
    pub async fn call(&self, request: Request, class: Class, deadline: Instant) -> Result<Reply, CallError> {
        let mut waiting = self.owner.shared.wait_until(deadline);
        loop {
            let session = waiting.connected().await?;
            let outcome = session.call(&request, class, deadline).await;
            if let Some(reply) = waiting.settle(outcome, &session).await? {
                return Ok(reply);
            }
        }
    }

    /// Reads an extent into a slot; the bytes are all there and of the version asked for, or it is an error.
    ///
    /// When the session is lost, waits for the next and asks again, until the deadline; with [`OnLoss::Fail`] it does
    /// not wait. A busy host is asked again until the deadline. Dropping the future withdraws the request and sends the slot home; so does an error.
    ///
    /// # Errors
    /// Any [`CallError`].
    ///
    /// # Panics
    /// When the extent is longer than the slot or than [`READ_BYTES_MAX`].
    pub async fn read(&self, read: ReadCall, slot: Slot) -> Result<Filled, CallError> {
        Ok(self.read_timed(read, slot).await?.0)
    }

    /// As [`Client::read`], and says where its time went.
    ///
    /// # Errors
    /// As [`Client::read`].
    ///
    /// # Panics
    /// As [`Client::read`].
    pub async fn read_timed(&self, read: ReadCall, mut slot: Slot) -> Result<(Filled, Trip), CallError> {
        let len = usize::try_from(read.extent.len.0).unwrap_or(usize::MAX);
        assert!(read.extent.len.0 <= READ_BYTES_MAX, "a read of {} is longer than one extent", read.extent);
        assert!(
            len <= slot.capacity(),
            "a read of {} does not fit a slot of {}",
            read.extent,
            slot.capacity()
        );
        if len == 0 {
            let now = Instant::now();
            return Ok((slot.fill(0), Trip { sent: now, arrived: now, host: Timing::default() }));
        }
        let deadline = read.deadline;
        let mut waiting = self.owner.shared.wait_until(deadline);
        loop {
            let session = waiting.connected().await?;
            let sent = Instant::now();
            let outcome = session.read(&read, &mut slot.bytes_mut()[..len]).await;
            if let Some(host) = waiting.settle(outcome, &session).await? {
                return Ok((slot.fill(len), Trip { sent, arrived: Instant::now(), host }));
            }
        }
    }

    /// Reads small files of one folder into a slot, each at its place there; every file is read or failed by itself.
    ///
    /// Waits, asks again and is called off as [`Client::read`].
    ///
    /// # Errors
    /// Any [`CallError`], of the folder or of all.
    ///
    /// # Panics
    /// When the files do not lie in the slot as [`FilesCall::files`] says, or are too many or too long.
    pub async fn read_files(&self, call: FilesCall, mut slot: Slot) -> Result<FilesRead, CallError> {
        let end = call.end().expect("the files lie one after the other");
        assert!(end <= slot.capacity(), "files up to {end} do not fit a slot of {}", slot.capacity());
        assert!(call.files.len() <= FILES_MAX, "{} files in one call", call.files.len());
        let bytes: u64 = call.files.iter().map(|(file, _)| file.version.size.0).sum();
        assert!(bytes <= READ_BYTES_MAX, "files of {bytes} bytes in one call");
        let mut waiting = self.owner.shared.wait_until(call.deadline);
        loop {
            let session = waiting.connected().await?;
            let sent = Instant::now();
            let outcome = session.read_files(&call, slot.bytes_mut()).await;
            if let Some((outcomes, host)) = waiting.settle(outcome, &session).await? {
                let trip = Trip { sent, arrived: Instant::now(), host };
                return Ok(FilesRead { filled: slot.fill(end), outcomes, trip });
            }
        }
    }

    /// What the host says of its own accord; for one reader, who finds what was said since the client was made.
    pub fn pushes(&self) -> Pushes {
        Pushes::new(self.owner.shared.pushes.clone())
    }

    /// The newest session's welcome. A share keeps the number it first had here, whatever a host that restarted calls it.
    pub fn welcome(&self) -> Arc<Welcome> {
        self.owner.shared.history.lock().welcome.clone()
    }

    /// What the session is like now.
    pub fn stats(&self) -> SessionStats {
        let shared = &self.owner.shared;
        let session = match shared.state.get() {
            State::Connected(session) => Some(session),
            State::Lost(_) | State::Refused(..) | State::Closed => None,
        };
        let history = shared.history.lock();
        let live = session.as_ref().map(|session| session.stats()).unwrap_or_default();
        SessionStats {
            connected: session.is_some(),
            peer: session.as_ref().map(|session| session.peer()),
            rtt_us: u64::try_from(live.path.rtt.as_micros()).unwrap_or(u64::MAX),
            mtu_bytes: live.path.current_mtu,
            cwnd_bytes: live.path.cwnd,
            lost_packets: history.lost_packets + live.path.lost_packets,
            black_holes: history.black_holes + live.path.black_holes_detected,
            sent_bytes: history.sent_bytes + live.udp_tx.bytes,
            received_bytes: history.received_bytes + live.udp_rx.bytes,
            first_session: history.first_session,
            reconnects: history.sessions.saturating_sub(1),
            busy_calls: shared.held_up.load(Ordering::Relaxed),
            host_bound: session.as_ref().and_then(|session| session.bound()),
            requests_waited: session.as_ref().map(|session| session.requests_waited()).unwrap_or_default(),
            since: history.since,
        }
    }

    /// Why there is no session; `None` when there is one, or none is wanted any more.
    pub fn loss(&self) -> Option<Loss> {
        match self.owner.shared.state.get() {
            State::Lost(loss) => Some(loss),
            State::Refused(code, why) => {
                Some(Loss { reason: why, attempt: Some(code.to_string().into()), refused: true })
            }
            State::Connected(_) | State::Closed => None,
        }
    }

    /// What becomes of calls while there is no session.
    pub fn on_loss(&self) -> OnLoss {
        self.owner.shared.dialer.config().on_loss
    }

    /// Ends the session and says so to the host; calls in flight fail with [`CallError::Closed`].
    ///
    /// Waits at most one second for the host to have heard of it. A second call does nothing.
    pub async fn close(&self) {
        let shared = &self.owner.shared;
        if !matches!(shared.end(), State::Connected(_)) {
            // Nobody is there to hear of it.
            return;
        }
        // A host that is gone confirms nothing; its idle timeout does the rest.
        let _ = time::timeout(CLOSE_PATIENCE, shared.dialer.idle()).await;
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        match &self.attempt {
            Some(attempt) => write!(f, "; {attempt}"),
            None => Ok(()),
        }
    }
}

impl Shared {
    fn wait_until(&self, deadline: Instant) -> Waiting<'_> {
        Waiting::new(self, deadline)
    }

    /// Ends everything; the reconnecting task follows. What was before.
    fn end(&self) -> State {
        let before = self.state.replace(State::Closed);
        if let State::Connected(session) = &before {
            session.abandon();
        }
        self.dialer.close();
        self.pushes.close();
        before
    }

    /// Keeps what a session counted when it ends; whether another one is wanted.
    fn bury(&self, session: &Session, reason: &str) -> bool {
        let stats = session.stats();
        let mut history = self.history.lock();
        history.lost_packets += stats.path.lost_packets;
        history.black_holes += stats.path.black_holes_detected;
        history.sent_bytes += stats.udp_tx.bytes;
        history.received_bytes += stats.udp_rx.bytes;
        history.since = Instant::now();
        drop(history);
        self.pushes.session_lost();
        self.change(match session.dismissal() {
            Some(why) => State::Refused(ErrorCode::Refused, why.into()),
            None => State::Lost(Loss { reason: reason.into(), attempt: None, refused: false }),
        })
    }

    /// Takes up a new session.
    fn adopt(&self, session: &Arc<Session>) {
        let mut history = self.history.lock();
        history.shares.learn(&session.welcome);
        history.welcome = Arc::new(history.shares.renumber(&session.welcome));
        history.sessions += 1;
        let now = Instant::now();
        history.since = now;
        history.first_session.get_or_insert(now);
        session.number_shares(&history.shares);
        drop(history);
        // Before any call goes over it.
        self.pushes.session_begun();
        self.change(State::Connected(session.clone()));
    }

    /// Moves to `next` unless the client was closed; whether it did.
    fn change(&self, next: State) -> bool {
        self.state.change(next)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> ConnectError {
        ConnectError::Local(error)
    }
}
