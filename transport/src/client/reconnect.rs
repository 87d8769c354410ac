//! The task that makes a new session when one is lost.

use std::{sync::Arc, time::Duration};

use tokio::time;
use wire::ErrorCode;

use super::{Loss, Shared, State, session::Session};
use crate::error::ConnectError;

/// The first pause; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause while the host is out of reach.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// The pause after a refusal, which rarely changes by itself.
const PAUSE_REFUSED: Duration = Duration::from_secs(30);

/// Replaces each lost session by a new one until the client is closed.
pub(super) async fn run(shared: Arc<Shared>, first: Arc<Session>) {
    let mut session = first;
    loop {
        // Without a deadline: a session is meant to last, and QUIC's idle timeout ends a dead one.
        let reason = session.ended().await;
        if !shared.bury(&session, &reason) {
            return;
        }
        tracing::warn!(session = session.welcome.session, %reason, "session lost; connecting again");
        let Some(next) = again(&shared, &reason.into()).await else { return };
        tracing::info!(session = next.welcome.session, peer = %next.peer(), "connected again");
        session = Arc::new(next);
        shared.adopt(&session);
    }
}

/// Tries until there is a session; `None` once the client is closed.
async fn again(shared: &Shared, reason: &Arc<str>) -> Option<Session> {
    let mut states = shared.state.watch();
    let mut pauses = Pauses::new(&shared.dialer.config().label);
    loop {
        let attempt = async {
            time::sleep(pauses.next()).await;
            shared.dialer.dial(shared.dialer.config().reconnect_deadline).await
        };
        // No deadline for the whole: calls have theirs, and a mount waits for its host as long as it lives.
        let result = tokio::select! {
            biased;
            result = attempt => result,
            () = states.until(|state| matches!(state, State::Closed)) => return None,
        };
        match result {
            Ok(session) => return Some(session),
            Err(error @ (ConnectError::Refused | ConnectError::VersionMismatch)) => {
                tracing::warn!(%error, "not admitted again");
                let code = match error {
                    ConnectError::VersionMismatch => ErrorCode::VersionMismatch,
                    _ => ErrorCode::Refused,
                };
                shared.change(State::Refused(code));
                pauses.refused();
            }
            Err(error) => {
                tracing::debug!(%error, "still no session");
                // After a refusal that is over, calls wait again.
                let attempt = Some(error.to_string().into());
                shared.change(State::Lost(Loss { reason: reason.clone(), attempt }));
            }
        }
    }
}

/// The pauses between attempts: doubling, and not the same for every mount, lest a hundred of them knock at once.
struct Pauses {
    next: Duration,
    state: u64,
}

impl Pauses {
    fn new(label: &str) -> Pauses {
        let mut seed = [0; 8];
        seed.copy_from_slice(&blake3::hash(label.as_bytes()).as_bytes()[..8]);
        Pauses { next: PAUSE_MIN, state: u64::from_le_bytes(seed) }
    }

    /// Between three quarters of the pause and all of it.
    fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(PAUSE_MAX);
        // The step of Knuth's MMIX generator; its high bits are good enough to spread mounts.
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let quarters = 3 * 256 + u32::from((self.state >> 56) as u8);
        pause * quarters / 1024
    }

    fn refused(&mut self) {
        self.next = PAUSE_REFUSED;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_their_bound_and_differ_between_mounts() {
        let mut one = Pauses::new("one");
        let mut two = Pauses::new("two");
        let mut full = PAUSE_MIN;
        let mut differ = false;
        for _ in 0..12 {
            let pause = one.next();
            assert!(pause >= full * 3 / 4 && pause <= full, "{pause:?} of {full:?}");
            differ |= pause != two.next();
            full = (full * 2).min(PAUSE_MAX);
        }
        assert!(differ);
        one.refused();
        assert!(one.next() > PAUSE_MAX);
        assert!(one.next() <= PAUSE_MAX);
    }
}
