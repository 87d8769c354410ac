//! The queue without a host, for fuzzing: numbers in, numbers out, and what it holds in sight.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;
use wire::message::Class;

use super::fair::{Asked, Fair, Grant, Order, Place, Tally};
use crate::server::ServerLimits;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It was admitted.
    Now,
    /// It waits, or waited and was admitted meanwhile.
    Queued,
    /// There is no room for it.
    Busy,
}

/// What is held and what waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Requests that are admitted.
    pub requests: u64,
    /// Requests that wait.
    pub waiting: u64,
    /// Bytes of answers that the admitted ones hold.
    pub answer_bytes: u64,
}

/// The requests of all sessions, by numbers of the caller's choice that are never used twice.
#[derive(Debug)]
pub struct Queue {
    fair: Fair<u64>,
    now: Instant,
    granted: BTreeMap<u64, Grant>,
    places: BTreeMap<u64, Place>,
}

impl Queue {
    /// A queue with these limits.
    pub fn new(limits: &ServerLimits) -> Queue {
        let now = Instant::now();
        Queue { fair: Fair::new(limits, now), now, granted: BTreeMap::new(), places: BTreeMap::new() }
    }

    /// A new session.
    pub fn join(&mut self) -> usize {
        self.fair.join(self.now)
    }

    /// Ends a session, which holds nothing and waits for nothing.
    pub fn leave(&mut self, session: usize) {
        self.fair.leave(session);
        self.pump();
    }

    /// A request of a session for an answer of at most so many bytes.
    pub fn ask(&mut self, number: u64, session: usize, class: Class, bytes: u32) -> Admitted {
        let order = Order { class, bytes };
        match self.fair.ask(self.now, session, order) {
            Asked::Granted(grant) => {
                self.granted.insert(number, grant);
                Admitted::Now
            }
            Asked::Wait(_) => {
                let place = self.fair.wait(session, order, number);
                self.places.insert(number, place);
                self.pump();
                Admitted::Queued
            }
            Asked::Busy => Admitted::Busy,
        }
    }

    /// The answer has this many bytes; nothing where the request is not admitted.
    pub fn shrink(&mut self, number: u64, bytes: u32) {
        let Some(grant) = self.granted.get_mut(&number) else { return };
        self.fair.shrink(grant, bytes);
        self.pump();
    }

    /// The request ends: it gives back what it holds, or leaves the queue.
    pub fn end(&mut self, number: u64) {
        if let Some(grant) = self.granted.remove(&number) {
            self.fair.release(grant);
        } else if let Some(place) = self.places.remove(&number) {
            let withdrawn = self.fair.withdraw(place);
            assert_eq!(withdrawn, Some(number), "it waits, so it is in the queue");
        }
        self.pump();
    }

    /// Time passes.
    pub fn advance(&mut self, by: Duration) {
        self.now += by;
        self.pump();
    }

    /// How long until a rate lets somebody in; `None` while nobody waits for one.
    pub fn wakes_in(&self) -> Option<Duration> {
        Some(self.fair.wake_at()?.saturating_duration_since(self.now))
    }

    /// Whether a request is admitted.
    pub fn is_admitted(&self, number: u64) -> bool {
        self.granted.contains_key(&number)
    }

    /// What all sessions hold.
    pub fn total(&self) -> Held {
        held(self.fair.total())
    }

    /// What one holds.
    pub fn of(&self, session: usize) -> Held {
        held(self.fair.tally(session))
    }

    fn pump(&mut self) {
        let Queue { fair, now, granted, places } = self;
        fair.pump(*now, |number, grant| {
            let place = places.remove(&number);
            assert!(place.is_some(), "request {number} is admitted and did not wait");
            granted.insert(number, grant);
        });
    }
}

fn held(tally: Tally) -> Held {
    let Tally { requests, waiting, answer_bytes } = tally;
    Held { requests, waiting, answer_bytes }
}
