//! One ring thread: takes commands, puts them in flight, answers completions, stops cleanly.
//!
//! The thread runs tokio-uring and on it a single future. tokio-uring submits only when its thread parks, so any other
//! task could starve the ring; this future cannot, since it takes at most `depth` commands before it has to wait. The
//! runtime waits for nothing when it drops, so it is dropped only once the table of flights is empty. A device that
//! never answers (a hung NFS) keeps the thread, its slots and files until the process exits: `Ring::shutdown` stops
//! waiting for it at its deadline, and nothing is freed under the kernel's hands.

use std::io;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

use crate::flight::Flights;
use crate::intake::{Intake, Serving};

/// tokio-uring ignores a submission that the kernel refuses for a while (EAGAIN, EBUSY) and tries again when the thread
/// next parks; this makes it park again even if nothing else happens.
const RESUBMIT_EVERY: Duration = Duration::from_secs(1);

/// Starts the thread; returns once its ring is set up, or with the kernel's reason.
pub(crate) fn spawn(depth: u32, intake: Arc<Intake>) -> io::Result<()> {
    let (ready, is_ready) = mpsc::sync_channel(1);
    std::thread::Builder::new().name("wormhole-ring".into()).spawn(move || serve(depth, intake, &ready))?;
    is_ready.recv().unwrap_or_else(|_| Err(io::Error::other("the ring thread ended while starting")))
}

fn serve(depth: u32, intake: Arc<Intake>, ready: &mpsc::SyncSender<io::Result<()>>) {
    let serving = Serving(intake);
    let runtime = match tokio_uring::Runtime::new(tokio_uring::builder().entries(depth.next_power_of_two())) {
        // Not dropped on a panic: the runtime's own drop blocks until the kernel lets go.
        Ok(runtime) => ManuallyDrop::new(runtime),
        Err(error) => return drop(ready.send(Err(error))),
    };
    if ready.send(Ok(())).is_err() {
        return;
    }
    runtime.block_on(async {
        let mut resubmit = tokio::time::interval(RESUBMIT_EVERY);
        resubmit.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut flights = Flights::new(depth as usize, &serving.0);
        std::future::poll_fn(|cx| poll_once(&serving.0, &mut flights, &mut resubmit, cx)).await;
    });
    // Nothing is in flight: `poll_once` says so before it ends.
    drop(ManuallyDrop::into_inner(runtime));
}

/// Ready once the intake is stopped and nothing is in flight.
fn poll_once(
    intake: &Intake,
    flights: &mut Flights<'_>,
    resubmit: &mut Interval,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let mut stopped = false;
    loop {
        while !stopped && !flights.is_full() {
            match intake.poll_next(cx) {
                Poll::Ready(Some(command)) if command.work.is_abandoned() => drop(command),
                Poll::Ready(Some(command)) => flights.submit(command),
                Poll::Ready(None) => stopped = true,
                Poll::Pending => break,
            }
        }
        // Completions make room for more commands; each pass answers at least one, so this ends.
        if flights.poll(cx) == 0 {
            break;
        }
    }
    if flights.is_empty() {
        return if stopped { Poll::Ready(()) } else { Poll::Pending };
    }
    while resubmit.poll_tick(cx).is_ready() {}
    Poll::Pending
}
