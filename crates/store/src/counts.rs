//! What the store counts, and the limits it shows.

use tutti_telemetry::{Counter, Family, Gauge, Histogram, Metrics, seconds_histogram};

use crate::store::{LEASES_MAX, StoreError};
use crate::{change_log, document, secrets, txn, writer};

/// The store's metrics.
#[derive(Clone)]
pub(crate) struct Counts {
    /// Transactions, grants, revocations and expiries written.
    pub(crate) commits: Counter,
    /// Disk transactions that carried them.
    pub(crate) batches: Counter,
    /// Time of a disk transaction with its sync.
    pub(crate) sync: Histogram,
    /// Writes waiting.
    pub(crate) queue: Gauge,
    pub(crate) revision: Gauge,
    pub(crate) leases: Gauge,
    pub(crate) expired: Counter,
    pub(crate) behind: Counter,
    refused: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Counts {
    /// Registers all of them, `tutti_store_…`.
    pub(crate) fn register(metrics: &Metrics, queue: usize) -> Self {
        let limits = [
            ("store_value_bytes", "Longest value", txn::VALUE_MAX),
            ("store_key_bytes", "Longest key", txn::KEY_MAX),
            ("store_txn_ops", "Most conditions and operations of a transaction", txn::TXN_OPS_MAX),
            ("store_txn_bytes", "Most bytes of a transaction", txn::TXN_BYTES_MAX),
            ("store_queue", "Most writes waiting", queue),
            ("store_batch", "Most writes in one disk transaction", writer::BATCH_MAX),
            ("store_leases", "Most leases alive", LEASES_MAX),
            ("store_watch_changes", "Most changes kept for watches", change_log::CHANGES_MAX),
            ("store_watch_bytes", "Most bytes of changes kept for watches", change_log::BYTES_MAX),
            ("store_document_bytes", "Longest cluster document", document::DOCUMENT_MAX),
            ("store_document_history", "Most documents kept in the history", document::HISTORY_MAX),
            ("store_secret_bytes", "Longest secret", secrets::SECRET_MAX),
            ("store_secrets", "Most secrets", secrets::SECRETS_MAX),
        ];
        for (name, help, value) in limits {
            metrics.limit(name, help, value as u64);
        }
        Self::named(metrics, "store")
    }

    /// Those that are counted, as `tutti_<prefix>_…`; the limits are the same for every store of a process.
    pub(crate) fn named(metrics: &Metrics, prefix: &str) -> Self {
        let name = |what: &str| format!("{prefix}_{what}");
        Self {
            commits: metrics.counter(&name("commits"), "Writes made durable"),
            batches: metrics.counter(&name("batches"), "Disk transactions"),
            sync: metrics.register(
                &name("commit_seconds"),
                "Time of a disk transaction",
                seconds_histogram(),
            ),
            queue: metrics.gauge(&name("queue_writes"), "Writes waiting"),
            revision: metrics.gauge(&name("revision"), "The newest revision"),
            leases: metrics.gauge(&name("leases"), "Leases alive"),
            expired: metrics.counter(&name("leases_expired"), "Leases that ran out"),
            behind: metrics.counter(&name("watch_behind"), "Watches that fell behind"),
            refused: metrics.register(&name("refused"), "Writes refused, by reason", Family::default()),
        }
    }

    pub(crate) fn refused(&self, error: &StoreError) {
        self.refused.get_or_create(&[("reason", error.word())]).inc();
    }
}
