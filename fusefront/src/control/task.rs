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
/// How often a mount says that it is still there.
const ALIVE_EVERY: Duration = Duration::from_secs(1);
/// Events that wait to be sent.
const EVENTS_MAX: usize = 64;

/// Where requests are worked on.
pub(super) struct Tasks {
    keeper: Option<Arc<Keeper>>,
    stop: Arc<AtomicBool>,
    running: Arc<AtomicUsize>,
}

/// One place among [`TASKS_MAX`].
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, AcqRel);
    }
}

impl Tasks {
    pub(super) fn new(keeper: Option<Keeper>, stop: Arc<AtomicBool>) -> Tasks {
        Tasks { keeper: keeper.map(Arc::new), stop, running: Arc::default() }
    }

    /// Works on a request whose first bytes are `text`, in a thread of its own.
    pub(super) fn start(&self, mut client: UnixStream, text: Vec<u8>) -> io::Result<()> {
        let Some(keeper) = self.keeper.clone() else {
            return say(&mut client, &Event::Failed("this mount takes no requests".to_owned()));
        };
        let is_free = self.running.fetch_add(1, AcqRel) < TASKS_MAX;
        let place = Place(self.running.clone());
        if !is_free {
            let busy = format!("{TASKS_MAX} other requests are at work: try again when one is done");
            return say(&mut client, &Event::Failed(busy));
        }
        let stop = self.stop.clone();
        thread::Builder::new().name("wormhole-task".to_owned()).spawn(move || {
            let _place = place;
            // A client that went away is no concern of the mount's.
            if let Err(error) = work(&mut client, text, &keeper, &stop) {
                tracing::debug!(%error, "a request was not answered to its end");
            }
        })?;
        Ok(())
    }
}

fn work(client: &mut UnixStream, text: Vec<u8>, keeper: &Keeper, stop: &AtomicBool) -> io::Result<()> {
    let request = match read(client, text)? {
        Ok(request) => request,
        Err(reason) => return say(client, &Event::Failed(reason)),
    };
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
