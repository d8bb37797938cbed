//! Metrics, logs and traces: what every room counts with. Knows no room.

pub mod metrics;

pub use metrics::{Counter, Family, Gauge, Histogram, Metrics, seconds_histogram};
