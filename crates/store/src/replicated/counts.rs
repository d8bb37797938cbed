//! What the replicated store counts beside what every store counts, and the limits it shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tutti_telemetry::{Counter, Gauge, Histogram, Metrics, seconds_histogram};

use super::config::{
    APPEND_BYTES_MAX, CHUNK_BYTES_MAX, ELECTED_WITHIN, KEEP_ALIVES_MAX, OUTCOMES_MAX, PROPOSAL_BYTES_MAX,
    PROPOSAL_WRITES_MAX, RECENT_BYTES_MAX, RECENT_ENTRIES_MAX, REPLICAS_MAX, RaftConfig, SNAPSHOT_BYTES_MAX,
};
use super::status::{RaftRole, RaftStatus};

/// The replicated store's metrics.
pub(crate) struct RaftCounts {
    term: Gauge,
    leader: Gauge,
    voters: Gauge,
    lag: Gauge,
    unapplied: Gauge,
    elections: Counter,
    healthy: Gauge,
    seen_term: AtomicU64,
    /// Time from proposing an entry until it is applied.
    pub(crate) commit: Histogram,
    pub(crate) snapshots: Counter,
    /// Rounds of heartbeats for keep-alives.
    pub(crate) rounds: Counter,
    /// Votes before the vote that found a majority.
    pub(crate) pre_votes: Counter,
    /// How often it fell silent as a leader without a quorum.
    pub(crate) mutes: Counter,
    pub(crate) rejoins: Counter,
    /// Newer epochs that were named and not believed.
    pub(crate) disbelieved: Counter,
}

impl RaftCounts {
    pub(crate) fn register(metrics: &Metrics, config: &RaftConfig) -> Arc<Self> {
        let limits = [
            ("store_append_bytes", "Most bytes of log entries in a message", APPEND_BYTES_MAX as u64),
            ("store_chunk_bytes", "Most bytes of a snapshot in a message", CHUNK_BYTES_MAX as u64),
            ("store_snapshot_bytes", "Longest snapshot", SNAPSHOT_BYTES_MAX as u64),
            ("store_proposal_writes", "Most writes in a log entry", PROPOSAL_WRITES_MAX as u64),
            ("store_proposal_bytes", "Most bytes of writes in a log entry", PROPOSAL_BYTES_MAX as u64),
            ("store_keep_alives", "Most keep-alives waiting", KEEP_ALIVES_MAX as u64),
            ("store_outcomes", "Outcomes remembered of a node", OUTCOMES_MAX),
            ("store_recent_entries", "Most log entries in memory", RECENT_ENTRIES_MAX as u64),
            ("store_recent_bytes", "Most bytes of log entries in memory", RECENT_BYTES_MAX as u64),
            ("store_log_entries", "Log entries kept after a snapshot", config.log_entries),
            (
                "store_elected_ms",
                "Longest look for a leader before a node is made the one voter",
                ELECTED_WITHIN.as_millis() as u64,
            ),
            ("store_replicas", "Most nodes with a copy", REPLICAS_MAX as u64),
        ];
        for (name, help, value) in limits {
            metrics.limit(name, help, value);
        }
        Arc::new(Self {
            term: metrics.gauge("store_raft_term", "The term of the newest vote"),
            leader: metrics.gauge("store_raft_leader", "Whether this node leads"),
            voters: metrics.gauge("store_raft_voters", "Nodes that vote"),
            lag: metrics
                .gauge("store_raft_lag_entries", "At the leader, entries that the slowest node lacks"),
            unapplied: metrics.gauge("store_raft_unapplied_entries", "Log entries not applied here"),
            elections: metrics.counter("store_raft_elections", "Terms that came after the first seen"),
            healthy: metrics.gauge("store_raft_healthy", "Whether this node's storage may be believed"),
            seen_term: AtomicU64::new(0),
            commit: metrics.register(
                "store_raft_commit_seconds",
                "Time from proposing an entry until it is applied",
                seconds_histogram(),
            ),
            snapshots: metrics.counter("store_raft_snapshots", "Snapshots made and taken over"),
            rounds: metrics.counter("store_raft_rounds", "Rounds of heartbeats for keep-alives"),
            pre_votes: metrics.counter("store_raft_pre_votes", "Votes before the vote that found a majority"),
            mutes: metrics.counter("store_raft_mutes", "Times of silence as a leader without a quorum"),
            rejoins: metrics.counter("store_raft_rejoins", "Times that it was made anew from a peer"),
            disbelieved: metrics.counter("store_raft_disbelieved", "Newer epochs named and not believed"),
        })
    }

    /// Shows `status`.
    pub(crate) fn show(&self, status: &RaftStatus) {
        self.term.set(status.term as i64);
        self.leader.set(i64::from(status.role == RaftRole::Leader));
        self.voters.set(status.voters.len() as i64);
        let slowest = status.lag.iter().map(|(_, lag)| lag.unwrap_or(status.last_log)).max();
        self.lag.set(slowest.unwrap_or(0) as i64);
        self.unapplied.set(status.last_log.saturating_sub(status.applied) as i64);
        self.healthy.set(i64::from(status.health == super::health::ReplicaHealth::Ok));
        let before = self.seen_term.swap(status.term, Ordering::Relaxed);
        if before != 0 && status.term > before {
            self.elections.inc();
        }
    }
}
