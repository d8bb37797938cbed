//! What the front counts: shared metrics, and each thread's tally that reaches them once a turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use tutti_service::registry::ServiceId;
use tutti_telemetry::{Counter, Family, Gauge, Metrics};

/// Labels of `tutti_front_requests_total`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    service: String,
    status: u32,
    cache: &'static str,
}

/// The label of refusals and of connections that we closed.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct ReasonLabels {
    reason: &'static str,
}

/// The metrics of all front threads.
#[derive(Clone)]
pub(crate) struct FrontMetrics {
    requests: Family<RequestLabels, Counter>,
    refused: Family<ReasonLabels, Counter>,
    closed: Family<ReasonLabels, Counter>,
    seconds: Latency,
    bytes: Counter,
    pub(crate) connections: Gauge,
    pub(crate) accepted: Counter,
    pub(crate) accept_failures: Counter,
    pub(crate) abandoned: Counter,
    pub(crate) log_dropped: Counter,
}

impl FrontMetrics {
    /// Registers them.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        Self {
            requests: metrics.register("front_requests", "Requests answered", Family::default()),
            refused: metrics.register(
                "front_refused",
                "Requests refused before any service saw them",
                Family::default(),
            ),
            closed: metrics.register("front_closed", "Connections closed for a limit", Family::default()),
            seconds: metrics.register(
                "front_request_seconds",
                "From a request's last byte to its answer's",
                Latency::default(),
            ),
            bytes: metrics.counter("front_sent_bytes", "Bytes of answers, heads included"),
            connections: metrics.gauge("front_connections", "Open client connections"),
            accepted: metrics.counter("front_accepted_connections", "Client connections accepted"),
            accept_failures: metrics
                .counter("front_accept_failures", "Accepts that failed for want of something"),
            abandoned: metrics
                .counter("front_abandoned_requests", "Requests whose client went before the answer"),
            log_dropped: metrics
                .counter("front_log_dropped_lines", "Access log lines dropped because writing lagged"),
        }
    }

    /// Counts a refusal.
    pub(crate) fn refuse(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// How many connections were closed for `reason`.
    pub(crate) fn closed_count(&self, reason: &'static str) -> u64 {
        self.closed.get_or_create(&ReasonLabels { reason }).get()
    }

    /// Counts a connection closed for a limit.
    pub(crate) fn close(&self, reason: &'static str) {
        self.closed.get_or_create(&ReasonLabels { reason }).inc();
    }
}

/// Upper bounds of the histogram in nanoseconds: 30 us to 30 s in steps of about 3.
const BOUNDS: [u64; 13] = [
    30_000,
    100_000,
    300_000,
    1_000_000,
    3_000_000,
    10_000_000,
    30_000_000,
    100_000_000,
    300_000_000,
    1_000_000_000,
    3_000_000_000,
    10_000_000_000,
    30_000_000_000,
];

/// A histogram that takes whole tallies at once, without a lock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latency(Arc<Cells>);

#[derive(Debug, Default)]
struct Cells {
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl EncodeMetric for Latency {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        let counts = self.0.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        let bounds = BOUNDS.iter().map(|bound| *bound as f64 / 1e9).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(counts).collect();
        let sum = self.0.nanos.load(Ordering::Relaxed) as f64 / 1e9;
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }
    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// What one answer counts as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Label {
    /// None: the front itself.
    pub(crate) service: Option<ServiceId>,
    pub(crate) status: u16,
    pub(crate) cache: &'static str,
}

struct Row {
    label: Label,
    counter: Counter,
    pending: u64,
}

/// One thread's counts since its last turn.
pub(crate) struct Tally {
    metrics: FrontMetrics,
    /// Names of the services by id.
    services: Vec<&'static str>,
    rows: Vec<Row>,
    counts: [u64; BOUNDS.len() + 1],
    nanos: u64,
    bytes: u64,
}

impl Tally {
    /// An empty one.
    pub(crate) fn new(metrics: FrontMetrics, services: Vec<&'static str>) -> Self {
        Self { metrics, services, rows: Vec::new(), counts: [0; BOUNDS.len() + 1], nanos: 0, bytes: 0 }
    }

    /// Counts one answer.
    pub(crate) fn count(&mut self, label: Label, elapsed: Duration, bytes: u64) {
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| nanos <= *bound).unwrap_or(BOUNDS.len());
        self.counts[bucket] += 1;
        self.nanos += nanos;
        self.bytes += bytes;
        match self.rows.iter_mut().find(|row| row.label == label) {
            Some(row) => row.pending += 1,
            None => self.add_row(label),
        }
    }

    #[cold]
    fn add_row(&mut self, label: Label) {
        let service = match label.service {
            None => "front",
            Some(id) => self.services.get(usize::from(id.0)).copied().unwrap_or("unknown"),
        };
        let labels = RequestLabels {
            service: service.to_owned(),
            status: u32::from(label.status),
            cache: label.cache,
        };
        let counter = self.metrics.requests.get_or_create(&labels).clone();
        self.rows.push(Row { label, counter, pending: 1 });
    }

    /// Adds everything to the shared metrics.
    pub(crate) fn flush(&mut self) {
        if self.bytes == 0 {
            return;
        }
        for row in self.rows.iter_mut().filter(|row| row.pending > 0) {
            row.counter.inc_by(std::mem::take(&mut row.pending));
        }
        let cells = &self.metrics.seconds.0;
        for (count, cell) in self.counts.iter_mut().zip(&cells.counts).filter(|(count, _)| **count > 0) {
            cell.fetch_add(std::mem::take(count), Ordering::Relaxed);
        }
        cells.nanos.fetch_add(std::mem::take(&mut self.nanos), Ordering::Relaxed);
        self.metrics.bytes.inc_by(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_reaches_the_metrics_when_it_is_flushed() {
        let metrics = Metrics::default();
        let mut tally = Tally::new(FrontMetrics::register(&metrics), vec!["image"]);
        let hit = Label { service: Some(ServiceId(0)), status: 200, cache: "hit" };
        tally.count(hit, Duration::from_micros(10), 100);
        tally.count(hit, Duration::from_secs(60), 100);
        tally.count(Label { service: None, status: 404, cache: "none" }, Duration::from_millis(1), 1);
        tally.flush();
        let text = metrics.text();
        for line in [
            "tutti_front_requests_total{service=\"image\",status=\"200\",cache=\"hit\"} 2",
            "tutti_front_requests_total{service=\"front\",status=\"404\",cache=\"none\"} 1",
            "tutti_front_request_seconds_bucket{le=\"0.00003\"} 1",
            "tutti_front_request_seconds_bucket{le=\"0.001\"} 2",
            "tutti_front_request_seconds_bucket{le=\"+Inf\"} 3",
            "tutti_front_request_seconds_count 3",
            "tutti_front_sent_bytes_total 201",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
