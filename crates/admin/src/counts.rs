//! What the administration counts, and the limits it shows.

use tutti_telemetry::{Counter, Family, Gauge, Metrics};

use crate::access::Lane;
use crate::config::{BODY_MAX, CONNECTION_MAX, Config, HEAD_MAX};

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
