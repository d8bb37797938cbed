//! One change of the index: names and targets come and go, counts and the order of eviction stay right. Touches no file.

use redb::{ReadableTable, Table, WriteTransaction};
use tutti_base::ContentHash;
use tutti_base::envelope::{Versioned, seal};

use super::super::limits::{NAME_OVERHEAD, file_cost};
use super::{
    BLOBS, BlobRow, IndexError, NAMES, Name, NameRow, ORDER, TARGETS, TargetRow, Totals, lost, of_storage,
    of_table, open_row,
};

type Rows<'t> = Table<'t, &'static [u8; 32], &'static [u8]>;

/// A transaction with all tables open.
pub(crate) struct Edit<'t> {
    names: Rows<'t>,
    targets: Rows<'t>,
    blobs: Rows<'t>,
    order: Table<'t, u64, &'static [u8; 32]>,
    came: Totals,
    went: Totals,
}

/// A name that is to be kept, with all that it leads to.
pub(crate) struct Placing<'a> {
    /// The name.
    pub(crate) name: &'a Name,
    /// What it leads to.
    pub(crate) target: &'a Name,
    /// The sealed record of the name.
    pub(crate) record: Vec<u8>,
    /// The sealed record of the bytes.
    pub(crate) facts: Vec<u8>,
    /// The hash of the bytes.
    pub(crate) blob: &'a ContentHash,
    /// Their number.
    pub(crate) len: u64,
}

impl<'t> Edit<'t> {
    pub(super) fn new(txn: &'t WriteTransaction) -> Result<Self, IndexError> {
        Ok(Self {
            names: txn.open_table(NAMES).map_err(of_table)?,
            targets: txn.open_table(TARGETS).map_err(of_table)?,
            blobs: txn.open_table(BLOBS).map_err(of_table)?,
            order: txn.open_table(ORDER).map_err(of_table)?,
            came: Totals::default(),
            went: Totals::default(),
        })
    }

    /// `before` with what has come and gone in this change.
    pub(crate) fn totals(&self, before: Totals) -> Totals {
        Totals {
            names: (before.names + self.came.names).saturating_sub(self.went.names),
            bytes: (before.bytes + self.came.bytes).saturating_sub(self.went.bytes),
        }
    }

    /// What `name` leads to.
    pub(crate) fn target_of(&self, name: &Name) -> Result<Option<Name>, IndexError> {
        Ok(get::<NameRow>(&self.names, name)?.map(|row| row.target))
    }

    /// The blob of `target` and its length.
    pub(crate) fn blob_of(&self, target: &Name) -> Result<Option<(ContentHash, u64)>, IndexError> {
        let Some(row) = get::<TargetRow>(&self.targets, target)? else { return Ok(None) };
        let blob = get::<BlobRow>(&self.blobs, &row.blob)?.ok_or_else(|| lost("blob"))?;
        Ok(Some((ContentHash::from_bytes(row.blob), blob.len)))
    }

    /// Keeps a name, in place of what it led to before. Hands back the blobs that nothing has any more: their files are
    /// for the caller to remove.
    pub(crate) fn place(&mut self, new: Placing<'_>) -> Result<Vec<ContentHash>, IndexError> {
        let before = get::<NameRow>(&self.names, new.name)?;
        let place = match &before {
            Some(row) => row.place,
            None => self.join(new.name)?,
        };
        let mut gone = vec![];
        // The new comes before the old goes, so that bytes which both have are not lost in between.
        gone.extend(self.settle_blob(&new)?);
        if before.as_ref().is_none_or(|row| row.target != *new.target) {
            self.hold_target(&new)?;
        }
        let row = NameRow { target: *new.target, place, record: new.record };
        put(&mut self.names, new.name, &row)?;
        if let Some(row) = before.filter(|row| row.target != *new.target) {
            gone.extend(self.release_target(&row.target)?);
        }
        Ok(gone)
    }

    /// Forgets a name; hands back the blob that nothing has any more.
    pub(crate) fn forget(&mut self, name: &Name) -> Result<Option<ContentHash>, IndexError> {
        let Some(row) = take::<NameRow>(&mut self.names, name)? else { return Ok(None) };
        self.order.remove(row.place).map_err(of_storage)?.ok_or_else(|| lost("order"))?;
        self.went.names += 1;
        self.went.bytes += NAME_OVERHEAD;
        self.release_target(&row.target)
    }

    /// The name that is next to be looked at for eviction.
    pub(crate) fn oldest(&self) -> Result<Option<Name>, IndexError> {
        Ok(self.order.first().map_err(of_storage)?.map(|(_, name)| *name.value()))
    }

    /// Gives the oldest name, `name`, a second chance: it becomes the youngest.
    pub(crate) fn move_to_end(&mut self, name: &Name) -> Result<(), IndexError> {
        let mut row = get::<NameRow>(&self.names, name)?.ok_or_else(|| lost("name"))?;
        self.order.remove(row.place).map_err(of_storage)?.ok_or_else(|| lost("order"))?;
        row.place = self.append(name)?;
        put(&mut self.names, name, &row)
    }

    fn join(&mut self, name: &Name) -> Result<u64, IndexError> {
        self.came.names += 1;
        self.came.bytes += NAME_OVERHEAD;
        self.append(name)
    }

    fn append(&mut self, name: &Name) -> Result<u64, IndexError> {
        let last = self.order.last().map_err(of_storage)?.map(|(place, _)| place.value());
        let place = last.map_or(0, |last| last + 1);
        self.order.insert(place, name).map_err(of_storage)?;
        Ok(place)
    }

    /// Where the target is known with other bytes, gives it the new ones. The names of bytes should not change what they
    /// name; should they, then what is said of the bytes stays right.
    fn settle_blob(&mut self, new: &Placing<'_>) -> Result<Option<ContentHash>, IndexError> {
        let Some(row) = get::<TargetRow>(&self.targets, new.target)? else { return Ok(None) };
        if row.blob == *new.blob.as_bytes() {
            return Ok(None);
        }
        self.hold_blob(new.blob, new.len)?;
        let changed = TargetRow { blob: *new.blob.as_bytes(), facts: new.facts.clone(), ..row };
        put(&mut self.targets, new.target, &changed)?;
        self.release_blob(ContentHash::from_bytes(row.blob))
    }

    fn hold_target(&mut self, new: &Placing<'_>) -> Result<(), IndexError> {
        let row = match get::<TargetRow>(&self.targets, new.target)? {
            Some(row) => TargetRow { names: row.names + 1, ..row },
            None => {
                self.hold_blob(new.blob, new.len)?;
                TargetRow { blob: *new.blob.as_bytes(), names: 1, facts: new.facts.clone() }
            }
        };
        put(&mut self.targets, new.target, &row)
    }

    fn hold_blob(&mut self, blob: &ContentHash, len: u64) -> Result<(), IndexError> {
        let row = match get::<BlobRow>(&self.blobs, blob.as_bytes())? {
            Some(row) => BlobRow { targets: row.targets + 1, ..row },
            None => {
                self.came.bytes += file_cost(len);
                BlobRow { len, targets: 1 }
            }
        };
        put(&mut self.blobs, blob.as_bytes(), &row)
    }

    fn release_target(&mut self, target: &Name) -> Result<Option<ContentHash>, IndexError> {
        let mut row = take::<TargetRow>(&mut self.targets, target)?.ok_or_else(|| lost("target"))?;
        if row.names > 1 {
            row.names -= 1;
            put(&mut self.targets, target, &row)?;
            return Ok(None);
        }
        self.release_blob(ContentHash::from_bytes(row.blob))
    }

    fn release_blob(&mut self, blob: ContentHash) -> Result<Option<ContentHash>, IndexError> {
        let mut row = take::<BlobRow>(&mut self.blobs, blob.as_bytes())?.ok_or_else(|| lost("blob"))?;
        if row.targets > 1 {
            row.targets -= 1;
            put(&mut self.blobs, blob.as_bytes(), &row)?;
            return Ok(None);
        }
        self.went.bytes += file_cost(row.len);
        Ok(Some(blob))
    }
}

fn get<R: Versioned>(table: &Rows<'_>, key: &Name) -> Result<Option<R>, IndexError> {
    table.get(key).map_err(of_storage)?.map(|bytes| open_row(bytes.value())).transpose()
}

fn take<R: Versioned>(table: &mut Rows<'_>, key: &Name) -> Result<Option<R>, IndexError> {
    table.remove(key).map_err(of_storage)?.map(|bytes| open_row(bytes.value())).transpose()
}

fn put<R: Versioned>(table: &mut Rows<'_>, key: &Name, row: &R) -> Result<(), IndexError> {
    table.insert(key, seal(row).as_slice()).map_err(of_storage)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Index;
    use super::*;
    use crate::disk::faults::NoFaults;

    fn placing<'a>(name: &'a Name, target: &'a Name, blob: &'a ContentHash) -> Placing<'a> {
        Placing { name, target, record: b"record".to_vec(), facts: b"facts".to_vec(), blob, len: 10 }
    }

    fn check(change: impl FnOnce(&mut Edit<'_>) -> Result<(), IndexError>) -> Totals {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(&dir.path().join("index.redb"), Arc::new(NoFaults)).unwrap();
        let totals = index
            .edit(|edit| {
                change(edit)?;
                Ok(edit.totals(Totals::default()))
            })
            .unwrap();
        assert_eq!(index.survey(|_| {}).unwrap(), totals, "running totals and a survey agree");
        totals
    }

    #[test]
    fn bytes_go_with_the_last_name_of_the_last_target() {
        let blob = ContentHash::of(b"bytes");
        let totals = check(|edit| {
            assert_eq!(edit.place(placing(&[1; 32], &[11; 32], &blob))?, []);
            assert_eq!(edit.place(placing(&[2; 32], &[11; 32], &blob))?, []);
            assert_eq!(edit.place(placing(&[3; 32], &[12; 32], &blob))?, []);
            assert_eq!(edit.forget(&[1; 32])?, None);
            assert_eq!(edit.forget(&[1; 32])?, None, "forgetting twice is forgetting once");
            assert_eq!(edit.forget(&[2; 32])?, None);
            assert_eq!(edit.blob_of(&[11; 32])?, None);
            assert_eq!(edit.forget(&[3; 32])?, Some(blob));
            Ok(())
        });
        assert_eq!(totals, Totals::default());
    }

    #[test]
    fn a_name_that_leads_elsewhere_lets_go_of_what_it_had() {
        let (old, new) = (ContentHash::of(b"old"), ContentHash::of(b"new"));
        let totals = check(|edit| {
            edit.place(placing(&[1; 32], &[11; 32], &old))?;
            assert_eq!(edit.place(placing(&[1; 32], &[12; 32], &new))?, [old]);
            assert_eq!(
                edit.place(placing(&[1; 32], &[13; 32], &new))?,
                [],
                "the same bytes under another target"
            );
            assert_eq!(
                edit.place(placing(&[1; 32], &[13; 32], &old))?,
                [new],
                "other bytes under the same target"
            );
            assert_eq!(edit.target_of(&[1; 32])?, Some([13; 32]));
            assert_eq!(edit.blob_of(&[13; 32])?, Some((old, 10)));
            Ok(())
        });
        assert_eq!(totals, Totals { names: 1, bytes: NAME_OVERHEAD + file_cost(10) });
    }

    #[test]
    fn the_order_of_eviction_is_that_of_arrival_but_for_second_chances() {
        let blob = ContentHash::of(b"bytes");
        check(|edit| {
            for name in 1..=3 {
                edit.place(placing(&[name; 32], &[11; 32], &blob))?;
            }
            edit.place(placing(&[1; 32], &[11; 32], &blob))?;
            assert_eq!(edit.oldest()?, Some([1; 32]));
            edit.move_to_end(&[1; 32])?;
            edit.forget(&[2; 32])?;
            assert_eq!(edit.oldest()?, Some([3; 32]));
            edit.forget(&[3; 32])?;
            assert_eq!(edit.oldest()?, Some([1; 32]));
            Ok(())
        });
    }
}
