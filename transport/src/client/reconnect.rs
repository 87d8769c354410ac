//! The task that makes a new session when one is lost.

use std::{sync::Arc, time::Duration};

use tokio::time;
use wire::ErrorCode;

use super::{
    Loss, Shared, State,
    backoff::{self, Backoff},
    session::Session,
};
use crate::error::ConnectError;

/// The first pause; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause while the host is out of reach.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// The pause after a refusal, which rarely changes by itself.
const PAUSE_REFUSED: Duration = Duration::from_secs(30);

/// Makes the first session where there is none yet, for `reason`, and then does as [`run`].
pub(super) async fn begin(shared: Arc<Shared>, reason: Arc<str>) {
    let Some(first) = again(&shared, &reason, false).await else { return };
    tracing::info!(session = first.welcome.session, peer = %first.peer(), "connected");
    let first = Arc::new(first);
    shared.adopt(&first);
    run(shared, first).await;
}

/// Replaces each lost session by a new one until the client is closed.
pub(super) async fn run(shared: Arc<Shared>, first: Arc<Session>) {
    let mut session = first;
    loop {
        // Without a deadline: a session is meant to last, and QUIC's idle timeout ends a dead one.
        let listening = session.listen(&shared.pushes);
        let reason =
            tokio::select! { reason = session.ended() => reason, never = listening => match never {} };
        let dismissed = session.dismissal().is_some();
        if !shared.bury(&session, &reason) {
            return;
        }
        if dismissed {
            tracing::warn!(session = session.welcome.session, "{reason}");
        } else {
            tracing::warn!(session = session.welcome.session, %reason, "session lost; connecting again");
        }
        let Some(next) = again(&shared, &reason.into(), dismissed).await else { return };
        tracing::info!(session = next.welcome.session, peer = %next.peer(), "connected again");
        session = Arc::new(next);
        shared.adopt(&session);
    }
}

/// Tries until there is a session; `None` once the client is closed. A host that dismissed us is left alone at first.
async fn again(shared: &Shared, reason: &Arc<str>, dismissed: bool) -> Option<Session> {
    let mut states = shared.state.watch();
    let mut pauses = Backoff::new(PAUSE_MIN, PAUSE_MAX, backoff::seed(&shared.dialer.config().label));
    if dismissed {
        pauses.once(PAUSE_REFUSED);
    }
    loop {
        let attempt = async {
            time::sleep(pauses.pause()).await;
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
                shared.change(State::Refused(code, "the host does not admit this mount again".into()));
                pauses.once(PAUSE_REFUSED);
            }
            Err(error) => {
                tracing::debug!(%error, "still no session");
                // After a refusal that is over, calls wait again.
                let attempt = Some(error.to_string().into());
                shared.change(State::Lost(Loss { reason: reason.clone(), attempt, refused: false }));
            }
        }
    }
}
