//! How the writer brings a disk into use, takes it out when it fails, and tries again.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::index::{Index, IndexError, move_aside};
use super::super::ledger::short;
use super::super::{Shared, Shelved};
use super::{DiskError, Writer};

impl<L: Shelved> Writer<L> {
    /// The index, if the disk can be written; opens it, or tries a disk that failed, where that is due.
    pub(super) fn working_index(&mut self) -> Result<Option<Arc<Index>>, DiskError> {
        let index = self.shared.index();
        match (index, self.retry_at) {
            (Some(index), None) => Ok(Some(index)),
            (_, Some(due)) if due > self.now() => Ok(None),
            (Some(index), Some(_)) => {
                self.probe()?;
                self.resume();
                self.shared.ledger.resume();
                Ok(Some(index))
            }
            (None, _) => Ok(Some(self.open()?)),
        }
    }

    fn probe(&self) -> Result<(), DiskError> {
        self.shared.blobs.probe().map_err(|error| DiskError::File { op: "probe", error })
    }

    fn open(&mut self) -> Result<Arc<Index>, DiskError> {
        self.shared.blobs.prepare().map_err(|error| DiskError::File { op: "open", error })?;
        let (index, names) = match self.open_as_it_is() {
            Err(IndexError::Damaged(reason)) => self.rebuild(&reason)?,
            other => other?,
        };
        self.shared.blobs.sweep_unfinished().map_err(|error| DiskError::File { op: "open", error })?;
        self.probe()?;
        let index = Arc::new(index);
        self.shared.set_index(Some(index.clone()));
        self.sweep = 0;
        self.durable_at = None;
        self.resume();
        self.shared.ledger.open(names);
        Ok(index)
    }

    fn open_as_it_is(&mut self) -> Result<(Index, HashSet<u64>), IndexError> {
        if std::mem::take(&mut self.distrusts_index) {
            return Err(IndexError::Damaged("it contradicted itself while in use".into()));
        }
        let index = Index::open(&self.index_path(), self.shared.around.faults.clone())?;
        let mut names = HashSet::new();
        let totals = index.survey(|name| {
            names.insert(short(name));
        })?;
        self.set_totals(totals);
        Ok((index, names))
    }

    /// Begins anew where the index is damaged. The files that it knew are swept.
    fn rebuild(&mut self, reason: &str) -> Result<(Index, HashSet<u64>), DiskError> {
        let path = self.index_path();
        let kind = self.shared.kind.word();
        self.shared.metrics.error("index_damaged");
        tracing::warn!(target: "cache", kind, reason, "the index of the disk cache is damaged: it is moved to \
            index.damaged, and the cache begins empty");
        move_aside(&path).map_err(|error| DiskError::File { op: "move_aside", error })?;
        Ok(self.open_as_it_is()?)
    }

    fn resume(&mut self) {
        let was_tried_again = self.retry_at.take().is_some();
        self.shared.metrics.ok.set(1);
        self.shared.ok.store(true, Ordering::Relaxed);
        if was_tried_again {
            tracing::info!(target: "cache", kind = self.shared.kind.word(), "the disk cache works again");
        }
    }

    /// Takes the disk out of use: for writing, and for reading too where the index failed.
    pub(super) fn suspend(&mut self, error: &DiskError) {
        let Shared { ok, metrics, kind, around, .. } = &*self.shared;
        metrics.ok.set(0);
        metrics.error(match error {
            DiskError::File { op, .. } => op,
            DiskError::Index(_) => "index",
        });
        // Said once: every further try that fails is counted only.
        let is_news = ok.swap(false, Ordering::Relaxed) || self.retry_at.is_none();
        if is_news {
            tracing::warn!(target: "cache", kind = kind.word(), folder = %self.shared.blobs.root().display(), %error,
                "the disk cache is out of use: answers are served without being stored; it is tried again");
        }
        if let DiskError::Index(cause) = error {
            self.distrusts_index = matches!(cause, IndexError::Damaged(_)) && self.shared.index().is_some();
            self.shared.set_index(None);
        }
        self.durable_at = None;
        self.is_over = false;
        // An index that contradicted itself is replaced at once; a disk is given time.
        let pause =
            if self.distrusts_index { std::time::Duration::ZERO } else { around.config.retry_after() };
        self.retry_at = Some(self.now() + pause);
        self.shared.ledger.fail();
    }

    fn index_path(&self) -> PathBuf {
        self.shared.blobs.root().join("index.redb")
    }
}
