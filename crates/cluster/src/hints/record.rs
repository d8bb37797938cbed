//! The messages of the hints: the whole record, the delta to it, the request for a whole one, and the list of folders that
//! has no room in it. Says nothing of when they are sent.

use serde::{Deserialize, Serialize};
use tutti_base::Load;
use tutti_base::envelope::{self, Versioned};

/// The longest whole record, sealed, in bytes.
pub const WHOLE_MAX: usize = 512;
/// The longest delta, sealed, in bytes; what does not fit travels as a whole record.
pub const DELTA_MAX: usize = 64;
/// The longest version that a record names, in bytes.
pub const VERSION_MAX: usize = 48;
/// The longest list of folders that is handed out, sealed, in bytes.
pub const FOLDERS_MAX: usize = 256 * 1024;

/// All that a node says of itself.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Whole {
    /// The run of the node.
    pub(crate) run: u64,
    /// The version that it runs.
    pub(crate) version: String,
    /// Its load; of its folders as many as fit.
    pub(crate) load: Load,
    /// How many folders are left off.
    pub(crate) left_off: u16,
    /// The CRC-32 of all folders, those left off among them; 0 where none is.
    pub(crate) digest: u32,
}

impl Versioned for Whole {
    const KIND: u8 = 82;
    const VERSION: u16 = 1;
}

/// What changed since a whole record that the receiver has. Every delta stands on the whole record and not on the delta
/// before it, so that a lost one does no harm.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Delta {
    /// The low bits of the run.
    pub(crate) run: u16,
    /// The sequence of the whole record that it stands on.
    pub(crate) base: u64,
    /// How much its own sequence is larger.
    pub(crate) step: u64,
    /// The changed fields, by tag. Counts that only grow travel as their growth. Unknown tags are skipped.
    pub(crate) fields: Vec<(u8, u64)>,
}

impl Versioned for Delta {
    const KIND: u8 = 81;
    const VERSION: u16 = 1;
}

/// All folders of a node that has more than fit into its record.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Folders(pub(crate) Vec<String>);

impl Versioned for Folders {
    const KIND: u8 = 84;
    const VERSION: u16 = 1;
}

impl Folders {
    /// As many of `folders` as fit into [`FOLDERS_MAX`].
    pub(crate) fn of(folders: &[String]) -> Self {
        let mut room = FOLDERS_MAX - 16;
        let fits = |folder: &&String| {
            let left = room.checked_sub(folder.len() + 3);
            room = left.unwrap_or(0);
            left.is_some()
        };
        Self(folders.iter().take_while(fits).cloned().collect())
    }

    /// Their digest; never 0.
    pub(crate) fn digest(folders: &[String]) -> u32 {
        let mut sum = crc32fast::Hasher::new();
        for folder in folders {
            sum.update(folder.as_bytes());
            sum.update(&[0]);
        }
        sum.finalize().max(1)
    }
}

/// "Send me your whole record." As a call: "send me all your folders."
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Ask;

impl Versioned for Ask {
    const KIND: u8 = 83;
    const VERSION: u16 = 1;
}

impl Whole {
    /// The record of `load`, sealed, with as many folders as fit into [`WHOLE_MAX`].
    pub(crate) fn seal(run: u64, version: &str, load: &Load) -> Vec<u8> {
        let folders = &load.folders;
        let version = cut(version, VERSION_MAX).into();
        let load = Load { folders: Vec::new(), ..load.clone() };
        let mut whole = Whole { run, version, load, left_off: u16::MAX, digest: u32::MAX };
        // The number of folders and of those left off take at most two bytes more than counted here.
        let mut len = envelope::seal(&whole).len() + 2;
        for folder in folders {
            let more = folder.len() + if folder.len() < 128 { 1 } else { 2 };
            if len + more > WHOLE_MAX {
                break;
            }
            len += more;
            whole.load.folders.push(folder.clone());
        }
        whole.left_off = u16::try_from(folders.len() - whole.load.folders.len()).unwrap_or(u16::MAX);
        whole.digest = if whole.left_off == 0 { 0 } else { Folders::digest(folders) };
        envelope::seal(&whole)
    }
}

fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

const CPU: u8 = 1;
const PERMITS: u8 = 2;
const JOBS: u8 = 3;
const BACKLOG: u8 = 4;
const USED: u8 = 5;
const HIT: u8 = 6;
const REQUESTS: u8 = 7;
const CACHE: u8 = 8;
const PURGE: u8 = 9;
const REVISION: u8 = 10;
const EPOCH: u8 = 11;

/// The fields by tag; counts that only grow come as the difference to `base`.
fn fields(load: &Load, base: &Load) -> [(u8, u64); 11] {
    [
        (CPU, load.cpu.into()),
        (PERMITS, load.permits.into()),
        (JOBS, load.jobs.into()),
        (BACKLOG, load.backlog_ms.into()),
        (USED, load.used_pct.into()),
        (HIT, load.hit_pct.into()),
        (REQUESTS, load.requests.wrapping_sub(base.requests)),
        (CACHE, load.cache_mib.into()),
        (PURGE, load.purge.wrapping_sub(base.purge)),
        (REVISION, load.revision.wrapping_sub(base.revision)),
        (EPOCH, load.epoch.into()),
    ]
}

impl Delta {
    /// What `load` has other than `base`, sealed; `None` where only a whole record will do: other folders, or too much.
    pub(crate) fn seal(run: u64, base: &Load, load: &Load) -> Option<Vec<u8>> {
        if base.folders != load.folders {
            return None;
        }
        let changed =
            fields(load, base).into_iter().zip(fields(base, base)).filter(|(now, then)| now != then);
        let delta = Delta {
            run: run as u16,
            base: base.sequence,
            step: load.sequence.checked_sub(base.sequence)?,
            fields: changed.map(|(now, _)| now).collect(),
        };
        Some(envelope::seal(&delta)).filter(|sealed| sealed.len() <= DELTA_MAX)
    }

    /// The load that it says, on top of `base`.
    pub(crate) fn apply(&self, base: &Load) -> Load {
        let mut load = Load { sequence: self.base.saturating_add(self.step), ..base.clone() };
        for &(tag, value) in &self.fields {
            match tag {
                CPU => load.cpu = narrow(value),
                PERMITS => load.permits = narrow(value),
                JOBS => load.jobs = narrow(value),
                BACKLOG => load.backlog_ms = narrow(value),
                USED => load.used_pct = narrow(value),
                HIT => load.hit_pct = narrow(value),
                REQUESTS => load.requests = base.requests.wrapping_add(value),
                CACHE => load.cache_mib = narrow(value),
                PURGE => load.purge = base.purge.wrapping_add(value),
                REVISION => load.revision = base.revision.wrapping_add(value),
                EPOCH => load.epoch = narrow(value),
                _ => {}
            }
        }
        load
    }
}

/// The value, or the largest of its type: a peer may say anything.
fn narrow<T: TryFrom<u64> + Bounded>(value: u64) -> T {
    T::try_from(value).unwrap_or(T::MOST)
}

trait Bounded {
    const MOST: Self;
}
impl Bounded for u8 {
    const MOST: Self = u8::MAX;
}
impl Bounded for u16 {
    const MOST: Self = u16::MAX;
}
impl Bounded for u32 {
    const MOST: Self = u32::MAX;
}

#[cfg(test)]
mod tests {
    use tutti_base::rng::{Rng, SplitMix};

    use super::*;

    fn some(rng: &mut SplitMix) -> Load {
        Load {
            sequence: rng.below(1000),
            cpu: rng.below(9000) as u32,
            permits: rng.below(64) as u16,
            jobs: rng.below(64) as u16,
            backlog_ms: rng.below(100_000) as u32,
            used_pct: rng.below(101) as u8,
            hit_pct: rng.below(101) as u8,
            requests: rng.next() >> 20,
            cache_mib: rng.below(1 << 20) as u32,
            purge: rng.next() >> 30,
            revision: rng.next() >> 30,
            epoch: rng.below(9) as u32,
            folders: vec!["".into(), "cats".into()],
        }
    }

    #[test]
    fn a_delta_on_its_base_gives_the_load_and_stays_short() {
        let mut rng = SplitMix::new(5);
        for _ in 0..500 {
            let base = some(&mut rng);
            let load = Load {
                sequence: base.sequence + 50,
                requests: base.requests + rng.below(50_000),
                purge: base.purge + rng.below(9),
                revision: base.revision + rng.below(900),
                jobs: 3,
                backlog_ms: rng.below(100_000) as u32,
                used_pct: 77,
                hit_pct: 5,
                ..base.clone()
            };
            let sealed = Delta::seal(77, &base, &load).unwrap();
            assert!(sealed.len() <= 44, "{}", sealed.len());
            assert_eq!(envelope::open::<Delta>(&sealed).unwrap().apply(&base), load);
        }
    }

    #[test]
    fn what_does_not_fit_into_a_delta_needs_the_whole_record() {
        let base = Load { sequence: u64::MAX >> 1, ..Load::default() };
        let full = Load {
            sequence: base.sequence + (1 << 40),
            cpu: u32::MAX,
            permits: u16::MAX,
            jobs: u16::MAX,
            backlog_ms: u32::MAX,
            used_pct: 100,
            hit_pct: 100,
            requests: u64::MAX,
            cache_mib: u32::MAX,
            purge: u64::MAX,
            revision: u64::MAX,
            epoch: u32::MAX,
            folders: Vec::new(),
        };
        assert_eq!(Delta::seal(1, &base, &full), None);
        let moved = Load { folders: vec!["a".into()], ..base.clone() };
        assert_eq!(Delta::seal(1, &base, &moved), None);
    }

    #[test]
    fn a_whole_record_leaves_off_folders_that_do_not_fit_and_says_how_many() {
        let folders: Vec<String> = (0..300).map(|number| format!("folder-{number}")).collect();
        let load = Load { folders, requests: u64::MAX, revision: u64::MAX, ..Load::default() };
        let sealed = Whole::seal(u64::MAX, &"v".repeat(200), &load);
        assert!(sealed.len() <= WHOLE_MAX && sealed.len() > WHOLE_MAX - 20, "{}", sealed.len());
        let whole: Whole = envelope::open(&sealed).unwrap();
        assert_eq!(whole.load.folders.len() + usize::from(whole.left_off), 300);
        assert_eq!(whole.version.len(), VERSION_MAX);
    }

    #[test]
    fn a_list_of_folders_ends_at_its_limit() {
        let folders: Vec<String> = (0..3000).map(|number| format!("{number:0>100}")).collect();
        let some = Folders::of(&folders);
        assert!(some.0.len() > 2400 && envelope::seal(&some).len() <= FOLDERS_MAX);
        assert_eq!(Folders::of(&folders[..20]).0, folders[..20]);
    }

    #[test]
    fn values_of_a_newer_or_lying_peer_are_bounded() {
        let delta =
            Delta { run: 0, base: 1, step: 1, fields: vec![(USED, 1000), (200, 5), (JOBS, u64::MAX)] };
        let load = delta.apply(&Load::default());
        assert_eq!((load.used_pct, load.jobs), (255, u16::MAX));
    }
}
