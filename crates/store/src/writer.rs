//! The one thread that writes: takes what waits, applies it as one disk transaction, syncs once, then acknowledges all.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use redb::{Database, Durability, ReadableTable, Table, WriteTransaction};
use tokio::sync::oneshot;
use tutti_base::{Clock, envelope};

use crate::change_log::ChangeLog;
use crate::counts::Counts;
use crate::leases::Leases;
use crate::record::{HELD, LEASES, META, REVISION, Stored, StoredLease, VALUES, full_name, split_name};
use crate::store::{Change, LEASES_MAX, Lease, LeaseId, Revision, StoreError};
use crate::txn::{Check, Commit, Key, Op, Txn};

/// The most writes that share one disk transaction.
pub(crate) const BATCH_MAX: usize = 256;

/// What the writer is asked to do.
pub(crate) enum Command {
    Commit(Txn),
    Grant(Duration),
    Revoke(LeaseId),
    /// Ends the leases whose time is over; every batch begins with that anyway.
    Expire,
    Stop,
}

/// What it answers.
pub(crate) enum Reply {
    Commit(Commit),
    Lease(Lease),
    Done,
}

/// A command with its waiting caller, who may have gone.
pub(crate) struct Job {
    pub(crate) command: Command,
    pub(crate) reply: oneshot::Sender<Result<Reply, StoreError>>,
}

/// The state of the writing thread.
pub(crate) struct Writer {
    pub(crate) database: Arc<Database>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) log: Arc<ChangeLog>,
    pub(crate) counts: Counts,
    /// Set by the first failure of the disk, for good.
    pub(crate) failure: Option<String>,
}

impl Writer {
    /// Works until it is told to stop or all senders are gone.
    pub(crate) fn run(mut self, jobs: &Receiver<Job>) {
        let mut is_stopping = false;
        while !is_stopping && let Ok(first) = jobs.recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && let Ok(next) = jobs.try_recv()
            {
                batch.push(next);
            }
            self.counts.queue.dec_by(batch.len() as i64);
            is_stopping = batch.iter().any(|job| matches!(job.command, Command::Stop));
            self.do_batch(batch);
        }
    }

    fn do_batch(&mut self, batch: Vec<Job>) {
        let applied = match self.failure.clone() {
            Some(failure) => Err(failure),
            None => self.apply(&batch).map_err(|error| error.to_string()),
        };
        match applied {
            Ok(outcomes) => {
                for (job, outcome) in batch.into_iter().zip(outcomes) {
                    self.answer(job, outcome);
                }
            }
            Err(failure) => {
                self.failure = Some(failure.clone());
                for job in batch {
                    self.answer(job, Err(StoreError::Failed(failure.clone())));
                }
            }
        }
    }

    fn answer(&self, job: Job, outcome: Result<Reply, StoreError>) {
        if let Err(error) = &outcome {
            self.counts.refused(error);
        }
        // A caller that has gone does not want to know.
        let _ = job.reply.send(outcome);
    }

    /// Applies the whole batch durably. An error means that nothing of it may be acknowledged.
    fn apply(&self, batch: &[Job]) -> Result<Vec<Result<Reply, StoreError>>, redb::Error> {
        let start = self.clock.now();
        let due = self.leases.take_due(start);
        let mut disk = self.database.begin_write()?;
        disk.set_durability(Durability::Immediate).map_err(redb::Error::from)?;
        let mut work = Work::open(&disk)?;
        for lease in &due {
            work.end_lease(*lease)?;
        }
        let mut outcomes = Vec::with_capacity(batch.len());
        for job in batch {
            outcomes.push(match work.run(&job.command) {
                Ok(reply) => Ok(reply),
                Err(Stop::Refused(error)) => Err(error),
                Err(Stop::Disk(error)) => return Err(error.into()),
            });
        }
        let (changes, written, revision) = work.finish()?;
        if written == 0 {
            disk.abort()?;
            return Ok(outcomes);
        }
        disk.commit()?;
        self.counts.sync.observe(self.clock.now().since(start).as_secs_f64());
        self.counts.commits.inc_by(written);
        self.counts.batches.inc();
        self.counts.expired.inc_by(due.len() as u64);
        self.note_leases(batch, &outcomes);
        self.counts.revision.set(revision.0 as i64);
        self.log.publish(changes, revision);
        Ok(outcomes)
    }

    fn note_leases(&self, batch: &[Job], outcomes: &[Result<Reply, StoreError>]) {
        for (job, outcome) in batch.iter().zip(outcomes) {
            match (&job.command, outcome) {
                (_, Ok(Reply::Lease(lease))) => self.leases.start(lease.id, lease.ttl, self.clock.now()),
                (Command::Revoke(lease), Ok(_)) => self.leases.end(*lease),
                _ => {}
            }
        }
        self.counts.leases.set(self.leases.len() as i64);
    }
}

/// Why one command of a batch stopped.
enum Stop {
    /// Only this command is refused, and has changed nothing.
    Refused(StoreError),
    /// The disk failed, and with it the batch.
    Disk(redb::StorageError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Stop::Refused(error)
    }
}

impl From<redb::StorageError> for Stop {
    fn from(error: redb::StorageError) -> Self {
        Stop::Disk(error)
    }
}

/// A batch being applied to the open tables.
struct Work<'disk> {
    values: Table<'disk, &'static [u8], &'static [u8]>,
    leases: Table<'disk, u64, &'static [u8]>,
    held: Table<'disk, (u64, &'static [u8]), ()>,
    meta: Table<'disk, &'static str, u64>,
    revision: u64,
    /// How many commands changed something.
    written: u64,
    changes: Vec<Change>,
}

impl<'disk> Work<'disk> {
    fn open(disk: &'disk WriteTransaction) -> Result<Self, redb::Error> {
        let meta = disk.open_table(META)?;
        let revision = meta.get(REVISION)?.map_or(0, |found| found.value());
        Ok(Self {
            values: disk.open_table(VALUES)?,
            leases: disk.open_table(LEASES)?,
            held: disk.open_table(HELD)?,
            meta,
            revision,
            written: 0,
            changes: Vec::new(),
        })
    }

    fn finish(mut self) -> Result<(Vec<Change>, u64, Revision), redb::Error> {
        if self.written > 0 {
            self.meta.insert(REVISION, self.revision)?;
        }
        Ok((self.changes, self.written, Revision(self.revision)))
    }

    fn run(&mut self, command: &Command) -> Result<Reply, Stop> {
        match command {
            Command::Commit(txn) => self.commit(txn).map(Reply::Commit),
            Command::Grant(ttl) => self.grant(*ttl).map(Reply::Lease),
            Command::Revoke(lease) => {
                if !self.is_alive(*lease)? {
                    return Err(StoreError::NoLease(*lease).into());
                }
                self.end_lease(*lease)?;
                Ok(Reply::Done)
            }
            Command::Expire | Command::Stop => Ok(Reply::Done),
        }
    }

    fn next_revision(&mut self) -> Revision {
        self.revision += 1;
        self.written += 1;
        Revision(self.revision)
    }

    fn commit(&mut self, txn: &Txn) -> Result<Commit, Stop> {
        for (check, condition) in txn.when.iter().enumerate() {
            let found = self.read(condition.key())?;
            if !holds(condition, found.as_ref()) {
                let found = found.map(|stored| Revision(stored.modified));
                let otherwise = self.change(&txn.otherwise)?;
                return Ok(Commit::Failed { check, found, otherwise });
            }
        }
        let revision = self.change(&txn.then)?;
        Ok(Commit::Done(revision.unwrap_or(Revision(self.revision))))
    }

    /// Applies `ops` as one revision; none if there is nothing to do. Refuses before it changes anything.
    fn change(&mut self, ops: &[Op]) -> Result<Option<Revision>, Stop> {
        let mut before = Vec::with_capacity(ops.len());
        for op in ops {
            before.push(self.prepare(op)?);
        }
        let is_idle = |(op, old): (&Op, &Before)| matches!((op, old), (Op::Delete { .. }, Before::Absent));
        if ops.iter().zip(&before).all(is_idle) {
            return Ok(None);
        }
        let revision = self.next_revision();
        for (op, old) in ops.iter().zip(before) {
            match op {
                Op::Put { at, value, lease } => self.put(at, value, *lease, old.stored(), revision)?,
                Op::Delete { .. } if matches!(old, Before::Absent) => {}
                Op::Delete { at } => self.delete(at, old.stored(), revision)?,
            }
        }
        Ok(Some(revision))
    }

    /// What stands under the key of `op`. A damaged value may be deleted, but not silently overwritten.
    fn prepare(&self, op: &Op) -> Result<Before, Stop> {
        if let Op::Put { lease: Some(lease), .. } = op
            && !self.is_alive(*lease)?
        {
            return Err(StoreError::NoLease(*lease).into());
        }
        match (op, self.read(op.key())) {
            (_, Ok(Some(stored))) => Ok(Before::Stored(stored)),
            (_, Ok(None)) => Ok(Before::Absent),
            (Op::Delete { .. }, Err(Stop::Refused(_))) => Ok(Before::Damaged),
            (_, Err(stop)) => Err(stop),
        }
    }

    fn put(
        &mut self,
        at: &Key,
        value: &bytes::Bytes,
        lease: Option<LeaseId>,
        old: Option<Stored>,
        revision: Revision,
    ) -> Result<(), Stop> {
        let name = full_name(&at.table, &at.key);
        let held_by = old.as_ref().and_then(|old| old.lease);
        if let Some(old_lease) = held_by {
            self.held.remove((old_lease, name.as_slice()))?;
        }
        if let Some(LeaseId(lease)) = lease {
            self.held.insert((lease, name.as_slice()), ())?;
        }
        let stored = Stored {
            created: old.map_or(revision.0, |old| old.created),
            modified: revision.0,
            lease: lease.map(|lease| lease.0),
            value: value.to_vec(),
        };
        self.values.insert(name.as_slice(), envelope::seal(&stored).as_slice())?;
        self.changes.push(Change { at: at.clone(), revision, entry: Some(stored.into_entry()) });
        Ok(())
    }

    fn delete(&mut self, at: &Key, old: Option<Stored>, revision: Revision) -> Result<(), Stop> {
        let name = full_name(&at.table, &at.key);
        if let Some(lease) = old.and_then(|old| old.lease) {
            self.held.remove((lease, name.as_slice()))?;
        }
        self.values.remove(name.as_slice())?;
        self.changes.push(Change { at: at.clone(), revision, entry: None });
        Ok(())
    }

    fn grant(&mut self, ttl: Duration) -> Result<Lease, Stop> {
        use redb::ReadableTableMetadata;
        StoreError::within("number of leases", self.leases.len()? as usize + 1, LEASES_MAX)?;
        let id = LeaseId(self.next_revision().0);
        let stored = StoredLease { ttl_ms: ttl.as_millis() as u64 };
        self.leases.insert(id.0, envelope::seal(&stored).as_slice())?;
        Ok(Lease { id, ttl })
    }

    fn is_alive(&self, lease: LeaseId) -> Result<bool, Stop> {
        Ok(self.leases.get(lease.0)?.is_some())
    }

    /// Removes a lease and every key that still lives by it, as one revision.
    fn end_lease(&mut self, lease: LeaseId) -> Result<(), redb::StorageError> {
        let mut names = Vec::new();
        for held in self.held.range((lease.0, [].as_slice())..(lease.0 + 1, [].as_slice()))? {
            names.push(held?.0.value().1.to_vec());
        }
        let revision = self.next_revision();
        for name in names {
            self.held.remove((lease.0, name.as_slice()))?;
            self.delete_if_held(&name, lease, revision)?;
        }
        self.leases.remove(lease.0)?;
        Ok(())
    }

    fn delete_if_held(
        &mut self,
        name: &[u8],
        lease: LeaseId,
        revision: Revision,
    ) -> Result<(), redb::StorageError> {
        let Some(at) = split_name(name) else { return Ok(()) };
        let is_held = match self.values.get(name)? {
            // A damaged value stays, so that somebody sees it.
            Some(found) => Stored::read(&at, found.value()).is_ok_and(|stored| stored.lease == Some(lease.0)),
            None => false,
        };
        if is_held {
            self.values.remove(name)?;
            self.changes.push(Change { at, revision, entry: None });
        }
        Ok(())
    }

    fn read(&self, at: &Key) -> Result<Option<Stored>, Stop> {
        match self.values.get(full_name(&at.table, &at.key).as_slice())? {
            Some(found) => Ok(Some(Stored::read(at, found.value())?)),
            None => Ok(None),
        }
    }
}

/// What stood under a key before an operation.
enum Before {
    Absent,
    Stored(Stored),
    Damaged,
}

impl Before {
    fn stored(self) -> Option<Stored> {
        match self {
            Before::Stored(stored) => Some(stored),
            Before::Absent | Before::Damaged => None,
        }
    }
}

fn holds(check: &Check, found: Option<&Stored>) -> bool {
    match (check, found) {
        (Check::Absent(_), found) => found.is_none(),
        (_, None) => false,
        (Check::Exists(_), Some(_)) => true,
        (Check::Modified(_, revision), Some(found)) => found.modified == revision.0,
        (Check::Equals(_, value), Some(found)) => found.value == *value,
        (Check::Held(_, lease), Some(found)) => found.lease == Some(lease.0),
    }
}
