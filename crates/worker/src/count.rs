//! What the worker counts. Names and labels, no behaviour.

use std::sync::atomic::AtomicU64;

use tutti_telemetry::{Counter, Family, Gauge, Histogram, Metrics, seconds_histogram};

use crate::Config;

pub(crate) type ByService<M> = Family<[(&'static str, &'static str); 1], M>;
pub(crate) type ByOutcome<M> = Family<[(&'static str, &'static str); 2], M>;

/// Why an engine was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It died by itself, or was killed by the kernel.
    Crash,
    /// It broke the protocol.
    Protocol,
    /// The deadline passed.
    Deadline,
    /// Nobody waited any more.
    Cancelled,
    /// It had done its number of jobs.
    Jobs,
    /// It had grown over its limit.
    Grown,
    /// Its place was needed for another tenant.
    Tenant,
}

impl End {
    const fn word(self) -> &'static str {
        match self {
            End::Crash => "crash",
            End::Protocol => "protocol",
            End::Deadline => "deadline",
            End::Cancelled => "cancelled",
            End::Jobs => "jobs",
            End::Grown => "grown",
            End::Tenant => "tenant",
        }
    }
}

#[derive(Clone)]
pub(crate) struct Counts {
    pub(crate) render: ByService<Counter>,
    pub(crate) jobs: ByOutcome<Counter>,
    pub(crate) restarts: Counter,
    kills: Family<[(&'static str, &'static str); 1], Counter>,
    pub(crate) retries: Counter,
    pub(crate) starts: ByOutcome<Counter>,
    pub(crate) cpu_seconds: Counter<f64, AtomicU64>,
    pub(crate) engines: Gauge,
    pub(crate) rss_bytes: Gauge,
    pub(crate) busy: Gauge,
    pub(crate) waiting: Gauge,
    pub(crate) wait_seconds: Histogram,
    pub(crate) refused: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Counts {
    pub(crate) fn register(metrics: &Metrics, config: &Config, permits: usize, engines_max: usize) -> Self {
        metrics.limit("worker_permits", "Jobs at once", permits as u64);
        metrics.limit("worker_waiting", "Jobs that may wait for a permit", config.waiting_max as u64);
        metrics.limit("engine_engines", "Engines of each service", engines_max as u64);
        metrics.limit(
            "engine_jobs",
            "Jobs after which an engine is replaced",
            u64::from(config.engine_jobs_max),
        );
        metrics.limit(
            "engine_memory_bytes",
            "Memory that one engine may allocate",
            config.engine_memory_bytes,
        );
        metrics.limit("engine_output_bytes", "Longest output of one job", config.engine_output_bytes);
        metrics.limit("engine_input_bytes", "Inputs of one job together", config.engine_input_bytes);
        metrics.limit(
            "engine_grown_bytes",
            "Size over which an engine is replaced",
            config.engine_grown_bytes,
        );
        Self {
            render: metrics.register("render", "Results made by an engine", ByService::default()),
            jobs: metrics.register("engine_jobs", "Jobs given to engines, by outcome", ByOutcome::default()),
            restarts: metrics.counter("engine_restarts", "Engines that ended, to be replaced when needed"),
            kills: metrics.register("engine_kills", "Engines that ended, by reason", Family::default()),
            retries: metrics.counter("engine_retries", "Jobs tried again after a crash"),
            starts: metrics.register("engine_starts", "Engines started, by outcome", ByOutcome::default()),
            cpu_seconds: metrics.register("engine_cpu_seconds", "CPU time of engines", Counter::default()),
            engines: metrics.gauge("engine_engines", "Engines, working and idle"),
            rss_bytes: metrics
                .gauge("engine_rss_bytes", "Resident memory of all engines after their last jobs"),
            busy: metrics.gauge("worker_busy", "Permits in use"),
            waiting: metrics.gauge("worker_waiting", "Jobs that wait for a permit"),
            wait_seconds: metrics.register("worker_wait_seconds", "Time until a permit", seconds_histogram()),
            refused: metrics.register("worker_refused", "Jobs refused before they ran", Family::default()),
        }
    }

    /// Counts an engine that has ended.
    pub(crate) fn ended(&self, end: End, rss_bytes: u64) {
        self.restarts.inc();
        self.kills.get_or_create(&[("reason", end.word())]).inc();
        self.forget(rss_bytes);
    }

    /// Takes an engine out of the gauges.
    pub(crate) fn forget(&self, rss_bytes: u64) {
        self.engines.dec();
        self.rss_bytes.dec_by(signed(rss_bytes));
    }

    /// Corrects the memory of engines by one that had `before` and has `now`.
    pub(crate) fn resized(&self, before: u64, now: u64) {
        self.rss_bytes.inc_by(signed(now) - signed(before));
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// One more of something for as long as this lives.
pub(crate) struct Raised<'a>(&'a Gauge);

impl<'a> Raised<'a> {
    pub(crate) fn on(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
