//! The newest changes in memory, from which every watch reads at its own pace. Bounded: who is too slow falls behind.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tutti_base::BoxFuture;
use tutti_telemetry::Counter;

use crate::store::{Change, Revision, Watch, WatchError};

/// The most changes kept.
pub(crate) const CHANGES_MAX: usize = 4096;
/// The most bytes of keys and values kept; the newest transaction stays even if it is larger.
pub(crate) const BYTES_MAX: usize = 16 << 20;

struct Kept {
    changes: VecDeque<Change>,
    /// The number of the first change kept, counted from the opening of the store.
    first: u64,
    bytes: usize,
    /// Changes up to this revision may be missing.
    forgotten: Revision,
    newest: Revision,
    is_closed: bool,
}

/// The log of changes since the store was opened.
pub(crate) struct ChangeLog {
    kept: Mutex<Kept>,
    poke: watch::Sender<()>,
    behind: Counter,
}

impl ChangeLog {
    /// An empty log of a store at `revision`.
    pub(crate) fn new(revision: Revision, behind: Counter) -> Self {
        let kept = Kept {
            changes: VecDeque::new(),
            first: 0,
            bytes: 0,
            forgotten: revision,
            newest: revision,
            is_closed: false,
        };
        Self { kept: Mutex::new(kept), poke: watch::Sender::new(()), behind }
    }

    /// Adds durable changes, in order.
    pub(crate) fn publish(&self, changes: Vec<Change>, newest: Revision) {
        let mut kept = self.kept();
        kept.newest = newest;
        for change in changes {
            kept.bytes += size(&change);
            kept.changes.push_back(change);
        }
        while kept.changes.len() > CHANGES_MAX || (kept.bytes > BYTES_MAX && kept.changes.len() > 1) {
            let Some(old) = kept.changes.pop_front() else { break };
            kept.bytes -= size(&old);
            kept.first += 1;
            kept.forgotten = old.revision;
        }
        drop(kept);
        self.poke.send_replace(());
    }

    /// Another state has taken the place of the one that was followed: every watch is behind.
    pub(crate) fn jump(&self, newest: Revision) {
        let mut kept = self.kept();
        kept.first += kept.changes.len() as u64 + 1;
        kept.changes.clear();
        kept.bytes = 0;
        kept.forgotten = newest;
        kept.newest = newest;
        drop(kept);
        self.poke.send_replace(());
    }

    pub(crate) fn newest(&self) -> Revision {
        self.kept().newest
    }

    pub(crate) fn close(&self) {
        self.kept().is_closed = true;
        self.poke.send_replace(());
    }

    pub(crate) fn follow(self: &Arc<Self>, table: &str, prefix: &[u8], after: Revision) -> Follower {
        let poked = self.poke.subscribe();
        let kept = self.kept();
        let skip = kept.changes.partition_point(|change| change.revision <= after) as u64;
        let next = if after < kept.forgotten { None } else { Some(kept.first + skip) };
        Follower { log: self.clone(), poked, table: table.into(), prefix: prefix.into(), after, next }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(change: &Change) -> usize {
    change.at.key.len() + change.at.table.len() + change.entry.as_ref().map_or(0, |entry| entry.value.len())
}

/// One watch.
pub(crate) struct Follower {
    log: Arc<ChangeLog>,
    poked: watch::Receiver<()>,
    table: String,
    prefix: Vec<u8>,
    after: Revision,
    /// The number of the next change to look at; none if it fell behind before it began.
    next: Option<u64>,
}

impl Follower {
    /// The next change, if it is there already.
    fn poll_log(&mut self) -> Option<Result<Change, WatchError>> {
        let kept = self.log.kept();
        let end = kept.first + kept.changes.len() as u64;
        let start = match self.next {
            Some(next) if next >= kept.first => next,
            _ => {
                self.next = Some(end);
                self.log.behind.inc();
                return Some(Err(WatchError::Behind { resumed_after: kept.newest }));
            }
        };
        let from = (start - kept.first) as usize;
        let fits = |change: &&Change| {
            change.revision > self.after
                && change.at.table == self.table
                && change.at.key.starts_with(&self.prefix)
        };
        match kept.changes.range(from..).position(|change| fits(&change)) {
            Some(step) => {
                self.next = Some(start + step as u64 + 1);
                Some(Ok(kept.changes[from + step].clone()))
            }
            None => {
                self.next = Some(end);
                kept.is_closed.then_some(Err(WatchError::Closed))
            }
        }
    }
}

impl Watch for Follower {
    fn next(&mut self) -> BoxFuture<'_, Result<Change, WatchError>> {
        Box::pin(async move {
            loop {
                self.poked.mark_unchanged();
                if let Some(found) = self.poll_log() {
                    return found;
                }
                if self.poked.changed().await.is_err() {
                    return Err(WatchError::Closed);
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Entry;
    use crate::txn::Key;

    fn change(revision: u64, len: usize) -> Change {
        let value = vec![0; len].into();
        let at = Revision(revision);
        let entry = Entry { value, created: at, modified: at, lease: None };
        Change { at: Key::new("t", b"k"), revision: at, entry: Some(entry) }
    }

    #[tokio::test]
    async fn the_log_is_bounded_by_number_and_by_bytes_and_says_who_fell_behind() {
        for (len, most) in [(1, CHANGES_MAX), (1 << 20, BYTES_MAX >> 20)] {
            let log = Arc::new(ChangeLog::new(Revision(0), Counter::default()));
            let mut slow = log.follow("t", b"", Revision(0));
            for revision in 1..=most as u64 + 1 {
                log.publish(vec![change(revision, len)], Revision(revision));
            }
            assert!(log.kept().changes.len() <= most);
            let resumed_after = Revision(most as u64 + 1);
            assert_eq!(slow.next().await, Err(WatchError::Behind { resumed_after }));
            assert_eq!(log.behind.get(), 1);
            log.publish(vec![change(resumed_after.0 + 1, 1)], Revision(resumed_after.0 + 1));
            assert_eq!(slow.next().await.unwrap().revision.0, resumed_after.0 + 1);
        }
    }
}
