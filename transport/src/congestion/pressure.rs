//! For how long the congestion window was full.

use std::time::{Duration, Instant};

use super::Congestion;

/// The time between acks in which no more packet would have fitted the window, by what the window followed.
///
/// Counted with each ack: what was in flight just before it is what the ack before left, and what was sent since.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pressure {
    in_flight: u64,
    /// As it was when the last packet left; acks move it.
    window: u64,
    acked_at: Option<Instant>,
    cubic: Duration,
    bbr: Duration,
}

impl Pressure {
    /// A packet leaves under a window.
    pub(super) fn sent(&mut self, bytes: u64, window: u64) {
        self.in_flight += bytes;
        self.window = window;
    }

    /// Acks came and left `in_flight`; a packet has `mtu` bytes at most.
    pub(super) fn acked(&mut self, now: Instant, in_flight: u64, mtu: u16, by: Congestion) {
        let is_full = self.in_flight + 2 * u64::from(mtu) > self.window;
        if is_full && let Some(before) = self.acked_at {
            let time = now.saturating_duration_since(before);
            match by {
                Congestion::Cubic => self.cubic += time,
                Congestion::Bbr => self.bbr += time,
            }
        }
        (self.in_flight, self.acked_at) = (in_flight, Some(now));
    }

    /// So far, while the window followed `by`.
    pub(crate) fn full(&self, by: Congestion) -> Duration {
        match by {
            Congestion::Cubic => self.cubic,
            Congestion::Bbr => self.bbr,
        }
    }
}
