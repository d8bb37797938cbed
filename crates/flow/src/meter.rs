//! What the journey counts.

use std::sync::atomic::AtomicI64;

use tutti_telemetry::metrics::EncodeLabelSet;
use tutti_telemetry::{Counter, Family, Gauge, Metrics};

/// The label `reason`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct Reason {
    /// A word of a closed set.
    pub reason: &'static str,
}

/// The journey's metrics.
#[derive(Clone)]
pub struct Meter {
    /// `tutti_admission_shed_total{reason}`: work that was not admitted as asked.
    pub shed: Family<Reason, Counter>,
    /// `tutti_flow_degraded_total{reason}`: answers from a lower rung, by rung.
    pub degraded: Family<Reason, Counter>,
    /// `tutti_flow_flights`: renders under way or waiting.
    pub flights: Gauge,
    /// `tutti_flow_collapsed_total`: requests that waited for another's render.
    pub collapsed: Counter,
    /// `tutti_flow_refreshes`: stale answers being made anew in the background.
    pub refreshes: Gauge,
    /// `tutti_flow_refreshes_skipped_total`: not begun, because too many were under way.
    pub refreshes_skipped: Counter,
    /// `tutti_flow_rechecks`: files being read only to find out whether what is kept of them is still good.
    pub rechecks: Gauge,
    /// `tutti_flow_originals_total{reason}`: how originals were had: `kept`, `fetched`, `unchanged`, `stale`, `folder`,
    /// `peer`; `moved` for a job's inputs that came along with it, `overtaken` for what a purge overtook on its way.
    pub originals: Family<Reason, Counter>,
    /// `tutti_flow_passed_over_total`: owners that did not answer and were passed over.
    pub passed_over: Counter,
    /// `tutti_flow_peer_answers_total{reason}`: answers from other nodes, by what they were there.
    pub peer_answers: Family<Reason, Counter>,
    /// `tutti_flow_remote_runs_total{reason}`: jobs sent to other nodes: `done`, `refused`, `failed`, `late`.
    pub remote_runs: Family<Reason, Counter>,
    /// `tutti_flow_copying`: second copies of originals under way.
    pub copying: Gauge,
    /// `tutti_flow_copying_results`: second copies of results under way.
    pub copying_results: Gauge,
    /// `tutti_flow_copies_in`: second copies being taken from peers.
    pub copies_in: Gauge,
    /// `tutti_flow_conflicts_total`: looks that found one path with different contents on two nodes.
    pub conflicts: Counter,
    /// `tutti_flow_purged_midway_total`: renders thrown away because of a purge.
    pub purged_midway: Counter,
    /// `tutti_admission_wait_ms`: predicted wait of work admitted now.
    pub wait_ms: Gauge,
    /// `tutti_admission_bytes`: estimated bytes of admitted work.
    pub bytes: Gauge,
}

impl Meter {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let family =
            |name: &str, help: &str| metrics.register(name, help, Family::<Reason, Counter>::default());
        Self {
            shed: family("admission_shed", "Work that was not admitted as asked"),
            degraded: family("flow_degraded", "Answers from a lower rung of the degrade ladder"),
            flights: metrics.gauge("flow_flights", "Renders under way or waiting"),
            collapsed: metrics.counter("flow_collapsed", "Requests that waited for another's render"),
            refreshes: metrics.gauge("flow_refreshes", "Stale answers being made anew in the background"),
            refreshes_skipped: metrics
                .counter("flow_refreshes_skipped", "Refreshes not begun: too many under way"),
            rechecks: metrics.gauge("flow_rechecks", "Files being read to check what is kept of them"),
            originals: family("flow_originals", "How originals were had"),
            passed_over: metrics
                .counter("flow_passed_over", "Owners that did not answer and were passed over"),
            peer_answers: family("flow_peer_answers", "Answers from other nodes, by what they were there"),
            remote_runs: family("flow_remote_runs", "Jobs sent to other nodes, by how they ended"),
            copying: metrics.gauge("flow_copying", "Second copies of originals under way"),
            copying_results: metrics.gauge("flow_copying_results", "Second copies of results under way"),
            copies_in: metrics.gauge("flow_copies_in", "Second copies being taken from peers"),
            conflicts: metrics.counter("flow_conflicts", "Looks that found one path with two contents"),
            purged_midway: metrics.counter("flow_purged_midway", "Renders thrown away because of a purge"),
            wait_ms: metrics.gauge("admission_wait_ms", "Predicted wait of work admitted now, in ms"),
            bytes: metrics.gauge("admission_bytes", "Estimated bytes of admitted work"),
        }
    }

    /// Counts one in `family` under `reason`.
    pub fn count(family: &Family<Reason, Counter>, reason: &'static str) {
        family.get_or_create(&Reason { reason }).inc();
    }
}

/// Counts up while it lives.
pub struct Counted(Gauge);

impl Counted {
    /// One more in `gauge` until this is dropped.
    pub fn one(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }

    /// One more in `gauge` until this is dropped, unless there are `most` already.
    pub fn one_of(gauge: &Gauge, most: i64) -> Option<Self> {
        let inner: &AtomicI64 = gauge.inner();
        let before = inner.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
        let counted = Self(gauge.clone());
        (before < most).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
