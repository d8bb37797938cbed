//! What concerns one machine: its caches, its checks, its listeners, the URLs it makes. Values only.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What the caches hold.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CacheStats {
    /// Results ("render cache").
    pub results: CacheHoldings,
    /// Originals ("asset cache").
    pub originals: CacheHoldings,
}

/// What one cache holds.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CacheHoldings {
    /// Entries in memory.
    pub resident: u64,
    /// Their bytes.
    pub resident_bytes: u64,
    /// Entries on disk.
    pub kept: u64,
    /// Their bytes.
    pub kept_bytes: u64,
    /// The most bytes the disk may take.
    pub disk_limit_bytes: u64,
    /// Whether the disk is in use.
    pub disk_ok: bool,
}

/// What an image URL is wanted for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UrlRequest {
    /// The original's URL.
    pub source: String,
    /// Options in the image dialect.
    #[serde(default)]
    pub options: Vec<String>,
    /// The format to write.
    #[serde(default)]
    pub format: Option<String>,
}

/// An image URL.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UrlAnswer {
    /// The URL on the server's first HTTP address.
    pub url: String,
    /// Whether it is signed.
    pub signed: bool,
}

/// Checks of this machine.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DoctorReport {
    /// One a check.
    pub checks: Vec<DoctorCheck>,
}

/// One check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DoctorCheck {
    /// What was looked at.
    pub name: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, and the way out where there is something to do.
    pub text: String,
}

/// The outcome of a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, with less than it could.
    Warning,
    /// It does not work.
    Failed,
}

/// What listens where.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PortList {
    /// One a listener.
    pub ports: Vec<Port>,
}

/// One listener.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Port {
    /// What it is: `http`, `admin`, `metrics`.
    pub name: String,
    /// Its address; none for a socket file.
    pub address: Option<SocketAddr>,
    /// The socket file.
    pub path: Option<String>,
    /// Who is to reach it, and what for.
    pub text: String,
}
