//! What must be undone, however a run ends: in order, by an error, by a panic, by Ctrl-C.
//!
//! What is started or mounted leaves an [`Undo`] behind. Dropping it undoes; a signal undoes all there are, the latest
//! first, and ends the process. Nothing helps against SIGKILL.

use std::{
    io,
    process::exit,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

type Act = Box<dyn FnOnce() + Send>;

/// What is still to be undone, in the order in which it was done; empties with the guards.
static ACTS: Mutex<Vec<(u64, Act)>> = Mutex::new(Vec::new());
/// What a shell expects of a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Undoes something when it is dropped, or before that when a signal ends the process.
#[must_use = "dropping it undoes at once"]
pub struct Undo {
    number: u64,
}

impl Undo {
    /// Runs `act` once, at the end of this guard or of the process.
    pub fn new(act: impl FnOnce() + Send + 'static) -> Undo {
        Undo::push(&mut acts(), act)
    }

    /// Does something that takes no time, and keeps what undoes it: no signal ends the process in between.
    ///
    /// # Errors
    /// Of `make`.
    pub fn after<T, E, A: FnOnce() + Send + 'static>(
        make: impl FnOnce() -> Result<(T, A), E>,
    ) -> Result<(T, Undo), E> {
        let mut acts = acts();
        let (made, act) = make()?;
        Ok((made, Undo::push(&mut acts, act)))
    }

    fn push(acts: &mut Vec<(u64, Act)>, act: impl FnOnce() + Send + 'static) -> Undo {
        let number = acts.last().map_or(0, |(last, _)| last + 1);
        acts.push((number, Box::new(act)));
        Undo { number }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let act = {
            let mut acts = acts();
            let at = acts.iter().position(|(number, _)| *number == self.number);
            at.map(|at| acts.remove(at).1)
        };
        match act {
            Some(act) => act(),
            // A signal came, and its thread is at it. It ends the process when all is undone, not before.
            None => loop {
                thread::park();
            },
        }
    }
}

/// From now on SIGINT, SIGTERM and SIGHUP undo everything and end the process.
///
/// # Errors
/// No thread, no signal handlers.
pub fn at_signals() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    // Handlers, not a blocked mask: a mask would pass on to every program that is started.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    drop(entered);
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        // What is done while this runs is undone as well; nothing is done any more once the list was found empty.
        loop {
            let mut left = acts();
            let Some((_, act)) = left.pop() else { exit(INTERRUPTED) };
            drop(left);
            act();
        }
    })?;
    Ok(())
}

fn acts() -> MutexGuard<'static, Vec<(u64, Act)>> {
    // The list is whole after each step on it.
    ACTS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[test]
    fn a_guard_undoes_once_and_in_any_order() {
        let count = Arc::new(AtomicU32::new(0));
        let guard = |adds| {
            let count = count.clone();
            Undo::new(move || {
                count.fetch_add(adds, Ordering::Relaxed);
            })
        };
        let (first, second) = (guard(1), guard(10));
        drop(first);
        assert_eq!(count.load(Ordering::Relaxed), 1);
        let third = guard(100);
        drop(second);
        drop(third);
        assert_eq!(count.load(Ordering::Relaxed), 111);
    }
}
