//! What an operator may set of the replicated store, and the limits that nobody sets. Decides nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The most bytes of log entries in one message to a follower; a single larger entry still travels.
pub const APPEND_BYTES_MAX: usize = 512 << 10;
/// The most bytes of a snapshot in one message.
pub const CHUNK_BYTES_MAX: usize = 512 << 10;
/// The most writes in one entry of the log: what waits is proposed together.
pub const PROPOSAL_WRITES_MAX: usize = 256;
/// The most bytes of writes in one entry of the log; a single larger write still fits.
pub const PROPOSAL_BYTES_MAX: usize = 1 << 20;
/// The most keep-alives that share one round of heartbeats.
pub const KEEP_ALIVES_MAX: usize = 1024;
/// The newest outcomes that are remembered of each node, so that a write sent twice is applied once.
pub const OUTCOMES_MAX: u64 = 512;
/// The newest log entries kept in memory.
pub const RECENT_ENTRIES_MAX: usize = 256;
/// The most bytes of log entries kept in memory beside those that are not on disk yet.
pub const RECENT_BYTES_MAX: usize = 8 << 20;
/// The longest snapshot, in bytes: it is held in memory while it is sent and received.
pub const SNAPSHOT_BYTES_MAX: usize = 512 << 20;
/// The most nodes of a cluster of stores, learners included.
pub const REPLICAS_MAX: usize = 128;
/// How long it is looked, before a node is made the one voter, whether several voters elect a leader: longer than they take.
pub const ELECTED_WITHIN: Duration = Duration::from_secs(3);

/// What an operator may set of the replicated store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RaftConfig {
    /// Memory for pages of the file, in bytes, at least 1 MiB.
    pub cache_bytes: usize,
    /// How many writes may wait for the log, at least 1; more are refused.
    pub queue: usize,
    /// How often the leader shows that it lives, in ms, 10 to 5000. An acknowledgement has to come within the same time.
    pub heartbeat_ms: u64,
    /// The shortest time without a leader, after its lease, until a node stands for election, in ms; over `heartbeat_ms`.
    pub election_min_ms: u64,
    /// The longest such time, in ms. It is the leader's lease too: for so long after a heartbeat nobody votes for another.
    pub election_max_ms: u64,
    /// How long a write waits for a leader and its answer, in ms, at least 100.
    pub write_within_ms: u64,
    /// How many entries of the log are kept for followers that fall behind.
    pub log_entries: u64,
    /// After how many entries a snapshot is noted and the log is cut, at least 16.
    pub snapshot_every: u64,
}

impl Default for RaftConfig {
    fn default() -> Self {
        Self {
            cache_bytes: 16 << 20,
            queue: 1024,
            heartbeat_ms: 60,
            election_min_ms: 150,
            election_max_ms: 300,
            write_within_ms: 5000,
            log_entries: 5000,
            snapshot_every: 1000,
        }
    }
}

impl RaftConfig {
    /// Whether the values make sense.
    pub fn validate(&self) -> Result<(), String> {
        let wrong =
            |key: &str, value: u64, must: &str| Err(format!("store.{key} is {value}; it must be {must}"));
        if self.cache_bytes < 1 << 20 {
            return wrong("cache_bytes", self.cache_bytes as u64, "at least 1048576");
        }
        if self.queue == 0 {
            return wrong("queue", 0, "at least 1");
        }
        if !(10..=5000).contains(&self.heartbeat_ms) {
            return wrong("heartbeat_ms", self.heartbeat_ms, "10 to 5000");
        }
        if self.election_min_ms <= self.heartbeat_ms {
            return wrong("election_min_ms", self.election_min_ms, "longer than store.heartbeat_ms");
        }
        if self.election_max_ms <= self.election_min_ms || self.election_max_ms < 3 * self.heartbeat_ms {
            let must = "longer than store.election_min_ms and at least three heartbeats";
            return wrong("election_max_ms", self.election_max_ms, must);
        }
        if self.write_within_ms < 100 {
            return wrong("write_within_ms", self.write_within_ms, "at least 100");
        }
        if self.snapshot_every < 16 {
            return wrong("snapshot_every", self.snapshot_every, "at least 16");
        }
        Ok(())
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }
    /// For how long after a heartbeat nobody votes for another leader.
    pub(crate) fn lease(&self) -> Duration {
        Duration::from_millis(self.election_max_ms)
    }
    pub(crate) fn write_within(&self) -> Duration {
        Duration::from_millis(self.write_within_ms)
    }

    /// The same for openraft.
    pub(crate) fn for_raft(&self) -> openraft::Config {
        openraft::Config {
            cluster_name: "tutti".into(),
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: self.election_min_ms,
            election_timeout_max: self.election_max_ms,
            install_snapshot_timeout: (20 * self.heartbeat_ms).max(2000),
            max_payload_entries: 256,
            replication_lag_threshold: self.log_entries.max(self.snapshot_every + 1),
            snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(self.snapshot_every),
            snapshot_max_chunk_size: CHUNK_BYTES_MAX as u64,
            max_in_snapshot_log_to_keep: self.log_entries,
            purge_batch_size: 64,
            // Standing for election is allowed by a vote before the vote: see `election`.
            enable_elect: false,
            ..openraft::Config::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_cannot_work_are_refused_by_name() {
        assert_eq!(RaftConfig::default().validate(), Ok(()));
        let wrong = [
            (RaftConfig { cache_bytes: 0, ..RaftConfig::default() }, "cache_bytes"),
            (RaftConfig { queue: 0, ..RaftConfig::default() }, "queue"),
            (RaftConfig { heartbeat_ms: 1, ..RaftConfig::default() }, "heartbeat_ms"),
            (RaftConfig { election_min_ms: 60, ..RaftConfig::default() }, "election_min_ms"),
            (RaftConfig { election_max_ms: 151, ..RaftConfig::default() }, "election_max_ms"),
            (RaftConfig { write_within_ms: 1, ..RaftConfig::default() }, "write_within_ms"),
            (RaftConfig { snapshot_every: 1, ..RaftConfig::default() }, "snapshot_every"),
        ];
        for (config, key) in wrong {
            let refused = config.validate().expect_err(key);
            assert!(refused.contains(&format!("store.{key} ")), "{refused}");
        }
        assert!(RaftConfig::default().for_raft().validate().is_ok());
    }
}
