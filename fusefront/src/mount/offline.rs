//! A mount that may begin without its host (`--offline-ok`): what earlier mounts knew, and what the next one will.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep, timeout},
};
use transport::{Client, ClientConfig, Lane};
use wire::message::Welcome;

use super::refusal;
use crate::{
    config::MountConfig,
    error::MountError,
    snapshot::{FileNo, Place, Snapshot, SnapshotError},
    vfs::{Vfs, known::LastKnown},
};

/// How long the host may take to answer before the mount begins without it.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long after a change what is known is written anew, at least.
const PAUSE: Duration = Duration::from_secs(5);
/// Writing takes at most a hundredth of the time: so many times as long as it took is waited for the next.
const REST: u32 = 100;
/// How long the last writing may take when the mount ends.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// What earlier mounts with this ticket knew, and the place for what this one will.
pub(super) struct Memory {
    place: Place,
    /// Empty where nothing was known.
    known: LastKnown,
    welcome: Option<Welcome>,
    written: Duration,
    file: Option<FileNo>,
    is_offline: bool,
}

/// Reads what earlier mounts knew, where the mount is to begin without its host if need be.
pub(super) async fn recall(config: &MountConfig) -> Option<Memory> {
    let cache = config.cache.as_ref().filter(|_| config.offline_ok)?;
    let place = Place::new(&cache.dir, &config.ticket, cache.quota_bytes);
    let known = LastKnown::new(place.known_bytes_max());
    let nothing = Memory {
        place: place.clone(),
        known,
        welcome: None,
        written: Duration::ZERO,
        file: None,
        is_offline: false,
    };
    let read = spawn_blocking(move || place.read()).await;
    Some(match read {
        Ok(Ok(Snapshot { welcome, known, written, file })) => {
            Memory { known, welcome: Some(welcome), written, file: Some(file), ..nothing }
        }
        Ok(Err(SnapshotError::None)) => nothing,
        Ok(Err(error)) => {
            let reason = engine::error::one_line(&error);
            tracing::warn!(reason, "what earlier mounts knew is lost: without the host, nothing is known");
            nothing
        }
        Err(error) => {
            tracing::error!(%error, "what earlier mounts knew could not be read");
            nothing
        }
    })
}

/// A session with the host; a client without one where the host is out of reach and enough is known to begin.
pub(super) async fn connect(
    config: &MountConfig,
    client_config: ClientConfig,
    lane: &Lane,
    memory: Option<&mut Memory>,
) -> Result<Client, MountError> {
    let ticket = config.ticket.clone();
    let mut once = client_config.clone();
    if memory.as_ref().is_some_and(|memory| memory.welcome.is_some()) {
        once.connect_deadline = CONNECT_PATIENCE;
    }
    let connecting = lane.handle().spawn(Client::connect(ticket.clone(), once));
    let connected = connecting.await.map_err(|error| MountError::Thread(error.into()))?;
    let (error, memory) = match (connected, memory) {
        (Ok(client), _) => return Ok(client),
        (Err(error), Some(memory)) => (error, memory),
        (Err(error), None) => return Err(refusal(error, ticket.claims.expires)),
    };
    if !error.is_out_of_reach() {
        if matches!(error, transport::ConnectError::Refused) {
            memory.place.remove();
        }
        return Err(refusal(error, ticket.claims.expires));
    }
    let Some(welcome) = memory.welcome.take() else { return Err(MountError::NothingKnown(error)) };
    // Nobody else can say so now.
    super::not_expired(ticket.claims.expires)?;
    tracing::warn!(%error, names = memory.known.names(), "mounting from what was known; the host is tried again");
    memory.is_offline = true;
    let begun = lane.handle().spawn(async move { Client::offline(ticket, client_config, welcome, &error) });
    let client = begun.await.map_err(|error| MountError::Thread(error.into()))?;
    client.map_err(MountError::Connect)
}

/// Writes what a mount knows, every now and then and when it ends.
pub(super) struct Notes {
    task: JoinHandle<()>,
    writer: Arc<Mutex<Writer>>,
    /// When what the mount began with was written; `None` where it began with its host.
    pub(super) began_with: Option<Duration>,
}

struct Writer {
    place: Place,
    vfs: Vfs,
    /// The file that this mount read or wrote last.
    file: Option<FileNo>,
    /// [`LastKnown::changes`] of it.
    changes: u64,
    has_warned: bool,
}

impl Notes {
    /// Begins with what is known already. Its task runs on the lane, and its writing beside it.
    pub(super) fn start(vfs: &Vfs, lane: &Lane, memory: Memory) -> Notes {
        let Memory { place, known, written, file, is_offline, .. } = memory;
        let changes = known.changes();
        vfs.keep_last_known(known);
        let writer = Writer { place, vfs: vfs.clone(), file, changes, has_warned: false };
        let writer = Arc::new(Mutex::new(writer));
        let task = lane.handle().spawn(watch(writer.clone()));
        Notes { task, writer, began_with: is_offline.then_some(written) }
    }

    /// Writes what is known at the end.
    pub(super) async fn finish(self) {
        self.task.abort();
        let writing = spawn_blocking(move || self.writer.lock().write());
        if timeout(CLOSE_PATIENCE, writing).await.is_err() {
            tracing::warn!(
                "the disk is too slow: the next mount without a host knows what was written before"
            );
        }
    }
}

async fn watch(writer: Arc<Mutex<Writer>>) {
    let mut pause = PAUSE;
    loop {
        sleep(pause).await;
        let (begun, writer) = (Instant::now(), writer.clone());
        // Without a deadline: nobody waits for it.
        if spawn_blocking(move || writer.lock().write()).await.is_err() {
            return;
        }
        pause = PAUSE.max(begun.elapsed() * REST);
    }
}

impl Writer {
    fn write(&mut self) {
        let Some(changes) = self.vfs.with_known(|known| known.changes()) else { return };
        if changes == self.changes {
            return;
        }
        self.take_in();
        let Some(mut parts) = self.vfs.with_known(|known| known.parts()) else { return };
        let shares = self.vfs.last_shares();
        let next = |out: &mut wire::cursor::Writer| {
            self.vfs.with_known(|known| known.write(&mut parts, out)).unwrap_or(false)
        };
        match self.place.write(&shares, next) {
            Ok(file) => (self.file, self.changes) = (Some(file), changes),
            Err(SnapshotError::Taken) => {}
            Err(error) if !self.has_warned => {
                self.has_warned = true;
                let reason = engine::error::one_line(&error);
                tracing::warn!(reason, "without the host, the next mount will not know what this one does");
            }
            Err(error) => tracing::debug!(%error, "what is known could not be written"),
        }
    }

    /// Takes in what another mount with this ticket wrote since.
    fn take_in(&self) {
        let there = self.place.file();
        if there.is_none() || there == self.file {
            return;
        }
        if let Ok(Snapshot { known, .. }) = self.place.read() {
            self.vfs.with_known(|ours| ours.take_in(known));
        }
    }
}
