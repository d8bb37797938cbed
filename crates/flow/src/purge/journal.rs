//! The purge log's way to the disk: in order, in batches, by a task of its own that no caller's end stops. Decides nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tutti_base::{Kind, Problem, SourceKey};
use tutti_telemetry::{Gauge, Metrics};

use super::{NOBODY, Purge, UNWRITTEN_MAX, Vector, What, Write};
use crate::{PurgeKeeper, Spawn};

/// The most steps that are written together. Each is four operations of a store at most.
const BATCH_MAX: usize = 24;

/// What one change of the log is to the disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Step {
    /// A purge to keep.
    pub(super) purge: Option<Purge>,
    /// A place whose purge is let go.
    pub(super) forgotten: Option<u64>,
    /// A deletion to keep apart.
    pub(super) deletion: Option<Purge>,
    /// A file whose deletion is let go.
    pub(super) undeleted: Option<SourceKey>,
    /// How far all are known, where that does not follow from the purges.
    pub(super) vector: Option<Vector>,
}

impl Step {
    /// Lets the purge at `place` go.
    pub(super) fn forgetting(place: u64) -> Self {
        Self { forgotten: Some(place), ..Self::default() }
    }
}

/// What is on stable storage.
#[derive(Clone, Default)]
pub(super) struct Written {
    /// The place of the last purge or deletion there.
    pub(super) sequence: u64,
    /// How far everyone's purges are known there.
    pub(super) vector: Vector,
}

/// Writes steps in the order in which they were taken.
pub(super) struct Journal {
    keeper: Arc<dyn PurgeKeeper>,
    spawn: Arc<dyn Spawn>,
    queue: Mutex<Queue>,
    progress: watch::Sender<Progress>,
    unwritten: Gauge,
}

struct Queue {
    steps: VecDeque<Step>,
    /// Steps ever taken.
    queued: u64,
    written: Written,
    is_writing: bool,
}

#[derive(Clone, Default)]
struct Progress {
    /// Steps ever written.
    written: u64,
    /// Writes that failed.
    failures: u64,
    problem: Option<Problem>,
}

impl Journal {
    /// A journal whose keeper has everything up to the place `sequence`, and `vector`.
    pub(super) fn new(
        keeper: Arc<dyn PurgeKeeper>,
        spawn: Arc<dyn Spawn>,
        sequence: u64,
        vector: Vector,
        metrics: &Metrics,
    ) -> Self {
        let written = Written { sequence, vector };
        let queue = Queue { steps: VecDeque::new(), queued: 0, written, is_writing: false };
        let unwritten = metrics.gauge("purges_unwritten", "Purges in force and not written yet");
        Self { keeper, spawn, queue: Mutex::new(queue), progress: watch::Sender::default(), unwritten }
    }

    /// Takes one more step. It is written by whoever calls [`Self::until_written`] or [`Self::begin`] next.
    pub(super) fn push(&self, step: Step) {
        let mut queue = self.queue();
        queue.steps.push_back(step);
        queue.queued += 1;
        self.show(&queue);
    }

    /// Steps ever taken.
    pub(super) fn queued(&self) -> u64 {
        self.queue().queued
    }

    /// Whether no more steps may be taken now.
    pub(super) fn is_full(&self) -> bool {
        self.queue().steps.len() >= UNWRITTEN_MAX
    }

    /// What is on stable storage.
    pub(super) fn written(&self) -> Written {
        self.queue().written.clone()
    }

    /// Completes once `upto` steps have been written. Cancel-safe: the writing goes on.
    ///
    /// Errors: of a write that failed meanwhile.
    pub(super) async fn until_written(self: &Arc<Self>, upto: u64) -> Result<(), Problem> {
        let mut progress = self.progress.subscribe();
        let failures = progress.borrow().failures;
        self.begin();
        let has_ended = |now: &Progress| now.written >= upto || now.failures > failures;
        let ended =
            progress.wait_for(has_ended).await.expect("the sender lives as long as the journal").clone();
        match ended.problem {
            Some(problem) if ended.written < upto => Err(problem),
            _ => Ok(()),
        }
    }

    /// Writes what is to be written, in the background.
    pub(super) fn begin(self: &Arc<Self>) {
        let mut queue = self.queue();
        if queue.is_writing || queue.steps.is_empty() {
            return;
        }
        queue.is_writing = true;
        drop(queue);
        let writing = Writing { journal: Arc::clone(self), ended: Ended::Early };
        self.spawn.spawn(
            "flow.purges",
            Box::pin(async move {
                let mut writing = writing;
                if let Err(problem) = writing.journal.write_all().await {
                    tracing::error!(%problem, cause = problem.cause, "purges could not be written");
                    writing.journal.note_failed(problem);
                }
                writing.ended = Ended::Properly;
            }),
        );
    }

    async fn write_all(&self) -> Result<(), Problem> {
        while let Some((steps, write)) = self.next_write() {
            self.keeper.write(&write).await?;
            self.note_written(steps, write);
        }
        Ok(())
    }

    fn note_failed(&self, problem: Problem) {
        // First this: whoever is told of the failure may begin again at once.
        self.queue().is_writing = false;
        self.progress.send_modify(|progress| {
            progress.failures += 1;
            progress.problem = Some(problem);
        });
    }

    /// The next batch, and of how many steps it is; they stay in the queue until they are written.
    fn next_write(&self) -> Option<(usize, Write)> {
        let mut queue = self.queue();
        let steps = queue.steps.len().min(BATCH_MAX);
        if steps == 0 {
            // Here, under the lock: who takes a step after this finds that nobody writes.
            queue.is_writing = false;
            return None;
        }
        let mut write = Write { vector: queue.written.vector.clone(), ..Write::default() };
        let mut deletions: HashMap<SourceKey, Option<Purge>> = HashMap::new();
        for step in queue.steps.iter().take(steps) {
            write.vector = step.vector.clone().unwrap_or(write.vector);
            if let Some(purge) = step.purge.clone() {
                if purge.origin != NOBODY {
                    write.vector.insert(purge.origin, purge.number);
                }
                write.purges.push(purge);
            }
            write.forgotten.extend(step.forgotten);
            if let Some(purge) = &step.deletion
                && let What::Deleted { source, .. } = &purge.what
            {
                deletions.insert(*source, Some(purge.clone()));
            }
            deletions.extend(step.undeleted.map(|source| (source, None)));
        }
        write.deletions = deletions.into_iter().collect();
        Some((steps, write))
    }

    fn note_written(&self, steps: usize, write: Write) {
        let mut queue = self.queue();
        queue.steps.drain(..steps);
        let deletions = write.deletions.iter().filter_map(|(_, purge)| purge.as_ref());
        let last = write.purges.iter().chain(deletions).map(|purge| purge.sequence).max();
        queue.written.sequence = last.unwrap_or(0).max(queue.written.sequence);
        queue.written.vector = write.vector;
        self.show(&queue);
        drop(queue);
        self.progress.send_modify(|progress| progress.written += steps as u64);
    }

    fn show(&self, queue: &Queue) {
        self.unwritten.set(i64::try_from(queue.steps.len()).unwrap_or(i64::MAX));
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that writes: however it ends, the next one may begin, and nobody waits for it in vain.
struct Writing {
    journal: Arc<Journal>,
    ended: Ended,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Properly,
    Early,
}

impl Drop for Writing {
    fn drop(&mut self) {
        if self.ended == Ended::Early {
            self.journal.note_failed(Problem::new(Kind::Internal, "the writing of purges was stopped"));
        }
    }
}
