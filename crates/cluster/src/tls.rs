//! TLS between nodes: 1.3 alone, both sides named by the cluster's authority, never by an address. Opens no socket.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::{
    Resumption, WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name,
};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tutti_base::{Clock, NodeId, Wall};

use crate::identity::{ClusterId, Identity};

/// The one provider of cryptography, passed to every configuration.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let make = || {
        let mut provider = ring::default_provider();
        provider.cipher_suites = vec![
            ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
            ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
            ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ];
        Arc::new(provider)
    };
    PROVIDER.get_or_init(make).clone()
}

/// Why TLS cannot be set up, or a chain does not count.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum TlsError {
    /// The node has no certificate yet.
    #[error("this node has no certificate: it belongs to no cluster yet")]
    NoCertificate,
    /// A certificate or key that cannot be used.
    #[error("TLS: {0}")]
    Unusable(String),
}

impl TlsError {
    fn of(error: impl fmt::Display) -> Self {
        TlsError::Unusable(error.to_string())
    }
}

/// The name in a node's certificate.
pub(crate) fn host_name(cluster: ClusterId, node: NodeId) -> String {
    format!("{node}.{cluster}.tutti.internal")
}

/// The same as a name to be verified.
pub(crate) fn server_name(cluster: ClusterId, node: NodeId) -> ServerName<'static> {
    ServerName::try_from(host_name(cluster, node)).expect("hexadecimal digits and dots are a DNS name")
}

/// Whether `certificate` names `node` of `cluster`. That it was signed is checked by the handshake.
pub(crate) fn names(certificate: &CertificateDer<'_>, cluster: ClusterId, node: NodeId) -> bool {
    let parsed = ParsedCertificate::try_from(certificate);
    parsed.is_ok_and(|parsed| verify_server_name(&parsed, &server_name(cluster, node)).is_ok())
}

/// Whether one of `authorities` signed `certificate`, and it is valid at `now`.
pub(crate) fn check_chain(certificate: &[u8], authorities: &[Vec<u8>], now: Wall) -> Result<(), TlsError> {
    let certificate = CertificateDer::from(certificate);
    let parsed = ParsedCertificate::try_from(&certificate).map_err(TlsError::of)?;
    let now = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
    let algorithms = provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, &roots(authorities)?, &[], now, algorithms)
        .map_err(TlsError::of)
}

/// The time that certificates are checked against: the clock seam's.
pub(crate) struct CertificateTime(pub(crate) Arc<dyn Clock>);

impl fmt::Debug for CertificateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CertificateTime")
    }
}

impl TimeProvider for CertificateTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.wall().0)))
    }
}

/// What new connections use; swapped whole when the certificate is renewed.
pub(crate) struct Tls {
    pub(crate) cluster: ClusterId,
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
}

impl Tls {
    /// Of this identity. The server asks for a certificate and does without one: who joins has none yet.
    pub(crate) fn of(identity: &Identity, clock: &Arc<dyn Clock>) -> Result<Self, TlsError> {
        let own = identity.certificate().ok_or(TlsError::NoCertificate)?;
        if let Err(error) = check_chain(&own.der, identity.authorities(), clock.wall()) {
            // It may still serve alone, and a clock may be put right.
            tracing::warn!(
                "other nodes will refuse this node's certificate ({error}): check the clock, or join again with \
                 `--replace {}`",
                identity.name()
            );
        }
        let chain: Vec<CertificateDer<'static>> = std::iter::once(&own.der)
            .chain(identity.authorities())
            .map(|der| CertificateDer::from(der.clone()))
            .collect();
        let key = || PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.tls_key().to_vec()));
        let roots = Arc::new(roots(identity.authorities())?);
        let time: Arc<dyn TimeProvider> = Arc::new(CertificateTime(clock.clone()));

        let of_servers = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider());
        let mut client = ClientConfig::builder_with_details(provider(), time.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::of)?
            .with_webpki_verifier(of_servers.build().map_err(TlsError::of)?)
            .with_client_auth_cert(chain.clone(), key())
            .map_err(TlsError::of)?;
        // A resumed session would skip the check of a certificate that was renewed or refused meanwhile.
        client.resumption = Resumption::disabled();

        let of_clients =
            WebPkiClientVerifier::builder_with_provider(roots, provider()).allow_unauthenticated();
        let mut server = ServerConfig::builder_with_details(provider(), time)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::of)?
            .with_client_cert_verifier(of_clients.build().map_err(TlsError::of)?)
            .with_single_cert(chain, key())
            .map_err(TlsError::of)?;
        server.send_tls13_tickets = 0;
        Ok(Self { cluster: identity.cluster(), client: Arc::new(client), server: Arc::new(server) })
    }
}

fn roots(authorities: &[Vec<u8>]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for der in authorities {
        roots.add(CertificateDer::from(der.clone())).map_err(TlsError::of)?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_names_one_node_of_one_cluster() {
        let (node, _) = Identity::found("first", Wall(1_800_000_000_000)).unwrap();
        let der = CertificateDer::from(node.certificate().unwrap().der.clone());
        assert!(names(&der, node.cluster(), node.node()));
        assert!(!names(&der, node.cluster(), NodeId(node.node().0 ^ 1)));
        assert!(!names(&der, ClusterId(node.cluster().0 ^ 1), node.node()));
    }
}
