//! Who may be answered next: a plain state machine over what each session and the host hold.
//!
//! Inside a session the class decides, then the order of arrival. Between sessions a deficit round-robin by bytes
//! (Shreedhar and Varghese, 1995): each session in turn may have [`QUANTUM_BYTES`] more, so one that has a single
//! request waits for at most one of each other, however many they have queued.
//!
//! A session may hold an eighth of the host's bytes, and more as long as that is no more than what the host has left
//! (dynamic thresholds; Choudhury and Hahne, 1998). The last quarter is for those that hold none. A plain bound lets three
//! mounts that never take their answers hold all that a host has until their deadlines; this way it takes 16 of them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZeroU64,
};

use slab::Slab;
use tokio::time::Instant;
use wire::message::Class;

use crate::server::{ServerLimits, bucket::Bucket};

/// Bytes of answers a session may have in its turn. A larger answer waits for several turns, so a mount that asks for one
/// small thing after the other gets as much as one that has large reads queued.
const QUANTUM_BYTES: u64 = 128 << 10;
/// The largest answer.
const ANSWER_BYTES_MAX: u64 = wire::limits::READ_BYTES_MAX;
/// Answers of at most this size (attributes, symlinks) may use what is kept back from larger ones, and are not counted
/// against a session's part: they are what a user waits for, and 1,024 of them are 4 MiB.
const SMALL_BYTES: u64 = 4 << 10;
/// Of a host's bytes, the part that is kept back for small answers.
const RESERVE_PART: u64 = 8;
/// The part that is kept back for a session's first.
const FIRST_PART: u64 = 4;
/// The part that a session may hold whatever the host has left. Where many wait for the host's bytes none holds more, and
/// the round-robin alone decides.
const SHARE_PART: u64 = 8;
/// A rate's burst: what it brings in a quarter of a second, and no less than the largest read.
const BURST_PARTS: u64 = 4;

/// What a request needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) class: Class,
    /// The most that the answer holds.
    pub(super) bytes: u32,
}

/// What an admitted request holds, until it is given to [`Fair::release`].
#[derive(Debug)]
pub(super) struct Grant {
    session: usize,
    order: Order,
}

/// Where a request waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    session: usize,
    key: Key,
}

/// Rank of the class, then the order of arrival.
type Key = (u8, u64);

/// The answer to a request that asks for admission.
#[derive(Debug)]
pub(super) enum Asked {
    Granted(Grant),
    /// There is room in the queue, and for the moment nowhere else, because of this; `None` where it waits for others of its
    /// session alone, which are about to go.
    Wait(Option<HeldBy>),
    /// There is none.
    Busy,
}

/// What makes a request wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeldBy {
    /// The bytes of its session.
    OwnBytes,
    /// The rate of its session.
    OwnRate,
    /// The bytes of the host, or others that wait for them.
    Bytes,
    /// The rate of the host.
    Rate,
}

/// What is held and what waits, of a session or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct Tally {
    pub(in crate::server) requests: u64,
    pub(in crate::server) waiting: u64,
    pub(in crate::server) answer_bytes: u64,
}

/// The queue of all sessions; `T` is told when its request is admitted.
#[derive(Debug)]
pub(super) struct Fair<T> {
    bounds: Bounds,
    sessions: Slab<Session<T>>,
    /// Sessions with requests that wait for the host's bytes or rate alone, the next one first.
    ring: VecDeque<usize>,
    /// Sessions whose own rate is used up, by when it is not.
    asleep: BTreeSet<(Instant, usize)>,
    total: Tally,
    rate: Option<Bucket>,
    arrivals: u64,
}

#[derive(Debug)]
struct Bounds {
    session_requests: u64,
    session_bulk_bytes: u64,
    session_answer_bytes: u64,
    session_rate: Option<NonZeroU64>,
    host_requests: u64,
    host_answer_bytes: u64,
    reserve_bytes: u64,
    first_bytes: u64,
    share_bytes: u64,
}

#[derive(Debug)]
struct Session<T> {
    requests: u64,
    bulk_bytes: u64,
    answer_bytes: u64,
    /// The part of the host's bytes; larger answers alone.
    large_bytes: u64,
    waiting: BTreeMap<Key, Waiting<T>>,
    standing: Standing,
    deficit: u64,
    in_turn: bool,
    rate: Option<Bucket>,
}

#[derive(Debug)]
struct Waiting<T> {
    order: Order,
    waiter: T,
}

/// Where a session is while it has requests that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It has none.
    Idle,
    InRing,
    /// Its own bytes are used up; one of its requests gives them back.
    Full,
    Asleep(Instant),
}

/// What a session's own bounds say about a request.
enum Own {
    Fits,
    Full,
    Later(Instant),
}

/// What the host's bytes say about a request; in this order, who finds no room stops those of lesser rooms behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Room {
    Fits,
    /// The session has its part; it stops nobody else.
    HoldsEnough,
    /// None for a session that holds some already.
    NoneForMore,
    /// Not even for one that holds none.
    NoneForFirst,
    NoneForSmall,
}

/// What became of the session at the head of the ring.
enum Turn<T> {
    Granted(T, Grant),
    /// It had its quantum.
    Over,
    /// It must wait for this.
    Passed(Room),
    Left,
}

impl Order {
    fn rank(self) -> u8 {
        match self.class {
            Class::Demand => 0,
            Class::Metadata => 1,
            Class::Readahead => 2,
            Class::Warmup => 3,
        }
    }

    fn bulk(self) -> u64 {
        match self.class {
            Class::Readahead | Class::Warmup => self.bytes.into(),
            Class::Metadata | Class::Demand => 0,
        }
    }
}

impl Grant {
    /// Bytes of the answer, as far as they are known.
    pub(super) fn bytes(&self) -> u32 {
        self.order.bytes
    }
}

impl Bounds {
    fn new(limits: &ServerLimits) -> Bounds {
        let host_answer_bytes = limits.host_answer_bytes_max.max(1);
        Bounds {
            session_requests: limits.requests_max.into(),
            session_bulk_bytes: limits.bulk_bytes_max.into(),
            session_answer_bytes: limits.answer_bytes_max.into(),
            session_rate: limits.session_bytes_per_s,
            host_requests: limits.host_requests_max.into(),
            host_answer_bytes,
            reserve_bytes: host_answer_bytes / RESERVE_PART,
            first_bytes: host_answer_bytes / FIRST_PART,
            share_bytes: host_answer_bytes / SHARE_PART,
        }
    }

    // An answer larger than a whole budget takes all of it: one at a time.

    fn bulk(&self, order: Order) -> u64 {
        order.bulk().min(self.session_bulk_bytes)
    }

    fn answer(&self, order: Order) -> u64 {
        u64::from(order.bytes).min(self.session_answer_bytes)
    }

    fn host(&self, order: Order) -> u64 {
        u64::from(order.bytes).min(self.host_answer_bytes - self.reserve_bytes)
    }

    fn large(&self, order: Order) -> u64 {
        let bytes = self.host(order);
        if bytes > SMALL_BYTES { bytes } else { 0 }
    }
}

fn bucket(per_s: Option<NonZeroU64>, now: Instant) -> Option<Bucket> {
    let per_s = per_s?;
    let burst = NonZeroU64::new((per_s.get() / BURST_PARTS).max(ANSWER_BYTES_MAX))?;
    Some(Bucket::new(per_s, burst, now))
}

impl<T> Fair<T> {
    pub(super) fn new(limits: &ServerLimits, now: Instant) -> Fair<T> {
        Fair {
            bounds: Bounds::new(limits),
            sessions: Slab::new(),
            ring: VecDeque::new(),
            asleep: BTreeSet::new(),
            total: Tally::default(),
            rate: bucket(limits.host_bytes_per_s, now),
            arrivals: 0,
        }
    }

    /// A new session, by its number here.
    pub(super) fn join(&mut self, now: Instant) -> usize {
        self.sessions.insert(Session {
            requests: 0,
            bulk_bytes: 0,
            answer_bytes: 0,
            large_bytes: 0,
            waiting: BTreeMap::new(),
            standing: Standing::Idle,
            deficit: 0,
            in_turn: false,
            rate: bucket(self.bounds.session_rate, now),
        })
    }

    /// Forgets a session, which holds nothing any more and waits for nothing.
    pub(super) fn leave(&mut self, session: usize) {
        let gone = self.sessions.remove(session);
        debug_assert!(gone.requests == 0 && gone.waiting.is_empty(), "its requests end before it does");
        match gone.standing {
            Standing::InRing => self.ring.retain(|&other| other != session),
            Standing::Asleep(until) => {
                self.asleep.remove(&(until, session));
            }
            Standing::Idle | Standing::Full => {}
        }
    }

    pub(super) fn total(&self) -> Tally {
        self.total
    }

    pub(super) fn tally(&self, session: usize) -> Tally {
        let Session { requests, answer_bytes, ref waiting, .. } = self.sessions[session];
        Tally { requests, answer_bytes, waiting: waiting.len() as u64 }
    }

    /// Admits a request on the spot where nothing that goes before it waits, or says whether it may wait.
    pub(super) fn ask(&mut self, now: Instant, number: usize, order: Order) -> Asked {
        let session = &self.sessions[number];
        let known = session.requests + session.waiting.len() as u64;
        // A session with nothing under way is let in beyond the bound: a crowd cannot shut it out.
        let crowded = known > 0 && self.total.requests + self.total.waiting >= self.bounds.host_requests;
        if crowded || known >= self.bounds.session_requests {
            return Asked::Busy;
        }
        let first = session.waiting.first_key_value().is_none_or(|(key, _)| key.0 > order.rank());
        let ready = self.rate.as_ref().is_none_or(|rate| rate.is_ready(now));
        Asked::Wait(Some(match (self.own(number, order, now), self.room(number, order)) {
            (Own::Full, _) => HeldBy::OwnBytes,
            (Own::Later(_), _) => HeldBy::OwnRate,
            (Own::Fits, _) if !ready => HeldBy::Rate,
            (Own::Fits, Room::Fits) if !first => return Asked::Wait(None),
            (Own::Fits, Room::Fits) if self.ring.is_empty() => {
                return Asked::Granted(self.grant(now, number, order));
            }
            (Own::Fits, _) => HeldBy::Bytes,
        }))
    }

    /// Lets a request wait; [`Fair::pump`] must follow.
    pub(super) fn wait(&mut self, number: usize, order: Order, waiter: T) -> Place {
        self.arrivals += 1;
        let key = (order.rank(), self.arrivals);
        let session = &mut self.sessions[number];
        session.waiting.insert(key, Waiting { order, waiter });
        self.total.waiting += 1;
        // The new one may fit where the first of those before did not.
        if matches!(session.standing, Standing::Idle | Standing::Full) {
            session.standing = Standing::InRing;
            self.ring.push_back(number);
        }
        Place { session: number, key }
    }

    /// Takes a request out of the queue; `None` when it is not there any more, having been admitted. [`Fair::pump`] must
    /// follow.
    pub(super) fn withdraw(&mut self, place: Place) -> Option<T> {
        let waiting = self.sessions[place.session].waiting.remove(&place.key)?;
        self.total.waiting -= 1;
        self.again(place.session);
        Some(waiting.waiter)
    }

    /// Makes an admitted request hold no more than its answer turned out to have. [`Fair::pump`] must follow.
    pub(super) fn shrink(&mut self, grant: &mut Grant, bytes: u32) {
        let Order { class, bytes: before } = grant.order;
        let bytes = bytes.min(before);
        self.give_back(grant);
        grant.order = Order { class, bytes };
        self.hold(grant);
        let unused = u64::from(before - bytes);
        for rate in [&mut self.rate, &mut self.sessions[grant.session].rate].into_iter().flatten() {
            rate.give_back(unused);
        }
        if let Standing::Asleep(until) = self.sessions[grant.session].standing {
            self.asleep.remove(&(until, grant.session));
            self.enter(grant.session);
        }
        self.again(grant.session);
    }

    /// Takes back what an admitted request held. [`Fair::pump`] must follow.
    #[expect(clippy::needless_pass_by_value, reason = "a grant is given back once")]
    pub(super) fn release(&mut self, grant: Grant) {
        self.give_back(&grant);
        self.again(grant.session);
    }

    /// Admits all that can be admitted, and hands each to `granted`.
    ///
    /// Each turn admits a request, adds to what a session may have (eight times at most for one answer), or goes on to the
    /// next session, until none of those in the ring can have one.
    pub(super) fn pump(&mut self, now: Instant, mut granted: impl FnMut(T, Grant)) {
        while let Some(&(until, number)) = self.asleep.first() {
            if until > now {
                break;
            }
            self.asleep.pop_first();
            self.enter(number);
        }
        let mut passed = 0;
        let mut full = Room::Fits;
        while passed < self.ring.len() && self.rate.as_ref().is_none_or(|rate| rate.is_ready(now)) {
            let number = self.ring[0];
            match self.turn(now, number, full) {
                Turn::Granted(waiter, grant) => {
                    passed = 0;
                    granted(waiter, grant);
                    continue;
                }
                // It is nearer to its next.
                Turn::Over => passed = 0,
                Turn::Passed(room) => {
                    passed += 1;
                    full = full.max(room);
                }
                Turn::Left => {
                    self.ring.pop_front();
                    continue;
                }
            }
            self.ring.rotate_left(1);
        }
    }

    /// When [`Fair::pump`] has something to do though nothing was given back.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let host = self.rate.as_ref().filter(|_| !self.ring.is_empty()).map(Bucket::ready_at);
        let session = self.asleep.first().map(|&(until, _)| until);
        host.into_iter().chain(session).min()
    }

    /// The turn of the session at the head of the ring; others before it found no room as `full` says.
    fn turn(&mut self, now: Instant, number: usize, full: Room) -> Turn<T> {
        let session = &self.sessions[number];
        let Some((&key, waiting)) = session.waiting.first_key_value() else {
            let session = &mut self.sessions[number];
            (session.standing, session.deficit, session.in_turn) = (Standing::Idle, 0, false);
            return Turn::Left;
        };
        let order = waiting.order;
        match self.own(number, order, now) {
            Own::Fits => {}
            Own::Full => {
                self.sessions[number].standing = Standing::Full;
                return Turn::Left;
            }
            Own::Later(until) => {
                self.sessions[number].standing = Standing::Asleep(until);
                self.asleep.insert((until, number));
                return Turn::Left;
            }
        }
        let room = self.room(number, order);
        // What comes free next is for who came first, or small requests would keep large ones waiting for good.
        let next_for_others = full >= self.needs(number, order) && full > Room::HoldsEnough;
        if room != Room::Fits || next_for_others {
            return Turn::Passed(room);
        }
        let session = &mut self.sessions[number];
        if !session.in_turn {
            session.in_turn = true;
            session.deficit += QUANTUM_BYTES;
        }
        let cost = u64::from(order.bytes).min(ANSWER_BYTES_MAX);
        if session.deficit < cost {
            session.in_turn = false;
            return Turn::Over;
        }
        session.deficit -= cost;
        let waiting = session.waiting.remove(&key).expect("it is the first of them");
        self.total.waiting -= 1;
        Turn::Granted(waiting.waiter, self.grant(now, number, order))
    }

    /// Whether the host has room for it, and the session is not holding too much of it.
    fn room(&self, number: usize, order: Order) -> Room {
        let left = self.bounds.host_answer_bytes.saturating_sub(self.total.answer_bytes);
        let large = self.bounds.large(order);
        if large == 0 {
            return if self.bounds.host(order) <= left { Room::Fits } else { Room::NoneForSmall };
        }
        let left = left.saturating_sub(self.bounds.reserve_bytes);
        let rest = left.saturating_sub(self.bounds.first_bytes);
        match self.sessions[number].large_bytes {
            0 if large <= left => Room::Fits,
            0 => Room::NoneForFirst,
            // By the largest request, not this one: sessions that read in small pieces get no more than others.
            held if held + ANSWER_BYTES_MAX > rest.max(self.bounds.share_bytes) => Room::HoldsEnough,
            _ if large <= rest => Room::Fits,
            _ => Room::NoneForMore,
        }
    }

    /// The room it finds none of, if it finds none.
    fn needs(&self, number: usize, order: Order) -> Room {
        match (self.bounds.large(order), self.sessions[number].large_bytes) {
            (0, _) => Room::NoneForSmall,
            (_, 0) => Room::NoneForFirst,
            _ => Room::NoneForMore,
        }
    }

    fn own(&self, number: usize, order: Order, now: Instant) -> Own {
        let Session { bulk_bytes, answer_bytes, ref rate, .. } = self.sessions[number];
        let fits = bulk_bytes + self.bounds.bulk(order) <= self.bounds.session_bulk_bytes
            && answer_bytes + self.bounds.answer(order) <= self.bounds.session_answer_bytes;
        match rate {
            _ if !fits => Own::Full,
            Some(rate) if !rate.is_ready(now) => Own::Later(rate.ready_at()),
            _ => Own::Fits,
        }
    }

    fn grant(&mut self, now: Instant, number: usize, order: Order) -> Grant {
        let grant = Grant { session: number, order };
        for rate in [&mut self.rate, &mut self.sessions[number].rate].into_iter().flatten() {
            rate.take(now, order.bytes.into());
        }
        self.hold(&grant);
        grant
    }

    fn hold(&mut self, &Grant { session, order }: &Grant) {
        let session = &mut self.sessions[session];
        session.requests += 1;
        session.bulk_bytes += self.bounds.bulk(order);
        session.answer_bytes += self.bounds.answer(order);
        session.large_bytes += self.bounds.large(order);
        self.total.requests += 1;
        self.total.answer_bytes += self.bounds.host(order);
    }

    fn give_back(&mut self, &Grant { session, order }: &Grant) {
        let session = &mut self.sessions[session];
        session.requests -= 1;
        session.bulk_bytes -= self.bounds.bulk(order);
        session.answer_bytes -= self.bounds.answer(order);
        session.large_bytes -= self.bounds.large(order);
        self.total.requests -= 1;
        self.total.answer_bytes -= self.bounds.host(order);
    }

    /// Something changed for a session that its own bounds stopped.
    fn again(&mut self, number: usize) {
        if self.sessions[number].standing == Standing::Full {
            self.enter(number);
        }
    }

    fn enter(&mut self, number: usize) {
        self.sessions[number].standing = Standing::InRing;
        self.ring.push_back(number);
    }
}

#[cfg(test)]
mod tests;
