//! What held up a session, gathered from where it is counted.

use std::{
    sync::atomic::{AtomicU8, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use quinn::Connection;
use tokio::time::Instant;
use wire::bound::Bound;

use super::admission::Guest;
use crate::{
    congestion::{self, Congestion},
    serve::HeldUp,
    waits::{Recent, Stall, Waits},
};

/// The times of one session.
#[derive(Debug)]
pub(super) struct Watch {
    began: Instant,
    /// Requests are under way.
    pub(super) busy: Stall,
    /// Answers wait until QUIC takes more of them.
    pub(super) sending: Stall,
    /// The number of the bound as of the last look; each answer tells it.
    bound: AtomicU8,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    recent: Recent,
    /// What was seen of [`Watch::sending`], and of the frames that tell a mount that its window is full.
    sending: Duration,
    blocked_frames: u64,
    /// The parts of `sending` that the mount's window and the host's own had.
    all: Waits,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch {
            began: Instant::now(),
            busy: Stall::default(),
            sending: Stall::default(),
            bound: AtomicU8::new(Bound::Application.number()),
            state: Mutex::default(),
        }
    }
}

impl Watch {
    /// Looks at all that holds up the session.
    pub(super) fn look(&self, connection: &Connection, guest: &Guest, held_up: HeldUp) {
        let now = Instant::now();
        let pressure = congestion::pressure(connection);
        let frames = connection.stats().frame_tx;
        let blocked_frames = frames.data_blocked + frames.stream_data_blocked;
        let sending = self.sending.total(now);
        let mut state = self.state.lock();
        // QUIC says "blocked" to the mount when it is the mount's window; where it says nothing it is ours.
        let by = if blocked_frames > state.blocked_frames { Bound::ReceiveWindow } else { Bound::SendWindow };
        let more = sending.saturating_sub(state.sending);
        state.all.add(by, more);
        (state.sending, state.blocked_frames) = (sending, blocked_frames);
        let mut waits = Waits::new(now - self.began, self.busy.total(now));
        waits.add(Bound::Cubic, pressure.full(Congestion::Cubic));
        waits.add(Bound::Bbr, pressure.full(Congestion::Bbr));
        for bound in [Bound::ReceiveWindow, Bound::SendWindow] {
            waits.add(bound, state.all.of(bound));
        }
        waits.add(Bound::Disk, held_up.disk);
        waits.add(Bound::Memory, held_up.memory);
        for (bound, time) in guest.waited(now) {
            waits.add(bound, time);
        }
        state.recent.look(waits);
        self.bound.store(state.recent.waits().bound().number(), Relaxed);
    }

    /// What bounds the session, as of the last look.
    pub(super) fn bound(&self) -> Option<Bound> {
        Bound::from_number(self.bound.load(Relaxed))
    }

    /// For how long what held it up, in the last seconds.
    pub(super) fn waits(&self) -> Waits {
        self.state.lock().recent.waits()
    }
}
