//! The times of files in a simulation, in place of those of the file system.

use std::{cell::RefCell, rc::Rc};

use rustix::fs::{Statx, StatxTimestamp};
use wire::Timestamp;

/// The times of files as a simulation has them, in place of the file system's, which run by the real clock.
pub trait FileTimes {
    /// The time of day.
    fn now(&self) -> Timestamp;
    /// When the contents of a file were last changed, and when anything of it was; `None` leaves the real times.
    fn of(&self, inode: u64) -> Option<(Timestamp, Timestamp)>;
}

thread_local! {
    static TIMES: RefCell<Option<Rc<dyn FileTimes>>> = const { RefCell::new(None) };
}

/// Until it drops, hosts on this thread see the given times.
#[derive(Debug)]
pub struct TimesGuard(());

impl TimesGuard {
    /// Sets the times for this thread.
    pub fn set(times: Rc<dyn FileTimes>) -> TimesGuard {
        TIMES.with(|slot| *slot.borrow_mut() = Some(times));
        TimesGuard(())
    }
}

impl Drop for TimesGuard {
    fn drop(&mut self) {
        TIMES.with(|slot| *slot.borrow_mut() = None);
    }
}

/// What a look found, with the simulation's times where there is one.
pub(crate) fn retime(mut statx: Statx, now: Timestamp) -> (Statx, Timestamp) {
    let times = TIMES.with(|slot| slot.borrow().clone());
    let Some(times) = times else { return (statx, now) };
    if let Some((mtime, ctime)) = times.of(statx.stx_ino) {
        put(&mut statx.stx_mtime, mtime);
        put(&mut statx.stx_ctime, ctime);
    }
    (statx, times.now())
}

fn put(into: &mut StatxTimestamp, time: Timestamp) {
    into.tv_sec = time.secs;
    into.tv_nsec = time.nanos;
}
