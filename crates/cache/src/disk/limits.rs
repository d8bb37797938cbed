//! How much of a volume the disk caches may take: pure arithmetic, and the probe that says how full it is.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::CacheConfig;

/// The automatic limit: a tenth of the volume …
const AUTOMATIC_SHARE: u64 = 10;
/// … and at most 20 GiB.
const AUTOMATIC_MAX: u64 = 20 << 30;
/// What a file takes at least, and in multiples of which: the block of nearly every file system.
const BLOCK: u64 = 4096;
/// What a file and its rows in the index take beside its bytes.
pub(crate) const FILE_OVERHEAD: u64 = 512;
/// What a name (a binding, a source) takes in the index beside its record.
pub(crate) const NAME_OVERHEAD: u64 = 512;

/// How large a volume is and how much of it is free to us, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// Its size.
    pub total: u64,
    /// What we may still write.
    pub free: u64,
}

/// Says how full the volume of a folder is; tests bring their own.
pub trait Volume: Send + Sync {
    /// The space of the volume that holds `dir`.
    fn space(&self, dir: &Path) -> io::Result<Space>;
}

/// Asks the kernel (statvfs).
pub struct MachineVolume;

impl Volume for MachineVolume {
    fn space(&self, dir: &Path) -> io::Result<Space> {
        let volume = rustix::fs::statvfs(dir)?;
        let block = volume.f_frsize;
        Ok(Space {
            total: volume.f_blocks.saturating_mul(block),
            free: volume.f_bavail.saturating_mul(block),
        })
    }
}

/// Which of the two disk caches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ShelfKind {
    /// Results.
    Results,
    /// Originals.
    Originals,
}

impl ShelfKind {
    /// Its folder and its label in metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            ShelfKind::Results => "results",
            ShelfKind::Originals => "originals",
        }
    }
    fn place(self) -> usize {
        match self {
            ShelfKind::Results => 0,
            ShelfKind::Originals => 1,
        }
    }
}

/// The limits of both disk caches, which share a volume and the duty to keep a part of it free.
pub(crate) struct Limits {
    disk_bytes: u64,
    originals_percent: u64,
    keep_free_percent: u64,
    used: [AtomicU64; 2],
}

impl Limits {
    pub(crate) fn new(config: &CacheConfig) -> Self {
        Self {
            disk_bytes: config.disk_bytes,
            originals_percent: config.originals_percent.into(),
            keep_free_percent: config.keep_free_percent.into(),
            used: Default::default(),
        }
    }

    /// Bytes that `kind` takes now.
    pub(crate) fn used(&self, kind: ShelfKind) -> u64 {
        self.used[kind.place()].load(Ordering::Relaxed)
    }

    pub(crate) fn set_used(&self, kind: ShelfKind, bytes: u64) {
        self.used[kind.place()].store(bytes, Ordering::Relaxed);
    }

    /// The share of `kind` of the limit, set or automatic; without a `space` to go by, the automatic limit is its
    /// maximum.
    pub(crate) fn limit(&self, kind: ShelfKind, space: Option<Space>) -> u64 {
        let automatic =
            space.map_or(AUTOMATIC_MAX, |space| (space.total / AUTOMATIC_SHARE).min(AUTOMATIC_MAX));
        let whole = if self.disk_bytes > 0 { self.disk_bytes } else { automatic };
        let originals = percent(whole, self.originals_percent);
        match kind {
            ShelfKind::Results => whole - originals,
            ShelfKind::Originals => originals,
        }
    }

    /// What `kind` may take at this moment: its limit, less its part of what lacks until enough of the volume is free,
    /// and never more than would use up that part. Both caches give in proportion to what they take.
    pub(crate) fn allowed(&self, kind: ShelfKind, space: Option<Space>) -> u64 {
        let limit = self.limit(kind, space);
        let Some(space) = space else { return limit };
        let keep = percent(space.total, self.keep_free_percent);
        let used = self.used(kind);
        if space.free >= keep {
            return limit.min(used.saturating_add(space.free - keep));
        }
        let both = self.used(ShelfKind::Results) + self.used(ShelfKind::Originals);
        let lacking = u128::from(keep - space.free);
        let part = (lacking * u128::from(used)).div_ceil(u128::from(both.max(1)));
        limit.min(used.saturating_sub(u64::try_from(part).unwrap_or(u64::MAX)))
    }
}

/// What a file of `len` bytes takes on disk.
pub(crate) fn file_cost(len: u64) -> u64 {
    len.div_ceil(BLOCK).saturating_mul(BLOCK).saturating_add(FILE_OVERHEAD)
}

fn percent(of: u64, percent: u64) -> u64 {
    u64::try_from(u128::from(of) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn limits(disk_bytes: u64) -> Limits {
        Limits::new(&CacheConfig { disk_bytes, originals_percent: 25, ..CacheConfig::default() })
    }

    #[test]
    fn the_automatic_limit_is_a_tenth_of_the_volume_and_at_most_20_gib() {
        let cases = [(50 * GIB, 5 * GIB), (200 * GIB, 20 * GIB), (4000 * GIB, 20 * GIB)];
        for (total, whole) in cases {
            let space = Some(Space { total, free: total });
            let (results, originals) =
                (limits(0).limit(ShelfKind::Results, space), limits(0).limit(ShelfKind::Originals, space));
            assert_eq!((results + originals, originals), (whole, whole / 4), "volume of {total}");
        }
        assert_eq!(limits(8 * GIB).limit(ShelfKind::Results, None), 6 * GIB);
    }

    #[test]
    fn what_lacks_of_the_free_part_is_taken_from_both_in_proportion() {
        let limits = limits(80 * GIB);
        limits.set_used(ShelfKind::Results, 6 * GIB);
        limits.set_used(ShelfKind::Originals, 2 * GIB);
        let space = Some(Space { total: 100 * GIB, free: GIB });
        assert_eq!(limits.allowed(ShelfKind::Results, space), 3 * GIB);
        assert_eq!(limits.allowed(ShelfKind::Originals, space), GIB);
    }

    #[test]
    fn growth_stops_where_the_free_part_begins() {
        let limits = limits(80 * GIB);
        limits.set_used(ShelfKind::Results, GIB);
        let allowed = |free| limits.allowed(ShelfKind::Results, Some(Space { total: 100 * GIB, free }));
        assert_eq!(allowed(7 * GIB), 3 * GIB);
        assert_eq!(allowed(5 * GIB), GIB);
        assert_eq!(allowed(99 * GIB), 60 * GIB, "and the limit holds in any case");
        assert_eq!(allowed(0), 0);
    }

    #[test]
    fn a_file_takes_whole_blocks() {
        assert_eq!(file_cost(1), BLOCK + FILE_OVERHEAD);
        assert_eq!(file_cost(BLOCK + 1), 2 * BLOCK + FILE_OVERHEAD);
    }

    #[test]
    fn the_machine_says_how_full_a_volume_is() {
        let space = MachineVolume.space(Path::new("/")).unwrap();
        assert!(space.total > 0 && space.free <= space.total, "{space:?}");
    }
}
