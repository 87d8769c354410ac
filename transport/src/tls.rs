//! TLS 1.3 with raw public keys (RFC 7250): the host shows its key, the mount compares it with the ticket's.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs as aws_lc, verify_tls13_signature_with_raw_key},
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
    },
    server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage},
    sign::CertifiedKey,
};

use crate::{identity::Identity, keylog::KeyLog};

/// What stands in front of an Ed25519 key in its SubjectPublicKeyInfo. Source: RFC 8410, section 10.1.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The exporter's label, to which a proof is bound. Source: RFC 8446, section 7.5.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-wormhole-session";

fn spki(public: &[u8; 32]) -> Vec<u8> {
    [&SPKI_PREFIX[..], public].concat()
}

/// AWS-LC, with AES-128-GCM first: the client's order decides, and it is the cheapest with AES instructions. The key exchange
/// is X25519 or one of the NIST curves.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc::default_provider();
    provider.cipher_suites = vec![
        aws_lc::cipher_suite::TLS13_AES_128_GCM_SHA256,
        aws_lc::cipher_suite::TLS13_AES_256_GCM_SHA384,
        aws_lc::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    provider.kx_groups =
        vec![aws_lc::kx_group::X25519, aws_lc::kx_group::SECP256R1, aws_lc::kx_group::SECP384R1];
    Arc::new(provider)
}

/// The host's side.
pub(crate) fn server(identity: &Identity, key_log: Option<KeyLog>) -> Result<Arc<QuicServerConfig>, Error> {
    let provider = provider();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.pkcs8()));
    let key = provider.key_provider.load_private_key(key.clone_key())?;
    let certified = CertifiedKey::new(vec![CertificateDer::from(spki(&identity.public_key()))], key);
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::new(certified))));
    config.alpn_protocols = vec![wire::version::ALPN.into()];
    if let Some(key_log) = key_log {
        config.key_log = Arc::new(key_log);
    }
    // A resumed session would show no key, and saves nothing: a mount connects once.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    let config = QuicServerConfig::try_from(config).map_err(|error| Error::General(error.to_string()))?;
    Ok(Arc::new(config))
}

/// The mount's side, for one attempt: the second value tells whether another key than `host_key` was shown.
pub(crate) fn client(
    host_key: &[u8; 32],
    key_log: Option<KeyLog>,
) -> Result<(Arc<QuicClientConfig>, Arc<AtomicBool>), Error> {
    let provider = provider();
    let mismatch = Arc::new(AtomicBool::new(false));
    let pin = Pin { spki: spki(host_key), mismatch: mismatch.clone(), provider: provider.clone() };
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pin))
        .with_no_client_auth();
    config.alpn_protocols = vec![wire::version::ALPN.into()];
    if let Some(key_log) = key_log {
        config.key_log = Arc::new(key_log);
    }
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    let config = QuicClientConfig::try_from(config).map_err(|error| Error::General(error.to_string()))?;
    Ok((Arc::new(config), mismatch))
}

/// The value both ends get and nobody else: proofs are bound to it. `None` cannot happen after a handshake.
pub(crate) fn channel(connection: &quinn::Connection) -> Option<[u8; 32]> {
    let mut channel = [0; 32];
    connection.export_keying_material(&mut channel, EXPORTER_LABEL, b"").ok().map(|()| channel)
}

/// Accepts one key.
#[derive(Debug)]
struct Pin {
    spki: Vec<u8>,
    mismatch: Arc<AtomicBool>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if end_entity.as_ref() == self.spki {
            Ok(ServerCertVerified::assertion())
        } else {
            self.mismatch.store(true, Ordering::Relaxed);
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("QUIC has no TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = SubjectPublicKeyInfoDer::from(cert.as_ref());
        verify_tls13_signature_with_raw_key(
            message,
            &spki,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
