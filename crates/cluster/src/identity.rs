//! Who this node is: its id, name, keys and certificates, and how they are kept. The keys are made here and never leave.

mod slots;

use std::fmt;
use std::net::SocketAddr;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, SigningKey};
use serde::{Deserialize, Serialize};
use tutti_base::disk::Disk;
use tutti_base::envelope::{self, EnvelopeError, Versioned};
use tutti_base::{NodeId, Wall};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

use crate::authority::{Authority, AuthorityError, Certificate, Request};
use slots::Slots;

/// The file that holds it, in the folder of what must survive.
pub const IDENTITY_FILE: &str = "node.identity";
/// The longest name of a node, in bytes.
pub const NAME_MAX: usize = 63;
/// The most peers that are remembered for the next start.
pub const KNOWN_PEERS_MAX: usize = 256;
/// The most removed nodes that are remembered for the next start; beyond it the oldest are forgotten. More than the
/// roster remembers, and for longer than their certificates are valid.
pub const KNOWN_REMOVED_MAX: usize = 1024;
/// The most authorities that are trusted at once: the one in force, and others while it is replaced.
pub const AUTHORITIES_MAX: usize = 4;

/// Says the domain of the hash of a key, so that it is of no use anywhere else.
const KEY_DOMAIN: &str = "tutti 2026-11 public key of a node";

/// Names a cluster for good: random, never 0. Shown as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster {self}")
    }
}

/// A peer as it was known last: where a node that starts looks for its cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KnownPeer {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where it is reached.
    pub addresses: Vec<SocketAddr>,
}

/// Why an identity cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk failed.
    #[error("{IDENTITY_FILE}: {0}")]
    Disk(#[from] std::io::Error),
    /// Both copies are damaged: the node needs to join anew.
    #[error(
        "{IDENTITY_FILE} is damaged in both copies; restore it, or remove it and join again with `--replace NAME`"
    )]
    Damaged,
    /// Written by a newer or much older build.
    #[error("{IDENTITY_FILE}: {0}")]
    Envelope(#[from] EnvelopeError),
    /// It holds more than fits.
    #[error("an identity of {bytes} bytes does not fit into {limit}; forget some peers")]
    TooLong {
        /// How long it is.
        bytes: usize,
        /// What fits.
        limit: usize,
    },
    /// A name that cannot be.
    #[error("`{0}` cannot name a node: use 1 to {NAME_MAX} letters, digits, `-`, `_` and `.`")]
    Name(String),
    /// The kernel gives no random bytes.
    #[error("the kernel gives no random bytes: {0}")]
    Random(String),
    /// A key or certificate that cannot be used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// Bytes that are wiped when they are dropped.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Secret(Vec<u8>);

impl Secret {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What is kept on the disk.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    node: NodeId,
    name: String,
    cluster: ClusterId,
    tls_key: Secret,
    sealing_key: Secret,
    certificate: Option<Certificate>,
    authorities: Vec<Vec<u8>>,
    peers: Vec<KnownPeer>,
    /// Nodes that were removed from the cluster, the last one last.
    removed: Vec<NodeId>,
}

impl Versioned for Kept {
    const KIND: u8 = 70;
    const VERSION: u16 = 2;

    fn migrate(version: u16, payload: &[u8]) -> Result<Self, EnvelopeError> {
        match version {
            1 => envelope::payload::<KeptBefore>(Self::KIND, payload).map(Self::from),
            found => Err(EnvelopeError::Version { kind: Self::KIND, found, newest: Self::VERSION }),
        }
    }
}

/// Version 1, which remembered no removed nodes.
#[derive(Serialize, Deserialize)]
struct KeptBefore {
    node: NodeId,
    name: String,
    cluster: ClusterId,
    tls_key: Secret,
    sealing_key: Secret,
    certificate: Option<Certificate>,
    authorities: Vec<Vec<u8>>,
    peers: Vec<KnownPeer>,
}

impl From<KeptBefore> for Kept {
    fn from(before: KeptBefore) -> Self {
        let KeptBefore { node, name, cluster, tls_key, sealing_key, certificate, authorities, peers } =
            before;
        let removed = Vec::new();
        Self { node, name, cluster, tls_key, sealing_key, certificate, authorities, peers, removed }
    }
}

/// Who this node is. Printing it shows no key.
#[derive(Clone)]
pub struct Identity(Kept);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} `{}` of {:?})", self.node(), self.name(), self.cluster())
    }
}

impl Identity {
    /// A node without a cluster yet: fresh keys, a random id.
    pub fn new(name: &str) -> Result<Self, IdentityError> {
        check_name(name)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::from)?;
        let mut sealing_key = Secret(vec![0; 32]);
        random(&mut sealing_key.0)?;
        Ok(Self(Kept {
            node: NodeId(random_id()?),
            name: name.into(),
            cluster: ClusterId(0),
            tls_key: Secret(key.serialize_der()),
            sealing_key,
            certificate: None,
            authorities: Vec::new(),
            peers: Vec::new(),
            removed: Vec::new(),
        }))
    }

    /// The first node of a new cluster, and the authority that it founds.
    pub fn found(name: &str, now: Wall) -> Result<(Self, Authority), IdentityError> {
        let mut identity = Self::new(name)?;
        let authority = Authority::create(ClusterId(random_id()?), now)?;
        identity.0.cluster = authority.cluster();
        let certificate = authority.sign(&identity.request()?, identity.node(), name, now)?;
        identity.admit(authority.cluster(), certificate, vec![authority.certificate().to_vec()]);
        Ok((identity, authority))
    }

    /// Reads what [`Identity::save`] wrote; `None` when nothing was ever saved whole.
    pub fn load(disk: &dyn Disk) -> Result<Option<Self>, IdentityError> {
        let Some(bytes) = Slots::open(disk)?.newest()? else { return Ok(None) };
        let kept: Kept = envelope::open(&bytes)?;
        if kept.sealing_key.0.len() == 32 { Ok(Some(Self(kept))) } else { Err(IdentityError::Damaged) }
    }

    /// Keeps it: once this returns it is on stable storage; a power cut before leaves the one before.
    pub fn save(&self, disk: &dyn Disk) -> Result<(), IdentityError> {
        let bytes = Zeroizing::new(envelope::seal(&self.0));
        Slots::open(disk)?.write(&bytes)
    }

    /// The node's id.
    pub fn node(&self) -> NodeId {
        self.0.node
    }
    /// The node's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }
    /// The cluster's id; 0 before the node belongs to one.
    pub fn cluster(&self) -> ClusterId {
        self.0.cluster
    }
    /// Its certificate, once it belongs to a cluster.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.0.certificate.as_ref()
    }
    /// The certificates of the authorities that it trusts (DER), the one that signed its own first.
    pub fn authorities(&self) -> &[Vec<u8>] {
        &self.0.authorities
    }
    /// Peers as they were known last.
    pub fn peers(&self) -> &[KnownPeer] {
        &self.0.peers
    }

    /// Nodes that were removed from the cluster: [`crate::Links::start`] refuses them before it accepts anybody.
    pub fn removed(&self) -> &[NodeId] {
        &self.0.removed
    }

    /// Remembers for the next start that these were removed; those beyond [`KNOWN_REMOVED_MAX`] push the oldest out.
    /// Whether any was new: save it then.
    pub fn add_removed(&mut self, nodes: impl IntoIterator<Item = NodeId>) -> bool {
        let removed = &mut self.0.removed;
        let mut any_new = false;
        for node in nodes {
            if !removed.contains(&node) {
                removed.push(node);
                any_new = true;
            }
        }
        removed.drain(..removed.len().saturating_sub(KNOWN_REMOVED_MAX));
        any_new
    }
    /// Remembers peers for the next start; those beyond [`KNOWN_PEERS_MAX`] are left out.
    pub fn set_peers(&mut self, peers: Vec<KnownPeer>) {
        self.0.peers = peers;
        self.0.peers.truncate(KNOWN_PEERS_MAX);
    }
    /// Takes another name.
    pub fn set_name(&mut self, name: &str) -> Result<(), IdentityError> {
        check_name(name)?;
        self.0.name = name.into();
        Ok(())
    }
    /// Takes another id, before it has a certificate: a rebuilt machine under an old name.
    pub fn set_node(&mut self, node: NodeId) {
        self.0.node = node;
        self.0.certificate = None;
    }

    /// Belongs to `cluster` from now on, with this certificate. Also how a renewed certificate is taken.
    pub fn admit(&mut self, cluster: ClusterId, certificate: Certificate, authorities: Vec<Vec<u8>>) {
        if self.0.cluster != cluster {
            self.0.removed.clear();
        }
        self.0.cluster = cluster;
        self.0.certificate = Some(certificate);
        self.0.authorities = authorities;
        self.0.authorities.truncate(AUTHORITIES_MAX);
    }

    /// Asks an authority for a certificate: the public key, and a proof that this node has the private one. An envelope.
    pub fn request(&self) -> Result<Vec<u8>, IdentityError> {
        let key = self.key_pair()?;
        let public = key.public_key_raw().to_vec();
        let proof = key.sign(&Request::proven(self.node(), &public)).map_err(AuthorityError::from)?;
        Ok(envelope::seal(&Request { node: self.node(), public, proof }))
    }

    /// When to ask for a new certificate: half of its life, or at once when there is none.
    pub fn renew_at(&self) -> Wall {
        self.0.certificate.as_ref().map_or(Wall(0), Certificate::half_life)
    }

    /// The private TLS key (PKCS #8), for this node's own listener.
    pub(crate) fn tls_key(&self) -> &[u8] {
        self.0.tls_key.bytes()
    }
    /// The private key with which this node opens what was sealed to it.
    pub fn sealing_key(&self) -> StaticSecret {
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(self.0.sealing_key.bytes());
        StaticSecret::from(*key)
    }
    /// The public half: what others seal to.
    pub fn sealing_public(&self) -> [u8; 32] {
        PublicKey::from(&self.sealing_key()).to_bytes()
    }

    fn key_pair(&self) -> Result<KeyPair, AuthorityError> {
        Ok(KeyPair::try_from(self.tls_key())?)
    }
}

/// The hash of the public key in what [`Identity::request`] made: the same in every request of one identity. That the one
/// who asks holds the private key is checked by [`Authority::sign`] alone.
pub fn key_of_request(request: &[u8]) -> Result<[u8; 32], AuthorityError> {
    let request: Request = envelope::open(request)?;
    Ok(blake3::derive_key(KEY_DOMAIN, &request.public))
}

fn check_name(name: &str) -> Result<(), IdentityError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let good = (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(fits);
    if good { Ok(()) } else { Err(IdentityError::Name(name.into())) }
}

/// Fills `into` from the kernel: for secrets and for ids that must never meet.
pub(crate) fn random(into: &mut [u8]) -> Result<(), IdentityError> {
    getrandom::fill(into).map_err(|error| IdentityError::Random(error.to_string()))
}

fn random_id() -> Result<u64, IdentityError> {
    let mut bytes = [0; 8];
    random(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MemoryDisk;

    impl Versioned for KeptBefore {
        const KIND: u8 = Kept::KIND;
        const VERSION: u16 = 1;
    }

    const NOW: Wall = Wall(1_800_000_000_000);

    #[test]
    fn an_identity_is_read_as_it_was_saved() {
        let disk = MemoryDisk::default();
        assert!(Identity::load(&disk).unwrap().is_none());
        let (mut made, _) = Identity::found("first", NOW).unwrap();
        made.set_peers(vec![KnownPeer {
            id: NodeId(7),
            name: "second".into(),
            addresses: vec!["10.0.0.2:8400".parse().unwrap()],
        }]);
        made.save(&disk).unwrap();
        let read = Identity::load(&disk).unwrap().expect("it was saved");
        assert_eq!(envelope::seal(&read.0), envelope::seal(&made.0));
        assert_eq!(read.sealing_public(), made.sealing_public());
    }

    #[test]
    fn an_identity_of_the_version_before_is_read_and_knows_no_removed_nodes() {
        let (made, _) = Identity::found("first", NOW).unwrap();
        let Kept { node, name, cluster, tls_key, sealing_key, certificate, authorities, .. } = made.0.clone();
        let peers = vec![KnownPeer { id: NodeId(7), name: "second".into(), addresses: Vec::new() }];
        let before =
            KeptBefore { node, name, cluster, tls_key, sealing_key, certificate, authorities, peers };
        let disk = MemoryDisk::default();
        Slots::open(&disk).unwrap().write(&envelope::seal(&before)).unwrap();
        let read = Identity::load(&disk).unwrap().expect("it was saved");
        assert_eq!((read.node(), read.certificate()), (made.node(), made.certificate()));
        assert_eq!((read.sealing_public(), read.tls_key()), (made.sealing_public(), made.tls_key()));
        assert_eq!((read.peers().len(), read.removed()), (1, &[][..]));
    }

    #[test]
    fn removed_nodes_are_remembered_up_to_the_limit_the_last_ones_longest() {
        let (mut made, _) = Identity::found("first", NOW).unwrap();
        assert!(made.add_removed([NodeId(1), NodeId(2)]));
        assert!(!made.add_removed([NodeId(2)]), "nothing new to save");
        assert!(made.add_removed((3..=KNOWN_REMOVED_MAX as u64 + 1).map(NodeId)));
        assert_eq!((made.removed().len(), made.removed()[0]), (KNOWN_REMOVED_MAX, NodeId(2)));
        let address = "[2001:db8:1:2:3:4:5:6]:65535".parse().unwrap();
        let peer = |id| KnownPeer { id: NodeId(id), name: "x".repeat(NAME_MAX), addresses: vec![address; 8] };
        made.set_peers((0..KNOWN_PEERS_MAX as u64).map(|id| peer(u64::MAX - id)).collect());
        let disk = MemoryDisk::default();
        made.save(&disk).expect("it fits with all the peers that may be");
        assert_eq!(Identity::load(&disk).unwrap().unwrap().removed(), made.removed());
        let (other, authority) = Identity::found("other", NOW).unwrap();
        let certificate = other.certificate().unwrap().clone();
        made.admit(authority.cluster(), certificate, Vec::new());
        assert_eq!(made.removed(), [], "another cluster has other nodes");
    }

    #[test]
    fn the_key_of_a_request_is_the_same_in_every_request_of_one_identity_alone() {
        let (one, two) = (Identity::new("one").unwrap(), Identity::new("two").unwrap());
        let key = |of: &Identity| key_of_request(&of.request().unwrap()).unwrap();
        assert_eq!(key(&one), key(&one));
        assert_ne!(key(&one), key(&two));
        assert!(key_of_request(b"forged").is_err());
    }

    #[test]
    fn printing_an_identity_shows_no_key() {
        let (made, _) = Identity::found("first", NOW).unwrap();
        assert_eq!(format!("{made:?}"), format!("Identity({} `first` of {:?})", made.node(), made.cluster()));
    }

    #[test]
    fn names_are_words() {
        assert!(Identity::new("rack-1.node_2").is_ok());
        for name in ["", "two words", "ä", &"x".repeat(NAME_MAX + 1)] {
            assert!(matches!(Identity::new(name), Err(IdentityError::Name(_))), "`{name}`");
        }
    }

    #[test]
    fn a_certificate_is_due_at_half_of_its_life() {
        let (made, _) = Identity::found("first", NOW).unwrap();
        let certificate = made.certificate().unwrap();
        assert_eq!(made.renew_at(), NOW + certificate.expires.since(NOW) / 2);
        assert_eq!(Identity::new("blank").unwrap().renew_at(), Wall(0));
    }
}
