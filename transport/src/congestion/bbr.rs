//! The controller for paths on which loss is chance: the rate that arrives and the shortest round trip decide.
//!
//! BBR's model (Cardwell et al., 2016) for a sender that is paced by its window alone, as quinn's is. A rate is measured
//! over a whole round trip, never between two acks: packets leave in batches and acks come in batches, and the microseconds
//! inside of one would be taken for a rate many times the path's. The window is the product of the two and some
//! headroom, which stands in the path's queue; more comes back at once when the path has become faster. Every so many round trips
//! the queue is let run empty: that shows the shortest round trip, and what is lost by chance alone. Where clearly more is
//! lost with the queue than without, the queue is too short for the headroom, and the headroom shrinks.

use std::{
    any::Any,
    time::{Duration, Instant},
};

use quinn::congestion::Controller;
use quinn_proto::RttEstimator;

/// Round trips over which the highest rate counts.
const RATE_ROUNDS: usize = 10;
/// Round trips with the queue between two without.
const CRUISE_ROUNDS: u32 = 16;
/// What of the product is in flight without a queue: what a rate may be estimated too high still leaves none.
const DRAINED: f64 = 0.75;
/// What is in flight beyond the product, at most and at least.
const HEADROOM_MAX: f64 = 0.25;
const HEADROOM_MIN: f64 = 1.0 / 32.0;
/// How much more may be lost with the queue than without before the headroom shrinks.
const QUEUE_LOSS: f64 = 1.0 / 32.0;
/// How fast the window grows until the path is full.
const STARTUP_GAIN: f64 = 2.0;
/// The path is full after so many rounds without a quarter more.
const STARTUP_ROUNDS: u32 = 3;
/// A shortest round trip is forgotten after twice that.
const ROUND_TRIP_LIFE: Duration = Duration::from_secs(5);
/// Packets in flight at least.
const WINDOW_PACKETS_MIN: u64 = 4;

/// The controller; lengths in bytes, rates in bytes a second.
#[derive(Clone, Debug)]
pub(super) struct Bbr {
    mtu: u64,
    initial_window: u64,
    window: u64,
    phase: Phase,
    round: Option<Round>,
    delivered: u64,
    /// Of the last rounds; the next one goes to `rate_next`.
    rates: [f64; RATE_ROUNDS],
    rate_next: usize,
    shortest: Shortest,
    headroom: f64,
    /// When the queue was last let run empty, and until when.
    drained: Option<(Instant, Option<Instant>)>,
    with_queue: Tally,
    without_queue: Tally,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// The window doubles; the highest rate, and rounds since it last rose.
    Startup { rate: f64, rounds: u32 },
    /// The queue runs empty.
    Drain,
    /// So many rounds with headroom.
    Cruise { rounds: u32 },
}

/// From an ack until the ack of a packet that was sent after it.
#[derive(Clone, Copy, Debug)]
struct Round {
    began: Instant,
    delivered: u64,
    is_app_limited: bool,
}

/// The shortest round trip of this span and of the one before.
#[derive(Clone, Copy, Debug)]
struct Shortest {
    since: Option<Instant>,
    now: Duration,
    before: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    delivered: u64,
    lost: u64,
}

impl Bbr {
    /// One that begins with a window of so many bytes.
    pub(super) fn new(initial_window: u64, mtu: u16) -> Bbr {
        Bbr {
            mtu: u64::from(mtu),
            initial_window,
            window: initial_window,
            phase: Phase::Startup { rate: 0.0, rounds: 0 },
            round: None,
            delivered: 0,
            rates: [0.0; RATE_ROUNDS],
            rate_next: 0,
            shortest: Shortest { since: None, now: Duration::MAX, before: Duration::MAX },
            headroom: HEADROOM_MAX,
            drained: None,
            with_queue: Tally::default(),
            without_queue: Tally::default(),
        }
    }

    fn rate(&self) -> f64 {
        self.rates.iter().copied().fold(0.0, f64::max)
    }

    /// Where a packet sent then counts.
    fn tally(&mut self, sent: Instant) -> &mut Tally {
        let was_drained =
            self.drained.is_some_and(|(from, to)| sent >= from && to.is_none_or(|to| sent < to));
        if was_drained { &mut self.without_queue } else { &mut self.with_queue }
    }

    fn acked(&mut self, now: Instant, sent: Instant, bytes: u64, is_app_limited: bool) {
        self.delivered += bytes;
        self.tally(sent).delivered += bytes;
        self.shortest.see(now, now.saturating_duration_since(sent));
        self.turn(now, sent, is_app_limited);
    }

    /// Ends the round when `sent` is of it, and begins the next.
    fn turn(&mut self, now: Instant, sent: Instant, is_app_limited: bool) {
        let next = Round { began: now, delivered: self.delivered, is_app_limited };
        let Some(round) = &mut self.round else {
            self.round = Some(next);
            return;
        };
        round.is_app_limited |= is_app_limited;
        if sent < round.began {
            return;
        }
        let round = *round;
        self.round = Some(next);
        let time = now.saturating_duration_since(round.began).as_secs_f64();
        if time <= 0.0 {
            return;
        }
        let rate = (self.delivered - round.delivered) as f64 / time;
        // Where there was too little to send, a rate says what the path carries at least.
        if !round.is_app_limited || rate > self.rate() {
            self.rates[self.rate_next] = rate;
            self.rate_next = (self.rate_next + 1) % RATE_ROUNDS;
            self.advance(now);
        }
    }

    /// The phase after a round.
    fn advance(&mut self, now: Instant) {
        self.phase = match self.phase {
            Phase::Startup { rate, .. } if self.rate() >= rate * 1.25 => {
                Phase::Startup { rate: self.rate(), rounds: 0 }
            }
            Phase::Startup { rate, rounds } if rounds + 1 < STARTUP_ROUNDS => {
                Phase::Startup { rate, rounds: rounds + 1 }
            }
            Phase::Cruise { rounds } if rounds + 1 < CRUISE_ROUNDS => Phase::Cruise { rounds: rounds + 1 },
            Phase::Startup { .. } | Phase::Cruise { .. } => {
                self.drained = Some((now, None));
                Phase::Drain
            }
            Phase::Drain => {
                self.drained = self.drained.map(|(from, _)| (from, Some(now)));
                self.fit_headroom();
                self.shortest.turn(now);
                Phase::Cruise { rounds: 0 }
            }
        };
    }

    /// Compares what was lost with the queue and without.
    fn fit_headroom(&mut self) {
        let (with, without) = (self.with_queue.share_lost(), self.without_queue.share_lost());
        self.headroom = if with > without + QUEUE_LOSS { self.headroom / 2.0 } else { self.headroom * 1.25 };
        self.headroom = self.headroom.clamp(HEADROOM_MIN, HEADROOM_MAX);
        self.with_queue = Tally::default();
        // A drained round is short: several of them tell.
        let Tally { delivered, lost } = self.without_queue;
        self.without_queue = Tally { delivered: delivered - delivered / 4, lost: lost - lost / 4 };
    }

    fn fit_window(&mut self) {
        let product = self.rate() * self.shortest.get().as_secs_f64();
        let least = WINDOW_PACKETS_MIN * self.mtu;
        if product <= 0.0 {
            return;
        }
        let part = match self.phase {
            Phase::Startup { .. } => STARTUP_GAIN,
            Phase::Drain => DRAINED,
            Phase::Cruise { .. } => 1.0 + self.headroom,
        };
        // Whole bytes, and far below what a u64 holds.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let window = (product * part) as u64;
        self.window = match self.phase {
            Phase::Startup { .. } => window.max(self.initial_window),
            Phase::Drain | Phase::Cruise { .. } => window,
        }
        .max(least);
    }
}

impl Controller for Bbr {
    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, _rtt: &RttEstimator) {
        self.acked(now, sent, bytes, app_limited);
    }

    fn on_end_acks(&mut self, _now: Instant, _in_flight: u64, _app_limited: bool, _largest: Option<u64>) {
        self.fit_window();
    }

    fn on_congestion_event(&mut self, _now: Instant, sent: Instant, is_persistent: bool, lost_bytes: u64) {
        self.tally(sent).lost += lost_bytes;
        if is_persistent {
            // Nothing came through for several round trips: what was learned is of another path.
            *self = Bbr::new(WINDOW_PACKETS_MIN * self.mtu, u16::try_from(self.mtu).unwrap_or(u16::MAX));
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = u64::from(new_mtu);
        self.window = self.window.max(WINDOW_PACKETS_MIN * self.mtu);
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.initial_window
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl Shortest {
    fn get(&self) -> Duration {
        self.now.min(self.before)
    }

    fn see(&mut self, now: Instant, round_trip: Duration) {
        self.since.get_or_insert(now);
        self.now = self.now.min(round_trip);
    }

    /// Forgets what is old; called when the queue was empty a moment ago.
    fn turn(&mut self, now: Instant) {
        if self.since.is_some_and(|since| now.saturating_duration_since(since) >= ROUND_TRIP_LIFE) {
            *self = Shortest { since: Some(now), now: Duration::MAX, before: self.now };
        }
    }
}

impl Tally {
    fn share_lost(self) -> f64 {
        let all = self.delivered + self.lost;
        if all == 0 { 0.0 } else { self.lost as f64 / all as f64 }
    }
}

#[cfg(test)]
mod tests;
