//! The host as the transport sees it: lets mounts in, and turns a request into a reply.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use metrics::Gauge;
use tokio::time::Instant;
use transport::{Answer, HeldUp, Serve, SessionEnd, SessionSummary};
use wire::{
    ErrorCode, FileId, LeaseId, Push, Reply, Request, ShareId, SharePath,
    auth::Claims,
    message::{Call, Hello, ShareInfo, Target, Welcome},
    version::PROTOCOL_VERSION,
};

use crate::{
    batch::Batch,
    disk::{Asked, Disk, Stalls},
    error::Fault,
    files::Grant,
    inspect, list,
    metrics::Metrics,
    share::{Scope, Share},
    tickets::{Refusal, Seat, Tickets},
    turns::Turns,
    watch::{Leases, Watches},
};

/// The longest a request may take, whatever the mount says.
const DEADLINE_MAX: Duration = Duration::from_secs(60);
/// How long letting a mount in may wait for the disks of its shares.
const ADMIT_DEADLINE: Duration = Duration::from_secs(5);

/// Serves the shares of one host.
pub(crate) struct Service {
    pub(crate) shares: Vec<Arc<Share>>,
    pub(crate) tickets: Tickets,
    pub(crate) disk: Disk,
    pub(crate) watches: Arc<Watches>,
    pub(crate) boot: u64,
    /// Mounts let in since the start; the number of the last session.
    pub(crate) sessions: AtomicU64,
    /// Mounts turned away since the start.
    pub(crate) refused: AtomicU64,
}

/// One mount that was let in.
pub(crate) struct Session {
    seat: Seat,
    grant: Grant,
    scopes: Vec<Arc<Scope>>,
    counted: Counted,
    hashing: Turns,
    stalls: Arc<Stalls>,
    leases: Arc<Leases>,
}

/// A session in the gauge of those connected, until it is over. One that was let in and never took its welcome does not come
/// to [`Serve::ended`]; it is over when it drops.
struct Counted {
    gauge: Gauge,
    over: AtomicBool,
}

/// Why a mount is not let in. The code is for the mount, the reason for the log.
#[derive(Debug)]
struct Turned {
    code: ErrorCode,
    reason: String,
}

impl Serve for Service {
    type Session = Session;

    async fn admit(
        &self,
        hello: Hello,
        channel: [u8; 32],
        peer: SocketAddr,
    ) -> Result<(Arc<Session>, Welcome), ErrorCode> {
        let (ticket, label) = (hello.claims.id, printable(&hello.label));
        match self.try_admit(hello, &channel, peer).await {
            Ok((session, welcome)) => {
                self.disk.metrics.admitted.increment(1);
                let session_number = session.seat.number;
                tracing::info!(session = session_number, %peer, label, %ticket, "mount connected");
                Ok((session, welcome))
            }
            Err(Turned { code, reason }) => {
                self.disk.metrics.refused.increment(1);
                self.refused.fetch_add(1, Ordering::Relaxed);
                // The id is what the mount claims, and the ticket's own only where the proof held.
                tracing::warn!(%peer, label, %ticket, reason, "mount refused");
                Err(code)
            }
        }
    }

    async fn dismissed(&self, session: &Arc<Session>) -> String {
        session.seat.dismissed().await.to_string()
    }

    async fn answer(&self, session: &Arc<Session>, call: Call) -> Answer {
        self.disk.metrics.requests.increment(1);
        session.seat.requests.fetch_add(1, Ordering::Relaxed);
        let deadline = Instant::now() + Duration::from_millis(call.deadline_ms.into()).min(DEADLINE_MAX);
        let (id, class) = (call.id, call.class);
        let answer = self.serve(session, call.request, deadline).await;
        answer.unwrap_or_else(|fault| {
            self.disk.metrics.errors.increment(1);
            let Fault { code, detail } = &fault;
            tracing::debug!(
                session = session.seat.number,
                request = id,
                ?class,
                ?code,
                detail,
                "request failed"
            );
            Reply::from(fault).into()
        })
    }

    async fn next_push(&self, session: &Arc<Session>) -> Push {
        let push = session.leases.next_push(&self.disk.work).await;
        if session.seat.check().is_err() {
            // It is about to be dismissed, and is told nothing any more.
            std::future::pending::<()>().await;
        }
        push
    }

    fn held_up(&self, session: &Arc<Session>) -> HeldUp {
        let now = Instant::now();
        HeldUp { memory: session.stalls.memory.total(now), disk: session.stalls.disk.total(now) }
    }

    fn ended(&self, session: &Arc<Session>, summary: &SessionSummary) {
        let Metrics { ended, .. } = &self.disk.metrics;
        session.counted.end();
        session.leases.end();
        ended.of(summary.end).increment(1);
        let what = match summary.end {
            SessionEnd::Left => "mount left",
            SessionEnd::Lost => "mount lost",
            SessionEnd::Closed => "mount sent away",
            SessionEnd::Broken => "mount broke off",
        };
        let reason = match session.seat.check() {
            Err(refusal) if summary.end == SessionEnd::Closed => refusal.to_string(),
            _ => summary.reason.clone(),
        };
        tracing::info!(
            session = session.seat.number,
            peer = %session.seat.peer,
            label = session.seat.label,
            ticket = %session.seat.claims.id,
            seconds = session.seat.since.elapsed().as_secs(),
            sent_bytes = summary.sent_bytes,
            requests = summary.requests,
            reason,
            "{what}"
        );
    }
}

impl Service {
    async fn try_admit(
        &self,
        hello: Hello,
        channel: &[u8; 32],
        peer: SocketAddr,
    ) -> Result<(Arc<Session>, Welcome), Turned> {
        self.tickets.check(&hello, channel)?;
        if !(hello.version_min..=hello.version_max).contains(&PROTOCOL_VERSION) {
            return Err(Turned {
                code: ErrorCode::VersionMismatch,
                reason: format!("it speaks protocol {} to {}", hello.version_min, hello.version_max),
            });
        }
        let opened = self.open_scopes(hello.claims.clone()).await?;
        let number = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let (scopes, shares) = opened.into_iter().unzip();
        let Hello { claims, label, .. } = hello;
        let grant = Grant::of(&claims);
        let seat = self.tickets.seat(number, claims, printable(&label), peer)?;
        let counted = Counted::new(self.disk.metrics.sessions.clone());
        let (hashing, stalls) = (Turns::of_session(), Arc::default());
        let leases = Leases::new(Arc::clone(&self.watches), number);
        let session = Session { seat, grant, scopes, counted, hashing, stalls, leases };
        let welcome = Welcome { version: PROTOCOL_VERSION, session: number, boot: self.boot, shares };
        Ok((Arc::new(session), welcome))
    }

    /// Opens what the ticket names. A share that cannot be opened is left out, with a line in the log; a ticket of
    /// which nothing is left is refused.
    async fn open_scopes(&self, claims: Claims) -> Result<Vec<(Arc<Scope>, ShareInfo)>, Fault> {
        let all = claims.shares.is_empty();
        let named = |share: &&Arc<Share>| all || claims.shares.contains(&share.name);
        let shares: Vec<_> = self.shares.iter().filter(named).cloned().collect();
        let prefix = claims.prefix;
        let open = move || {
            let mut opened = Vec::with_capacity(shares.len());
            for share in shares {
                let (id, name) = (share.id, share.name.clone());
                let scope = Scope::open(share, &prefix).and_then(|scope| Ok((scope.root_attr()?, scope)));
                match scope {
                    Ok((root, scope)) => opened.push((Arc::new(scope), ShareInfo { id, name, root })),
                    Err(Fault { code, detail }) => {
                        tracing::warn!(share = %name, %prefix, ?code, detail, "a ticket's folder cannot be opened");
                    }
                }
            }
            if opened.is_empty() {
                return Err(Fault::with(ErrorCode::Refused, "the host has none of the ticket's folders"));
            }
            Ok(opened)
        };
        self.disk.work.run(Instant::now() + ADMIT_DEADLINE, open).await
    }

    async fn serve(&self, session: &Session, request: Request, deadline: Instant) -> Result<Answer, Fault> {
        session.seat.check().map_err(|_| Fault::new(ErrorCode::Refused))?;
        let ask = |target| session.asked(target, deadline);
        Ok(match request {
            Request::Hello(_) => return Err(Fault::with(ErrorCode::Invalid, "a session has one hello")),
            Request::Stat(target) => Reply::Attr(self.disk.stat(ask(target)?).await?).into(),
            Request::List { target, cookie, bytes_max, lease } => {
                self.list(session, ask(target)?, (cookie, bytes_max), lease).await?.into()
            }
            Request::Readlink(target) => {
                Reply::Link(self.blocking(ask(target)?, inspect::readlink).await?).into()
            }
            Request::Read { target, version, extent } => {
                let data = self.disk.read(&ask(target)?, version, extent).await?;
                let len = u32::try_from(data.len()).map_err(|_| Fault::new(ErrorCode::Invalid))?;
                Answer { reply: Reply::Data { version, len }, data }
            }
            Request::ReadFiles { dir, files } => {
                let Batch { outcomes, data } = self.disk.read_files(&ask(dir)?, files).await?;
                Answer { reply: Reply::Files(outcomes), data }
            }
            Request::Verify { target, ranges } => {
                let (attr, equal) = self.disk.verify(&ask(target)?, ranges, &session.hashing).await?;
                Reply::Verified { attr, equal }.into()
            }
            Request::Statfs(share) => {
                let scope = session.scope(share)?;
                Reply::Statfs(self.disk.work.run(deadline, move || inspect::statfs(&scope)).await?).into()
            }
            Request::GetXattr { target, name } => {
                let value = self.blocking(ask(target)?, move |asked| inspect::xattr(asked, &name)).await?;
                Reply::Value(value).into()
            }
            Request::ListXattr(target) => {
                Reply::Value(self.blocking(ask(target)?, inspect::xattr_names).await?).into()
            }
            Request::Lease { target, lease } => self.lease(session, ask(target)?, lease).await?.into(),
            Request::Release(leases) => {
                session.leases.release(&leases);
                Reply::Released.into()
            }
        })
    }

    /// A page of a directory, which is watched before it is read where a lease is wanted.
    async fn list(
        &self,
        session: &Session,
        asked: Asked,
        (cookie, bytes_max): (u64, u32),
        lease: Option<LeaseId>,
    ) -> Result<Reply, Fault> {
        let leases = Arc::clone(&session.leases);
        let deadline = asked.deadline;
        let read = move || {
            let taken = lease.map(|lease| leases.take(lease, &asked)).transpose()?;
            Ok((list::page(&asked, cookie, bytes_max)?, taken))
        };
        let (page, taken) = self.disk.work.run(deadline, read).await?;
        self.disk.metrics.names_skipped.increment(page.skipped);
        let mut listing = page.listing;
        if let Some(taken) = taken {
            let grant = taken.grant(&listing.dir);
            taken.keep(grant);
            listing.grant = Some(grant);
        }
        Ok(Reply::Listing(listing))
    }

    /// A lease without a listing.
    async fn lease(&self, session: &Session, asked: Asked, lease: LeaseId) -> Result<Reply, Fault> {
        let (leases, deadline) = (Arc::clone(&session.leases), asked.deadline);
        let take = move || {
            let taken = leases.take(lease, &asked)?;
            Ok((asked.expected_place()?.attr()?, taken))
        };
        let (dir, taken) = self.disk.work.run(deadline, take).await?;
        let grant = taken.grant(&dir);
        taken.keep(grant);
        Ok(Reply::Leased { dir, grant })
    }

    async fn blocking(
        &self,
        asked: Asked,
        call: impl FnOnce(&Asked) -> Result<Bytes, Fault> + Send + 'static,
    ) -> Result<Bytes, Fault> {
        self.disk.work.run(asked.deadline, move || call(&asked)).await
    }
}

impl From<Refusal> for Turned {
    fn from(refusal: Refusal) -> Turned {
        Turned { code: ErrorCode::Refused, reason: refusal.to_string() }
    }
}

impl From<Fault> for Turned {
    fn from(Fault { code, detail }: Fault) -> Turned {
        let reason = if detail.is_empty() { code.to_string() } else { detail };
        Turned { code, reason }
    }
}

impl Counted {
    fn new(gauge: Gauge) -> Counted {
        gauge.increment(1.0);
        Counted { gauge, over: AtomicBool::new(false) }
    }

    /// Also when called again, counts once.
    fn end(&self) {
        if !self.over.swap(true, Ordering::Relaxed) {
            self.gauge.decrement(1.0);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.end();
    }
}

impl Session {
    /// The part of a share that this session's ticket opens.
    fn scope(&self, id: ShareId) -> Result<Arc<Scope>, Fault> {
        let scope = self.scopes.iter().find(|scope| scope.share.id == id);
        scope.cloned().ok_or_else(|| Fault::with(ErrorCode::Invalid, "this session has no such share"))
    }

    fn asked(&self, target: Target, deadline: Instant) -> Result<Asked, Fault> {
        let Target { share, path, id } = target;
        let (path, id): (SharePath, Option<FileId>) = (path, id);
        let stalls = Arc::clone(&self.stalls);
        Ok(Asked { grant: self.grant, scope: self.scope(share)?, path, id, deadline, stalls })
    }
}

/// What a mount calls itself, for the log: no control characters.
fn printable(label: &str) -> String {
    label.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
