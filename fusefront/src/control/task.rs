//! Requests that take their time: a thread each, a few at once.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    pin::pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{AcqRel, Relaxed},
        },
    },
    thread,
    time::Duration,
};

use tokio::{runtime::Builder, sync::mpsc, time::sleep};

use super::{
    PATIENCE,
    message::{Event, REQUEST_BYTES_MAX, Request},
};
use crate::keeper::Keeper;

/// Requests at work at once.
const TASKS_MAX: usize = 4;
/// Clients that watch at once, which may be for days.
const WATCHES_MAX: usize = 16;
/// How often a mount says that it is still there.
const ALIVE_EVERY: Duration = Duration::from_secs(1);
/// Events that wait to be sent.
const EVENTS_MAX: usize = 64;

/// Where requests are worked on.
pub(super) struct Tasks {
    keeper: Option<Arc<Keeper>>,
    stop: Arc<AtomicBool>,
    running: Arc<AtomicUsize>,
    watching: Arc<AtomicUsize>,
}

/// One place among so many.
struct Place(Arc<AtomicUsize>);

impl Place {
    /// One of `most`, if there is one free.
    fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Place> {
        let is_free = taken.fetch_add(1, AcqRel) < most;
        let place = Place(taken.clone());
        is_free.then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, AcqRel);
    }
}

impl Tasks {
    pub(super) fn new(keeper: Option<Keeper>, stop: Arc<AtomicBool>) -> Tasks {
        Tasks { keeper: keeper.map(Arc::new), stop, running: Arc::default(), watching: Arc::default() }
    }

    /// Works on a request whose first bytes are `text`, in a thread of its own.
    pub(super) fn start(&self, mut client: UnixStream, text: Vec<u8>) -> io::Result<()> {
        let Some(keeper) = self.keeper.clone() else {
            return say(&mut client, &Event::Failed("this mount takes no requests".to_owned()));
        };
        let Some(place) = Place::take(&self.running, TASKS_MAX) else {
            let busy = format!("{TASKS_MAX} other requests are at work: try again when one is done");
            return say(&mut client, &Event::Failed(busy));
        };
        let (stop, watching) = (self.stop.clone(), self.watching.clone());
        thread::Builder::new().name("wormhole-task".to_owned()).spawn(move || {
            // A client that went away is no concern of the mount's.
            if let Err(error) = work(&mut client, (text, place), (&keeper, &watching), &stop) {
                tracing::debug!(%error, "a request was not answered to its end");
            }
        })?;
        Ok(())
    }
}

fn work(
    client: &mut UnixStream,
    (text, mut place): (Vec<u8>, Place),
    (keeper, watching): (&Keeper, &Arc<AtomicUsize>),
    stop: &AtomicBool,
) -> io::Result<()> {
    let request = match read(client, text)? {
        Ok(request) => request,
        Err(reason) => return say(client, &Event::Failed(reason)),
    };
    if matches!(request, Request::Watch(_)) {
        let Some(other) = Place::take(watching, WATCHES_MAX) else {
            let busy = format!("{WATCHES_MAX} others watch: end one of them first");
            return say(client, &Event::Failed(busy));
        };
        // The first one is for those that end.
        place = other;
    }
    let _place = place;
    let runtime = Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let (tell, mut events) = mpsc::channel(EVENTS_MAX);
        let mut task = pin!(keeper.run(request, tell));
        loop {
            tokio::select! {
                biased;
                Some(event) = events.recv() => say(client, &event)?,
                outcome = &mut task => {
                    while let Ok(event) = events.try_recv() {
                        say(client, &event)?;
                    }
                    return say(client, &outcome.map_or_else(Event::Failed, Event::Done));
                }
                () = sleep(ALIVE_EVERY) => say(client, &Event::Alive)?,
            }
            if stop.load(Relaxed) {
                return say(client, &Event::Failed("the mount ends".to_owned()));
            }
        }
    })
}

/// The request, or what is wrong with it.
fn read(client: &mut UnixStream, mut text: Vec<u8>) -> io::Result<Result<Request, String>> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut more = [0; 16 * 1024];
    while text.last() != Some(&b'\n') {
        let len = client.read(&mut more)?;
        if len == 0 || (text.len() + len) as u64 > REQUEST_BYTES_MAX {
            return Ok(Err("the request is cut short, or too long".to_owned()));
        }
        text.extend_from_slice(&more[..len]);
    }
    let parsed = serde_json::from_slice(&text);
    Ok(parsed.map_err(|_| "the request is of another version of wormhole: use the mount's own".to_owned()))
}

fn say(client: &mut UnixStream, event: &Event) -> io::Result<()> {
    let mut text = serde_json::to_vec(event)?;
    text.push(b'\n');
    client.write_all(&text)
}
