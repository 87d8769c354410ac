use std::collections::VecDeque;

use super::*;

const MTU: u64 = 1452;

/// A sender with always more to send, over a path of 10 Mbit/s and 100 ms: 125,000 bytes fill it.
struct Path {
    bbr: Bbr,
    start: Instant,
    now: Duration,
    queue_bytes: u64,
    /// One in so many packets is lost by chance.
    lost_every: Option<u64>,
    free_at: Duration,
    in_flight: u64,
    packets: u64,
    dropped: u64,
    delivered: u64,
    /// By when the sender hears of it: when it was sent, and whether it arrived.
    acks: VecDeque<(Duration, Duration, bool)>,
}

const BYTES_PER_S: u64 = 1_250_000;
const DELAY: Duration = Duration::from_millis(100);
const PRODUCT: f64 = 125_000.0;
/// What is acked within this time is acked a microsecond apart.
const ACKED_TOGETHER: Duration = Duration::from_millis(4);

impl Path {
    fn new(queue_bytes: u64, lost_every: Option<u64>) -> Path {
        Path {
            bbr: Bbr::new(14_720, 1452),
            start: Instant::now(), // clock: a moment to count from
            now: Duration::ZERO,
            queue_bytes,
            lost_every,
            free_at: Duration::ZERO,
            in_flight: 0,
            packets: 0,
            dropped: 0,
            delivered: 0,
            acks: VecDeque::new(),
        }
    }

    fn send(&mut self) {
        while self.in_flight + MTU <= self.bbr.window() {
            self.in_flight += MTU;
            self.packets += 1;
            let waits = self.free_at.saturating_sub(self.now);
            let is_full = waits.as_secs_f64() * BYTES_PER_S as f64 > self.queue_bytes as f64;
            if !is_full {
                self.free_at = self.now + waits + Duration::from_nanos(MTU * 1_000_000_000 / BYTES_PER_S);
            }
            let arrives = !is_full && self.lost_every.is_none_or(|every| !self.packets.is_multiple_of(every));
            self.dropped += u64::from(!arrives);
            self.acks.push_back((self.free_at + DELAY, self.now, arrives));
        }
    }

    /// So long, with the greatest window that is seen.
    fn run(&mut self, time: Duration) -> u64 {
        let (end, mut window_max) = (self.now + time, 0);
        while self.now < end {
            self.send();
            let Some(&(first, ..)) = self.acks.front() else { panic!("the sender is stuck") };
            self.now = self.now.max(first + ACKED_TOGETHER);
            while let Some(&(at, sent, arrived)) = self.acks.front()
                && at <= self.now
            {
                self.acks.pop_front();
                self.in_flight -= MTU;
                let (now, sent) = (self.start + self.now, self.start + sent);
                if arrived {
                    self.delivered += MTU;
                    self.bbr.acked(now, sent, MTU, false);
                } else {
                    self.bbr.on_congestion_event(now, sent, false, MTU);
                }
                self.now += Duration::from_micros(1);
            }
            self.bbr.on_end_acks(self.start + self.now, self.in_flight, false, None);
            window_max = window_max.max(self.bbr.window());
        }
        window_max
    }

    /// The share of the path and the part of the packets that were dropped, from now on.
    fn measure(&mut self, time: Duration) -> (f64, f64) {
        let (packets, dropped, delivered, began) = (self.packets, self.dropped, self.delivered, self.now);
        self.run(time);
        let share =
            (self.delivered - delivered) as f64 / (self.now - began).as_secs_f64() / BYTES_PER_S as f64;
        (share, (self.dropped - dropped) as f64 / (self.packets - packets) as f64)
    }
}

#[test]
fn acks_that_come_together_are_not_taken_for_a_faster_path() {
    let mut path = Path::new(125_000, None);
    path.run(Duration::from_secs(5));
    let window_max = path.run(Duration::from_secs(20));
    assert!(window_max as f64 <= 1.45 * PRODUCT, "{window_max}");
    let (share, lost) = path.measure(Duration::from_secs(20));
    assert!(share > 0.93 && lost < 0.001, "{share} {lost}");
}

#[test]
fn loss_by_chance_costs_what_it_loses() {
    let mut path = Path::new(125_000, Some(20));
    path.run(Duration::from_secs(5));
    let (share, lost) = path.measure(Duration::from_secs(30));
    assert!(share > 0.85 && lost < 0.06, "{share} {lost}");
}

#[test]
fn a_queue_too_short_for_the_headroom_shrinks_it() {
    let mut path = Path::new(12 * MTU, Some(100));
    path.run(Duration::from_secs(30));
    let (share, lost) = path.measure(Duration::from_secs(60));
    assert!(share > 0.85 && lost < 0.08, "{share} {lost}");
    assert!(path.bbr.headroom < HEADROOM_MAX / 2.0, "{}", path.bbr.headroom);
}

#[test]
fn the_queue_is_let_run_empty_now_and_then() {
    let mut path = Path::new(125_000, None);
    path.run(Duration::from_secs(5));
    let mut least = u64::MAX;
    for _ in 0..100 {
        path.run(Duration::from_millis(50));
        least = least.min(path.bbr.window());
    }
    assert!((least as f64) < 0.9 * PRODUCT, "{least}");
    assert!(path.bbr.shortest.get() < DELAY + 2 * ACKED_TOGETHER, "{:?}", path.bbr.shortest);
}

#[test]
fn a_longer_way_is_noticed() {
    let mut path = Path::new(125_000, None);
    path.run(Duration::from_secs(10));
    let before = path.bbr.shortest.get();
    // As if all that was seen were of another way.
    path.bbr.shortest = Shortest { now: before / 2, before: before / 2, ..path.bbr.shortest };
    path.run(Duration::from_secs(20));
    assert!(path.bbr.shortest.get() >= DELAY, "{:?}", path.bbr.shortest);
}

#[test]
fn after_a_long_silence_it_begins_anew() {
    let mut path = Path::new(125_000, None);
    path.run(Duration::from_secs(5));
    let now = path.start + path.now;
    path.bbr.on_congestion_event(now, now, true, MTU);
    assert_eq!(path.bbr.window(), WINDOW_PACKETS_MIN * MTU);
}
