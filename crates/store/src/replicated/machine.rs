//! The state machine: applies committed entries to the tables, in one transaction with how far they are. Tells watches and
//! the count of leases; decides nothing that another node would not decide alike.

use std::io::Cursor;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageIOError};
use redb::{ReadableTable, WriteTransaction};
use tokio::sync::{oneshot, watch};
use tutti_base::{Clock, envelope};

use super::config::OUTCOMES_MAX;
use super::health::Health;
use super::pen::{Lasts, Pen, Task, Writing};
use super::snapshot::{self, Purpose, Record};
use super::tables::{APPLIED, CELLS, CLIENTS, EPOCHS, Failure, OUTCOMES, cell, damaged, put_cell};
use super::types::{
    AppliedRecord, Batch, Entry, LogId, Outcome, OutcomeRecord, Outcomes, Refused, SnapshotMeta,
    StorageError, StoredMembership, Types, Write,
};
use super::vault::Vault;
use crate::change_log::ChangeLog;
use crate::counts::Counts;
use crate::leases::Leases;
use crate::store::{Change, LeaseId, Revision, StoreError};
use crate::work::{Command, Reply, Stop, Work};

/// What the machine works on and whom it tells.
pub(crate) struct Scene {
    pub(crate) vault: Arc<Vault>,
    pub(crate) pen: Arc<Pen>,
    pub(crate) writing: Writing,
    pub(crate) health: Arc<Health>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) changes: Arc<ChangeLog>,
    pub(crate) leases: Arc<Leases>,
    /// Whether this node counts the time of leases: it leads, or is about to.
    pub(crate) counts_leases: AtomicBool,
    pub(crate) counts: Counts,
    /// The index of the newest entry that reads show.
    pub(crate) applied: watch::Sender<u64>,
    /// Snapshots made and taken over.
    pub(crate) snapshots: tutti_telemetry::Counter,
    /// What the newest snapshot covers; none until one was made or taken over in this run.
    pub(crate) snapshot: Mutex<Option<SnapshotMeta>>,
}

impl Scene {
    /// The scene of a store whose state is at `revision`, with what is at its hand.
    pub(crate) fn new(
        vault: &Arc<Vault>,
        pen: &Arc<Pen>,
        (clock, writing): (&Arc<dyn Clock>, Writing),
        counts: Counts,
        snapshots: tutti_telemetry::Counter,
        revision: Revision,
    ) -> Self {
        Self {
            vault: vault.clone(),
            pen: pen.clone(),
            writing,
            health: Arc::default(),
            clock: clock.clone(),
            changes: Arc::new(ChangeLog::new(revision, counts.behind.clone())),
            leases: Arc::default(),
            counts_leases: AtomicBool::new(false),
            counts,
            applied: watch::Sender::new(0),
            snapshots,
            snapshot: Mutex::new(None),
        }
    }
}

/// The state machine of this node. Clones are the same.
#[derive(Clone)]
pub(crate) struct Machine(pub(crate) Arc<Scene>);

impl Machine {
    fn failed(&self, error: Failure) -> StorageError {
        self.0.health.note(&error);
        StorageError::from(StorageIOError::write_state_machine(AnyError::new(&error)))
    }

    fn applied_record(&self) -> Result<AppliedRecord, Failure> {
        let cells = self.0.vault.read()?.open_table(CELLS)?;
        Ok(cell(&cells, APPLIED)?.unwrap_or_default())
    }

    /// The state with what it covers, as of now.
    async fn take_snapshot(&self) -> Result<Snapshot<Types>, Failure> {
        let disk = self.0.vault.read()?;
        let applied: AppliedRecord = cell(&disk.open_table(CELLS)?, APPLIED)?.unwrap_or_default();
        let bytes = off_thread(self.0.writing, move || {
            let mut bytes = Vec::new();
            snapshot::write(&disk, Purpose::Replica, &mut bytes).map(|()| bytes)
        })
        .await?;
        let meta = meta_of(applied);
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(bytes)) })
    }

    fn note_snapshot(&self, meta: SnapshotMeta) {
        self.0.snapshots.inc();
        *self.0.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Some(meta);
    }

    /// Tells what has been applied.
    fn tell(&self, done: &Applying) {
        let scene = &self.0;
        if scene.counts_leases.load(Ordering::SeqCst) {
            let now = scene.clock.now();
            done.granted.iter().for_each(|(lease, ttl)| scene.leases.start(*lease, *ttl, now));
        }
        done.ended.iter().for_each(|lease| scene.leases.end(*lease));
        scene.counts.leases.set(scene.leases.len() as i64);
        scene.counts.commits.inc_by(done.written);
        scene.counts.expired.inc_by(done.expired);
        scene.counts.revision.set(done.revision.0 as i64);
        if !done.changes.is_empty() || done.revision != scene.changes.newest() {
            scene.changes.publish(done.changes.clone(), done.revision);
        }
        if let Some(last) = done.last {
            scene.applied.send_replace(last.index);
        }
    }
}

/// What a snapshot of a state that is so far covers.
fn meta_of(applied: AppliedRecord) -> SnapshotMeta {
    SnapshotMeta {
        last_log_id: applied.last,
        snapshot_id: applied.last.map_or("0".into(), |last| format!("{}-{}", last.leader_id, last.index)),
        last_membership: applied.membership,
    }
}

/// Runs `work` where it may take its time.
pub(crate) async fn off_thread<T: Send + 'static>(
    writing: Writing,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match writing {
        Writing::InPlace => work(),
        Writing::OnItsThread => tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|error| Err(Failure::Disk(error.to_string()))),
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let applied = self.applied_record().map_err(|error| self.failed(error))?;
        Ok((applied.last, applied.membership))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcomes>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let (done, written) = oneshot::channel();
        self.0.pen.hand(Box::new(Apply { work: Applying { entries, ..Applying::default() }, done }));
        let applied = written.await.unwrap_or(Err(Failure::Closed)).map_err(|error| self.failed(error))?;
        self.tell(&applied);
        Ok(applied.outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let bytes = snapshot.into_inner();
        let records = off_thread(self.0.writing, move || snapshot::read(&bytes)).await;
        let records = records.map_err(|error| self.failed(error))?;
        let applied = AppliedRecord { last: meta.last_log_id, membership: meta.last_membership.clone() };
        let (done, written) = oneshot::channel();
        self.0.pen.hand(Box::new(Install { records, applied, revision: 0, done }));
        let revision = written.await.unwrap_or(Err(Failure::Closed)).map_err(|error| self.failed(error))?;
        self.note_snapshot(meta.clone());
        self.0.leases.clear();
        self.0.counts.revision.set(revision as i64);
        self.0.changes.jump(Revision(revision));
        self.0.applied.send_replace(meta.last_log_id.map_or(0, |last| last.index));
        Ok(())
    }

    /// The state as of now rather than as of when it was noted: newer is as good, and nothing is kept twice.
    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        if self.0.snapshot.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            return Ok(None);
        }
        self.take_snapshot().await.map(Some).map_err(|error| self.failed(error))
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    /// The tables are on disk themselves, so only what they cover is noted, and the log may be cut; the cut, which is
    /// durable, makes them so too. Openraft does not look at the bytes of what is built here.
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let meta = meta_of(self.applied_record().map_err(|error| self.failed(error))?);
        self.note_snapshot(meta.clone());
        Ok(Snapshot { meta, snapshot: Box::default() })
    }
}

/// Entries being applied, and what came of it.
#[derive(Default)]
struct Applying {
    entries: Vec<Entry>,
    outcomes: Vec<Outcomes>,
    changes: Vec<Change>,
    revision: Revision,
    granted: Vec<(LeaseId, std::time::Duration)>,
    ended: Vec<LeaseId>,
    expired: u64,
    written: u64,
    last: Option<LogId>,
    /// Whether no other node has a copy.
    is_alone: bool,
}

struct Apply {
    work: Applying,
    done: oneshot::Sender<Result<Applying, Failure>>,
}

impl Task for Apply {
    fn lasts(&self) -> Lasts {
        Lasts::UntilPowerCut
    }
    fn write(&mut self, disk: &WriteTransaction) -> Result<(), Failure> {
        self.work.apply(disk)
    }
    fn done(self: Box<Self>, outcome: Result<(), Failure>) {
        let Self { work, done } = *self;
        let _ = done.send(outcome.map(|()| work));
    }
}

impl Applying {
    fn apply(&mut self, disk: &WriteTransaction) -> Result<(), Failure> {
        let mut applied: AppliedRecord = cell(&disk.open_table(CELLS)?, APPLIED)?.unwrap_or_default();
        self.is_alone = applied.membership.nodes().count() == 1;
        let mut work = Work::open(disk)?;
        for entry in std::mem::take(&mut self.entries) {
            applied.last = Some(entry.log_id);
            let outcomes = match entry.payload {
                EntryPayload::Blank => Outcomes::default(),
                EntryPayload::Membership(membership) => {
                    applied.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Outcomes::default()
                }
                EntryPayload::Normal(batch) => self.apply_batch(disk, &mut work, &batch)?,
            };
            self.outcomes.push(outcomes);
        }
        if let Some(reason) = work.damage.take()
            && !self.is_alone
        {
            return Err(Failure::Damaged(reason));
        }
        let (changes, written, revision) = work.finish()?;
        (self.changes, self.written, self.revision, self.last) = (changes, written, revision, applied.last);
        put_cell(disk, APPLIED, &applied)
    }

    fn apply_batch(
        &mut self,
        disk: &WriteTransaction,
        work: &mut Work<'_>,
        batch: &Batch,
    ) -> Result<Outcomes, Failure> {
        if let Some((epoch, fork)) = batch.epoch {
            disk.open_table(EPOCHS)?.insert(epoch, fork)?;
        }
        for lease in &batch.expired {
            if matches!(work.is_alive(*lease), Ok(true)) {
                work.end_lease(*lease)?;
                self.expired += 1;
                self.ended.push(*lease);
            }
        }
        let outcomes = batch.writes.iter().map(|write| self.apply_once(disk, work, write));
        Ok(Outcomes(outcomes.collect::<Result<_, Failure>>()?))
    }

    /// Applies `write` unless it was applied before; then its outcome is what it was.
    fn apply_once(
        &mut self,
        disk: &WriteTransaction,
        work: &mut Work<'_>,
        write: &Write,
    ) -> Result<Outcome, Failure> {
        let from = write.from;
        let mut outcomes = disk.open_table(OUTCOMES)?;
        let mut clients = disk.open_table(CLIENTS)?;
        let (run, newest) = clients.get(from.node)?.map_or((0, 0), |found| found.value());
        if from.run < run || (from.run == run && from.sequence + OUTCOMES_MAX <= newest) {
            return Ok(Err(Refused::Forgotten));
        }
        if from.run == run
            && let Some(found) = outcomes.get((from.node, from.sequence))?
        {
            return Ok(envelope::open::<OutcomeRecord>(found.value()).map_err(damaged("an outcome"))?.0);
        }
        let newest = if from.run > run {
            outcomes.retain_in((from.node, 0)..=(from.node, u64::MAX), |_, _| false)?;
            from.sequence
        } else {
            newest.max(from.sequence)
        };
        if newest.is_multiple_of(64) && newest > OUTCOMES_MAX {
            outcomes.retain_in((from.node, 0)..=(from.node, newest - OUTCOMES_MAX), |_, _| false)?;
        }
        let outcome = self.run(work, &write.command)?;
        clients.insert(from.node, (from.run, newest))?;
        let record = OutcomeRecord(outcome);
        outcomes.insert((from.node, from.sequence), envelope::seal(&record).as_slice())?;
        Ok(record.0)
    }

    fn run(&mut self, work: &mut Work<'_>, command: &Command) -> Result<Outcome, Failure> {
        match work.run(command) {
            Ok(reply) => {
                match (&reply, command) {
                    (Reply::Lease(lease), _) => self.granted.push((lease.id, lease.ttl)),
                    (_, Command::Revoke(lease)) => self.ended.push(*lease),
                    _ => {}
                }
                Ok(Ok(reply))
            }
            Err(Stop::Disk(error)) => Err(error.into()),
            // What only this node refuses is damage: others would go on without it. Where there are none, the key is
            // named, and may be deleted.
            Err(Stop::Refused(StoreError::Damaged { at, reason })) if self.is_alone => {
                Ok(Err(Refused::Damaged(at, reason)))
            }
            Err(Stop::Refused(error)) => match Refused::of(error) {
                Ok(refused) => Ok(Err(refused)),
                Err(error) => Err(Failure::Damaged(error.to_string())),
            },
        }
    }
}

/// A whole state that takes the place of the one before.
struct Install {
    records: Vec<Record>,
    applied: AppliedRecord,
    revision: u64,
    done: oneshot::Sender<Result<u64, Failure>>,
}

impl Task for Install {
    fn lasts(&self) -> Lasts {
        Lasts::Durably
    }
    fn write(&mut self, disk: &WriteTransaction) -> Result<(), Failure> {
        self.revision = snapshot::install(disk, &self.records)?;
        put_cell(disk, APPLIED, &self.applied)
    }
    fn done(self: Box<Self>, outcome: Result<(), Failure>) {
        let _ = self.done.send(outcome.map(|()| self.revision));
    }
}
