//! How a server and its cluster are. Values only.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tutti_base::{NodeState, Wall};

/// How the server is.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// The node's name.
    pub node: String,
    /// The server's version.
    pub version: String,
    /// `ready`, `starting` or `draining`.
    pub state: String,
    /// When it was started.
    pub started: Wall,
    /// For how long it has run, in seconds.
    pub uptime_s: u64,
    /// The process id.
    pub pid: u32,
    /// The data directory.
    pub data: String,
    /// The cluster document's revision.
    pub document_revision: u64,
    /// The services and where they answer.
    pub services: Vec<ServiceStatus>,
    /// Requests answered since the start.
    pub requests: u64,
    /// Those answered from the render cache.
    pub hits: u64,
    /// Work done by engines.
    pub renders: u64,
    /// Engines running.
    pub engines: u64,
    /// The nodes of the cluster as this one sees them, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeStatus>,
    /// The name of the leader, if there is one.
    #[serde(default)]
    pub leader: Option<String>,
    /// The shape that runs, such as `master-slave`.
    #[serde(default)]
    pub topology: String,
    /// What the quorum means, and what to do: one sentence.
    #[serde(default)]
    pub quorum: String,
    /// The address that the cluster answers on.
    #[serde(default)]
    pub cluster_address: Option<ClusterAddress>,
    /// What somebody should look at.
    #[serde(default)]
    pub alerts: Vec<String>,
    /// The newest revision of the store that reads here show.
    #[serde(default)]
    pub revision: u64,
    /// Where this node sent work, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Choice>,
    /// Anything else worth showing, by name.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub more: serde_json::Map<String, Value>,
}

/// One service.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// One line about it.
    pub summary: String,
    /// Where it answers.
    pub mounts: Vec<String>,
}

/// One node, as the node that was asked sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Its id, 16 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: NodeState,
    /// What it does: `front`, `worker`, `voter`, `cache`.
    pub roles: Vec<String>,
    /// The version that it runs.
    pub version: String,
    /// Whether it is the one that was asked.
    pub is_me: bool,
    /// What it does in the replicated store: `voter`, `learner` or `none`.
    pub voter: String,
    /// Whether it leads.
    pub leader: bool,
    /// Whether it holds the cluster address.
    pub holds_address: bool,
    /// How much of its CPU is used, 0 to 100.
    pub used_pct: u8,
    /// What is left of it.
    pub free_pct: u8,
    /// Jobs that it has accepted, running or waiting.
    pub jobs: u64,
    /// Predicted CPU time of these, in ms.
    pub backlog_ms: u64,
    /// Requests answered since it started.
    pub requests: u64,
    /// The share of requests answered from its caches lately, 0 to 100.
    pub hit_pct: u8,
    /// How long ago it was last heard, in ms; 0 for the one that was asked.
    pub heard_ms_ago: u64,
    /// Round-trip time to it, in microseconds.
    pub rtt_us: u64,
    /// Room of its caches, in MiB.
    pub cache_mib: u64,
    /// Where other nodes reach it. Shown on the socket alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
}

/// The address that the cluster answers on.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ClusterAddress {
    /// The address.
    pub address: String,
    /// The name of the node that holds it, if one does.
    pub holder: Option<String>,
}

/// How often this node sent work somewhere, for one reason.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Choice {
    /// Where to.
    pub node: String,
    /// Why.
    pub reason: String,
    /// How often since the start.
    pub count: u64,
}
