//! The Raft log on redb: appended entries are readable at once and acknowledged when they are synced. Interprets none.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogReader, StorageIOError};
use redb::WriteTransaction;
use tokio::sync::oneshot;
use tutti_base::envelope;

use super::config::{APPEND_BYTES_MAX, RECENT_BYTES_MAX, RECENT_ENTRIES_MAX};
use super::health::Health;
use super::pen::{Lasts, Pen, Task};
use super::tables::{self, COMMITTED, Failure, Known, LOG, PURGED, VOTE, put_cell};
use super::types::{Entry, LogId, LogRecord, PlaceRecord, StorageError, Types, Vote, VoteRecord, entry_size};
use super::vault::Vault;

/// The log of this node. Clones are the same log.
#[derive(Clone)]
pub(crate) struct Log {
    vault: Arc<Vault>,
    pen: Arc<Pen>,
    health: Arc<Health>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    vote: Option<Vote>,
    purged: Option<LogId>,
    committed: Option<LogId>,
    last: Option<LogId>,
    /// The newest entries; all that are not on disk yet are among them.
    recent: BTreeMap<u64, Entry>,
    recent_bytes: usize,
    /// All up to here are on disk.
    flushed: u64,
}

impl State {
    fn keep(&mut self, entry: Entry) {
        self.last = Some(entry.log_id);
        self.recent_bytes += entry_size(&entry);
        if let Some(old) = self.recent.insert(entry.log_id.index, entry) {
            self.recent_bytes -= entry_size(&old);
        }
    }

    fn forget_old(&mut self) {
        while (self.recent.len() > RECENT_ENTRIES_MAX || self.recent_bytes > RECENT_BYTES_MAX)
            && let Some(first) = self.recent.first_entry()
            && *first.key() <= self.flushed
        {
            self.recent_bytes -= entry_size(&first.remove());
        }
    }

    fn cut(&mut self, since: u64) {
        for entry in self.recent.split_off(&since).into_values() {
            self.recent_bytes -= entry_size(&entry);
        }
    }
}

impl Log {
    pub(crate) fn new(vault: Arc<Vault>, pen: Arc<Pen>, health: Arc<Health>, known: &Known) -> Self {
        let state = State {
            vote: known.vote,
            purged: known.purged,
            committed: known.committed,
            last: known.last,
            flushed: known.last.map_or(0, |last| last.index),
            ..State::default()
        };
        Self { vault, pen, health, state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entries from `start` up to and without `end`, as far as they are there.
    pub(crate) fn entries(&self, start: u64, end: u64, bytes_max: usize) -> Result<Vec<Entry>, Failure> {
        let (from_memory, on_disk_end) = {
            let state = self.state();
            let first = state.recent.keys().next().copied().unwrap_or(end).clamp(start, end.max(start));
            let kept: Vec<Entry> = if first < end {
                state.recent.range(first..end).map(|(_, entry)| entry.clone()).collect()
            } else {
                Vec::new()
            };
            (kept, first)
        };
        let mut entries = Vec::new();
        if start < on_disk_end {
            let disk = self.vault.read()?;
            let table = disk.open_table(LOG)?;
            let mut bytes = 0;
            for found in table.range(start..on_disk_end)? {
                let entry = tables::entry(found?.1.value())?.0;
                bytes += entry_size(&entry);
                if bytes > bytes_max && !entries.is_empty() {
                    return Ok(entries);
                }
                entries.push(entry);
            }
        }
        let mut bytes: usize = entries.iter().map(entry_size).sum();
        for entry in from_memory {
            bytes += entry_size(&entry);
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Where the log ends.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.state().last
    }

    /// The newest entry that is known to be committed.
    pub(crate) fn committed(&self) -> Option<LogId> {
        self.state().committed
    }

    async fn written(&self, what: Change) -> Result<(), Failure> {
        let (done, written) = oneshot::channel();
        self.pen.hand(Box::new(Writing { what, done }));
        written.await.unwrap_or(Err(Failure::Closed))
    }

    fn failed(&self, error: Failure) -> StorageError {
        self.health.note(&error);
        StorageError::from(StorageIOError::write_logs(AnyError::new(&error)))
    }

    fn unreadable(&self, error: Failure) -> StorageError {
        self.health.note(&error);
        StorageError::from(StorageIOError::read_logs(AnyError::new(&error)))
    }
}

fn bounds(range: impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let (start, end) = bounds(range);
        self.entries(start, end, usize::MAX).map_err(|error| self.unreadable(error))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.entries(start, end, APPEND_BYTES_MAX).map_err(|error| self.unreadable(error))
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let state = self.state();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        self.written(Change::Vote(*vote)).await.map_err(|error| self.failed(error))?;
        self.state().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.state().vote)
    }

    /// Kept in memory and written with the next change of the log: it shortens the way back after a crash.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.state().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let state = self.state();
        // Entries after the last one on disk were lost before they were acknowledged.
        Ok(state.committed.filter(|committed| state.last >= Some(*committed)))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut sealed = Vec::new();
        let committed = {
            let mut state = self.state();
            for entry in entries {
                let record = LogRecord(entry);
                sealed.push((record.0.log_id.index, envelope::seal(&record)));
                state.keep(record.0);
            }
            state.committed
        };
        let task = Appending { log: self.clone(), sealed, committed, callback };
        self.pen.hand(Box::new(task));
        Ok(())
    }

    async fn truncate(&mut self, since: LogId) -> Result<(), StorageError> {
        let before = match since.index.checked_sub(1) {
            Some(before) => {
                self.entries(before, since.index, usize::MAX).map_err(|error| self.unreadable(error))?
            }
            None => Vec::new(),
        };
        {
            let mut state = self.state();
            state.cut(since.index);
            state.last = before.first().map(|entry| entry.log_id).or(state.purged);
            state.flushed = state.flushed.min(since.index.saturating_sub(1));
        }
        self.written(Change::Truncate(since.index)).await.map_err(|error| self.failed(error))
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        {
            let mut state = self.state();
            state.purged = Some(upto);
            state.last = state.last.max(Some(upto));
            state.flushed = state.flushed.max(upto.index);
            let kept = state.recent.split_off(&(upto.index + 1));
            state.recent_bytes = kept.values().map(entry_size).sum();
            state.recent = kept;
        }
        self.written(Change::Purge(upto)).await.map_err(|error| self.failed(error))
    }
}

/// Entries on their way to the disk.
struct Appending {
    log: Log,
    sealed: Vec<(u64, Vec<u8>)>,
    committed: Option<LogId>,
    callback: LogFlushed<Types>,
}

impl Task for Appending {
    fn lasts(&self) -> Lasts {
        Lasts::Durably
    }
    fn write(&mut self, disk: &WriteTransaction) -> Result<(), Failure> {
        let mut table = disk.open_table(LOG)?;
        for (index, bytes) in &self.sealed {
            table.insert(*index, bytes.as_slice())?;
        }
        put_cell(disk, COMMITTED, &PlaceRecord(self.committed))
    }
    fn done(self: Box<Self>, outcome: Result<(), Failure>) {
        if outcome.is_ok()
            && let Some((index, _)) = self.sealed.last()
        {
            let mut state = self.log.state();
            state.flushed = state.flushed.max(*index);
            state.forget_old();
        }
        if let Err(error) = &outcome {
            self.log.health.note(error);
        }
        self.callback.log_io_completed(outcome.map_err(|error| std::io::Error::other(error.to_string())));
    }
}

/// A change of the log that is not an append.
enum Change {
    Vote(Vote),
    Truncate(u64),
    Purge(LogId),
}

struct Writing {
    what: Change,
    done: oneshot::Sender<Result<(), Failure>>,
}

impl Task for Writing {
    fn lasts(&self) -> Lasts {
        Lasts::Durably
    }
    fn write(&mut self, disk: &WriteTransaction) -> Result<(), Failure> {
        match &self.what {
            Change::Vote(vote) => put_cell(disk, VOTE, &VoteRecord(*vote)),
            Change::Truncate(since) => Ok(disk.open_table(LOG)?.retain_in(*since.., |_, _| false)?),
            Change::Purge(upto) => {
                disk.open_table(LOG)?.retain_in(..=upto.index, |_, _| false)?;
                put_cell(disk, PURGED, &PlaceRecord(Some(*upto)))
            }
        }
    }
    fn done(self: Box<Self>, outcome: Result<(), Failure>) {
        // Whoever asked may have been stopped.
        let _ = self.done.send(outcome);
    }
}
