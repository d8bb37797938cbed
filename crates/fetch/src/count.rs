//! What fetching counts.

use tutti_telemetry::{Counter, Family, Gauge, Histogram, Metrics, seconds_histogram};

use crate::Config;
use crate::breaker;
use crate::folders::OPENS_AT_ONCE;
use crate::names::LOOKUPS_AT_ONCE;

/// One label whose value is of a closed set of words.
type Label = [(&'static str, &'static str); 1];

/// All metrics of this crate.
pub(crate) struct Counts {
    pub(crate) origin: Counter,
    origin_errors: Family<Label, Counter>,
    pub(crate) connections: Gauge,
    pub(crate) waiting: Gauge,
    refused: Family<Label, Counter>,
    pub(crate) breakers_open: Gauge,
    pub(crate) breaker_opened: Counter,
    pub(crate) retries: Counter,
    pub(crate) redirects: Counter,
    pub(crate) body_bytes: Counter,
    pub(crate) head_seconds: Histogram,
    pub(crate) tags_dropped: Counter,
    pub(crate) files: Counter,
    file_errors: Family<Label, Counter>,
    limits: Limits,
}

/// The limits that may change while we run.
struct Limits {
    body_bytes: Gauge,
    connections: Gauge,
    waiting: Gauge,
    origins: Gauge,
    redirects: Gauge,
    head_bytes: Gauge,
    head_fields: Gauge,
}

impl Counts {
    /// Registers everything; once a process.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        metrics.limit("fetch_file_opens", "Files of folders opened at once", OPENS_AT_ONCE as u64);
        metrics.limit("fetch_lookups", "Host names resolved at once", LOOKUPS_AT_ONCE as u64);
        metrics.limit(
            "fetch_breaker_failures",
            "Failures in a row that open an origin's breaker",
            breaker::FAILURES_MAX.into(),
        );
        Self {
            origin: metrics.counter("fetch_origin", "Requests sent to origins"),
            origin_errors: metrics.register(
                "fetch_origin_errors",
                "Requests to origins that brought no usable answer, by kind",
                Family::default(),
            ),
            connections: metrics.gauge("fetch_connections", "Open connections to origins"),
            waiting: metrics.gauge("fetch_waiting", "Requests that wait for a connection to their origin"),
            refused: metrics.register(
                "fetch_refused",
                "Fetches refused before anything was sent, by reason",
                Family::default(),
            ),
            breakers_open: metrics
                .gauge("fetch_breakers_open", "Origins that are not asked because they keep failing"),
            breaker_opened: metrics.counter("fetch_breaker_opened", "Times that an origin's breaker opened"),
            retries: metrics
                .counter("fetch_retries", "Requests sent again because a reused connection was closed"),
            redirects: metrics.counter("fetch_redirects", "Redirects followed"),
            body_bytes: metrics.counter("fetch_body_bytes", "Body bytes from origins"),
            head_seconds: metrics.register(
                "fetch_head_seconds",
                "Time from a request to the end of the origin's head",
                seconds_histogram(),
            ),
            tags_dropped: metrics
                .counter("fetch_tags_dropped", "Origins' tags left out because over a limit"),
            files: metrics.counter("fetch_files", "Files of folders opened"),
            file_errors: metrics.register(
                "fetch_file_errors",
                "Files of folders that could not be opened, by kind",
                Family::default(),
            ),
            limits: Limits::register(metrics),
        }
    }

    pub(crate) fn origin_error(&self, kind: &'static str) {
        self.origin_errors.get_or_create(&[("kind", kind)]).inc();
    }
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&[("reason", reason)]).inc();
    }
    pub(crate) fn file_error(&self, kind: &'static str) {
        self.file_errors.get_or_create(&[("kind", kind)]).inc();
    }
    /// Shows the limits in force.
    pub(crate) fn limits(&self, config: &Config) {
        let show = |gauge: &Gauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        show(&self.limits.body_bytes, config.max_body_bytes);
        show(&self.limits.connections, config.connections_per_origin as u64);
        show(&self.limits.waiting, config.waiting_per_origin as u64);
        show(&self.limits.origins, config.origins_max as u64);
        show(&self.limits.redirects, config.redirects_max as u64);
        show(&self.limits.head_bytes, config.head_bytes as u64);
        show(&self.limits.head_fields, config.head_fields as u64);
    }
}

impl Limits {
    fn register(metrics: &Metrics) -> Self {
        Self {
            body_bytes: metrics.gauge("limit_fetch_body_bytes", "Longest original from an origin"),
            connections: metrics.gauge("limit_fetch_connections", "Connections to one origin"),
            waiting: metrics
                .gauge("limit_fetch_waiting", "Requests that wait for a connection to one origin"),
            origins: metrics.gauge("limit_fetch_origins", "Origins that connections are kept for"),
            redirects: metrics.gauge("limit_fetch_redirects", "Redirects of one fetch"),
            head_bytes: metrics.gauge("limit_fetch_head_bytes", "Longest head of an origin's answer"),
            head_fields: metrics.gauge("limit_fetch_head_fields", "Fields of an origin's head"),
        }
    }
}
