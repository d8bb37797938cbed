//! Purges as people ask for them, and what became of them. Values only.

use serde::{Deserialize, Serialize};

/// What to purge: exactly one of these.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum PurgeRequest {
    /// What was answered for this URL or path.
    Url(String),
    /// Everything made of this source.
    Source(String),
    /// Everything with this tag.
    Tag(String),
    /// Everything; the value must be true.
    All(bool),
}

/// What a purge did.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PurgeReport {
    /// Its number in the node's purge log.
    pub sequence: u64,
    /// One line for people.
    pub text: String,
    /// The nodes that have it, by name.
    #[serde(default)]
    pub reached: Vec<String>,
    /// The nodes that have not got it yet, by name. They get it before they use their caches again.
    #[serde(default)]
    pub not_reached: Vec<String>,
}
