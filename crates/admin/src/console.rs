//! What the administration asks of the server, and the values it shows. The binary implements [`Console`].

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tutti_base::{BoxFuture, Problem, Wall};

/// The server as its administration sees it. Every method is cancel-safe except `purge`, which is done once begun.
pub trait Console: Send + Sync {
    /// Whether the server takes requests.
    fn readiness(&self) -> Readiness;
    /// How the server is.
    fn status(&self) -> BoxFuture<'_, Result<Status, Problem>>;
    /// What the caches hold.
    fn cache_stats(&self) -> BoxFuture<'_, Result<CacheStats, Problem>>;
    /// Forgets what matches. Acknowledged once nothing of it is served any more.
    fn purge(&self, request: PurgeRequest) -> BoxFuture<'_, Result<PurgeReport, Problem>>;
    /// What would happen to a request for `url` and why, without doing it.
    fn explain(&self, url: String) -> BoxFuture<'_, Result<Explanation, Problem>>;
    /// An image URL, signed where the server has a key.
    fn url(&self, request: UrlRequest) -> BoxFuture<'_, Result<UrlAnswer, Problem>>;
    /// Checks of this machine.
    fn doctor(&self) -> BoxFuture<'_, Result<DoctorReport, Problem>>;
    /// What listens where.
    fn ports(&self) -> BoxFuture<'_, Result<PortList, Problem>>;
}

/// Whether the server takes requests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// It does.
    Ready,
    /// It does not, for this reason.
    Not(String),
}

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
}

/// What would happen to a request, and why.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Explanation {
    /// The URL.
    pub url: String,
    /// The service that answers, if one does.
    pub service: Option<String>,
    /// The status it would be answered with, as far as that is known without doing it.
    pub status: Option<u16>,
    /// One step a line, in order.
    pub steps: Vec<Step>,
}

/// One step of an explanation.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Step {
    /// Where: `route`, `plan`, `look up`, `admission`, and so on.
    pub stage: String,
    /// What was found, for people.
    pub text: String,
    /// The values behind it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub values: Value,
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
