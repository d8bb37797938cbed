//! The metric registry: OpenMetrics names `tutti_<part>_<what>_<unit>`, one registry a process.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
pub use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::gauge::Atomic;
pub use prometheus_client::metrics::{counter::Counter, family::Family, histogram::Histogram};
use prometheus_client::registry::{Metric, Registry};

/// A gauge of signed 64-bit values.
pub type Gauge = prometheus_client::metrics::gauge::Gauge<i64, std::sync::atomic::AtomicI64>;

/// All metrics of this process. Cloning shares them.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Default for Metrics {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Registry::with_prefix("tutti"))))
    }
}

impl Metrics {
    /// Registers `metric` as `tutti_<name>` and hands it back. Counters get `_total` in the text by themselves, so leave
    /// it out of the name. Call once a name, at start.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).register(name, help, metric.clone());
        metric
    }
    /// A counter registered as `tutti_<name>_total`.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.register(name, help, Counter::default())
    }
    /// A gauge registered as `tutti_<name>`.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(name, help, Gauge::default())
    }
    /// Registers a named limit: a gauge `tutti_limit_<name>` that always shows the limit in force.
    pub fn limit(&self, name: &str, help: &str, value: u64) {
        self.gauge(&format!("limit_{name}"), help).inner().set(i64::try_from(value).unwrap_or(i64::MAX));
    }
    /// All metrics as OpenMetrics text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        encode(&mut out, &self.0.lock().unwrap_or_else(PoisonError::into_inner))
            .expect("writing to a string cannot fail");
        out
    }
}

/// A histogram of seconds, from 0.1 ms to 30 s in steps of about 3.
pub fn seconds_histogram() -> Histogram {
    Histogram::new([0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_the_prefix_and_counters_end_in_total() {
        let metrics = Metrics::default();
        metrics.counter("render", "Renders").inc();
        metrics.limit("front_head_bytes", "Longest head", 16384);
        let text = metrics.text();
        assert!(text.contains("tutti_render_total 1"), "{text}");
        assert!(text.contains("tutti_limit_front_head_bytes 16384"), "{text}");
    }
}
