//! The cluster's certificate authority: founds it, signs for nodes. Who may have a certificate is decided elsewhere.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber, SignatureAlgorithm,
};
use rustls::SignatureScheme;
use serde::{Deserialize, Serialize};
use tutti_base::envelope::{self, EnvelopeError, Versioned};
use tutti_base::{NodeId, Wall};
use zeroize::Zeroizing;

use crate::identity::{ClusterId, Secret, random};
use crate::tls;

/// How long a node's certificate is valid. It is renewed at half of that.
pub const NODE_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long an authority's certificate is valid.
pub const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
/// How far a certificate's beginning lies in the past, for machines whose clocks are behind.
pub const BACKDATED: Duration = Duration::from_secs(24 * 60 * 60);

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The library that writes certificates refused.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The request is not one.
    #[error("certificate request: {0}")]
    Envelope(#[from] EnvelopeError),
    /// The one who asks does not have the private key, or asks for another node.
    #[error("the certificate request of node {0} is not proven by its key")]
    NotProven(NodeId),
    /// The kernel gives no random bytes.
    #[error("the kernel gives no random bytes for a serial number")]
    Random,
}

/// A node's certificate, with the times that a renewal needs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Certificate {
    /// The certificate itself (DER).
    pub der: Vec<u8>,
    /// When it was signed.
    pub issued: Wall,
    /// When it ends.
    pub expires: Wall,
}

impl Certificate {
    /// When it should be renewed.
    pub fn half_life(&self) -> Wall {
        self.issued + self.expires.since(self.issued) / 2
    }
}

impl Versioned for Certificate {
    const KIND: u8 = 74;
    const VERSION: u16 = 1;
}

/// What a node asks with: its public key, and a signature over that and its id.
#[derive(Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) node: NodeId,
    /// The uncompressed point of a P-256 key.
    pub(crate) public: Vec<u8>,
    pub(crate) proof: Vec<u8>,
}

impl Versioned for Request {
    const KIND: u8 = 71;
    const VERSION: u16 = 1;
}

impl Request {
    /// The bytes that the proof signs.
    pub(crate) fn proven(node: NodeId, public: &[u8]) -> Vec<u8> {
        [b"tutti certificate request 1".as_slice(), &node.0.to_le_bytes(), public].concat()
    }
}

impl PublicKeyData for Request {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// What is kept of an authority: a secret.
#[derive(Serialize, Deserialize)]
struct Kept {
    cluster: ClusterId,
    key: Secret,
    certificate: Vec<u8>,
}

impl Versioned for Kept {
    const KIND: u8 = 75;
    const VERSION: u16 = 1;
}

/// A cluster's certificate authority with its key. Only voters hold one.
pub struct Authority {
    cluster: ClusterId,
    certificate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({:?})", self.cluster)
    }
}

impl Authority {
    /// A new authority for `cluster`, valid for [`AUTHORITY_LIFETIME`].
    pub fn create(cluster: ClusterId, now: Wall) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = issuer_params(cluster);
        params.serial_number = Some(serial()?);
        set_validity(&mut params, now, AUTHORITY_LIFETIME);
        let certificate = params.self_signed(&key)?.der().to_vec();
        Ok(Self { cluster, certificate, issuer: Issuer::new(params, key) })
    }

    /// The authority that [`Authority::secret`] kept.
    pub fn from_secret(secret: &[u8]) -> Result<Self, AuthorityError> {
        let kept: Kept = envelope::open(secret)?;
        Self::from_key(kept.cluster, kept.key.bytes(), kept.certificate)
    }

    /// The authority of `cluster` with this private key (PKCS #8) and certificate (DER).
    pub fn from_key(cluster: ClusterId, key: &[u8], certificate: Vec<u8>) -> Result<Self, AuthorityError> {
        let key = KeyPair::try_from(key)?;
        Ok(Self { cluster, certificate, issuer: Issuer::new(issuer_params(cluster), key) })
    }

    /// All of it, to be sealed to the nodes that may hold it: an envelope, a secret.
    pub fn secret(&self) -> Zeroizing<Vec<u8>> {
        let key = Secret::from(self.issuer.key().serialize_der());
        let kept = Kept { cluster: self.cluster, key, certificate: self.certificate.clone() };
        Zeroizing::new(envelope::seal(&kept))
    }

    /// The cluster whose authority it is.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }
    /// Its certificate (DER), which is public.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Signs for `node`, for [`NODE_LIFETIME`], once the request is proven to be that node's.
    pub fn sign(
        &self,
        request: &[u8],
        node: NodeId,
        name: &str,
        now: Wall,
    ) -> Result<Certificate, AuthorityError> {
        self.sign_for(request, node, name, now, NODE_LIFETIME)
    }

    /// As [`Authority::sign`], for `lifetime` from `now`.
    pub fn sign_for(
        &self,
        request: &[u8],
        node: NodeId,
        name: &str,
        now: Wall,
        lifetime: Duration,
    ) -> Result<Certificate, AuthorityError> {
        let request: Request = envelope::open(request)?;
        check_proof(&request, node)?;
        let params = node_params(self.cluster, node, name, now, lifetime)?;
        let der = params.signed_by(&request, &self.issuer)?.der().to_vec();
        Ok(Certificate { der, issued: now, expires: now + lifetime })
    }
}

fn check_proof(request: &Request, node: NodeId) -> Result<(), AuthorityError> {
    let mapping = tls::provider().signature_verification_algorithms.mapping;
    let scheme = mapping.iter().find(|(scheme, _)| *scheme == SignatureScheme::ECDSA_NISTP256_SHA256);
    let proven = Request::proven(node, &request.public);
    let algorithm = scheme.and_then(|(_, algorithms)| algorithms.first());
    let good =
        algorithm.is_some_and(|a| a.verify_signature(&request.public, &proven, &request.proof).is_ok());
    if good && request.node == node { Ok(()) } else { Err(AuthorityError::NotProven(node)) }
}

/// A node's certificate names the node and the cluster, and no address.
fn node_params(
    cluster: ClusterId,
    node: NodeId,
    name: &str,
    now: Wall,
    lifetime: Duration,
) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::new([tls::host_name(cluster, node)])?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(serial()?);
    set_validity(&mut params, now, lifetime);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn issuer_params(cluster: ClusterId) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("authority of tutti cluster {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn serial() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0; 16];
    random(&mut bytes).map_err(|_| AuthorityError::Random)?;
    bytes[0] &= 0x7f;
    Ok(SerialNumber::from_slice(&bytes))
}

fn set_validity(params: &mut CertificateParams, now: Wall, lifetime: Duration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.since(Wall(BACKDATED.as_millis() as u64));
    params.not_after = epoch + (now + lifetime).since(Wall(0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    const NOW: Wall = Wall(1_800_000_000_000);

    #[test]
    fn an_authority_is_the_same_after_it_was_kept() {
        let (node, made) = Identity::found("first", NOW).unwrap();
        let kept = Authority::from_secret(&made.secret()).unwrap();
        assert_eq!((kept.cluster(), kept.certificate()), (made.cluster(), made.certificate()));
        let signed = kept.sign(&node.request().unwrap(), node.node(), "first", NOW).unwrap();
        assert_eq!(signed.expires, NOW + NODE_LIFETIME);
        assert_eq!(tls::check_chain(&signed.der, &[made.certificate().to_vec()], NOW), Ok(()));
        assert!(
            tls::check_chain(&signed.der, &[made.certificate().to_vec()], signed.expires + BACKDATED)
                .is_err()
        );
    }

    #[test]
    fn a_request_counts_only_for_the_node_whose_key_signed_it() {
        let (node, authority) = Identity::found("first", NOW).unwrap();
        let request = node.request().unwrap();
        let other = NodeId(node.node().0 ^ 1);
        assert!(matches!(authority.sign(&request, other, "x", NOW), Err(AuthorityError::NotProven(_))));
        let mut stolen: Request = envelope::open(&request).unwrap();
        stolen.public =
            envelope::open::<Request>(&Identity::new("b").unwrap().request().unwrap()).unwrap().public;
        let sealed = envelope::seal(&stolen);
        assert!(matches!(authority.sign(&sealed, node.node(), "x", NOW), Err(AuthorityError::NotProven(_))));
    }

    #[test]
    fn a_certificate_holds_no_address_and_printing_an_authority_no_key() {
        let (node, authority) = Identity::found("first", NOW).unwrap();
        let der = &node.certificate().unwrap().der;
        let name = tls::host_name(node.cluster(), node.node());
        // The alternative names (RFC 5280 §4.2.1.6) are this one DNS name and nothing else.
        let length = name.len() as u8;
        let only =
            [&[0x55, 0x1d, 0x11, 4, length + 4, 0x30, length + 2, 0x82, length], name.as_bytes()].concat();
        assert!(der.windows(only.len()).any(|window| window == only));
        assert_eq!(format!("{authority:?}"), format!("Authority({:?})", authority.cluster()));
    }
}
