//! One call, from session to session until it is answered or its time is up.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{self, Instant};
use wire::ErrorCode;

use super::{
    OnLoss, Shared, State,
    backoff::{self, Backoff},
    exchange::ExchangeError,
    session::Session,
    states::Watcher,
};
use crate::error::CallError;

/// How soon a call that met a busy or stopping host asks again; each further pause is twice as long.
const BUSY_PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest of them.
const BUSY_PAUSE_MAX: Duration = Duration::from_millis(500);

/// One call, waiting for sessions to be made on.
pub(super) struct Waiting<'a> {
    shared: &'a Shared,
    states: Watcher<'a>,
    on_loss: OnLoss,
    deadline: Instant,
    /// Once the host was busy.
    backoff: Option<Backoff>,
}

impl<'a> Waiting<'a> {
    /// Of a call that begins.
    pub(super) fn new(shared: &'a Shared, deadline: Instant) -> Waiting<'a> {
        let on_loss = shared.dialer.config().on_loss;
        Waiting { shared, states: shared.state.watch(), on_loss, deadline, backoff: None }
    }

    /// What an attempt on one session means for the call: its value, or `None` when the next session (or the same one,
    /// after a pause) is to be asked again.
    ///
    /// A call loops over this; each turn waits for a session that was not tried before, or pauses, and the deadline ends
    /// it.
    pub(super) async fn settle<T>(
        &mut self,
        outcome: Result<T, ExchangeError>,
        session: &Arc<Session>,
    ) -> Result<Option<T>, CallError> {
        let error = match outcome {
            Ok(value) => return Ok(Some(value)),
            Err(error) => error,
        };
        match error {
            ExchangeError::Failed(CallError::Host {
                code: code @ (ErrorCode::Busy | ErrorCode::Stopping),
                detail,
            }) => {
                if self.pause(session).await {
                    Ok(None)
                } else {
                    Err(CallError::Host { code, detail })
                }
            }
            ExchangeError::Failed(error) => Err(error),
            ExchangeError::Lost(reason) => {
                if let Some(detail) = session.dismissal() {
                    return Err(CallError::Host { code: ErrorCode::Refused, detail });
                }
                session.give_up(&reason);
                match self.on_loss {
                    OnLoss::Wait => self.next_session(session, reason).await.map(|()| None),
                    OnLoss::Fail => Err(CallError::Lost { reason }),
                }
            }
        }
    }

    /// Leaves a busy host alone for a while, or until the session is another; false when the deadline comes first.
    async fn pause(&mut self, session: &Arc<Session>) -> bool {
        let shared = self.shared;
        let backoff = self.backoff.get_or_insert_with(|| {
            let number = shared.held_up.fetch_add(1, Ordering::Relaxed);
            let seed = backoff::seed(&shared.dialer.config().label).wrapping_add(number);
            Backoff::new(BUSY_PAUSE_MIN, BUSY_PAUSE_MAX, seed)
        });
        let until = (Instant::now() + backoff.pause()).min(self.deadline);
        let moved_on = self.states.until(|state| !is_session(state, session));
        time::timeout_at(until, moved_on).await.is_ok() || until < self.deadline
    }

    /// The live session, as soon as there is one.
    pub(super) async fn connected(&mut self) -> Result<Arc<Session>, CallError> {
        loop {
            let loss = match self.states.latest() {
                State::Connected(session) => return Ok(session),
                State::Refused(code, why) => {
                    return Err(CallError::Host { code, detail: why.to_string() });
                }
                State::Closed => return Err(CallError::Closed),
                State::Lost(loss) => loss,
            };
            let waited = match self.on_loss {
                OnLoss::Wait => time::timeout_at(self.deadline, self.states.changed()).await.is_ok(),
                OnLoss::Fail => false,
            };
            if !waited {
                return Err(CallError::Lost { reason: loss.to_string() });
            }
        }
    }

    /// Waits until `lost` is no longer what the client takes for its session.
    async fn next_session(&mut self, lost: &Arc<Session>, reason: String) -> Result<(), CallError> {
        let moved_on = self.states.until(|state| !is_session(state, lost));
        time::timeout_at(self.deadline, moved_on).await.map_err(|_| CallError::Lost { reason })
    }
}

fn is_session(state: &State, session: &Arc<Session>) -> bool {
    matches!(state, State::Connected(current) if Arc::ptr_eq(current, session))
}
