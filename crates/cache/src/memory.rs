//! Results in memory: a sharded S3-FIFO by bytes (quick_cache's Clock-PRO of that kind). Never blocks on anything but a
//! shard's lock, which nobody holds across I/O or a drop.

use std::sync::Arc;

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};
use tutti_base::{KeptBody, RequestKey, ResultKey};
use tutti_telemetry::Counter;

use crate::metrics::{CacheMetrics, gauge_value};
use crate::record::Entry;

/// What an entry costs beside its own bytes: its structs, its places in the tables and what the front prepares for it.
const ENTRY_OVERHEAD: u64 = 1024;
/// The result size that the tables are laid out for; within two orders of magnitude is good enough.
const TYPICAL_ENTRY: u64 = 16 * 1024;
/// A shard holds at least this many of the largest entries.
const LARGEST_IN_SHARD: u64 = 4;
/// The most shards.
const SHARDS_MAX: u64 = 64;

/// The resident results.
pub(crate) struct Memory {
    entries: Cache<RequestKey, Resident, ByBytes, DefaultHashBuilder, CountEvictions>,
    /// A request that leads to a result, so that it is found by its own name too.
    requests: Cache<ResultKey, RequestKey>,
    entry_max: u64,
    metrics: CacheMetrics,
}

/// An entry with its weight, which must not change while it is resident.
#[derive(Clone)]
struct Resident {
    weight: u64,
    entry: Arc<Entry>,
}

#[derive(Clone)]
struct ByBytes;

#[derive(Clone)]
struct CountEvictions(Counter);

impl Memory {
    /// Takes at most `budget` bytes; entries of more than `entry_max` bytes do not become resident.
    pub(crate) fn new(budget: u64, entry_max: u64, metrics: CacheMetrics) -> Self {
        let room_for = (budget / (LARGEST_IN_SHARD * (entry_max + ENTRY_OVERHEAD))).clamp(1, SHARDS_MAX);
        // The largest power of two within: quick_cache rounds up, which would make shards too small.
        let shards = 1_usize << room_for.ilog2();
        let items = usize::try_from(budget / TYPICAL_ENTRY).unwrap_or(usize::MAX).max(32 * shards);
        let options = OptionsBuilder::new()
            .shards(shards)
            .estimated_items_capacity(items)
            .weight_capacity(budget)
            .build()
            .expect("items and weight are set, which is all that it asks for");
        let evictions = CountEvictions(metrics.evictions("memory"));
        let entries = Cache::with_options(options, ByBytes, DefaultHashBuilder::default(), evictions);
        let entry_max = entry_max.min(entries.shard_capacity() / LARGEST_IN_SHARD);
        Self { entries, requests: Cache::new(items), entry_max, metrics }
    }

    /// The most bytes that a resident body may have.
    pub(crate) fn entry_max(&self) -> u64 {
        self.entry_max
    }

    /// What is resident under `key`; counts as a use of it.
    pub(crate) fn get(&self, key: &RequestKey) -> Option<Arc<Entry>> {
        self.entries.get(key).map(|resident| resident.entry)
    }

    /// Whether `key` is resident; not a use of it.
    pub(crate) fn holds(&self, key: &RequestKey) -> bool {
        self.entries.contains_key(key)
    }

    /// A resident entry whose bytes are `result`, if one is remembered.
    pub(crate) fn by_result(&self, result: &ResultKey) -> Option<Arc<Entry>> {
        let request = self.requests.get(result)?;
        self.get(&request).filter(|entry| entry.binding.result == *result)
    }

    /// Makes `entry` resident under `key` in place of what was there; what is too large only removes that.
    pub(crate) fn insert(&self, key: RequestKey, entry: &Arc<Entry>) {
        match &entry.body {
            KeptBody::Whole(bytes) if bytes.len() as u64 <= self.entry_max => {
                self.requests.insert(entry.binding.result, key);
                self.entries.insert(
                    key,
                    Resident { weight: weight(entry, bytes.len() as u64), entry: entry.clone() },
                );
            }
            KeptBody::Whole(_) | KeptBody::File(_) => {
                self.entries.remove(&key);
            }
        }
        self.count();
    }

    pub(crate) fn remove(&self, key: &RequestKey) {
        self.entries.remove(key);
        self.count();
    }

    pub(crate) fn clear(&self) {
        self.entries.clear();
        self.requests.clear();
        self.count();
    }

    /// Entries and their bytes.
    pub(crate) fn held(&self) -> (u64, u64) {
        (self.entries.len() as u64, self.entries.weight())
    }

    fn count(&self) {
        let (entries, bytes) = self.held();
        self.metrics.resident_entries.set(gauge_value(entries));
        self.metrics.resident_bytes.set(gauge_value(bytes));
    }
}

impl Weighter<RequestKey, Resident> for ByBytes {
    fn weight(&self, _key: &RequestKey, resident: &Resident) -> u64 {
        resident.weight
    }
}

impl Lifecycle<RequestKey, Resident> for CountEvictions {
    /// The evicted, so that their bytes are freed after the shard's lock is.
    type RequestState = Vec<Resident>;

    fn on_evict(&self, evicted: &mut Vec<Resident>, _key: RequestKey, resident: Resident) {
        self.0.inc();
        evicted.push(resident);
    }
}

fn weight(entry: &Entry, body: u64) -> u64 {
    let Entry { binding, meta, .. } = entry;
    let fields: usize = meta.fields.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
    let tags: usize = binding.tags.iter().map(|tag| tag.len() + 24).sum();
    let rest = meta.content_type.len() + fields + tags + 32 * binding.originals.len();
    body + rest as u64 + ENTRY_OVERHEAD
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tutti_base::{ContentHash, Wall};
    use tutti_telemetry::Metrics;

    use super::*;
    use crate::record::{Binding, ResultMeta};

    fn entry(number: u32, len: usize) -> (RequestKey, Arc<Entry>) {
        let name = number.to_le_bytes();
        let body = Bytes::from(vec![7; len]);
        let binding = Binding {
            result: ResultKey::of(&[&name]),
            originals: vec![],
            stored_at: Wall(0),
            fresh_until: Wall(0),
            revalidate_until: Wall(0),
            error_until: Wall(0),
            tags: vec![],
            purge_seen: 0,
            degraded: None,
        };
        let meta = ResultMeta {
            content_type: "image/webp".into(),
            hash: ContentHash::of(&body),
            len: len as u64,
            fields: vec![],
            cpu_ms: 1.0,
            maker: None,
        };
        (RequestKey::of(&[&name]), Arc::new(Entry::new(binding, meta, KeptBody::Whole(body))))
    }

    fn memory(budget: u64, entry_max: u64) -> Memory {
        Memory::new(budget, entry_max, CacheMetrics::new(&Metrics::default()))
    }

    #[test]
    fn one_hit_wonders_do_not_evict_the_hot_set() {
        const LEN: usize = 10_000;
        let memory = memory(4 << 20, 64 << 10);
        let hot: Vec<_> = (0..150).map(|number| entry(number, LEN)).collect();
        let use_hot = || hot.iter().filter(|(key, _)| memory.get(key).is_some()).count();
        for (key, entry) in &hot {
            memory.insert(*key, entry);
        }
        assert_eq!(use_hot(), hot.len());
        // Twenty times the budget goes by once, while the hot set is used now and then.
        for number in 1000..9000 {
            let (key, entry) = entry(number, LEN);
            memory.insert(key, &entry);
            if number % 500 == 0 {
                use_hot();
            }
        }
        let left = use_hot();
        assert!(left * 100 >= hot.len() * 95, "{left} of {} hot entries are left", hot.len());
    }

    #[test]
    fn the_budget_holds_and_evictions_are_counted() {
        const BUDGET: u64 = 1 << 20;
        let memory = memory(BUDGET, 16 << 10);
        for number in 0..1000 {
            let (key, entry) = entry(number, 5000);
            memory.insert(key, &entry);
            assert!(memory.held().1 <= BUDGET);
        }
        let (entries, bytes) = memory.held();
        assert!(bytes > BUDGET / 2, "{bytes} bytes are held");
        assert_eq!(memory.metrics.evictions("memory").get(), 1000 - entries);
        assert_eq!(memory.metrics.resident_bytes.get(), gauge_value(bytes));
    }

    #[test]
    fn an_entry_over_the_bound_is_not_resident_and_removes_the_one_before() {
        let memory = memory(4 << 20, 64 << 10);
        let (key, small) = entry(1, 64 << 10);
        memory.insert(key, &small);
        assert!(memory.get(&key).is_some(), "at the bound it is resident");
        let (_, large) = entry(1, (64 << 10) + 1);
        memory.insert(key, &large);
        assert!(memory.get(&key).is_none(), "over the bound it is not, nor is the old one");
    }

    #[test]
    fn a_result_is_found_by_its_own_name_while_it_is_resident() {
        let memory = memory(1 << 20, 16 << 10);
        let (key, kept) = entry(1, 100);
        memory.insert(key, &kept);
        assert!(memory.by_result(&kept.binding.result).is_some());
        let (_, other) = entry(2, 100);
        memory.insert(key, &other);
        assert!(memory.by_result(&kept.binding.result).is_none(), "the request leads elsewhere now");
        memory.clear();
        assert!(memory.by_result(&other.binding.result).is_none());
    }

    #[test]
    fn a_tiny_budget_still_takes_small_entries() {
        let memory = memory(64 << 10, 1 << 20);
        let (key, entry) = entry(1, 4000);
        memory.insert(key, &entry);
        assert!(memory.get(&key).is_some());
        assert!(memory.entry_max() <= 16 << 10);
    }
}
