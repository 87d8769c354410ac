//! Where the client stands, and those who wait for it to change.

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::State;

/// The state, and a bell for each change.
///
/// Not `tokio::sync::watch`: that wakes those who wait in a random order, while calls that a lost session held up are to
/// go on in the order they came, and a test is to see the same order again.
#[derive(Debug)]
pub(super) struct States {
    now: Mutex<Numbered>,
    changed: Notify,
}

#[derive(Debug)]
struct Numbered {
    state: State,
    changes: u64,
}

/// One who waits for changes.
pub(super) struct Watcher<'a> {
    states: &'a States,
    seen: u64,
}

impl States {
    pub(super) fn new(state: State) -> States {
        States { now: Mutex::new(Numbered { state, changes: 0 }), changed: Notify::new() }
    }

    pub(super) fn get(&self) -> State {
        self.now.lock().state.clone()
    }

    /// Moves to `next`; what was before.
    pub(super) fn replace(&self, next: State) -> State {
        let mut now = self.now.lock();
        now.changes += 1;
        let before = std::mem::replace(&mut now.state, next);
        drop(now);
        self.changed.notify_waiters();
        before
    }

    /// Moves to `next` unless the client was closed; whether it did.
    pub(super) fn change(&self, next: State) -> bool {
        let mut now = self.now.lock();
        if matches!(now.state, State::Closed) {
            return false;
        }
        now.changes += 1;
        let before = std::mem::replace(&mut now.state, next);
        drop(now);
        drop(before);
        self.changed.notify_waiters();
        true
    }

    /// From now on.
    pub(super) fn watch(&self) -> Watcher<'_> {
        Watcher { states: self, seen: self.now.lock().changes }
    }
}

impl Watcher<'_> {
    /// The state now; a later change is one.
    pub(super) fn latest(&mut self) -> State {
        let now = self.states.now.lock();
        self.seen = now.changes;
        now.state.clone()
    }

    /// Until the state is another than the one seen last. Without a deadline: the caller has one.
    pub(super) async fn changed(&self) {
        loop {
            // Before the look, so that no change is missed between the two.
            let bell = self.states.changed.notified();
            if self.states.now.lock().changes != self.seen {
                return;
            }
            bell.await;
        }
    }

    /// Until the state is such a one, which it may be already. Without a deadline: the caller has one.
    pub(super) async fn until(&mut self, is_such: impl Fn(&State) -> bool) {
        while !is_such(&self.latest()) {
            self.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;

    use super::{super::Loss, *};

    fn lost() -> State {
        State::Lost(Loss { reason: Arc::from("a test"), attempt: None, refused: false })
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_goes_on_in_the_order_he_came() {
        let states = Arc::new(States::new(lost()));
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = JoinSet::new();
        for number in 0..20 {
            let (states, order) = (states.clone(), order.clone());
            waiting.spawn(async move {
                states.watch().until(|state| matches!(state, State::Closed)).await;
                order.lock().push(number);
            });
        }
        tokio::task::yield_now().await;
        assert!(states.change(lost()));
        states.replace(State::Closed);
        while waiting.join_next().await.is_some() {}
        assert_eq!(*order.lock(), (0..20).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_client_stays_closed_and_a_change_is_seen_once() {
        let states = States::new(lost());
        let mut watcher = states.watch();
        states.replace(State::Closed);
        assert!(!states.change(lost()));
        watcher.changed().await;
        assert!(matches!(watcher.latest(), State::Closed));
        let again = tokio::time::timeout(std::time::Duration::from_secs(1), watcher.changed()).await;
        assert!(again.is_err(), "nothing changed since");
    }
}
