//! What the host says of its own accord: one stream of a session, opened with the first push.

use std::sync::Arc;

use wire::codec;

use super::session::Session;
use crate::serve::Serve;

/// Before every answer: a mount that trusts what is no longer so asks for nothing that would mend it.
const PRIORITY: i32 = i32::MAX;

/// Sends pushes until the session ends, which a mount that breaks the stream off brings about.
///
/// Without a deadline: a mount that does not read holds this task alone, for as long as its session lasts, and the host
/// bounds what waits behind it.
pub(super) async fn run<S: Serve>(session: Arc<Session<S>>) {
    let first = session.shared.serve.next_push(&session.state).await;
    let Ok(mut send) = session.connection.open_uni().await else { return };
    // Fails only when the stream is gone, which the next write notices.
    let _ = send.set_priority(PRIORITY);
    let mut push = first;
    loop {
        if send.write_all_chunks(&mut [codec::encode_push(&push)]).await.is_err() {
            // Where the connection is over as well, this changes nothing.
            return session.refused_pushes();
        }
        push = session.shared.serve.next_push(&session.state).await;
    }
}
