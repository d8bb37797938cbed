//! The one thread that writes: takes what waits, applies it as one disk transaction, syncs once, then acknowledges all.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use redb::{Database, Durability};
use tokio::sync::oneshot;
use tutti_base::Clock;

use crate::change_log::ChangeLog;
use crate::counts::Counts;
use crate::leases::Leases;
use crate::store::StoreError;
use crate::work::{Command, Reply, Stop, Work};

/// The most writes that share one disk transaction.
pub(crate) const BATCH_MAX: usize = 256;

/// What the writer is asked to do.
pub(crate) enum Task {
    Do(Command),
    /// Ends the leases whose time is over; every batch begins with that anyway.
    Expire,
    Stop,
}

/// A command with its waiting caller, who may have gone.
pub(crate) struct Job {
    pub(crate) task: Task,
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
            is_stopping = batch.iter().any(|job| matches!(job.task, Task::Stop));
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
            let Task::Do(command) = &job.task else {
                outcomes.push(Ok(Reply::Done));
                continue;
            };
            outcomes.push(match work.run(command) {
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
            match (&job.task, outcome) {
                (_, Ok(Reply::Lease(lease))) => self.leases.start(lease.id, lease.ttl, self.clock.now()),
                (Task::Do(Command::Revoke(lease)), Ok(_)) => self.leases.end(*lease),
                _ => {}
            }
        }
        self.counts.leases.set(self.leases.len() as i64);
    }
}
