//! The host's end of the control socket. Runs on the lane; what waits for a disk has threads of its own.

use std::{io, path::Path, sync::Arc, time::Duration};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{AbortHandle, JoinSet, spawn_blocking},
    time::{sleep, timeout},
};
use transport::Lane;

use super::{
    desk::Desk,
    protocol::{Id, REQUEST_BYTES_MAX, Request, Response, TicketText},
    socket::Place,
};
use crate::error::{TicketError, one_line};

/// Requests at once; more wait until one is answered.
const CLIENTS_MAX: usize = 8;
/// How long a client may take to say what it wants, and again to take the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The pause when the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the sessions of a revoked ticket may take to end before the owner is answered.
const ENDING: Duration = Duration::from_secs(1);

/// The socket while it is open; dropping it takes it away.
#[derive(Debug)]
pub(crate) struct Control {
    place: Place,
    task: AbortHandle,
}

impl Control {
    /// Listens in a state directory whose lock the caller holds.
    ///
    /// # Errors
    /// The kernel's, on a file system without sockets for example.
    pub(crate) fn start(lane: &Lane, state_dir: &Path, desk: Arc<Desk>) -> io::Result<Control> {
        let place = Place::open(state_dir)?;
        let listener = place.listen()?;
        // Sockets register with the runtime they are made on.
        let _runtime = lane.handle().enter();
        let listener = UnixListener::from_std(listener)?;
        let task = lane.handle().spawn(serve(listener, desk)).abort_handle();
        Ok(Control { place, task })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        if let Err(error) = self.place.remove() {
            tracing::debug!(%error, "the control socket stays behind");
        }
    }
}

async fn serve(listener: UnixListener, desk: Arc<Desk>) {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    let mut clients = JoinSet::new();
    // Nobody closes the semaphore.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                clients.spawn(client(stream, Arc::clone(&desk), place));
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket takes nobody in");
                sleep(PAUSE).await;
            }
        }
        while clients.try_join_next().is_some() {}
    }
}

/// One client, from its request to its answer.
async fn client(stream: UnixStream, desk: Arc<Desk>, place: OwnedSemaphorePermit) {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw() => {}
        peer => return tracing::warn!(?peer, "a request of another user on the control socket is not heard"),
    }
    let answer = match timeout(PATIENCE, hear(&stream)).await {
        Ok(Ok(Heard::Line(line))) => match serde_json::from_slice(&line) {
            Ok(request) => answer(desk, request, place).await,
            Err(_) => Response::Error(
                "the host does not understand this request: use the wormhole-engine it was started from"
                    .into(),
            ),
        },
        Ok(Ok(Heard::TooMuch)) => Response::Error(format!("a request has at most {REQUEST_BYTES_MAX} bytes")),
        // Nothing was asked.
        Ok(Err(_)) | Err(_) => return,
    };
    // A client that went away is no concern of the host's.
    let _ = timeout(PATIENCE, tell(&stream, &answer)).await;
}

/// What came before the end of a line.
enum Heard {
    Line(Vec<u8>),
    TooMuch,
}

async fn hear(stream: &UnixStream) -> io::Result<Heard> {
    let mut line = Vec::new();
    let mut part = [0; 4096];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut part) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => line.extend_from_slice(&part[..n]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        if let Some(end) = line.iter().position(|&byte| byte == b'\n') {
            line.truncate(end);
            return Ok(Heard::Line(line));
        }
        if line.len() > REQUEST_BYTES_MAX {
            return Ok(Heard::TooMuch);
        }
    }
}

async fn tell(stream: &UnixStream, answer: &Response) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    let mut left = &line[..];
    while !left.is_empty() {
        stream.writable().await?;
        match stream.try_write(left) {
            Ok(n) => left = &left[n..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Does what was asked. The place is kept until it is done, also when the client went away.
async fn answer(desk: Arc<Desk>, request: Request, place: OwnedSemaphorePermit) -> Response {
    if let Request::TicketNew(request) = &request
        && let Err(error) = desk.check_folder(request).await
    {
        return Response::Error(one_line(&error));
    }
    let working = Arc::clone(&desk);
    let done = spawn_blocking(move || {
        let done = work(&working, request);
        drop(place);
        done
    });
    match done.await {
        Ok(Ok(Response::Revoked(revoked))) => {
            let ids: Vec<_> = revoked.iter().map(|revoked| revoked.id).collect();
            if timeout(ENDING, desk.service.tickets.vacated(&ids)).await.is_err() {
                tracing::warn!("a session of a revoked ticket takes long to end; its requests are refused");
            }
            Response::Revoked(revoked)
        }
        Ok(Ok(done)) => done,
        Ok(Err(error)) => Response::Error(one_line(&error)),
        Err(error) => Response::Error(format!("the host failed on this request: {error}")),
    }
}

fn work(desk: &Desk, request: Request) -> Result<Response, TicketError> {
    Ok(match request {
        Request::TicketNew(request) => Response::Ticket(TicketText::of(&desk.create(&request)?)),
        Request::TicketList { after } => Response::Tickets(desk.page(after.map(|Id(id)| id))),
        Request::TicketRevoke { which } => Response::Revoked(desk.revoke(&which)?),
        Request::Status => Response::Status(Box::new(desk.status())),
    })
}
