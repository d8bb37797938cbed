//! Backups and bringing them back, online. A backup is a row of sealed records of one revision; bringing it back is a row of
//! transactions, so that watches and followers see it like any change.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use super::config::SNAPSHOT_BYTES_MAX;
use super::machine::off_thread;
use super::pen::Writing;
use super::snapshot::{self, Purpose, Record, Sealed};
use super::tables::Failure;
use super::vault::Vault;
use crate::record::{Stored, split_name};
use crate::store::{Revision, Scan, Store, StoreError};
use crate::txn::{Key, Op, Txn};

/// The most operations of one transaction of a restore.
const RESTORE_OPS_MAX: usize = 64;
/// The most bytes of values of one transaction of a restore.
const RESTORE_BYTES_MAX: usize = 1 << 20;

/// Tables that a restore leaves as they are: who belongs to the cluster, what lets machines in, and secrets, among them the
/// key of the cluster's authority. A backup's would bring removed nodes back, make spent tokens good again and shut out who
/// joined since.
pub const KEPT_BY_RESTORE: [&str; 4] = ["cluster", "nodes", "secrets", "tokens"];

/// What a restore did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Restored {
    /// The revision that the backup was taken at.
    pub of: Revision,
    /// Values that were written.
    pub written: usize,
    /// Keys that the backup does not have and that were removed.
    pub removed: usize,
}

/// Writes a backup of the state as of now. The revision that it has.
pub(crate) async fn save(
    vault: &Vault,
    writing: Writing,
    sealed: Sealed,
    mut to: Box<dyn Write + Send>,
) -> Result<Revision, StoreError> {
    let disk = vault.read()?;
    let saved = off_thread(writing, move || {
        let revision = crate::reading::revision(&disk).map_err(|error| Failure::Disk(error.to_string()))?;
        snapshot::write(&disk, Purpose::Backup(sealed), &mut to)?;
        to.flush().map_err(|error| Failure::Disk(error.to_string()))?;
        Ok(revision)
    });
    saved.await.map_err(|failure| StoreError::Failed(failure.to_string()))
}

/// Reads a backup to its end; an error before anything is changed if any of it is damaged.
fn values(from: &mut (dyn Read + Send)) -> Result<(Revision, BTreeMap<Key, Vec<u8>>), StoreError> {
    let mut bytes = Vec::new();
    let mut limited = from.take(SNAPSHOT_BYTES_MAX as u64 + 1);
    limited.read_to_end(&mut bytes).map_err(|error| StoreError::Failed(error.to_string()))?;
    StoreError::within("backup", bytes.len(), SNAPSHOT_BYTES_MAX)?;
    let records = snapshot::read(&bytes).map_err(|failure| StoreError::Invalid(failure.to_string()))?;
    let mut revision = Revision(0);
    let mut values = BTreeMap::new();
    for record in records {
        match record {
            Record::Head(of) => revision = Revision(of),
            Record::Value(name, bytes) => {
                let at =
                    split_name(&name).ok_or_else(|| StoreError::Invalid("a name without a table".into()))?;
                let stored = Stored::read(&at, &bytes)?;
                values.insert(at, stored.value);
            }
            _ => {}
        }
    }
    Ok((revision, values))
}

/// Makes the state what the backup says, but for keys that live by a lease and [`KEPT_BY_RESTORE`]. It is checked as a
/// whole first. Broken off, it may be run again.
pub(crate) async fn restore(
    store: &dyn Store,
    tables: &[String],
    from: &mut (dyn Read + Send),
) -> Result<Restored, StoreError> {
    let (of, mut wanted) = values(from)?;
    let is_kept = |table: &str| KEPT_BY_RESTORE.contains(&table);
    wanted.retain(|at, _| !is_kept(&at.table));
    let mut done = Restored { of, ..Restored::default() };
    let mut ops = Vec::new();
    for table in tables.iter().filter(|table| !is_kept(table)) {
        for at in surplus(store, table, &wanted)? {
            done.removed += 1;
            ops.push(Op::delete(at));
        }
    }
    for (at, value) in wanted {
        let is_there = store.get(&at)?.is_some_and(|entry| entry.value == value && entry.lease.is_none());
        if !is_there {
            done.written += 1;
            ops.push(Op::put(at, value));
        }
    }
    for some in portions(ops) {
        store.commit(Txn::of(some)).await?;
    }
    Ok(done)
}

/// Keys of `table` that the backup does not have and that live by no lease.
fn surplus(store: &dyn Store, table: &str, wanted: &BTreeMap<Key, Vec<u8>>) -> Result<Vec<Key>, StoreError> {
    let mut found = Vec::new();
    let mut scan = Scan::prefix(table, b"");
    loop {
        let page = store.range(&scan)?;
        for (key, entry) in &page.entries {
            let at = Key::new(table, key);
            if entry.lease.is_none() && !wanted.contains_key(&at) {
                found.push(at);
            }
        }
        match page.entries.last() {
            Some((last, _)) if page.more => scan.after = Some(last.clone()),
            _ => return Ok(found),
        }
    }
}

fn portions(ops: Vec<Op>) -> Vec<Vec<Op>> {
    let mut portions: Vec<Vec<Op>> = Vec::new();
    let mut bytes = 0;
    for op in ops {
        let size = if let Op::Put { value, .. } = &op { value.len() } else { 0 };
        let is_full = portions
            .last()
            .is_none_or(|last| last.len() >= RESTORE_OPS_MAX || bytes + size > RESTORE_BYTES_MAX);
        if is_full {
            portions.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        portions.last_mut().expect("one was pushed").push(op);
    }
    portions
}
