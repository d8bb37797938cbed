//! Both caches over one folder: opens them, tells their limits, closes them. Decides nothing about what is kept.

use std::io;
use std::sync::Arc;

use tutti_base::{Clock, RequestKey};
use tutti_telemetry::Metrics;

use crate::config::{CacheConfig, ConfigError};
use crate::disk::faults::{Faults, NoFaults};
use crate::disk::limits::{Limits, MachineVolume, ShelfKind, Volume};
use crate::disk::readers::Readers;
use crate::disk::{OnDisk, Shelf, Surroundings};
use crate::memory::Memory;
use crate::metrics::CacheMetrics;
use crate::originals::{DiskOriginals, KeptOriginal};
use crate::record::Entry;
use crate::results::TieredResults;
use crate::{Originals, Results};

/// Why the caches could not be started. A bad disk is no reason: they start without it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting that cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The machine gives no thread.
    #[error("cannot start a thread of the disk cache: {0}")]
    Thread(#[from] io::Error),
}

/// Both caches. Dropping the last handle on each closes it as [`Caches::close`] does.
pub struct Caches {
    /// The cache of results.
    pub results: Arc<dyn Results>,
    /// The cache of originals.
    pub originals: Arc<dyn Originals>,
    disk: Option<Shelves>,
}

struct Shelves {
    results: Arc<Shelf<Arc<Entry>>>,
    originals: Arc<Shelf<Arc<KeptOriginal>>>,
    readers: Arc<Readers>,
}

/// What the disk caches stand on; tests put faults here.
pub struct Ground {
    /// Says how full the volume is.
    pub volume: Arc<dyn Volume>,
    /// Makes file operations fail.
    pub faults: Arc<dyn Faults>,
}

impl Default for Ground {
    fn default() -> Self {
        Self { volume: Arc::new(MachineVolume), faults: Arc::new(NoFaults) }
    }
}

impl Caches {
    /// Opens both caches. Blocks for the check of the index, at most 2 s: after that, and where the disk does not work,
    /// they start without it and use it from when it does.
    pub fn open(config: CacheConfig, clock: Arc<dyn Clock>, metrics: &Metrics) -> Result<Self, OpenError> {
        Self::open_on(Ground::default(), config, clock, metrics)
    }

    /// [`Caches::open`] on a ground of the caller's.
    pub fn open_on(
        ground: Ground,
        config: CacheConfig,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Result<Self, OpenError> {
        config.validate()?;
        let counts = CacheMetrics::new(metrics);
        let memory =
            Arc::new(Memory::new(config.memory_in_force(), config.resident_max_bytes, counts.clone()));
        tell_limits(&config, &memory, metrics);
        let disk = match config.dir {
            Some(_) => Some(start(ground, config, clock, &counts, &memory)?),
            None => None,
        };
        let results =
            disk.as_ref().map(|disk| OnDisk { shelf: disk.results.clone(), readers: disk.readers.clone() });
        let originals =
            disk.as_ref().map(|disk| OnDisk { shelf: disk.originals.clone(), readers: disk.readers.clone() });
        Ok(Self {
            results: Arc::new(TieredResults::new(memory, results)),
            originals: Arc::new(DiskOriginals::new(originals, counts.unnamed_originals)),
            disk,
        })
    }

    /// Writes what is queued, makes it durable and takes the disk out of use; memory goes on working. Blocks for at most
    /// 10 s a cache, and says whether that was enough. Another process may use the folder after that.
    pub fn close(&self) -> bool {
        let Some(disk) = &self.disk else { return true };
        let results = disk.results.close();
        disk.originals.close() && results
    }
}

fn start(
    ground: Ground,
    config: CacheConfig,
    clock: Arc<dyn Clock>,
    metrics: &CacheMetrics,
    memory: &Arc<Memory>,
) -> Result<Shelves, OpenError> {
    let dir = config.dir.clone().unwrap_or_default();
    let readers = Arc::new(Readers::start(config.read_queue)?);
    let around = Surroundings {
        limits: Arc::new(Limits::new(&config)),
        config,
        clock,
        metrics: metrics.clone(),
        volume: ground.volume,
        faults: ground.faults,
    };
    let resident = memory.clone();
    let in_use = Box::new(move |name: &_| resident.holds(&RequestKey::from_bytes(*name)));
    let results = Shelf::start(ShelfKind::Results, &dir, around.clone(), in_use)?;
    let originals = Shelf::start(ShelfKind::Originals, &dir, around, Box::new(|_| false))?;
    results.wait_until_opened();
    originals.wait_until_opened();
    Ok(Shelves { results: Arc::new(results), originals: Arc::new(originals), readers })
}

fn tell_limits(config: &CacheConfig, memory: &Memory, metrics: &Metrics) {
    metrics.limit("cache_memory_bytes", "Memory that results may take", config.memory_in_force());
    metrics.limit("cache_resident_bytes", "The largest result kept in memory", memory.entry_max());
    metrics.limit(
        "cache_disk_bytes",
        "Disk that both caches may take, as set; 0 is automatic",
        config.disk_bytes,
    );
    metrics.limit("cache_queue_bytes", "Bytes that may wait to be written", config.queue_bytes);
    metrics.limit("cache_queue_entries", "Entries that may wait to be written", config.queue_entries as u64);
    metrics.limit("cache_read_queue", "Look-ups that may wait for a disk thread", config.read_queue as u64);
}
