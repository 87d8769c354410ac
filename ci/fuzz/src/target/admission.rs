//! Any order of requests of several mounts: the bounds hold, and nobody is forgotten in the queue.

use std::{num::NonZeroU64, time::Duration};

use transport::{
    ServerLimits,
    server::{Admitted, Held, Queue},
};
use wire::{Class, limits::READ_BYTES_MAX};

use crate::input::Input;

/// Sessions at once, and requests known at once: more of them find nothing new.
const SESSIONS_MAX: usize = 6;
const REQUESTS_MAX: usize = 64;
/// Steps in which everything must come to its end.
const STEPS_MAX: usize = 10_000;

/// A queue with what its users know of it.
struct Crowd {
    queue: Queue,
    limits: ServerLimits,
    sessions: Vec<usize>,
    /// Requests with their sessions, in the order in which they came.
    requests: Vec<(u64, usize)>,
    next: u64,
}

/// Seven bytes of limits; then what happens.
pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut crowd = Crowd::new(&mut input);
    while !input.is_empty() {
        crowd.step(&mut input);
        crowd.check();
    }
    crowd.end();
}

fn limits(input: &mut Input<'_>) -> ServerLimits {
    let mib = |eighths: u8| (u32::from(eighths) + 1) << 17;
    let rate = |power: u8| NonZeroU64::new((1 << (power % 40)) >> 1);
    ServerLimits {
        requests_max: u32::from(input.u8() % 64) + 1,
        bulk_bytes_max: mib(input.u8()),
        answer_bytes_max: mib(input.u8()),
        host_requests_max: u32::from(input.u8()) + 1,
        host_answer_bytes_max: u64::from(mib(input.u8())),
        session_bytes_per_s: rate(input.u8()),
        host_bytes_per_s: rate(input.u8()),
        ..ServerLimits::default()
    }
}

impl Crowd {
    fn new(input: &mut Input<'_>) -> Crowd {
        let limits = limits(input);
        let mut queue = Queue::new(&limits);
        let sessions = vec![queue.join()];
        Crowd { queue, limits, sessions, requests: Vec::new(), next: 0 }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.u8() % 8 {
            0..=2 => self.ask(input),
            3 => {
                if let Some((number, _)) = pick(&self.requests, input) {
                    self.queue.shrink(number, u32::from(input.u8()) << 12);
                }
            }
            4 => {
                if let Some((number, session)) = pick(&self.requests, input) {
                    self.requests.retain(|request| *request != (number, session));
                    self.queue.end(number);
                }
            }
            5 => self.queue.advance(Duration::from_millis(u64::from(input.u8()) << 3)),
            6 => {
                if self.sessions.len() < SESSIONS_MAX {
                    self.sessions.push(self.queue.join());
                }
            }
            _ => {
                if let Some(session) = pick(&self.sessions, input) {
                    self.leave(session);
                }
            }
        }
    }

    fn ask(&mut self, input: &mut Input<'_>) {
        let Some(session) = pick(&self.sessions, input) else { return };
        let class =
            [Class::Warmup, Class::Readahead, Class::Metadata, Class::Demand][usize::from(input.u8() % 4)];
        let bytes = u32::try_from(input.sized() % READ_BYTES_MAX + 1).unwrap_or(u32::MAX);
        if self.requests.len() == REQUESTS_MAX {
            return;
        }
        let before = self.queue.of(session);
        self.next += 1;
        match self.queue.ask(self.next, session, class, bytes) {
            Admitted::Now | Admitted::Queued => self.requests.push((self.next, session)),
            Admitted::Busy => {
                assert_ne!(before, Held::default(), "a mount that asks for nothing else is shut out")
            }
        }
    }

    /// All requests of a session end before it does.
    fn leave(&mut self, session: usize) {
        for (number, _) in self.requests.extract_if(.., |(_, of)| *of == session) {
            self.queue.end(number);
        }
        self.sessions.retain(|known| *known != session);
        self.queue.leave(session);
    }

    fn check(&self) {
        let total = self.queue.total();
        let mut sum = (0, 0);
        for &session in &self.sessions {
            let held = self.queue.of(session);
            assert!(held.answer_bytes <= u64::from(self.limits.answer_bytes_max), "{held:?}");
            assert!(held.requests + held.waiting <= u64::from(self.limits.requests_max), "{held:?}");
            sum = (sum.0 + held.requests, sum.1 + held.waiting);
        }
        assert_eq!((total.requests, total.waiting), sum);
        assert_eq!(total.requests + total.waiting, self.requests.len() as u64, "a request is lost");
        assert!(total.answer_bytes <= self.limits.host_answer_bytes_max, "{total:?} of {:?}", self.limits);
        let admitted = self.requests.iter().filter(|(number, _)| self.queue.is_admitted(*number)).count();
        assert_eq!(admitted as u64, total.requests);
        assert!(
            total.waiting == 0 || total.requests > 0 || self.queue.wakes_in().is_some(),
            "all wait for nobody"
        );
    }

    /// Ends what is admitted, the oldest first, and lets time pass: then everybody gets a turn.
    fn end(&mut self) {
        for _ in 0..STEPS_MAX {
            let admitted = self.requests.iter().position(|(number, _)| self.queue.is_admitted(*number));
            if let Some(at) = admitted {
                let (number, _) = self.requests.remove(at);
                self.queue.end(number);
            } else if let Some(pause) = self.queue.wakes_in() {
                assert!(!pause.is_zero(), "a moment that is over, and nothing came of it");
                self.queue.advance(pause);
            } else {
                break;
            }
            self.check();
        }
        assert_eq!(self.queue.total(), Held::default(), "forgotten in the queue");
    }
}

fn pick<T: Copy>(from: &[T], input: &mut Input<'_>) -> Option<T> {
    let at = usize::from(input.u8()).checked_rem(from.len())?;
    Some(from[at])
}
