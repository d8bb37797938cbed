//! What is asked and answered on the topic of the roster. Plain values; the order of variants and fields is the protocol.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tutti_base::envelope::Versioned;
use tutti_base::{NodeId, Roles};
use tutti_cluster::{Certificate, ClusterId};

/// The version that this build speaks. It talks to the one before and the one after.
pub const PROTOCOL: u16 = 1;

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// A machine wants in.
    Join(JoinRequest),
    /// A node wants a new certificate; the link says which.
    Renew {
        /// Its certificate request, made by its identity.
        request: Vec<u8>,
    },
}

impl Versioned for Ask {
    const KIND: u8 = 115;
    const VERSION: u16 = 1;
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The machine is a node now.
    Joined(JoinAnswer),
    /// The new certificate.
    Renewed(Renewed),
}

impl Versioned for Answer {
    const KIND: u8 = 116;
    const VERSION: u16 = 1;
}

/// What a machine shows to be let in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// What it speaks: [`PROTOCOL`].
    pub protocol: u16,
    /// The release that it runs.
    pub version: String,
    /// The id of its token.
    pub token: u64,
    /// The secret of its token.
    pub secret: Vec<u8>,
    /// The id that it has chosen.
    pub node: NodeId,
    /// The name that it wants.
    pub name: String,
    /// A name that it takes over, because it was rebuilt: its own.
    pub replace: Option<String>,
    /// What it wants to do; none: all that the token allows.
    pub roles: Option<Roles>,
    /// Where it is to be reached.
    pub addresses: Vec<SocketAddr>,
    /// Its certificate request, made by its identity.
    pub request: Vec<u8>,
    /// The public key that secrets for it are sealed with.
    pub sealing_key: [u8; 32],
    /// What people know it by.
    pub labels: BTreeMap<String, String>,
}

impl std::fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinRequest(`{}`, {:?}, token {:016x})", self.name, self.node, self.token)
    }
}

/// What a machine gets that was let in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JoinAnswer {
    /// The cluster that it belongs to now.
    pub cluster: ClusterId,
    /// The id that it has.
    pub node: NodeId,
    /// Its certificate.
    pub certificate: Certificate,
    /// The certificates (DER) of the authorities to trust, the one in use first.
    pub authorities: Vec<Vec<u8>>,
    /// The other nodes.
    pub members: Vec<Member>,
}

/// Another node, and where it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where it is reached.
    pub addresses: Vec<SocketAddr>,
}

/// A renewed certificate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Renewed {
    /// The certificate.
    pub certificate: Certificate,
    /// The certificates (DER) of the authorities to trust, the one in use first.
    pub authorities: Vec<Vec<u8>>,
}
