//! What the administration counts, and the limits it shows.

use tutti_telemetry::{Counter, Family, Gauge, Metrics};

use crate::access::Lane;
use crate::api::{ASSETS_PAGE_MAX, RESTORE_BYTES_MAX};
use crate::config::{
    BODY_MAX, CONNECTION_MAX, Config, HEAD_MAX, NEWS_WAIT_MAX, STORE_BODY_MAX, UPLOAD_TIMEOUT,
};
use crate::console::EVENTS_MAX;
use crate::streams::PIECE_TIMEOUT;
use crate::user_store;

type Labels<const N: usize> = [(&'static str, String); N];

/// The administration's metrics.
#[derive(Clone)]
pub(crate) struct Counts {
    requests: Family<Labels<2>, Counter>,
    refused: Family<Labels<2>, Counter>,
    /// Connections open.
    pub(crate) connections: Gauge,
}

impl Counts {
    pub(crate) fn register(metrics: &Metrics, config: &Config) -> Self {
        let limits = [
            ("admin_body_bytes", "Longest body of a call", BODY_MAX as u64),
            ("admin_head_bytes", "Longest head of a call", HEAD_MAX as u64),
            ("admin_head_milliseconds", "Longest time for a head, and idle", config.head_timeout_ms),
            ("admin_call_milliseconds", "Longest time for a call", config.call_timeout_ms),
            ("admin_connection_seconds", "Longest life of a connection", CONNECTION_MAX.as_secs()),
            ("admin_store_body_bytes", "Longest body of a write to the users' store", STORE_BODY_MAX as u64),
            ("admin_upload_seconds", "Longest time for a call with a file", UPLOAD_TIMEOUT.as_secs()),
            ("admin_piece_seconds", "Longest pause in a body that arrives", PIECE_TIMEOUT.as_secs()),
            ("admin_news_seconds", "Longest wait for news", NEWS_WAIT_MAX.as_secs()),
            ("admin_restore_bytes", "Longest backup that is restored", RESTORE_BYTES_MAX),
            ("admin_assets_page", "Most originals of an answer", ASSETS_PAGE_MAX as u64),
            ("admin_events_page", "Most events of an answer", EVENTS_MAX as u64),
            ("admin_user_keys", "Most keys of users in the store", user_store::USER_KEYS_MAX),
            ("admin_user_bytes", "Most bytes of users in the store", user_store::USER_BYTES_MAX),
            ("admin_user_leases", "Most leases of users", user_store::USER_LEASES_MAX as u64),
            ("admin_user_tries", "Most tries of a write that meets others", user_store::TRIES_MAX as u64),
            ("admin_user_changes", "Most changes of an answer of a watch", user_store::CHANGES_MAX as u64),
            ("admin_connections", "Most connections of a listener", config.connections as u64),
        ];
        for (name, help, value) in limits {
            metrics.limit(name, help, value);
        }
        Self {
            requests: metrics.register("admin_requests", "Calls, by lane and status", Family::default()),
            refused: metrics.register("admin_refused", "Connections and calls refused", Family::default()),
            connections: metrics.gauge("admin_connections_open", "Connections open"),
        }
    }

    pub(crate) fn request(&self, lane: &Lane, status: u16) {
        self.requests.get_or_create(&[("lane", lane.word().into()), ("status", status.to_string())]).inc();
    }

    pub(crate) fn refused(&self, lane: &Lane, reason: &'static str) {
        self.refused.get_or_create(&[("lane", lane.word().into()), ("reason", reason.into())]).inc();
    }
}
