//! What an operator may set about the caches. Reads no file and no environment but the machine's size of memory.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The most memory that the automatic budget takes.
const AUTOMATIC_MEMORY_MAX: u64 = GIB;
/// Which part of the machine's (or control group's) memory the automatic budget takes.
const AUTOMATIC_MEMORY_SHARE: u64 = 8;
/// What is assumed where the kernel does not say how much memory there is.
const ASSUMED_MEMORY: u64 = GIB;
/// The least budget that is worth sharding.
const MEMORY_MIN: u64 = 64 * 1024;

/// The `[cache]` section.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// The folder of the disk caches, made when missing. None: results live in memory only, originals as long as they
    /// are in use. The files in it belong to the cache: do not edit them; deleting the folder while stopped is fine.
    pub dir: Option<PathBuf>,
    /// Memory for results in bytes, with what is kept beside them. 0: an eighth of the machine's memory (or of the
    /// control group's limit), at most 1 GiB.
    pub memory_bytes: u64,
    /// A result larger than this is not kept in memory but served from its file, in bytes. It is never more than a
    /// quarter of a shard of the memory, and without a folder larger results are not kept at all.
    pub resident_max_bytes: u64,
    /// Disk for results and originals together, in bytes. 0: a tenth of the volume, at most 20 GiB.
    pub disk_bytes: u64,
    /// The part of the disk limit that originals may take, in percent (1 to 99); results have the rest.
    pub originals_percent: u8,
    /// The part of the volume that stays free whoever fills it, in percent (0 to 90): the caches shrink to keep it.
    pub keep_free_percent: u8,
    /// Results that wait to be written, in bytes. What comes while it is full is not kept on disk, and counted.
    pub queue_bytes: u64,
    /// Results, and as many originals, that wait to be written.
    pub queue_entries: usize,
    /// Look-ups that wait for a disk thread; one that finds no room counts as not found.
    pub read_queue: usize,
    /// How long the index may be ahead of stable storage, in ms: what a power failure forgets. Bytes that are wrong are
    /// not served after one in any case.
    pub durable_after_ms: u64,
    /// How often a disk that failed is tried again, in ms.
    pub retry_after_ms: u64,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            dir: None,
            memory_bytes: 0,
            resident_max_bytes: MIB,
            disk_bytes: 0,
            originals_percent: 50,
            keep_free_percent: 5,
            queue_bytes: 64 * MIB,
            queue_entries: 4096,
            read_queue: 1024,
            durable_after_ms: 1000,
            retry_after_ms: 5000,
        }
    }
}

/// A setting that cannot be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{key}` in [cache] is {value}: {hint}")]
pub struct ConfigError {
    key: &'static str,
    value: u64,
    hint: &'static str,
}

impl CacheConfig {
    /// Whether these settings can be. The error names the key, its value and what it may be.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = |holds: bool, key, value, hint| {
            if holds { Ok(()) } else { Err(ConfigError { key, value, hint }) }
        };
        let memory = self.memory_bytes;
        check(
            memory == 0 || memory >= MEMORY_MIN,
            "memory_bytes",
            memory,
            "use 0 for automatic, or at least 65536",
        )?;
        let originals = u64::from(self.originals_percent);
        check((1..=99).contains(&originals), "originals_percent", originals, "use 1 to 99")?;
        let free = u64::from(self.keep_free_percent);
        check(free <= 90, "keep_free_percent", free, "use 0 to 90")?;
        check(self.resident_max_bytes > 0, "resident_max_bytes", 0, "use at least 1")?;
        check(
            self.queue_bytes > 0,
            "queue_bytes",
            0,
            "use at least 1; leave `dir` out to keep nothing on disk",
        )?;
        check(
            self.queue_entries > 0,
            "queue_entries",
            0,
            "use at least 1; leave `dir` out to keep nothing on disk",
        )?;
        check(self.read_queue > 0, "read_queue", 0, "use at least 1")?;
        check(self.retry_after_ms >= 100, "retry_after_ms", self.retry_after_ms, "use at least 100")
    }

    /// The memory budget in force, in bytes.
    pub fn memory_in_force(&self) -> u64 {
        match self.memory_bytes {
            0 => (machine_memory() / AUTOMATIC_MEMORY_SHARE).clamp(MEMORY_MIN, AUTOMATIC_MEMORY_MAX),
            set => set,
        }
    }

    pub(crate) fn durable_after(&self) -> Duration {
        Duration::from_millis(self.durable_after_ms)
    }

    pub(crate) fn retry_after(&self) -> Duration {
        Duration::from_millis(self.retry_after_ms)
    }
}

/// The memory that this process may use, in bytes: the machine's, or its control group's where that is less.
fn machine_memory() -> u64 {
    let machine =
        fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_total(&text)).unwrap_or(ASSUMED_MEMORY);
    let group =
        fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    group.map_or(machine, |group: u64| machine.min(group))
}

fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_an_unknown_key_is_an_error() {
        assert_eq!(CacheConfig::default().validate(), Ok(()));
        assert!(toml::from_str::<CacheConfig>("memory_byte = 3").is_err());
        let set: CacheConfig = toml::from_str("dir = \"/var/cache/tutti\"\ndisk_bytes = 7").unwrap();
        assert_eq!((set.disk_bytes, set.keep_free_percent), (7, 5));
    }

    #[test]
    fn an_error_names_key_value_and_way_out() {
        let wrong = [
            (
                CacheConfig { originals_percent: 100, ..CacheConfig::default() },
                "`originals_percent` in [cache] is 100",
            ),
            (CacheConfig { keep_free_percent: 91, ..CacheConfig::default() }, "use 0 to 90"),
            (CacheConfig { memory_bytes: 9, ..CacheConfig::default() }, "at least 65536"),
            (CacheConfig { retry_after_ms: 0, ..CacheConfig::default() }, "`retry_after_ms`"),
        ];
        for (config, part) in wrong {
            let message = config.validate().expect_err(part).to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn the_automatic_budget_is_an_eighth_within_bounds() {
        assert_eq!(mem_total("MemTotal:        2048 kB\nMemFree: 1 kB"), Some(2 * MIB));
        let budget = CacheConfig::default().memory_in_force();
        assert!((MEMORY_MIN..=AUTOMATIC_MEMORY_MAX).contains(&budget), "{budget}");
        assert_eq!(
            CacheConfig { memory_bytes: 5 * MIB, ..CacheConfig::default() }.memory_in_force(),
            5 * MIB
        );
    }
}
