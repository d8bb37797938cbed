//! What the caches count. Hits and misses are not here: the journey knows what they mean.

use tutti_telemetry::{Counter, Family, Gauge, Metrics};

/// A metric with one label.
type ByLabel<M> = Family<[(&'static str, &'static str); 1], M>;
/// A metric with two labels.
type ByLabels<M> = Family<[(&'static str, &'static str); 2], M>;

/// The metrics of both caches, registered once a process.
#[derive(Clone)]
pub(crate) struct CacheMetrics {
    pub(crate) resident_bytes: Gauge,
    pub(crate) resident_entries: Gauge,
    evictions: ByLabel<Counter>,
    disk_bytes: ByLabel<Gauge>,
    disk_entries: ByLabel<Gauge>,
    disk_ok: ByLabel<Gauge>,
    disk_errors: ByLabels<Counter>,
    disk_dropped_writes: ByLabels<Counter>,
    disk_dropped_reads: ByLabel<Counter>,
    disk_damaged: ByLabel<Counter>,
    disk_orphans: ByLabel<Counter>,
    queue_bytes: ByLabel<Gauge>,
    queue_entries: ByLabel<Gauge>,
    pub(crate) unnamed_originals: Counter,
}

/// Why something was not written to disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dropped {
    /// The queue of writes was full: the disk did not keep up.
    Queue,
    /// The disk has failed and is not used.
    Failed,
    /// There was no room, even after evicting, or it is larger than the limit allows.
    Space,
    /// Its bytes do not have the hash or length that was said of them.
    Mismatch,
}

impl Dropped {
    fn word(self) -> &'static str {
        match self {
            Dropped::Queue => "queue",
            Dropped::Failed => "failed",
            Dropped::Space => "space",
            Dropped::Mismatch => "mismatch",
        }
    }
}

impl CacheMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let disk = |what: &str| format!("cache_disk_{what}");
        Self {
            resident_bytes: metrics.gauge("cache_resident_bytes", "Memory that resident results take"),
            resident_entries: metrics.gauge("cache_resident_entries", "Results in memory"),
            evictions: metrics.register(
                "cache_evictions",
                "Entries evicted to make room, by tier",
                Default::default(),
            ),
            disk_bytes: metrics.register(&disk("bytes"), "Disk that kept entries take", Default::default()),
            disk_entries: metrics.register(&disk("entries"), "Entries on disk", Default::default()),
            disk_ok: metrics.register(&disk("ok"), "1 while the disk cache is in use", Default::default()),
            disk_errors: metrics.register(&disk("errors"), "Disk operations that failed", Default::default()),
            disk_dropped_writes: metrics.register(
                &disk("dropped_writes"),
                "Entries not written to disk, by reason",
                Default::default(),
            ),
            disk_dropped_reads: metrics.register(
                &disk("dropped_reads"),
                "Look-ups that found no disk thread and count as not found",
                Default::default(),
            ),
            disk_damaged: metrics.register(
                &disk("damaged"),
                "Files that were missing, short or did not match their hash, and were not served",
                Default::default(),
            ),
            disk_orphans: metrics.register(
                &disk("orphans"),
                "Files that the index did not know, swept",
                Default::default(),
            ),
            queue_bytes: metrics.register(
                "cache_queue_bytes",
                "Bytes waiting to be written",
                Default::default(),
            ),
            queue_entries: metrics.register(
                "cache_queue_entries",
                "Changes waiting to be written",
                Default::default(),
            ),
            unnamed_originals: metrics.counter(
                "cache_unnamed_originals",
                "Originals that went to a memory file for want of a disk",
            ),
        }
    }

    /// Evictions from `tier`: `memory`, `results` or `originals`.
    pub(crate) fn evictions(&self, tier: &'static str) -> Counter {
        self.evictions.get_or_create(&[("tier", tier)]).clone()
    }
    pub(crate) fn shelf(&self, kind: &'static str) -> ShelfMetrics {
        let label = [("kind", kind)];
        let shelf = ShelfMetrics {
            evictions: self.evictions(kind),
            bytes: self.disk_bytes.get_or_create(&label).clone(),
            entries: self.disk_entries.get_or_create(&label).clone(),
            ok: self.disk_ok.get_or_create(&label).clone(),
            dropped_reads: self.disk_dropped_reads.get_or_create(&label).clone(),
            damaged: self.disk_damaged.get_or_create(&label).clone(),
            orphans: self.disk_orphans.get_or_create(&label).clone(),
            queue_bytes: self.queue_bytes.get_or_create(&label).clone(),
            queue_entries: self.queue_entries.get_or_create(&label).clone(),
            kind,
            errors: self.disk_errors.clone(),
            dropped_writes: self.disk_dropped_writes.clone(),
        };
        for reason in [Dropped::Queue, Dropped::Failed, Dropped::Space, Dropped::Mismatch] {
            shelf.dropped(reason, 0);
        }
        shelf
    }
}

/// The metrics of one of the two disk caches.
#[derive(Clone)]
pub(crate) struct ShelfMetrics {
    pub(crate) evictions: Counter,
    pub(crate) bytes: Gauge,
    pub(crate) entries: Gauge,
    pub(crate) ok: Gauge,
    pub(crate) dropped_reads: Counter,
    pub(crate) damaged: Counter,
    pub(crate) orphans: Counter,
    pub(crate) queue_bytes: Gauge,
    pub(crate) queue_entries: Gauge,
    kind: &'static str,
    errors: ByLabels<Counter>,
    dropped_writes: ByLabels<Counter>,
}

impl ShelfMetrics {
    pub(crate) fn error(&self, op: &'static str) {
        self.errors.get_or_create(&[("kind", self.kind), ("op", op)]).inc();
    }
    pub(crate) fn dropped(&self, reason: Dropped, count: u64) {
        self.dropped_writes.get_or_create(&[("kind", self.kind), ("reason", reason.word())]).inc_by(count);
    }
}

/// A gauge's value from a count; the largest where it does not fit.
pub(crate) fn gauge_value(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
