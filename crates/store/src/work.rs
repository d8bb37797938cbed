//! Transactions, leases and held keys applied to the open tables: the one implementation for every store on redb.
//! Commits nothing itself and reads no clock.

use std::time::Duration;

use redb::{ReadableTable, Table, WriteTransaction};
use serde::{Deserialize, Serialize};
use tutti_base::envelope;

use crate::record::{HELD, LEASES, META, REVISION, Stored, StoredLease, VALUES, full_name, split_name};
use crate::store::{Change, LEASES_MAX, Lease, LeaseId, Revision, StoreError};
use crate::txn::{Check, Commit, Key, Op, Txn};

/// A change of the state.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    Commit(Txn),
    Grant(Duration),
    Revoke(LeaseId),
}

/// What it answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Commit(Commit),
    Lease(Lease),
    Done,
}

/// Why one command of a batch stopped.
#[derive(Debug)]
pub(crate) enum Stop {
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
pub(crate) struct Work<'disk> {
    values: Table<'disk, &'static [u8], &'static [u8]>,
    leases: Table<'disk, u64, &'static [u8]>,
    held: Table<'disk, (u64, &'static [u8]), ()>,
    meta: Table<'disk, &'static str, u64>,
    revision: u64,
    /// How many commands changed something.
    written: u64,
    changes: Vec<Change>,
    /// The first damage that was met. One node alone may live with it; replicas that differ may not.
    pub(crate) damage: Option<String>,
}

impl<'disk> Work<'disk> {
    pub(crate) fn open(disk: &'disk WriteTransaction) -> Result<Self, redb::Error> {
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
            damage: None,
        })
    }

    pub(crate) fn finish(mut self) -> Result<(Vec<Change>, u64, Revision), redb::Error> {
        if self.written > 0 {
            self.meta.insert(REVISION, self.revision)?;
        }
        Ok((self.changes, self.written, Revision(self.revision)))
    }

    pub(crate) fn run(&mut self, command: &Command) -> Result<Reply, Stop> {
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
    fn prepare(&mut self, op: &Op) -> Result<Before, Stop> {
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

    pub(crate) fn is_alive(&self, lease: LeaseId) -> Result<bool, Stop> {
        Ok(self.leases.get(lease.0)?.is_some())
    }

    /// Removes a lease and every key that still lives by it, as one revision.
    pub(crate) fn end_lease(&mut self, lease: LeaseId) -> Result<(), redb::StorageError> {
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
            Some(found) => match Stored::read(&at, found.value()) {
                Ok(stored) => stored.lease == Some(lease.0),
                // A damaged value stays, so that somebody sees it.
                Err(error) => {
                    self.damage.get_or_insert(error.to_string());
                    false
                }
            },
            None => false,
        };
        if is_held {
            self.values.remove(name)?;
            self.changes.push(Change { at, revision, entry: None });
        }
        Ok(())
    }

    fn read(&mut self, at: &Key) -> Result<Option<Stored>, Stop> {
        match self.values.get(full_name(&at.table, &at.key).as_slice())? {
            Some(found) => match Stored::read(at, found.value()) {
                Ok(stored) => Ok(Some(stored)),
                Err(error) => {
                    self.damage.get_or_insert(error.to_string());
                    Err(error.into())
                }
            },
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
