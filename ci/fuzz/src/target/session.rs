//! A host whose peer keeps to nothing: streams opened, cut, dribbled, reset, stopped and forgotten in any order, requests
//! valid, bent or endless, before and after the hello.
//!
//! The input is a list of operations of one rogue; another mount beside it must get its answers all the while.

mod host;
mod rogue;

use std::{cell::OnceCell, sync::Arc, time::Duration};

use tokio::{
    runtime::Runtime,
    time::{self, Instant},
};
use transport::{Client, Server, testing::Link};
use wire::{Class, Reply, Ticket};

use crate::{input::Input, network};
use host::{Host, stat};
use rogue::Peer;

/// How long another mount may wait beside a rogue, and how long what a rogue left may be held.
const PATIENCE: Duration = Duration::from_secs(2);

/// Operations of one input: more of them find the same, later.
const OPERATIONS_MAX: usize = 32;

/// What lives from one input to the next.
struct Rig {
    runtime: Runtime,
    ticket: Ticket,
    host: Arc<Host>,
    server: Server,
    /// The mount that keeps to the protocol.
    client: Client,
    link: Link,
}

thread_local! {
    // Leaked: tasks of its runtime may not be dropped while the thread's own variables go.
    static RIG: OnceCell<&'static Rig> = const { OnceCell::new() };
}

impl Rig {
    fn new() -> Rig {
        let runtime = network::runtime();
        let (link, identity, host) = (network::link(1_472), network::identity(), Arc::new(Host::default()));
        let (server, client) = runtime.block_on(async {
            let server = network::serve(&link, &identity, host.clone());
            (server, network::connect(&link, &identity).await)
        });
        let ticket = network::ticket(&identity);
        Rig { runtime, ticket, host, server, client, link }
    }

    /// One input. The rogue's connection is kept for the next one unless it ended: a handshake takes longer than an input.
    async fn run(&self, mut input: Input<'_>) {
        // Apart from the match, which would keep the lock for as long as it runs.
        let spare = self.host.spare.lock().take();
        let mut peer = match spare {
            Some(peer) => peer,
            None => match Peer::connect(&self.link, &self.ticket).await {
                Ok(peer) => peer,
                Err(error) => panic!("no room for a mount: {error}, with {:?}", self.server.usage()),
            },
        };
        for _ in 0..OPERATIONS_MAX {
            if input.is_empty() {
                break;
            }
            peer.step(&mut input, &self.ticket, &self.link).await;
        }
        let deadline = Instant::now() + PATIENCE;
        let reply = self.client.call(stat(), Class::Metadata, deadline).await;
        assert!(matches!(reply, Ok(Reply::Attr(_))), "another mount got {reply:?}");
        peer.forget_streams();
        let spare = Some(peer).filter(Peer::is_admitted);
        self.is_quiet(1 + u64::from(spare.is_some()), deadline + PATIENCE).await;
        *self.host.spare.lock() = spare;
    }

    /// Waits until nothing is held for the rogue any more, but for its session.
    async fn is_quiet(&self, sessions: u64, deadline: Instant) {
        loop {
            let usage = self.server.usage();
            let requests = usage.requests_in_flight + usage.requests_waiting;
            if requests == 0 && usage.answer_bytes_in_flight == 0 && usage.sessions <= sessions {
                break;
            }
            assert!(Instant::now() < deadline, "held for nobody: {usage:?}");
            time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// All bytes are operations.
pub(super) fn run(bytes: &[u8]) {
    RIG.with(|rig| {
        let rig = rig.get_or_init(|| Box::leak(Box::new(Rig::new())));
        rig.runtime.block_on(rig.run(Input::new(bytes)));
    });
}
