//! The quota of the users' keys: what a transaction adds, and which of its branches holds. Decides from values alone.

use serde::{Deserialize, Serialize};
use tutti_base::envelope::Versioned;
use tutti_base::{Kind, Problem};
use tutti_store::{Check, Entry, Key, Op};

use super::{USER_BYTES_MAX, USER_KEYS_MAX};

/// How much the users have stored. Counts what went with its lease until it is counted again, so that it is never too
/// little.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Keys.
    pub(crate) keys: u64,
    /// Bytes of keys and values.
    pub(crate) bytes: u64,
}

impl Versioned for Usage {
    const KIND: u8 = 200;
    const VERSION: u16 = 1;
}

impl Usage {
    /// One more entry of `bytes`.
    pub(super) fn add(&mut self, bytes: usize) {
        self.keys += 1;
        self.bytes += bytes as u64;
    }

    /// Whether it is over the quota.
    pub(super) fn is_over(self) -> bool {
        self.keys > USER_KEYS_MAX || self.bytes > USER_BYTES_MAX
    }

    /// A problem where it is over the quota.
    pub(super) fn check(self) -> Result<(), Problem> {
        if !self.is_over() {
            return Ok(());
        }
        let text = format!(
            "the store would hold {} keys and {} bytes of users; the quota is {USER_KEYS_MAX} keys and \
             {USER_BYTES_MAX} bytes. Remove what is not needed; large things are originals",
            self.keys, self.bytes
        );
        Err(Problem::new(Kind::Unprocessable, text).about("quota"))
    }
}

/// What operations add to the usage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Growth {
    keys: i64,
    bytes: i64,
}

impl Growth {
    /// What `ops` add where `entry` tells what is there.
    pub(super) fn of<'a>(ops: &[Op], entry: impl Fn(&Key) -> Option<&'a Entry>) -> Self {
        let mut growth = Self::default();
        for op in ops {
            let key = op.key().key.len() as i64;
            if let Some(old) = entry(op.key()) {
                growth.keys -= 1;
                growth.bytes -= key + old.value.len() as i64;
            }
            if let Op::Put { value, .. } = op {
                growth.keys += 1;
                growth.bytes += key + value.len() as i64;
            }
        }
        growth
    }

    /// Whether it adds anything.
    pub(super) fn grows(self) -> bool {
        self.keys > 0 || self.bytes > 0
    }

    /// The usage with it.
    pub(super) fn on(self, usage: Usage) -> Usage {
        Usage {
            keys: usage.keys.saturating_add_signed(self.keys),
            bytes: usage.bytes.saturating_add_signed(self.bytes),
        }
    }
}

/// Whether `check` holds of what was read.
pub(super) fn holds(check: &Check, entry: Option<&Entry>) -> bool {
    match check {
        Check::Absent(_) => entry.is_none(),
        Check::Exists(_) => entry.is_some(),
        Check::Modified(_, revision) => entry.is_some_and(|entry| entry.modified == *revision),
        Check::Equals(_, value) => entry.is_some_and(|entry| entry.value == value),
        Check::Held(_, lease) => entry.is_some_and(|entry| entry.lease == Some(*lease)),
    }
}

/// The condition that `key` is as it was read.
pub(super) fn observed(key: &Key, entry: Option<&Entry>) -> Check {
    match entry {
        Some(entry) => Check::Modified(key.clone(), entry.modified),
        None => Check::Absent(key.clone()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tutti_store::Revision;

    use super::*;

    #[test]
    fn growth_counts_what_is_written_over_and_removed() {
        let key = |name: &str| Key::new("user", name);
        let old = Entry {
            value: Bytes::from_static(b"12345"),
            created: Revision(1),
            modified: Revision(2),
            lease: None,
        };
        let entry = |at: &Key| (*at == key("old")).then_some(&old);
        for (ops, keys, bytes) in [
            (vec![Op::put(key("new"), "12")], 1, 5),
            (vec![Op::put(key("old"), "12")], 0, -3),
            (vec![Op::delete(key("old"))], -1, -8),
            (vec![Op::delete(key("none"))], 0, 0),
        ] {
            let growth = Growth::of(&ops, entry);
            assert_eq!(growth, Growth { keys, bytes }, "{ops:?}");
        }
    }

    #[test]
    fn the_quota_ends_exactly_at_its_limits() {
        let at = Usage { keys: USER_KEYS_MAX, bytes: USER_BYTES_MAX };
        assert_eq!(at.check(), Ok(()));
        for over in [Usage { keys: at.keys + 1, ..at }, Usage { bytes: at.bytes + 1, ..at }] {
            assert!(over.check().unwrap_err().detail.contains("quota"));
        }
        assert_eq!(Growth { keys: -5, bytes: -9 }.on(Usage { keys: 1, bytes: 1 }), Usage::default());
    }

    #[test]
    fn the_usage_is_read_as_it_was_written() {
        let usage = Usage { keys: 3, bytes: 70 };
        assert_eq!(tutti_base::envelope::open::<Usage>(&tutti_base::envelope::seal(&usage)), Ok(usage));
    }
}
