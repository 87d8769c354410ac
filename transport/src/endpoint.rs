//! Endpoints: one socket each, with what quinn must know before the first packet.

use std::{io, sync::Arc, time::Duration};

use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, TokioRuntime};
use quinn_proto::HashedConnectionIdGenerator;

use crate::{identity::Identity, settings::UDP_PAYLOAD_BYTES_MAX};

const RESET_CONTEXT: &str = "wormhole 2026-11 stateless reset key";
const CONNECTION_ID_CONTEXT: &str = "wormhole 2026-11 connection id key";

/// A number that makes the endpoint's own choices repeatable, for tests; `None` for chance.
pub(crate) type Seed = Option<[u8; 32]>;

/// A mount's endpoint.
pub(crate) fn client(socket: Arc<dyn AsyncUdpSocket>, seed: Seed) -> io::Result<Endpoint> {
    Endpoint::new_with_abstract_socket(
        base(EndpointConfig::default(), seed)?,
        None,
        socket,
        Arc::new(TokioRuntime),
    )
}

/// A host's endpoint.
///
/// Reset key and connection ids come from the host key, so that a host that restarted resets the sessions of its former
/// life in one round trip, where they would otherwise wait for the idle timeout.
pub(crate) fn server(
    identity: &Identity,
    default: quinn::ServerConfig,
    socket: Arc<dyn AsyncUdpSocket>,
    seed: Seed,
) -> io::Result<Endpoint> {
    let reset = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &identity.derive(RESET_CONTEXT));
    let mut config = EndpointConfig::new(Arc::new(reset));
    let [a, b, c, d, e, f, g, h, ..] = identity.derive(CONNECTION_ID_CONTEXT);
    let id_key = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)));
    // quinn's one reset each 20 ms leaves most of a hundred mounts waiting for their idle timeout. Without the pause no
    // more can be made of it: only ids that carry the key's hash are answered, with less than was received.
    config.min_reset_interval(Duration::ZERO);
    Endpoint::new_with_abstract_socket(base(config, seed)?, Some(default), socket, Arc::new(TokioRuntime))
}

fn base(mut config: EndpointConfig, seed: Seed) -> io::Result<EndpointConfig> {
    config.max_udp_payload_size(UDP_PAYLOAD_BYTES_MAX).map_err(io::Error::other)?;
    config.rng_seed(seed);
    Ok(config)
}
