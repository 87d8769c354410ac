//! Pauses between attempts: doubling, and not the same for every mount, lest a hundred of them knock at once.

use std::time::Duration;

/// The pauses of one series of attempts.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    max: Duration,
    state: u64,
}

/// What sets the pauses of this mount apart from those of others.
pub(super) fn seed(label: &str) -> u64 {
    let mut seed = [0; 8];
    seed.copy_from_slice(&blake3::hash(label.as_bytes()).as_bytes()[..8]);
    u64::from_le_bytes(seed)
}

impl Backoff {
    /// Pauses from `min`, each twice the one before, up to `max`. Equal seeds, equal pauses.
    pub(super) fn new(min: Duration, max: Duration, seed: u64) -> Backoff {
        Backoff { next: min, max, state: seed }
    }

    /// Between three quarters of the pause and all of it.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.max);
        // The step of Knuth's MMIX generator; its high bits are good enough to spread mounts.
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let quarters = 3 * 256 + u32::from((self.state >> 56) as u8);
        pause * quarters / 1024
    }

    /// Makes the next pause this long, once.
    pub(super) fn once(&mut self, pause: Duration) {
        self.next = pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_their_bound_and_differ_between_mounts() {
        let (min, max) = (Duration::from_millis(50), Duration::from_secs(2));
        let mut one = Backoff::new(min, max, seed("one"));
        let mut two = Backoff::new(min, max, seed("two"));
        let mut full = min;
        let mut differ = false;
        for _ in 0..12 {
            let pause = one.pause();
            assert!(pause >= full * 3 / 4 && pause <= full, "{pause:?} of {full:?}");
            differ |= pause != two.pause();
            full = (full * 2).min(max);
        }
        assert!(differ);
        one.once(30 * max);
        assert!(one.pause() > 20 * max);
        assert!(one.pause() <= max);
    }
}
