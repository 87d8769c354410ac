//! Peers that do not keep to the protocol: before the hello, and after it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use quinn::{Connection, Endpoint};
use tokio::time;
use transport::{
    Client, ClientConfig, ConnectError, Identity, Server, ServerConfig, ServerLimits, SessionEnd,
};
use wire::{
    ErrorCode, Reply, Request, Ticket,
    codec::{self, ReplyDecoder},
    message::{Call, Class, Hello},
    version::PROTOCOL_VERSION,
};

use crate::host::{Host, PATIENCE, connect, loopback_config, now, on_loopback, soon, stat, ticket};

/// Takes any host key: strangers do not care.
#[derive(Debug)]
struct AnyKey;

impl rustls::client::danger::ServerCertVerifier for AnyKey {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ED25519]
    }
    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// A bare QUIC connection to the server; the endpoint must live as long.
async fn bare(server: SocketAddr) -> (Endpoint, Connection) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyKey))
        .with_no_client_auth();
    config.alpn_protocols = vec![wire::version::ALPN.into()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
    let endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connection = endpoint.connect_with(config, server, "x").unwrap().await.unwrap();
    (endpoint, connection)
}

fn call(request: Request) -> bytes::Bytes {
    codec::encode_call(&Call { class: Class::Metadata, id: 1, deadline_ms: 5_000, packs: false, request })
}

/// Sends `bytes` as one request; the reply, or `None` where the stream or connection ended instead.
async fn ask(connection: &Connection, bytes: &[u8]) -> Option<Reply> {
    let exchange = async {
        let (mut send, mut recv) = connection.open_bi().await.ok()?;
        // The server may stop the stream before it has all.
        let _ = send.write_all(bytes).await;
        let _ = send.finish();
        let mut decoder = ReplyDecoder::new();
        while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX, true).await {
            let mut bytes = chunk.bytes;
            if let Some(reply) = decoder.feed(&mut bytes).unwrap() {
                return Some(reply);
            }
        }
        None
    };
    time::timeout(PATIENCE, exchange).await.expect("an end in time")
}

async fn hello(connection: &Connection, ticket: &Ticket) {
    let mut channel = [0; 32];
    connection.export_keying_material(&mut channel, b"EXPORTER-wormhole-session", b"").unwrap();
    let proof = ticket.secret.prove(&ticket.claims, &channel);
    let hello = Hello {
        version_min: PROTOCOL_VERSION,
        version_max: PROTOCOL_VERSION,
        claims: ticket.claims.clone(),
        proof,
        label: "bare".to_owned(),
    };
    let reply = ask(connection, &call(Request::Hello(hello))).await;
    assert!(matches!(reply, Some(Reply::Welcome(_))), "{reply:?}");
}

fn setup() -> (Arc<Host>, Server, Identity, Ticket) {
    let host = Host::new();
    let (server, identity, ticket) = on_loopback(&host);
    (host, server, identity, ticket)
}

#[tokio::test]
async fn nothing_is_answered_before_the_hello() {
    let (host, server, _, ticket) = setup();
    let mut wrong = ticket.clone();
    wrong.secret = wire::auth::Secret::from_bytes([3; 32]);
    let hello = Hello {
        version_min: PROTOCOL_VERSION,
        version_max: PROTOCOL_VERSION,
        claims: wrong.claims.clone(),
        proof: wrong.secret.prove(&wrong.claims, &[0; 32]),
        label: String::new(),
    };
    // The same refusal for a request, for nonsense and for a wrong proof.
    for bytes in [call(stat()), vec![0xff; 100].into(), call(Request::Hello(hello))] {
        let (_endpoint, connection) = bare(server.local_addrs()[0]).await;
        let reply = ask(&connection, &bytes).await;
        assert_eq!(reply, Some(Reply::error(ErrorCode::Refused)));
        let end = time::timeout(PATIENCE, connection.closed()).await.unwrap();
        assert!(matches!(end, quinn::ConnectionError::ApplicationClosed(_)), "{end}");
    }
    assert_eq!(host.counts.borrow().started, 0);
    connect(&ticket).await.call(stat(), Class::Metadata, soon()).await.unwrap();
}

#[tokio::test]
async fn a_stranger_has_two_seconds_and_one_stream() {
    let (_host, server, _, _) = setup();
    let (_endpoint, connection) = bare(server.local_addrs()[0]).await;
    let start = now();
    let _first = connection.open_bi().await.unwrap();
    let second = time::timeout(Duration::from_millis(200), connection.open_bi()).await;
    assert!(second.is_err(), "a second stream before the hello");
    let end = time::timeout(PATIENCE, connection.closed()).await.unwrap();
    assert!(matches!(end, quinn::ConnectionError::ApplicationClosed(_)), "{end}");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_hello_that_drips_is_cut_off() {
    let (_host, server, _, ticket) = setup();
    let (_endpoint, connection) = bare(server.local_addrs()[0]).await;
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(&call(stat())[..10]).await.unwrap();
    let end = time::timeout(PATIENCE, connection.closed()).await.unwrap();
    let quinn::ConnectionError::ApplicationClosed(close) = &end else { panic!("{end}") };
    assert_ne!(
        close.error_code.into_inner(),
        2,
        "a mount takes that for the host's last word, and stops asking"
    );
    connect(&ticket).await.call(stat(), Class::Metadata, soon()).await.unwrap();
}

#[tokio::test]
async fn what_breaks_the_protocol_is_invalid_and_too_much_of_it_ends_the_session() {
    let (host, server, _, ticket) = setup();
    let mut random = 0x1234_5678_u64;
    let good = call(stat());
    let mut bad: Vec<Vec<u8>> = (1..100)
        .map(|round| {
            let byte = |_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                (random >> 56) as u8
            };
            (0..round * 13 % 3_000).map(byte).collect()
        })
        .collect();
    // A good header with every body, cut and stretched.
    bad.extend((0..good.len()).map(|len| good[..len].into()));
    bad.push([&good[..], b"x"].concat());
    // A second hello, though well-formed.
    let second = Hello {
        version_min: PROTOCOL_VERSION,
        version_max: PROTOCOL_VERSION,
        claims: ticket.claims.clone(),
        proof: ticket.secret.prove(&ticket.claims, &[0; 32]),
        label: String::new(),
    };
    bad.push(call(Request::Hello(second)).into());
    for bad in bad.chunks(15) {
        let (_endpoint, connection) = bare(server.local_addrs()[0]).await;
        hello(&connection, &ticket).await;
        for bytes in bad {
            let reply = ask(&connection, bytes).await;
            assert_eq!(reply, Some(Reply::error(ErrorCode::Invalid)), "{bytes:?}");
        }
        // The same session still works; one more is the last.
        assert!(matches!(ask(&connection, &good).await, Some(Reply::Attr(_))));
        let ended = host.counts.borrow().ended;
        if bad.len() == 15 {
            ask(&connection, b"x").await;
            let end = time::timeout(PATIENCE, connection.closed()).await.unwrap();
            let quinn::ConnectionError::ApplicationClosed(close) = &end else { panic!("{end}") };
            assert_eq!(close.error_code.into_inner(), 5);
            host.until(|counts| counts.ended == ended + 1).await;
            assert_eq!(host.last_end(), Some(SessionEnd::Broken));
        }
    }
    assert!(server.usage().violations_total > 100, "{:?}", server.usage());
    connect(&ticket).await.call(stat(), Class::Metadata, soon()).await.unwrap();
}

/// A server with limits of its own, and a ticket for it.
fn limited(limits: ServerLimits) -> (Server, Ticket) {
    let identity = Identity::generate().unwrap();
    let config = ServerConfig { limits, ..loopback_config(&identity) };
    let server = Server::bind(config, Host::new()).unwrap();
    let ticket = ticket(&identity, &server.local_addrs());
    (server, ticket)
}

#[tokio::test]
async fn a_request_that_drips_is_reset_and_the_session_lives_on() {
    let limits = ServerLimits { request_deadline: Duration::from_millis(50), ..ServerLimits::default() };
    let (server, ticket) = limited(limits);
    let (_endpoint, connection) = bare(server.local_addrs()[0]).await;
    hello(&connection, &ticket).await;
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&call(stat())[..10]).await.unwrap();
    let end = time::timeout(PATIENCE, recv.read_chunk(1, true)).await.unwrap().unwrap_err();
    assert!(matches!(end, quinn::ReadError::Reset(_)), "{end}");
    assert!(matches!(ask(&connection, &call(stat())).await, Some(Reply::Attr(_))));
}

#[tokio::test]
async fn a_crowd_of_strangers_makes_peers_prove_their_address() {
    let (server, ticket) = limited(ServerLimits { strangers_max: 4, ..ServerLimits::default() });
    let (_one, _first) = bare(server.local_addrs()[0]).await;
    let (_two, _second) = bare(server.local_addrs()[0]).await;
    // From here on the way in is a retry longer, and still open.
    connect(&ticket).await.call(stat(), Class::Metadata, soon()).await.unwrap();
}

#[tokio::test]
async fn a_server_full_of_strangers_is_busy_until_their_time_is_up() {
    let (server, ticket) = limited(ServerLimits { strangers_max: 1, ..ServerLimits::default() });
    let (_endpoint, stranger) = bare(server.local_addrs()[0]).await;
    let impatient = ClientConfig { connect_deadline: Duration::from_millis(500), ..ClientConfig::default() };
    let error = Client::connect(ticket.clone(), impatient).await.unwrap_err();
    assert!(matches!(error, ConnectError::Busy), "{error}");
    // Who is more patient knocks again, until the stranger's time is up.
    let patient = connect(&ticket).await;
    time::timeout(PATIENCE, stranger.closed()).await.unwrap();
    patient.call(stat(), Class::Metadata, soon()).await.unwrap();
}
