//! The state as a row of sealed records: what travels to a node that fell behind, and what a backup is. Each record has its
//! checksum, and the last says how many there are. Applies nothing but to the tables it is given.

use std::io::Write;

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};
use tutti_base::envelope::{self, Versioned};

use super::config::SNAPSHOT_BYTES_MAX;
use super::tables::{CLIENTS, EPOCHS, Failure, OUTCOMES, damaged};
use crate::reading::revision;
use crate::record::{HELD, LEASES, META, REVISION, Stored, VALUES, split_name};
use crate::secrets;

/// One record.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum Record {
    /// The first: the revision of the state.
    Head(u64),
    /// A value under its full name, as it is stored.
    Value(Vec<u8>, Vec<u8>),
    /// A lease, as it is stored.
    Lease(u64, Vec<u8>),
    /// A key that lives by a lease.
    Held(u64, Vec<u8>),
    /// What became of a write, as it is stored.
    Outcome(u64, u64, Vec<u8>),
    /// A node's newest run and sequence.
    Client(u64, u64, u64),
    /// An epoch and where it began.
    Epoch(u64, u64),
    /// The last: how many records there are before it.
    End(u64),
}

impl Versioned for Record {
    const KIND: u8 = 29;
    const VERSION: u16 = 1;
}

/// Whom the records are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Another node of the cluster: everything.
    Replica,
    /// A backup: values that do not live by a lease.
    Backup(Sealed),
}

/// Whether a backup has the sealed secrets in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sealed {
    /// Their table is left out.
    LeftOut,
    /// Their table goes along, sealed as it is.
    Included,
}

struct Frames<'a> {
    out: &'a mut dyn Write,
    count: u64,
}

impl Frames<'_> {
    fn put(&mut self, record: &Record) -> Result<(), Failure> {
        let sealed = envelope::seal(record);
        let len = (sealed.len() as u32).to_le_bytes();
        self.count += 1;
        let written = self.out.write_all(&len).and_then(|()| self.out.write_all(&sealed));
        written.map_err(|error| Failure::Disk(error.to_string()))
    }
}

/// Writes the state that `disk` shows. Every value is opened on the way, so that damage is noticed and not copied.
pub(crate) fn write(disk: &ReadTransaction, purpose: Purpose, out: &mut dyn Write) -> Result<(), Failure> {
    let mut frames = Frames { out, count: 0 };
    let newest = revision(disk).map_err(|error| Failure::Disk(error.to_string()))?;
    frames.put(&Record::Head(newest.0))?;
    for found in disk.open_table(VALUES)?.iter()? {
        let (name, bytes) = found?;
        let at = split_name(name.value()).ok_or_else(|| Failure::Damaged("a name without a table".into()))?;
        let stored = Stored::read(&at, bytes.value()).map_err(|error| Failure::Damaged(error.to_string()))?;
        let is_wanted = match purpose {
            Purpose::Replica => true,
            Purpose::Backup(sealed) => {
                stored.lease.is_none() && (sealed == Sealed::Included || at.table != secrets::TABLE)
            }
        };
        if is_wanted {
            frames.put(&Record::Value(name.value().to_vec(), bytes.value().to_vec()))?;
        }
    }
    if purpose == Purpose::Replica {
        write_rest(disk, &mut frames)?;
    }
    let count = frames.count;
    frames.put(&Record::End(count))
}

fn write_rest(disk: &ReadTransaction, frames: &mut Frames<'_>) -> Result<(), Failure> {
    for found in disk.open_table(LEASES)?.iter()? {
        let (id, bytes) = found?;
        frames.put(&Record::Lease(id.value(), bytes.value().to_vec()))?;
    }
    for found in disk.open_table(HELD)?.iter()? {
        let at = found?.0;
        let (lease, name) = (at.value().0, at.value().1.to_vec());
        frames.put(&Record::Held(lease, name))?;
    }
    for found in disk.open_table(OUTCOMES)?.iter()? {
        let (at, bytes) = found?;
        let (node, sequence) = at.value();
        frames.put(&Record::Outcome(node, sequence, bytes.value().to_vec()))?;
    }
    for found in disk.open_table(CLIENTS)?.iter()? {
        let (node, newest) = found?;
        let (run, sequence) = newest.value();
        frames.put(&Record::Client(node.value(), run, sequence))?;
    }
    for found in disk.open_table(EPOCHS)?.iter()? {
        let (epoch, fork) = found?;
        frames.put(&Record::Epoch(epoch.value(), fork.value()))?;
    }
    Ok(())
}

/// Reads records that [`write`] wrote, to the last of them. An error if any is damaged or missing.
pub(crate) fn read(mut bytes: &[u8]) -> Result<Vec<Record>, Failure> {
    let broken = |what: &str| Failure::Damaged(format!("the snapshot is broken: {what}"));
    if bytes.len() > SNAPSHOT_BYTES_MAX {
        return Err(broken("it is longer than 512 MiB"));
    }
    let mut records = Vec::new();
    loop {
        let (len, rest) = bytes.split_at_checked(4).ok_or_else(|| broken("it ends before its end"))?;
        let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize;
        let (sealed, rest) = rest.split_at_checked(len).ok_or_else(|| broken("it ends within a record"))?;
        bytes = rest;
        let record: Record = envelope::open(sealed).map_err(damaged("a record of the snapshot"))?;
        match record {
            Record::End(count) if count == records.len() as u64 && bytes.is_empty() => return Ok(records),
            Record::End(_) => return Err(broken("its number of records is wrong")),
            Record::Head(_) if !records.is_empty() => return Err(broken("it has two beginnings")),
            other if records.is_empty() && !matches!(other, Record::Head(_)) => {
                return Err(broken("its beginning is missing"));
            }
            record => records.push(record),
        }
    }
}

/// Puts `records` in the place of the whole state. The revision that it is then.
pub(crate) fn install(disk: &WriteTransaction, records: &[Record]) -> Result<u64, Failure> {
    clear(disk)?;
    let mut values = disk.open_table(VALUES)?;
    let mut leases = disk.open_table(LEASES)?;
    let mut held = disk.open_table(HELD)?;
    let mut meta = disk.open_table(META)?;
    let mut outcomes = disk.open_table(OUTCOMES)?;
    let mut clients = disk.open_table(CLIENTS)?;
    let mut epochs = disk.open_table(EPOCHS)?;
    let mut newest = 0;
    for record in records {
        match record {
            Record::Head(revision) => {
                newest = *revision;
                meta.insert(REVISION, revision)?;
            }
            Record::Value(name, bytes) => {
                values.insert(name.as_slice(), bytes.as_slice())?;
            }
            Record::Lease(id, bytes) => {
                leases.insert(id, bytes.as_slice())?;
            }
            Record::Held(lease, name) => {
                held.insert((*lease, name.as_slice()), ())?;
            }
            Record::Outcome(node, sequence, bytes) => {
                outcomes.insert((*node, *sequence), bytes.as_slice())?;
            }
            Record::Client(node, run, sequence) => {
                clients.insert(node, (*run, *sequence))?;
            }
            Record::Epoch(epoch, fork) => {
                epochs.insert(epoch, fork)?;
            }
            Record::End(_) => {}
        }
    }
    Ok(newest)
}

fn clear(disk: &WriteTransaction) -> Result<(), Failure> {
    fn empty<K: redb::Key + 'static, V: redb::Value + 'static>(
        disk: &WriteTransaction,
        table: TableDefinition<'_, K, V>,
    ) -> Result<(), Failure> {
        Ok(disk.open_table(table)?.retain(|_, _| false)?)
    }
    empty(disk, VALUES)?;
    empty(disk, LEASES)?;
    empty(disk, HELD)?;
    empty(disk, OUTCOMES)?;
    empty(disk, CLIENTS)?;
    empty(disk, EPOCHS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(records: &[Record]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut frames = Frames { out: &mut bytes, count: 0 };
        records.iter().for_each(|record| frames.put(record).expect("a vector takes all"));
        bytes
    }

    #[test]
    fn a_snapshot_that_is_not_whole_is_refused() {
        let whole = frames(&[Record::Head(3), Record::Epoch(1, 2), Record::End(2)]);
        assert_eq!(read(&whole), Ok(vec![Record::Head(3), Record::Epoch(1, 2)]));
        for len in 0..whole.len() {
            assert!(read(&whole[..len]).is_err(), "cut at {len}");
        }
        for at in 4..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert!(read(&flipped).is_err(), "flipped at {at}");
        }
        let wrong = [
            frames(&[Record::Epoch(1, 2), Record::End(1)]),
            frames(&[Record::Head(1), Record::Head(1), Record::End(2)]),
            frames(&[Record::Head(1), Record::Epoch(1, 2), Record::End(1)]),
        ];
        for bytes in wrong {
            assert!(read(&bytes).is_err());
        }
    }

    #[test]
    fn a_snapshot_over_the_limit_is_refused_before_it_is_read() {
        let zeros = vec![0; SNAPSHOT_BYTES_MAX + 1];
        let refused = read(&zeros).expect_err("too long").to_string();
        assert!(refused.contains("512 MiB"), "{refused}");
    }
}
