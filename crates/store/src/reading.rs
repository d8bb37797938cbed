//! Reads of the replicated and the local tables, from one read transaction. Writes nothing.

use std::ops::Bound;

use redb::ReadTransaction;

use crate::record::{META, REVISION, Stored, VALUES, full_name};
use crate::store::{Entry, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX, Page, Revision, Scan, StoreError};
use crate::txn::{KEY_MAX, Key, check_table};

pub(crate) fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Failed(error.into().to_string())
}

/// One value.
pub(crate) fn get(disk: &ReadTransaction, at: &Key) -> Result<Option<Entry>, StoreError> {
    let table = disk.open_table(VALUES).map_err(failed)?;
    match table.get(full_name(&at.table, &at.key).as_slice()).map_err(failed)? {
        Some(found) => Ok(Some(Stored::read(at, found.value())?.into_entry())),
        None => Ok(None),
    }
}

/// The revision that `disk` shows.
pub(crate) fn revision(disk: &ReadTransaction) -> Result<Revision, StoreError> {
    let meta = disk.open_table(META).map_err(failed)?;
    Ok(Revision(meta.get(REVISION).map_err(failed)?.map_or(0, |found| found.value())))
}

/// A page of a table.
pub(crate) fn range(disk: &ReadTransaction, scan: &Scan) -> Result<Page, StoreError> {
    check_table(&scan.table)?;
    StoreError::within("key", scan.prefix.len(), KEY_MAX)?;
    let mut page = Page { revision: revision(disk)?, entries: Vec::new(), more: false };
    let table = disk.open_table(VALUES).map_err(failed)?;
    let prefix = full_name(&scan.table, &scan.prefix);
    let after = scan.after.as_ref().map(|key| full_name(&scan.table, key)).filter(|after| *after >= prefix);
    let start = match &after {
        Some(after) => Bound::Excluded(after.as_slice()),
        None => Bound::Included(prefix.as_slice()),
    };
    let limit = scan.limit.min(PAGE_ENTRIES_MAX);
    let mut bytes = 0;
    for found in table.range::<&[u8]>((start, Bound::Unbounded)).map_err(failed)? {
        let (name, value) = found.map_err(failed)?;
        if !name.value().starts_with(&prefix) {
            break;
        }
        bytes += value.value().len();
        if page.entries.len() >= limit || (bytes > PAGE_BYTES_MAX && !page.entries.is_empty()) {
            page.more = true;
            break;
        }
        let key = name.value()[scan.table.len() + 1..].to_vec();
        let stored = Stored::read(&Key::new(&scan.table, &key), value.value())?;
        page.entries.push((key, stored.into_entry()));
    }
    Ok(page)
}
