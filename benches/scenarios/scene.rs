//! What all scenarios have in common: the folder of kept files, the path, how much there is time for.

use std::{
    error::Error,
    io,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use wormhole_benches::{
    arguments::Arguments,
    content::kept_folder,
    daemons::Host,
    record::{Record, Target},
    route::Route,
};

pub(crate) type Failed = Box<dyn Error>;

pub(crate) const PART: &str = "scenarios";
/// A reader on a slow link ends after so long, with what it has.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(20);

/// One start of this program.
pub(crate) struct Scene {
    pub(crate) root: PathBuf,
    pub(crate) route: Route,
    pub(crate) runs: usize,
    pub(crate) is_quick: bool,
}

impl Scene {
    pub(crate) fn new(given: &Arguments) -> Result<Scene, Failed> {
        Ok(Scene {
            root: kept_folder("wormhole-scenarios")?,
            route: given.route,
            runs: given.runs,
            is_quick: given.is_quick,
        })
    }

    /// Serves the folder of kept files.
    pub(crate) fn host(&self) -> Result<Host, Failed> {
        Host::start(&[&self.root], self.route, &[])
    }

    /// `full`, or for a quick run `quick`.
    pub(crate) fn size<T>(&self, full: T, quick: T) -> T {
        if self.is_quick { quick } else { full }
    }

    /// What of so many bytes the path carries in [`TIME_MAX`].
    pub(crate) fn affordable(&self, bytes: u64) -> u64 {
        match self.route {
            Route::Loopback => bytes,
            Route::Link(profile) => bytes.min(profile.rate_bps() / 8 * TIME_MAX.as_secs()),
        }
    }

    /// A figure of this path.
    pub(crate) fn figure(&self, name: &str, unit: &str, values: &[f64]) -> Record {
        Record::new(PART, name, unit, values).link(self.route.name()).cache("cold")
    }

    /// Holds a figure against a target, where the path carries what that takes in bytes a second.
    pub(crate) fn held(&self, record: Record, target: Target, takes_per_s: f64) -> Record {
        match self.route.bytes_per_s() {
            Some(rate) if rate < takes_per_s => {
                let note = format!(
                    "no target: the link carries {:.1} MB/s, it takes {:.1}",
                    rate / 1e6,
                    takes_per_s / 1e6
                );
                record.note(note)
            }
            _ => record.target(target),
        }
    }
}

/// So many threads that take the next item each until there is none.
pub(crate) fn in_threads<T: Sync>(
    threads: usize,
    items: &[T],
    each: impl Fn(&T) -> io::Result<()> + Sync,
) -> io::Result<()> {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            each(item)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a reader does not panic"))
    })
}

/// Megabytes a second.
pub(crate) fn mb_per_s(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64().max(1e-9)
}
