//! One congestion controller that is Cubic on clean paths and BBR where loss says nothing about the queue.
//!
//! Cubic takes every loss for a full queue and halves its rate by and by: on 10 Mbit/s, 150 ms, 1 % loss it reaches
//! 0.94 Mbit/s, BBR 9.6. BBR in turn is less kind to others. A loss while the
//! round trip is about the shortest ever seen came without a queue; three of them in a row, close enough to
//! each other to hold Cubic down, hand over to BBR. BBR keeps a queue of its own,
//! so its losses tell nothing: after ten seconds Cubic is tried again, each time it does not last half as often. A
//! new controller starts from the window of the one before.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, Cubic, CubicConfig};
use quinn_proto::RttEstimator;

mod bbr;
mod pressure;

use bbr::Bbr;
use pressure::Pressure;

/// Losses in a row without a queue that make it plain that loss means nothing here.
const BLIND_LOSSES: u32 = 3;
/// Round trips between two such losses beyond which they do not hold Cubic down.
const LOSS_ROUND_TRIPS: u32 = 64;
/// How long BBR decides until Cubic is tried again, at first.
const TRIAL_AFTER: Duration = Duration::from_secs(10);
/// The longest that becomes: a trial costs a lossy path a few seconds at a lower rate.
const TRIAL_AFTER_MAX: Duration = Duration::from_secs(320);
/// What a round trip may be above the shortest one and still show no queue: a tenth, and this.
const JITTER_MAX: Duration = Duration::from_millis(1);
/// But no more than this part of the shortest: the whole queue of a near path is a millisecond.
const JITTER_PART: u32 = 4;

/// What may decide for the packets that a host sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CongestionControl {
    /// Whichever fits the path.
    #[default]
    Auto,
    /// Cubic alone.
    Cubic,
}

/// Which controller decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// Loss is a full queue.
    #[default]
    Cubic,
    /// Loss is chance; the rate that arrives and the shortest round trip decide.
    Bbr,
}

/// What decides for the packets that this end sends on `connection`.
pub(crate) fn of(connection: &quinn::Connection) -> Congestion {
    let state = connection.congestion_state().into_any();
    state.downcast::<Switching>().map_or(Congestion::default(), |switching| switching.congestion())
}

/// For how long the window of packets that this end sends on `connection` was full.
pub(crate) fn pressure(connection: &quinn::Connection) -> Pressure {
    let state = connection.congestion_state().into_any();
    state.downcast::<Switching>().map_or(Pressure::default(), |switching| switching.pressure)
}

/// Makes a [`Switching`] for each path.
#[derive(Clone, Debug)]
pub(crate) struct SwitchingConfig {
    control: CongestionControl,
    initial_window_bytes: Option<u64>,
}

impl SwitchingConfig {
    /// The usual first window, or one of so many bytes.
    pub(crate) fn new(control: CongestionControl, initial_window_bytes: Option<u64>) -> SwitchingConfig {
        SwitchingConfig { control, initial_window_bytes }
    }

    fn cubic(&self, window_bytes: Option<u64>) -> Arc<CubicConfig> {
        let mut config = CubicConfig::default();
        if let Some(bytes) = window_bytes.or(self.initial_window_bytes) {
            config.initial_window(bytes);
        }
        Arc::new(config)
    }
}

impl ControllerFactory for SwitchingConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let cubic = Cubic::new(self.cubic(None), now, current_mtu);
        Box::new(Switching {
            config: self,
            mtu: current_mtu,
            active: Active::Cubic(cubic),
            rtt: None,
            last_loss: None,
            blind_losses: 0,
            since: now,
            trial_after: TRIAL_AFTER,
            pressure: Pressure::default(),
        })
    }
}

/// The controller of one path.
#[derive(Clone)]
pub(crate) struct Switching {
    config: Arc<SwitchingConfig>,
    mtu: u16,
    active: Active,
    /// The round trip at the last ack, and the shortest ever.
    rtt: Option<(Duration, Duration)>,
    last_loss: Option<Instant>,
    blind_losses: u32,
    /// When the active one took over.
    since: Instant,
    trial_after: Duration,
    pressure: Pressure,
}

#[derive(Clone)]
enum Active {
    Cubic(Cubic),
    Bbr(Box<Bbr>),
}

impl Switching {
    /// Which one decides now.
    pub(crate) fn congestion(&self) -> Congestion {
        match self.active {
            Active::Cubic(_) => Congestion::Cubic,
            Active::Bbr(_) => Congestion::Bbr,
        }
    }

    fn controller(&self) -> &dyn Controller {
        match &self.active {
            Active::Cubic(cubic) => cubic,
            Active::Bbr(bbr) => &**bbr,
        }
    }

    fn controller_mut(&mut self) -> &mut dyn Controller {
        match &mut self.active {
            Active::Cubic(cubic) => cubic,
            Active::Bbr(bbr) => &mut **bbr,
        }
    }

    /// Whether the round trip shows no queue.
    fn is_queue_empty(&self) -> bool {
        self.rtt.is_some_and(|(latest, shortest)| {
            latest <= shortest + shortest / 10 + JITTER_MAX.min(shortest / JITTER_PART)
        })
    }

    /// Takes note of a loss; losses of one flight count once.
    fn on_loss(&mut self, now: Instant, sent: Instant) {
        if self.last_loss.is_some_and(|last| sent <= last) {
            return;
        }
        let round_trip = self.rtt.map_or(Duration::ZERO, |(latest, _)| latest);
        let is_near = self.last_loss.is_none_or(|last| now - last <= round_trip * LOSS_ROUND_TRIPS);
        self.last_loss = Some(now);
        self.blind_losses = match (self.is_queue_empty(), is_near) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => self.blind_losses + 1,
        };
        let may_switch = self.config.control == CongestionControl::Auto;
        if may_switch && self.blind_losses >= BLIND_LOSSES && self.congestion() == Congestion::Cubic {
            self.take_bbr(now);
        }
    }

    fn take_bbr(&mut self, now: Instant) {
        let window = self.window().max(self.controller().initial_window());
        self.active = Active::Bbr(Box::new(Bbr::new(window, self.mtu)));
        let lasted = now.saturating_duration_since(self.since) >= TRIAL_AFTER_MAX;
        self.trial_after = if lasted { TRIAL_AFTER } else { (self.trial_after * 2).min(TRIAL_AFTER_MAX) };
        self.since = now;
    }

    /// Hands back to Cubic when its time has come.
    fn try_cubic(&mut self, now: Instant) {
        let is_due = now.saturating_duration_since(self.since) >= self.trial_after;
        if self.congestion() == Congestion::Bbr && is_due {
            let cubic = self.config.cubic(Some(self.window()));
            self.active = Active::Cubic(Cubic::new(cubic, now, self.mtu));
            self.blind_losses = 0;
            self.since = now;
        }
    }
}

impl Controller for Switching {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.controller_mut().on_sent(now, bytes, last_packet_number);
        self.pressure.sent(bytes, self.window());
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.rtt = Some((rtt.get(), rtt.min()));
        self.controller_mut().on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.pressure.acked(now, in_flight, self.mtu, self.congestion());
        self.controller_mut().on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
        // A path that carries next to nothing tells nothing.
        if !app_limited {
            self.try_cubic(now);
        }
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.on_loss(now, sent);
        self.controller_mut().on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu;
        self.controller_mut().on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.controller().window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.controller().metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.controller().initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
