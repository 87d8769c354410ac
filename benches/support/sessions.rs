//! Sessions with a host without a file system on top: what a client of the protocol does.

use std::{error::Error, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::Instant,
};
use transport::{Client, ClientConfig, Lane, ReadCall};
use uring::{Pool, PoolConfig, SlotClass};
use wire::{Attr, Class, Extent, Reply, Request, ShareId, SharePath, Ticket, message::Target};

/// For any one operation of a session.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of one read.
const READ_BYTES: u64 = 1 << 20;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Sessions on one lane, all with one host, and the memory that they read into.
pub struct Sessions {
    lane: Lane,
    pool: Pool,
    ticket: Ticket,
    clients: Vec<Client>,
}

impl Sessions {
    /// None yet; up to `at_once` reads are under way together.
    ///
    /// # Errors
    /// No thread, no memory.
    pub fn new(ticket: Ticket, at_once: usize) -> Result<Sessions, Box<dyn Error>> {
        let pool = Pool::new(PoolConfig::with_capacity(at_once * SlotClass::Extent1M.bytes()))?;
        Ok(Sessions { lane: Lane::start("bench-sessions")?, pool, ticket, clients: Vec::new() })
    }

    /// Connects until there are so many.
    ///
    /// # Errors
    /// What the first that fails says.
    pub fn connect(&mut self, count: usize) -> Outcome<()> {
        let missing = count.saturating_sub(self.clients.len());
        let ticket = &self.ticket;
        let clients = self.each(0..missing, |_| {
            let ticket = ticket.clone();
            async move { Ok(Client::connect(ticket, ClientConfig::default()).await?) }
        })?;
        self.clients.extend(clients);
        Ok(())
    }

    /// Connects so many clients at once, each of which asks one thing and leaves.
    ///
    /// # Errors
    /// What the first that fails says.
    pub fn come_and_go(&self, count: usize) -> Outcome<()> {
        self.each(0..count, |_| {
            let ticket = self.ticket.clone();
            async move {
                let client = Client::connect(ticket, ClientConfig::default()).await?;
                stat(&client, Target { share: share(&client)?, path: SharePath::new(b"")?, id: None })
                    .await?;
                client.close().await;
                Ok(())
            }
        })
        .map(drop)
    }

    /// Every session reads so many MiB of the file, each from another place on; tells the bytes of all.
    ///
    /// # Errors
    /// What the first that fails says.
    pub fn read(&self, path: &str, mib_each: u64) -> Outcome<u64> {
        let path = SharePath::new(path.as_bytes())?;
        let read = self.each(self.clients.iter().enumerate(), |(nth, client)| {
            let (client, pool, path) = (client.clone(), self.pool.clone(), path.clone());
            async move {
                let mut target = Target { share: share(&client)?, path, id: None };
                let attr = stat(&client, target.clone()).await?;
                target.id = Some(attr.id);
                let (places, mut bytes) = (attr.size.0 / READ_BYTES, 0);
                for n in 0..mib_each {
                    let place = (nth as u64 * mib_each + n) % places;
                    let read = ReadCall {
                        target: target.clone(),
                        version: attr.version(),
                        extent: Extent::new(place * READ_BYTES, READ_BYTES),
                        class: Class::Demand,
                        deadline: Instant::now() + PATIENCE,
                    };
                    let slot = pool.lend(SlotClass::Extent1M).await;
                    bytes += client.read(read, slot).await?.len() as u64;
                }
                Ok(bytes)
            }
        })?;
        Ok(read.into_iter().sum())
    }

    /// Runs one task for each on the lane, all at once, and waits for all.
    fn each<I, T, F>(&self, over: impl IntoIterator<Item = I>, task: impl Fn(I) -> F) -> Outcome<Vec<T>>
    where
        F: Future<Output = Outcome<T>> + Send + 'static,
        T: Send + 'static,
    {
        let (send, mut receive) = unbounded_channel();
        let count = over
            .into_iter()
            .map(|item| {
                let (send, work): (UnboundedSender<Outcome<T>>, _) = (send.clone(), task(item));
                self.lane.handle().spawn(async move {
                    // Nobody listens any more once one has failed.
                    let _ = send.send(work.await);
                })
            })
            .count();
        // Ends: each step of a task has a deadline.
        (0..count)
            .map(|_| receive.blocking_recv().unwrap_or_else(|| Err("the lane has ended".into())))
            .collect()
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        let clients = std::mem::take(&mut self.clients);
        // The host notices those that do not get to say goodbye.
        let _ = self.each(clients, |client| async move {
            client.close().await;
            Ok(())
        });
        self.lane.stop();
    }
}

fn share(client: &Client) -> Outcome<ShareId> {
    let welcome: Arc<_> = client.welcome();
    Ok(welcome.shares.first().ok_or("a host without shares")?.id)
}

async fn stat(client: &Client, target: Target) -> Outcome<Attr> {
    match client.call(Request::Stat(target), Class::Metadata, Instant::now() + PATIENCE).await? {
        Reply::Attr(attr) => Ok(attr),
        reply => Err(format!("no attributes: {reply:?}").into()),
    }
}
