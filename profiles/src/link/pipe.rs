//! One direction of a link as a state machine: what becomes of a packet, and when. No clock, no socket.

use std::time::Duration;

use super::config::{LinkConfig, bytes_in};

/// What becomes of a packet that reaches the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It comes out at the far end at this time.
    Due(Duration),
    /// It uses its turn on the link and never comes out.
    Lost,
    /// The queue is full: it never gets a turn.
    QueueFull,
}

/// A packet's turn on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// When it comes out, unless it is lost.
    pub(super) due: Duration,
    pub(super) lost: bool,
}

/// The direction a pipe stands for; each loses other packets with one seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From clients to the target.
    Up,
    /// Back.
    Down,
}

/// A link of one rate and one delay behind a queue that drops at its tail.
///
/// Times are since any fixed start and never go back; packets come out in the order in which they went in. The queue is
/// a time, not a list: what waits is what the link has yet to serialise.
#[derive(Debug)]
pub(super) struct Pipe {
    rate_bps: u64,
    delay: Duration,
    queue_bytes: u64,
    loss_ppm: u32,
    seed: u64,
    /// When the last byte accepted so far has left the sender.
    free_at: Duration,
    /// Packets that got a turn: the index that decides on loss.
    carried: u64,
    queue_bytes_high: u64,
}

impl Pipe {
    pub(super) fn new(config: &LinkConfig, direction: Direction) -> Self {
        let side = match direction {
            Direction::Up => 0,
            Direction::Down => 1 << 63,
        };
        Self {
            rate_bps: config.rate_bps,
            delay: config.delay(),
            queue_bytes: config.queue_bytes(),
            loss_ppm: config.loss_ppm,
            seed: config.seed ^ side,
            free_at: Duration::ZERO,
            carried: 0,
            queue_bytes_high: 0,
        }
    }

    /// Decides on a packet of `wire_bytes`, headers included, that arrives at `now`.
    ///
    /// An idle link takes any packet, however small its queue is.
    pub(super) fn offer(&mut self, now: Duration, wire_bytes: u64) -> Fate {
        let waiting = self.waiting_bytes(now);
        if waiting > 0 && waiting + wire_bytes > self.queue_bytes {
            return Fate::QueueFull;
        }
        let turn = self.carry(now, wire_bytes);
        if turn.lost { Fate::Lost } else { Fate::Due(turn.due) }
    }

    /// Gives a packet its turn whatever waits before it, for a caller that looked at [`Pipe::room_bytes`].
    pub(super) fn carry(&mut self, now: Duration, wire_bytes: u64) -> Turn {
        self.queue_bytes_high = self.queue_bytes_high.max(self.waiting_bytes(now) + wire_bytes);
        self.free_at = self.free_at.max(now) + self.serialise(wire_bytes);
        let index = self.carried;
        self.carried += 1;
        Turn { due: self.free_at + self.delay, lost: self.loses(index) }
    }

    /// What the queue still takes at `now`; 0 while it is full.
    pub(super) fn room_bytes(&self, now: Duration) -> u64 {
        self.queue_bytes.saturating_sub(self.waiting_bytes(now))
    }

    /// When the queue takes `bytes` again, or is empty if it never holds so many.
    pub(super) fn room_at(&self, bytes: u64) -> Duration {
        self.free_at.saturating_sub(self.serialise(self.queue_bytes.saturating_sub(bytes)))
    }

    /// When something that takes no time of the link, sent at `now` behind all before it, comes out.
    pub(super) fn end_due(&self, now: Duration) -> Duration {
        self.free_at.max(now) + self.delay
    }

    /// Bytes accepted and not yet sent at `now`.
    pub(super) fn waiting_bytes(&self, now: Duration) -> u64 {
        bytes_in(self.rate_bps, self.free_at.saturating_sub(now))
    }

    /// The most that ever waited, the packet just accepted included.
    pub(super) fn queue_bytes_high(&self) -> u64 {
        self.queue_bytes_high
    }

    /// How long the link is busy with so many bytes; rounded up, so that the rate is never exceeded.
    fn serialise(&self, bytes: u64) -> Duration {
        let nanos = (u128::from(bytes) * 8_000_000_000).div_ceil(u128::from(self.rate_bps));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn loses(&self, index: u64) -> bool {
        self.loss_ppm > 0 && mix(self.seed.wrapping_add(mix(index))) % 1_000_000 < u64::from(self.loss_ppm)
    }
}

/// A 64-bit finaliser (SplitMix64, Steele et al. 2014): every bit of the input changes half of the output.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::config::Profile;
    use super::*;

    /// 1 ms each way, 12 Mbit/s: a packet of 1,500 bytes takes 1 ms of it.
    fn config() -> LinkConfig {
        LinkConfig {
            rtt: Duration::from_millis(2),
            rate_bps: 12_000_000,
            queue_bytes: Some(6000),
            ..Profile::Lan.into()
        }
    }

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_packet_is_due_after_its_turn_and_the_delay() {
        let mut pipe = Pipe::new(&config(), Direction::Up);
        assert_eq!(pipe.offer(ms(5), 1500), Fate::Due(ms(7)));
        assert_eq!(pipe.offer(ms(5), 1500), Fate::Due(ms(8)));
        assert_eq!(pipe.offer(ms(20), 750), Fate::Due(ms(21) + ms(1) / 2));
    }

    #[test]
    fn the_queue_is_bounded_and_drops_its_tail() {
        let mut pipe = Pipe::new(&config(), Direction::Up);
        let fates: Vec<Fate> = (0..6).map(|_| pipe.offer(ms(0), 1500)).collect();
        let expected = [2, 3, 4, 5].map(|due| Fate::Due(ms(due)));
        assert_eq!(fates[..4], expected);
        assert_eq!(fates[4..], [Fate::QueueFull; 2]);
        assert_eq!((pipe.waiting_bytes(ms(0)), pipe.queue_bytes_high()), (6000, 6000));
        // A packet left: there is room for one again, and the one dropped cost no time.
        assert_eq!(pipe.offer(ms(1), 1500), Fate::Due(ms(6)));
        assert_eq!(pipe.waiting_bytes(ms(9)), 0);
    }

    #[test]
    fn an_idle_link_takes_a_packet_larger_than_its_queue() {
        let mut pipe = Pipe::new(&LinkConfig { queue_bytes: Some(0), ..config() }, Direction::Down);
        assert_eq!(pipe.offer(ms(0), 1500), Fate::Due(ms(2)));
        assert_eq!(pipe.offer(ms(0), 1500), Fate::QueueFull);
        assert_eq!(pipe.offer(ms(1), 1500), Fate::Due(ms(3)));
    }

    #[test]
    fn a_saturated_link_carries_its_rate_in_order() {
        for profile in [Profile::Lan, Profile::WanGood] {
            let config = LinkConfig::from(profile);
            let mut pipe = Pipe::new(&config, Direction::Up);
            let (mut last, mut bytes) = (Duration::ZERO, 0);
            for tick in 0..100_000_u64 {
                // 4 Gbit/s, offered for a second.
                let now = Duration::from_micros(tick * 10);
                for _ in 0..4 {
                    if let Fate::Due(due) = pipe.offer(now, 1250) {
                        assert!(due > last && due >= now + config.delay());
                        assert!(due <= now + config.delay() + Duration::from_millis(51));
                        (last, bytes) = (due, bytes + 1250);
                    }
                }
            }
            let carried = bytes * 8 - config.queue_bytes() * 8;
            let share = carried as f64 / config.rate_bps as f64;
            assert!((0.99..=1.0).contains(&share), "{profile}: {share}");
        }
    }

    fn lost(seed: u64, direction: Direction) -> Vec<u64> {
        let mut pipe = Pipe::new(&LinkConfig { seed, ..Profile::WanBad.into() }, direction);
        let second = Duration::from_secs(1);
        (0..20_000).filter(|&index| pipe.offer(second * index, 1500) == Fate::Lost).map(u64::from).collect()
    }

    #[test]
    fn loss_has_its_rate_and_is_the_same_for_a_seed() {
        let losses = lost(7, Direction::Up);
        // 5 % of 20,000 with a standard deviation of 31.
        assert!((900..=1100).contains(&losses.len()), "{}", losses.len());
        assert_eq!(losses, lost(7, Direction::Up));
        assert_ne!(losses, lost(8, Direction::Up));
        assert_ne!(losses, lost(7, Direction::Down));
        // Independent: about 5 % of the losses follow one another.
        let pairs = losses.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
        assert!((20..=90).contains(&pairs), "{pairs}");
    }

    #[test]
    fn nothing_is_lost_at_zero_percent() {
        let mut pipe = Pipe::new(&Profile::WanGood.into(), Direction::Up);
        assert!((0..20_000).all(|tick| matches!(pipe.offer(ms(tick), 1500), Fate::Due(_))));
    }

    #[test]
    fn the_time_at_which_there_is_room_is_foretold() {
        let mut pipe = Pipe::new(&config(), Direction::Up);
        for _ in 0..4 {
            pipe.carry(ms(0), 1500);
        }
        assert_eq!((pipe.room_bytes(ms(0)), pipe.room_at(1500), pipe.room_at(3000)), (0, ms(1), ms(2)));
        assert_eq!((pipe.room_bytes(ms(2)), pipe.room_at(60_000), pipe.end_due(ms(0))), (3000, ms(4), ms(5)));
    }

    #[test]
    fn a_lost_packet_takes_its_turn() {
        let config = LinkConfig { loss_ppm: 999_999, ..config() };
        let mut pipe = Pipe::new(&config, Direction::Up);
        assert_eq!(pipe.offer(ms(0), 1500), Fate::Lost);
        assert_eq!(pipe.waiting_bytes(ms(0)), 1500);
    }
}
