//! An in-memory link for tests: sessions over it run on tokio's paused clock and repeat with their seed.
//!
//! ```text
//! let link = Link::new(LinkConfig { seed: 7, delay: Duration::from_millis(20), loss_ppm: 10_000, ..LinkConfig::default() });
//! let server = testing::serve(&link, HOST, ServerConfig::new(identity), host)?;
//! let client = testing::connect(&link, MOUNT, ticket, ClientConfig::default()).await?;
//! ```

use std::{net::SocketAddr, sync::Arc};

use wire::Ticket;

use crate::{
    Client, ClientConfig, Serve, Server, ServerConfig, client,
    error::{BindError, ConnectError},
};

mod link;
mod profile;
mod rogue;
mod rogue_host;

pub use link::{Bottleneck, HEADER_BYTES, Link, LinkConfig};
pub use profile::Profile;
pub use rogue::{Greeting, Rogue, RogueStream};
pub use rogue_host::{RogueHost, RoguePushes, RogueSession};

/// A server at `address` of the link; [`ServerConfig::listen`] is not used.
///
/// # Errors
/// As [`Server::bind`].
pub fn serve<S: Serve>(
    link: &Link,
    address: SocketAddr,
    config: ServerConfig,
    serve: Arc<S>,
) -> Result<Server, BindError> {
    Server::over(config, serve, vec![(link.socket(address), None)], Some(link.endpoint_seed(address)))
}

/// A client at `address` of the link, whose ticket must name the server's address there.
///
/// # Errors
/// As [`Client::connect`].
pub async fn connect(
    link: &Link,
    address: SocketAddr,
    ticket: Ticket,
    config: ClientConfig,
) -> Result<Client, ConnectError> {
    client::over_socket(link.socket(address), link.endpoint_seed(address), ticket, config).await
}
