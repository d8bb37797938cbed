//! The caches, in this machine's cache directory.

use std::sync::Arc;

use tutti_base::Clock;
use tutti_cache::{CacheConfig, Caches};
use tutti_telemetry::Metrics;

use crate::cluster::Cluster;
use crate::settings::{Caching, Settings};

/// Opens them. A directory that cannot be used means memory only: serving goes on.
pub(crate) fn open(
    settings: &Settings,
    cluster: &Cluster,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
) -> anyhow::Result<Caches> {
    let dir = (settings.caching == Caching::OnDisk).then(|| settings.cache.clone());
    let config = CacheConfig { dir, ..cluster.cache.clone() };
    Caches::open(config, Arc::clone(clock), metrics).map_err(|error| anyhow::anyhow!("[cache]: {error}"))
}
