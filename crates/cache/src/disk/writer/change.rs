//! One batch of changes, carried out within one transaction of the index: files before the entries that name them come,
//! and before the entries that named them go. An entry without a file is tolerated, and forgotten when it is looked up.

use std::io;

use tutti_base::ContentHash;

use super::super::index::{Edit, IndexError, Name, Placing, Totals};
use super::super::ledger::{Op, Taken, short};
use super::super::limits::{NAME_OVERHEAD, file_cost};
use super::super::{Incoming, Shared, Shelved};
use crate::metrics::Dropped;

/// Names that one batch evicts at most; more take more batches.
const EVICTIONS_MAX: usize = 1024;
/// Names that one batch spares at most because they were used; after that it evicts whatever is oldest.
const CHANCES_MAX: usize = 1024;
/// The part of what is kept that goes when the volume is full in spite of the limits.
const GIVE_WHEN_FULL: u64 = 20;

/// A batch at work.
pub(super) struct Change<'a, L> {
    shared: &'a Shared<L>,
    before: Totals,
    allowed: u64,
    evictions_left: usize,
    chances_left: usize,
    kept: Vec<Name>,
    gone: Vec<Name>,
    failed: Option<io::Error>,
}

/// What a batch did.
pub(super) struct Done {
    /// What the index holds now.
    pub(super) totals: Totals,
    /// Names that are on disk now.
    pub(super) kept: Vec<Name>,
    /// Names that are not.
    pub(super) gone: Vec<Name>,
    /// Whether there is more to evict.
    pub(super) is_over: bool,
    /// The error that stopped files from being written, if one did.
    pub(super) failed: Option<io::Error>,
}

impl<'a, L: Shelved> Change<'a, L> {
    pub(super) fn new(shared: &'a Shared<L>, before: Totals, allowed: u64) -> Self {
        Self {
            shared,
            before,
            allowed,
            evictions_left: EVICTIONS_MAX,
            chances_left: CHANCES_MAX,
            kept: vec![],
            gone: vec![],
            failed: None,
        }
    }

    pub(super) fn carry_out(&mut self, edit: &mut Edit<'_>, batch: &[Taken<L>]) -> Result<Done, IndexError> {
        for Taken { name, op, .. } in batch {
            match op {
                Op::Keep(live, incoming) => self.keep(edit, name, live, incoming.as_deref())?,
                Op::Forget => self.forget(edit, name)?,
                Op::ForgetIfGone(target) => self.forget_if_gone(edit, name, target)?,
            }
        }
        let fits = self.evict_down_to(edit, self.allowed)?;
        let is_over = !fits && self.evictions_left == 0;
        // A name may have been kept and evicted in one batch: what the index says at the end counts.
        let (mut kept, mut gone) = (vec![], std::mem::take(&mut self.gone));
        for name in std::mem::take(&mut self.kept) {
            if edit.target_of(&name)?.is_some() { kept.push(name) } else { gone.push(name) }
        }
        Ok(Done { totals: edit.totals(self.before), kept, gone, is_over, failed: self.failed.take() })
    }

    fn keep(
        &mut self,
        edit: &mut Edit<'_>,
        name: &Name,
        live: &L,
        incoming: Option<&Incoming>,
    ) -> Result<(), IndexError> {
        let (target, hash, len) = (live.target(), live.hash(), live.len());
        if !self.shared.blobs.is_there(&hash, len) {
            let written = match self.failed {
                Some(_) => Err(Dropped::Failed),
                None => self.write(edit, live, incoming)?,
            };
            if let Err(reason) = written {
                self.shared.metrics.dropped(reason, 1);
                return self.forget(edit, name);
            }
        }
        let placing =
            Placing { name, target: &target, record: live.record(), facts: live.facts(), blob: &hash, len };
        for blob in edit.place(placing)? {
            self.remove(&blob);
        }
        self.kept.push(*name);
        Ok(())
    }

    /// Writes the file of `live`, making room for it.
    fn write(
        &mut self,
        edit: &mut Edit<'_>,
        live: &L,
        incoming: Option<&Incoming>,
    ) -> Result<Result<(), Dropped>, IndexError> {
        let need = file_cost(live.len()) + NAME_OVERHEAD;
        let Some(rest) = self.allowed.checked_sub(need) else { return Ok(Err(Dropped::Space)) };
        if !self.evict_down_to(edit, rest)? {
            return Ok(Err(Dropped::Space));
        }
        match self.try_to_write(live, incoming) {
            Err(error) if is_full(&error) => {
                self.shared.metrics.error("full");
                let now = edit.totals(self.before).bytes;
                self.evict_down_to(edit, now.saturating_sub(need.max(now / GIVE_WHEN_FULL)))?;
                match self.try_to_write(live, incoming) {
                    Err(error) if is_full(&error) => Ok(Err(Dropped::Space)),
                    other => Ok(self.note(other)),
                }
            }
            other => Ok(self.note(other)),
        }
    }

    fn note(&mut self, written: io::Result<Result<(), Dropped>>) -> Result<(), Dropped> {
        written.unwrap_or_else(|error| {
            self.failed = Some(error);
            Err(Dropped::Failed)
        })
    }

    fn try_to_write(&self, live: &L, incoming: Option<&Incoming>) -> io::Result<Result<(), Dropped>> {
        let hash = live.hash();
        match (incoming, live.bytes()) {
            (Some(incoming), _) => self.shared.blobs.place(incoming, &hash)?,
            (None, Some(bytes)) if bytes.len() as u64 == live.len() && ContentHash::of(bytes) == hash => {
                self.shared.blobs.write(&hash, bytes)?;
            }
            (None, Some(_)) => return Ok(Err(Dropped::Mismatch)),
            // The bytes were on disk when this was queued, and have gone since.
            (None, None) => return Ok(Err(Dropped::Space)),
        }
        self.shared.checked().insert(short(hash.as_bytes()));
        Ok(Ok(()))
    }

    fn forget(&mut self, edit: &mut Edit<'_>, name: &Name) -> Result<(), IndexError> {
        if let Some(blob) = edit.forget(name)? {
            self.remove(&blob);
        }
        self.gone.push(*name);
        Ok(())
    }

    fn forget_if_gone(&mut self, edit: &mut Edit<'_>, name: &Name, target: &Name) -> Result<(), IndexError> {
        if edit.target_of(name)? != Some(*target) {
            return Ok(());
        }
        match edit.blob_of(target)? {
            Some((blob, len)) if self.shared.blobs.is_there(&blob, len) => Ok(()),
            _ => self.forget(edit, name),
        }
    }

    /// Evicts the oldest names, sparing those that were used since they were last looked at, until at most `bytes` are
    /// taken. False when that did not suffice.
    fn evict_down_to(&mut self, edit: &mut Edit<'_>, bytes: u64) -> Result<bool, IndexError> {
        while edit.totals(self.before).bytes > bytes {
            let Some(name) = edit.oldest()? else { return Ok(false) };
            if self.chances_left > 0 && (self.shared.ledger.take_visit(&name) || (self.shared.in_use)(&name))
            {
                self.chances_left -= 1;
                edit.move_to_end(&name)?;
                continue;
            }
            if self.evictions_left == 0 {
                return Ok(false);
            }
            self.evictions_left -= 1;
            self.shared.metrics.evictions.inc();
            self.forget(edit, &name)?;
        }
        Ok(true)
    }

    fn remove(&self, blob: &ContentHash) {
        self.shared.checked().remove(&short(blob.as_bytes()));
        // A file that cannot be removed now is swept as an orphan at the next start.
        if self.shared.blobs.remove(blob).is_err() {
            self.shared.metrics.error("remove");
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
