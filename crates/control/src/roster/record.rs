//! What is stored of a node and of the cluster. Plain values with their limits.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tutti_base::envelope::Versioned;
use tutti_base::{NodeId, Roles, Wall};
use tutti_cluster::ClusterId;

use super::{ADDRESSES_MAX, LABELS_MAX, NAME_MAX, RosterError};

/// How a node stands in the cluster: what people decided, not what is observed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It takes part.
    #[default]
    Active,
    /// It finishes what it has and takes nothing new; it stays a member.
    Draining {
        /// What the person gave as the reason.
        why: String,
        /// When that was.
        since: Wall,
    },
    /// It is being removed: it gives up its vote, then it is removed.
    Leaving {
        /// When that began.
        since: Wall,
    },
    /// It is a member no more: its certificate is refused everywhere.
    Removed {
        /// When that was.
        since: Wall,
    },
}

impl Standing {
    /// The word in output and metrics.
    pub const fn word(&self) -> &'static str {
        match self {
            Standing::Active => "active",
            Standing::Draining { .. } => "draining",
            Standing::Leaving { .. } => "leaving",
            Standing::Removed { .. } => "removed",
        }
    }
    /// Whether it is a member no more.
    pub const fn is_removed(&self) -> bool {
        matches!(self, Standing::Removed { .. })
    }
    /// Whether it is to stay a member: active or draining.
    pub const fn stays(&self) -> bool {
        matches!(self, Standing::Active | Standing::Draining { .. })
    }
}

/// One node, as the cluster knows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its id, never used again.
    pub id: NodeId,
    /// Its name, unique among the nodes that were not removed.
    pub name: String,
    /// What it does.
    pub roles: Roles,
    /// Where other nodes reach it, best first.
    pub addresses: Vec<SocketAddr>,
    /// The public key that secrets for it are sealed with (X25519).
    pub sealing_key: [u8; 32],
    /// How it stands.
    pub standing: Standing,
    /// When it joined.
    pub joined: Wall,
    /// What people know it by.
    pub labels: BTreeMap<String, String>,
}

impl Versioned for NodeRecord {
    const KIND: u8 = 111;
    const VERSION: u16 = 1;
}

impl NodeRecord {
    /// Whether its fields keep their limits.
    pub(super) fn check(&self) -> Result<(), RosterError> {
        check_name(&self.name)?;
        let (name, some) = (&self.name, self.addresses.len());
        if some > ADDRESSES_MAX {
            return Err(RosterError::Invalid(format!(
                "node `{name}` has {some} addresses; it may have {ADDRESSES_MAX}"
            )));
        }
        let is_long = |text: &String| text.len() > LABELS_MAX * 2;
        if self.labels.len() > LABELS_MAX || self.labels.iter().any(|(key, of)| is_long(key) || is_long(of)) {
            return Err(RosterError::Invalid(format!(
                "node `{name}` may have {LABELS_MAX} labels of {} bytes each",
                LABELS_MAX * 2
            )));
        }
        if self.id == NodeId(0) {
            return Err(RosterError::Invalid(format!("node `{name}` has the id 0, which stands for nobody")));
        }
        Ok(())
    }
}

/// Whether `name` may name a node; the same rule as an identity's.
pub(crate) fn check_name(name: &str) -> Result<(), RosterError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(fits) {
        return Err(RosterError::Name(name.chars().take(NAME_MAX).collect()));
    }
    Ok(())
}

/// What there is one of in a cluster. Written at the founding; the certificates may grow by a successor.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// Names the cluster.
    pub id: ClusterId,
    /// The certificates (DER) of its authority, the one in use first.
    pub authorities: Vec<Vec<u8>>,
    /// When it was founded.
    pub founded: Wall,
}

impl Versioned for ClusterRecord {
    const KIND: u8 = 112;
    const VERSION: u16 = 1;
}

/// Counts the changes of the roster: every change writes it under the condition that nobody else did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub(super) changes: u64,
}

impl Versioned for Stamp {
    const KIND: u8 = 113;
    const VERSION: u16 = 1;
}
