//! A link of given round trip, rate, loss and MTU between two programs on one machine, without privileges.
//!
//! A relay in user space: clients talk to [`Link::address`], the link talks to its target, and what passes is queued,
//! serialised at the link's rate, delayed and lost as [`LinkConfig`] says, in each direction on its own. All clients
//! share the link, as they would share a line. `README.md` beside this crate says what its figures can claim.

mod config;
mod drops;
mod flows;
mod line;
mod pipe;
mod poll;
mod report;
mod stream;
mod tcp;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use poll::Stopper;
use report::Board;
use tcp::TcpRelay;
use udp::UdpRelay;

pub use config::{LinkConfig, Profile, Protocol, UnknownProfile, network_ip};
pub use report::{DirectionReport, LinkReport};

/// A running link: one thread, which ends when this is dropped; packets still on their way are gone then.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    board: Arc<Board>,
    stopper: Arc<Stopper>,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    /// Starts a link that carries what reaches [`Link::address`] to `target`, and back.
    ///
    /// # Errors
    ///
    /// `InvalidInput` where `config` cannot be emulated; else what the system said of the socket or the thread.
    pub fn start(config: &LinkConfig, target: SocketAddr) -> io::Result<Self> {
        config.check()?;
        let stopper = Arc::new(Stopper::new()?);
        let board = Arc::new(Board::default());
        let failed = |why: io::Error| {
            io::Error::new(why.kind(), format!("link: listen on {} for {target}: {why}", config.listen))
        };
        let (parts, faults) = ((stopper.clone(), board.clone()), board.clone());
        let relay = Relay::new(config, target, parts).map_err(failed)?;
        let address = relay.address();
        let thread = thread::Builder::new().name("link".to_owned()).spawn(move || {
            if let Err(why) = relay.run() {
                faults.update(|report| report.fault = Some(why.to_string()));
            }
        })?;
        Ok(Self { address, board, stopper, thread: Some(thread) })
    }

    /// Where clients reach the link.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it carried so far.
    pub fn report(&self) -> LinkReport {
        self.board.read()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed when it happened, and ended nothing but the link.
            let _ = thread.join();
        }
    }
}

/// What the link's thread runs.
#[derive(Debug)]
enum Relay {
    Udp(Box<UdpRelay>),
    Tcp(Box<TcpRelay>),
}

impl Relay {
    fn new(
        config: &LinkConfig,
        target: SocketAddr,
        (stopper, board): (Arc<Stopper>, Arc<Board>),
    ) -> io::Result<Self> {
        Ok(match config.protocol {
            Protocol::Udp => Self::Udp(Box::new(UdpRelay::new(config, target, stopper, board)?)),
            Protocol::Tcp => Self::Tcp(Box::new(TcpRelay::new(config, target, stopper, board)?)),
        })
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Udp(relay) => relay.address(),
            Self::Tcp(relay) => relay.address(),
        }
    }

    fn run(self) -> io::Result<()> {
        match self {
            Self::Udp(relay) => relay.run(),
            Self::Tcp(relay) => relay.run(),
        }
    }
}
