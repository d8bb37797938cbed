//! The purge log: numbered, bounded, checked lazily. What was fetched before a matching purge is neither served nor kept.
//!
//! An entry remembers the last purge it was checked against, so that a hit compares two numbers. A gap past the log's
//! beginning makes an entry stale for good.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use tutti_base::envelope::Versioned;
use tutti_base::{Problem, RequestKey, SourceKey};
use tutti_cache::{Binding, Entry};

use crate::PurgeKeeper;

/// How many purges the log holds; what was fetched before the oldest of them counts as purged.
pub const LOG_LEN_MAX: usize = 4096;

/// One purge.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Purge {
    /// Its number, 1 for the first; numbers have no gaps.
    pub sequence: u64,
    /// What it takes away.
    pub what: What,
}

impl Versioned for Purge {
    const KIND: u8 = 4;
    const VERSION: u16 = 1;
}

/// What a purge takes away.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum What {
    /// The answers to these requests: one URL in all its variants.
    Requests(Vec<RequestKey>),
    /// Everything made of one original, and the original.
    Source(SourceKey),
    /// Everything that carries this tag.
    Tag(String),
    /// Everything.
    All,
}

/// The name under which a binding carries one of its originals among its tags.
pub fn source_tag(source: &SourceKey) -> String {
    format!("source:{}", source.hex())
}

/// The name under which a binding carries a tag of a service or an origin.
pub fn named_tag(tag: &str) -> String {
    format!("tag:{tag}")
}

impl What {
    /// Whether it takes away what has these tags, and answers `key` where it is an answer.
    fn concerns(&self, tags: &[String], key: Option<&RequestKey>) -> bool {
        match self {
            What::All => true,
            What::Requests(keys) => key.is_some_and(|key| keys.contains(key)),
            What::Source(source) => tags.contains(&source_tag(source)),
            What::Tag(tag) => tags.contains(&named_tag(tag)),
        }
    }
}

/// This node's purge log.
pub struct PurgeLog {
    newest: AtomicU64,
    kept: RwLock<VecDeque<Purge>>,
    keeper: Arc<dyn PurgeKeeper>,
}

impl PurgeLog {
    /// Reads the log as it was kept.
    pub fn load(keeper: Arc<dyn PurgeKeeper>) -> Self {
        let mut kept: VecDeque<Purge> = keeper.load().into();
        let surplus = kept.len().saturating_sub(LOG_LEN_MAX);
        kept.drain(..surplus);
        let newest = AtomicU64::new(kept.back().map_or(0, |purge| purge.sequence));
        Self { newest, kept: RwLock::new(kept), keeper }
    }

    /// The number of the newest purge; 0 when there was none.
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// Purges `what`: in force for every look-up that begins after this returns, and after a restart. The number of the
    /// purge. Not cancel-safe only in that a dropped call may or may not have purged.
    pub async fn purge(&self, what: What) -> Result<u64, Problem> {
        let purge = {
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            let purge = Purge { sequence: self.newest() + 1, what };
            kept.push_back(purge.clone());
            if kept.len() > LOG_LEN_MAX {
                kept.pop_front();
            }
            self.newest.store(purge.sequence, Ordering::Release);
            purge
        };
        self.keeper.append(&purge).await?;
        Ok(purge.sequence)
    }

    /// Whether nothing purged since `checked` concerns these tags and this key: `Ok` with the number up to which that
    /// holds.
    pub fn check(&self, checked: u64, tags: &[String], key: Option<&RequestKey>) -> Result<u64, Purged> {
        let newest = self.newest();
        if checked >= newest {
            return Ok(newest);
        }
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let oldest = kept.front().map_or(u64::MAX, |purge| purge.sequence);
        if checked + 1 < oldest {
            return Err(Purged);
        }
        let since = kept.iter().skip_while(|purge| purge.sequence <= checked);
        let mut upto = checked;
        for purge in since {
            if purge.what.concerns(tags, key) {
                return Err(Purged);
            }
            upto = purge.sequence;
        }
        Ok(upto)
    }

    /// Whether `entry`, kept under `key`, has survived all purges; noted on the entry, so that the next check is short.
    pub fn spares(&self, entry: &Entry, key: &RequestKey) -> bool {
        if entry.purge_checked() >= self.newest() {
            return true;
        }
        let checked = self.check(entry.purge_checked(), &entry.binding.tags, Some(key));
        checked.is_ok_and(|upto| {
            entry.note_purge_checked(upto);
            true
        })
    }

    /// Whether what `binding` says has survived all purges since its fetch began.
    pub fn spares_binding(&self, binding: &Binding, key: Option<&RequestKey>) -> bool {
        self.check(binding.purge_seen, &binding.tags, key).is_ok()
    }
}

/// It was purged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Purged;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::FutureExt;
    use tutti_base::BoxFuture;

    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<Purge>>);
    impl PurgeKeeper for Kept {
        fn load(&self) -> Vec<Purge> {
            self.0.lock().unwrap().clone()
        }
        fn append<'a>(&'a self, purge: &'a Purge) -> BoxFuture<'a, Result<(), Problem>> {
            self.0.lock().unwrap().push(purge.clone());
            Box::pin(async { Ok(()) })
        }
    }

    fn purge(log: &PurgeLog, what: What) -> u64 {
        log.purge(what).now_or_never().expect("the test keeper does not wait").expect("kept")
    }

    #[test]
    fn a_purge_takes_what_it_names_and_spares_the_rest() {
        let log = PurgeLog::load(Arc::new(Kept::default()));
        let (a, b) = (RequestKey::of(&[b"a"]), RequestKey::of(&[b"b"]));
        let tags = vec![source_tag(&SourceKey::of(&[b"s"])), named_tag("cats")];
        purge(&log, What::Requests(vec![a]));
        assert_eq!(log.check(0, &tags, Some(&a)), Err(Purged));
        assert_eq!(log.check(0, &tags, Some(&b)), Ok(1));
        purge(&log, What::Tag("dogs".into()));
        assert_eq!(log.check(1, &tags, Some(&b)), Ok(2));
        purge(&log, What::Tag("cats".into()));
        assert_eq!(log.check(2, &tags, Some(&b)), Err(Purged));
        assert_eq!(log.check(3, &tags, Some(&b)), Ok(3), "made after the purge");
        purge(&log, What::Source(SourceKey::of(&[b"s"])));
        assert_eq!(log.check(3, &tags, None), Err(Purged));
        purge(&log, What::All);
        assert_eq!(log.check(4, &[], None), Err(Purged));
    }

    #[test]
    fn a_gap_past_the_logs_beginning_counts_as_purged() {
        let log = PurgeLog::load(Arc::new(Kept::default()));
        (0..LOG_LEN_MAX as u64 + 1).for_each(|n| assert_eq!(purge(&log, What::Tag("x".into())), n + 1));
        assert_eq!(log.check(0, &[], None), Err(Purged));
        assert_eq!(log.check(1, &[], None), Ok(LOG_LEN_MAX as u64 + 1));
    }

    #[test]
    fn the_log_goes_on_where_it_was_after_a_restart() {
        let keeper = Arc::new(Kept::default());
        let before = PurgeLog::load(Arc::<Kept>::clone(&keeper));
        purge(&before, What::Tag("cats".into()));
        let after = PurgeLog::load(keeper);
        assert_eq!(after.newest(), 1);
        assert_eq!(after.check(0, &[named_tag("cats")], None), Err(Purged));
        assert_eq!(purge(&after, What::All), 2);
    }
}
