//! The front's settings and limits, each with its default. Reads no file and no environment.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};
use tutti_telemetry::Metrics;

use crate::access::LogConfig;

/// The most header fields that [`Config::fields`] may allow: the parser's table lives on the stack.
pub const MOST_FIELDS: usize = 128;

/// The most bytes that [`Config::head_bytes`] may allow: a head must fit the thread's read buffer with room to spare.
pub const MOST_HEAD_BYTES: usize = 48 * 1024;

/// Descriptors left to everything but client connections: engines, originals, cache files, the store.
const RESERVED_DESCRIPTORS: u64 = 512;

/// Settings and limits of the front door.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Front threads; 0 means one a core.
    pub threads: usize,
    /// Longest request head in bytes, request line and fields together; above it 431. At most 48 KiB.
    pub head_bytes: usize,
    /// Most header fields in a request; above it 431. At most 128.
    pub fields: usize,
    /// Longest request target in bytes; above it 414. At most 48 KiB, and bounded by the head it stands in.
    pub target_bytes: usize,
    /// Longest request body in bytes that is read and thrown away where a service takes none; above it 413.
    pub body_bytes: u64,
    /// How long a connection may lie idle between requests, in ms; then it is closed.
    pub idle_ms: u64,
    /// How long a request head may take from its first byte, in ms; then 408.
    pub head_ms: u64,
    /// How long a request body may take, in ms; then 408.
    pub body_ms: u64,
    /// How long a client may take no byte of its answer, in ms; then the connection is closed.
    pub write_stall_ms: u64,
    /// Fewest bytes a second that a client must take while it is slower than we are, once that has lasted as long as a
    /// write stall; slower ones are closed. 0 turns the rule off.
    pub write_rate: u64,
    /// How long a refused client may go on sending before its connection is closed, in ms.
    pub linger_ms: u64,
    /// How long past its deadline an answer is waited for, in ms; then 503.
    pub answer_grace_ms: u64,
    /// Most open connections; above it 503 and the connection is closed. 0 means what the limit on open descriptors
    /// allows, less a reserve of 512.
    pub connections: usize,
    /// Most requests on one connection; the last of them is answered with `Connection: close`.
    pub requests: u64,
    /// Most pipelined requests that are answered before other connections get their turn.
    pub pipeline: usize,
    /// Most plans that each front thread remembers.
    pub memo_entries: usize,
    /// Further places where services answer.
    pub mounts: Vec<ExtraMount>,
    /// The access log.
    pub log: LogConfig,
}

/// A further place where a service answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtraMount {
    /// The service's name.
    pub service: String,
    /// Begins and ends with `/`.
    pub prefix: String,
    /// The one host it answers on, without a port; none: every host that nothing else has claimed.
    #[serde(default)]
    pub host: Option<String>,
}

/// Why settings were refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{key} = {value}` in [front] is out of range: {range}")]
pub struct ConfigError {
    /// The key.
    pub key: &'static str,
    /// The value it had.
    pub value: u64,
    /// What it may be.
    pub range: &'static str,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            threads: 0,
            head_bytes: 16 * 1024,
            fields: 100,
            target_bytes: 8 * 1024,
            body_bytes: 64 * 1024,
            idle_ms: 60_000,
            head_ms: 10_000,
            body_ms: 10_000,
            write_stall_ms: 30_000,
            write_rate: 512,
            linger_ms: 1_000,
            answer_grace_ms: 2_000,
            connections: 0,
            requests: 100_000,
            pipeline: 32,
            memo_entries: 16 * 1024,
            mounts: Vec::new(),
            log: LogConfig::default(),
        }
    }
}

impl Config {
    /// Checks every key by itself.
    ///
    /// Errors: the first key out of range, its value, and the range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let checks = [
            ("threads", self.threads as u64, 0..=1024, "0 to 1024"),
            ("head_bytes", self.head_bytes as u64, 256..=MOST_HEAD_BYTES as u64, "256 to 49152"),
            ("fields", self.fields as u64, 1..=MOST_FIELDS as u64, "1 to 128"),
            ("target_bytes", self.target_bytes as u64, 16..=MOST_HEAD_BYTES as u64, "16 to 49152"),
            ("body_bytes", self.body_bytes, 0..=1 << 30, "0 to 1073741824"),
            ("idle_ms", self.idle_ms, 1..=86_400_000, "1 to 86400000"),
            ("head_ms", self.head_ms, 1..=600_000, "1 to 600000"),
            ("body_ms", self.body_ms, 1..=600_000, "1 to 600000"),
            ("write_stall_ms", self.write_stall_ms, 1..=3_600_000, "1 to 3600000"),
            ("linger_ms", self.linger_ms, 1..=60_000, "1 to 60000"),
            ("requests", self.requests, 1..=u64::MAX, "1 or more"),
            ("pipeline", self.pipeline as u64, 1..=1024, "1 to 1024"),
            ("memo_entries", self.memo_entries as u64, 1..=1 << 24, "1 to 16777216"),
        ];
        for (key, value, allowed, range) in checks {
            if !allowed.contains(&value) {
                return Err(ConfigError { key, value, range });
            }
        }
        self.log.validate()
    }

    /// How many front threads there are on a machine of `cores`.
    pub fn thread_count(&self, cores: usize) -> usize {
        if self.threads == 0 { cores.max(1) } else { self.threads }
    }

    /// The most open connections: what is set, or what this process may open less a reserve (at least 64).
    pub fn connection_limit(&self) -> usize {
        if self.connections > 0 {
            return self.connections;
        }
        let open = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20).min(1 << 20);
        open.saturating_sub(RESERVED_DESCRIPTORS).max(64) as usize
    }

    /// Shows every limit in force as a metric.
    pub(crate) fn register(&self, metrics: &Metrics) {
        let limits = [
            ("front_head_bytes", "Longest request head", self.head_bytes as u64),
            ("front_fields", "Most fields in a request", self.fields as u64),
            ("front_target_bytes", "Longest request target", self.target_bytes as u64),
            ("front_body_bytes", "Longest request body that is thrown away", self.body_bytes),
            ("front_idle_milliseconds", "Longest idle time of a connection", self.idle_ms),
            ("front_head_milliseconds", "Longest time for a head to arrive", self.head_ms),
            ("front_body_milliseconds", "Longest time for a body to arrive", self.body_ms),
            ("front_write_stall_milliseconds", "Longest time without a byte taken", self.write_stall_ms),
            ("front_write_rate_bytes", "Fewest bytes a second that a client must take", self.write_rate),
            ("front_linger_milliseconds", "Longest time for a refused client to fall silent", self.linger_ms),
            ("front_answer_grace_milliseconds", "Longest wait past a deadline", self.answer_grace_ms),
            ("front_connections", "Most open connections", self.connection_limit() as u64),
            ("front_requests", "Most requests on a connection", self.requests),
            ("front_pipeline", "Most pipelined requests answered in a row", self.pipeline as u64),
            ("front_memo_entries", "Most plans remembered by a thread", self.memo_entries as u64),
            ("front_log_buffers", "Most log buffers waiting to be written", self.log.buffers as u64),
        ];
        for (name, help, value) in limits {
            metrics.limit(name, help, value);
        }
    }
}

/// A time of the configuration as a duration.
pub(crate) const fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_an_unknown_key_is_not() {
        Config::default().validate().expect("defaults");
        assert!(serde_json::from_str::<Config>(r#"{"idle": 3}"#).is_err());
        let config: Config = serde_json::from_str(r#"{"idle_ms": 3}"#).unwrap();
        assert_eq!(config.idle_ms, 3);
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        let config = Config { fields: MOST_FIELDS + 1, ..Config::default() };
        let error = config.validate().unwrap_err();
        assert_eq!(error.to_string(), "`fields = 129` in [front] is out of range: 1 to 128");
    }
}
