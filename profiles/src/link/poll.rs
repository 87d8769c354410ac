//! The link's thread waits here: for its sockets, for the time a packet is due, for the word to stop.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::resource::{UsageWho, getrusage};
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use rustix::process::setpriority_process;

use super::report::Board;

/// Sockets that one wake tells of; the rest comes with the next.
const EVENTS_MAX: usize = 64;
/// How far the reported CPU time may be behind: one system call in so long.
const CPU_EVERY: Duration = Duration::from_millis(10);
/// Of -20 to 19; on Linux a value of the thread, not of its process.
const NICE: i32 = -15;
/// One late timer of so many moves what is expected of the next.
const LATE_WEIGHT: u32 = 8;
/// The token of the stop signal.
const STOP: u64 = u64::MAX;

/// Ends a link's thread from outside.
#[derive(Debug)]
pub(super) struct Stopper {
    asked: AtomicBool,
    wake: OwnedFd,
}

impl Stopper {
    pub(super) fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { asked: AtomicBool::new(false), wake })
    }

    pub(super) fn stop(&self) {
        self.asked.store(true, Ordering::Release);
        // The counter of an eventfd is full after 2^64 - 2 stops.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    pub(super) fn asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }
}

/// A socket that is ready, by the token it was added with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub(super) token: u64,
    pub(super) readable: bool,
    pub(super) writable: bool,
}

/// How a socket tells that it is ready.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trigger {
    /// As long as it can be read.
    Readable,
    /// Once each time it becomes readable or writable.
    Edges,
}

/// An epoll set, the clock of the link, and its thread's CPU time. Lives on the link's thread.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
    stopper: Arc<Stopper>,
    started: Instant,
    cpu_at: Option<Duration>,
    lead: Lead,
}

/// How much earlier than a packet is due the timer is set, because the thread runs only a while after it fired.
///
/// A moving mean of that while: about 30 us here, which would be 6 % of the 1 ms of a LAN's round trip.
#[derive(Debug)]
struct Lead {
    max: Duration,
    /// Of the last wait.
    used: Duration,
    /// Of the next.
    learned: Duration,
}

impl Lead {
    fn new(max: Duration) -> Self {
        Self { max, used: Duration::ZERO, learned: Duration::ZERO }
    }

    /// Takes the time that the thread woke behind its timer.
    fn learn(&mut self, late: Duration) {
        // A thread that lost its core for long says nothing of timers.
        let late = late.min(2 * self.max);
        let mean = (self.learned * (LATE_WEIGHT - 1) + late) / LATE_WEIGHT;
        self.learned = mean.min(self.max);
    }
}

impl Poller {
    pub(super) fn new(stopper: Arc<Stopper>, lead_max: Duration) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &stopper.wake, epoll::EventData::new_u64(STOP), epoll::EventFlags::IN)?;
        Ok(Self { epoll, stopper, started: Instant::now(), cpu_at: None, lead: Lead::new(lead_max) })
    }

    /// Makes the calling thread as prompt as it may be: its timers fire when they are due, not up to 50 us later, and it
    /// goes before other threads where the user may say so. A line does not wait for a core.
    pub(super) fn make_prompt() -> io::Result<()> {
        // Without CAP_SYS_NICE the link is what it was; its report says how late it is.
        let _ = setpriority_process(None, NICE);
        Ok(prctl::set_timerslack(1)?)
    }

    pub(super) fn add(&self, socket: impl AsFd, token: u64, trigger: Trigger) -> io::Result<()> {
        let flags = match trigger {
            Trigger::Readable => epoll::EventFlags::IN,
            Trigger::Edges => {
                epoll::EventFlags::IN
                    | epoll::EventFlags::OUT
                    | epoll::EventFlags::RDHUP
                    | epoll::EventFlags::ET
            }
        };
        Ok(epoll::add(&self.epoll, socket, epoll::EventData::new_u64(token), flags)?)
    }

    /// Time since the link started.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// What is due by this time leaves at `now`: the timer was set that much before.
    pub(super) fn due_by(&self, now: Duration) -> Duration {
        now + self.lead.used
    }

    /// Waits until a socket is ready or `deadline` is there, as [`Poller::due_by`] sees it; without one until a socket is or [`Stopper::stop`].
    ///
    /// `false` ends the link.
    pub(super) fn wait(&mut self, deadline: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<bool> {
        ready.clear();
        self.lead.used = self.lead.learned;
        let (set_at, timer) = (self.now(), deadline.map(|deadline| deadline.saturating_sub(self.lead.used)));
        let left = timer.map(|timer| timer.saturating_sub(set_at));
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        let mut space = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS_MAX];
        let events = match epoll::wait(&self.epoll, &mut space, timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => &mut [],
            Err(why) => return Err(why.into()),
        };
        let sockets = events.iter().filter(|event| event.data.u64() != STOP);
        ready.extend(sockets.map(|event| {
            let flags = event.flags;
            let failed = flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP);
            Ready {
                token: event.data.u64(),
                readable: failed || flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP),
                writable: failed || flags.contains(epoll::EventFlags::OUT),
            }
        }));
        if let Some(timer) = timer.filter(|timer| ready.is_empty() && *timer > set_at) {
            self.lead.learn(self.started.elapsed().saturating_sub(timer));
        }
        Ok(!self.stopper.asked())
    }

    /// Sleeps, whatever comes; for a fraction of a delay only.
    pub(super) fn pause_until(&self, deadline: Duration) {
        thread::sleep(deadline.saturating_sub(self.now()));
    }

    /// Writes the CPU time to `board` when the last one is old, or when the thread may now sleep for long.
    pub(super) fn publish_cpu(&mut self, board: &Board, deadline: Option<Duration>) -> io::Result<()> {
        let now = self.now();
        let old = self.cpu_at.is_none_or(|at| now >= at + CPU_EVERY);
        if old || deadline.is_none_or(|deadline| deadline > now + CPU_EVERY) {
            let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
            let cpu = [usage.user_time(), usage.system_time()].map(|time| {
                let micros = time.tv_sec() * 1_000_000 + time.tv_usec();
                Duration::from_micros(u64::try_from(micros).unwrap_or(0))
            });
            board.update(|report| (report.cpu, report.elapsed) = (cpu[0] + cpu[1], now));
            self.cpu_at = Some(now);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_are_set_earlier_by_what_they_are_late_and_no_more_than_may_be() {
        let us = Duration::from_micros;
        let mut lead = Lead::new(us(50));
        for _ in 0..40 {
            lead.learn(us(30));
        }
        assert!(lead.learned > us(28) && lead.learned <= us(30), "{lead:?}");
        lead.learn(Duration::from_secs(1));
        assert!(lead.learned < us(45), "{lead:?}");
        for _ in 0..40 {
            lead.learn(us(200));
        }
        assert_eq!(lead.learned, us(50));
    }
}
