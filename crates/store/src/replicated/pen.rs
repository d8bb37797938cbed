//! The one that writes the file: takes what waits, writes it as one disk transaction, syncs once where anything of it must
//! be durable, then tells all. Knows nothing of what it writes.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use redb::{Durability, WriteTransaction};
use tutti_base::Clock;

use super::tables::Failure;
use super::vault::Vault;
use crate::counts::Counts;
use crate::store::StoreError;
use crate::writer::BATCH_MAX;

/// Whether it must be on stable storage before it is told as done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lasts {
    /// Yes.
    Durably,
    /// It may be lost in a power cut: the log brings it back. It lasts with the next durable one (redb's rule for
    /// `Durability::None`).
    UntilPowerCut,
}

/// One thing to write.
pub(crate) trait Task: Send {
    /// Whether it must be synced.
    fn lasts(&self) -> Lasts;
    /// Writes it into the transaction that it shares with others.
    fn write(&mut self, disk: &WriteTransaction) -> Result<(), Failure>;
    /// Hears what became of it. Must not block.
    fn done(self: Box<Self>, outcome: Result<(), Failure>);
}

/// Who writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Writing {
    /// A thread of its own: in the server.
    #[default]
    OnItsThread,
    /// The caller: in simulations, where paused time must not run on while another thread works.
    InPlace,
}

/// The pen.
pub(crate) struct Pen {
    hand: Hand,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Hand {
    Thread(Sender<Option<Box<dyn Task>>>),
    Here(Mutex<Scribe>),
}

impl Pen {
    pub(crate) fn new(
        vault: Arc<Vault>,
        clock: Arc<dyn Clock>,
        counts: Counts,
        writing: Writing,
    ) -> Result<Arc<Self>, StoreError> {
        let scribe = Scribe { vault, clock, counts };
        if writing == Writing::InPlace {
            return Ok(Arc::new(Self { hand: Hand::Here(Mutex::new(scribe)), thread: Mutex::new(None) }));
        }
        // Unbounded, but never long: openraft waits for each of its few writes before it asks for the next.
        let (tasks, waiting) = channel();
        let thread = std::thread::Builder::new()
            .name("tutti-store".into())
            .spawn(move || scribe.run(&waiting))
            .map_err(|error| StoreError::Open(format!("no thread for its writer: {error}")))?;
        Ok(Arc::new(Self { hand: Hand::Thread(tasks), thread: Mutex::new(Some(thread)) }))
    }

    /// Has `task` written, after all that were handed over before.
    pub(crate) fn hand(&self, task: Box<dyn Task>) {
        match &self.hand {
            Hand::Here(scribe) => scribe.lock().unwrap_or_else(PoisonError::into_inner).write(vec![task]),
            Hand::Thread(tasks) => {
                if let Err(unsent) = tasks.send(Some(task))
                    && let Some(task) = unsent.0
                {
                    task.done(Err(Failure::Closed));
                }
            }
        }
    }
}

impl Drop for Pen {
    fn drop(&mut self) {
        if let Hand::Thread(tasks) = &self.hand {
            let _ = tasks.send(None);
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The last handle may go in the writer's own callback: a thread cannot wait for itself.
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

struct Scribe {
    vault: Arc<Vault>,
    clock: Arc<dyn Clock>,
    counts: Counts,
}

impl Scribe {
    fn run(self, tasks: &Receiver<Option<Box<dyn Task>>>) {
        while let Ok(Some(first)) = tasks.recv() {
            let mut batch = vec![first];
            let mut is_last = false;
            while batch.len() < BATCH_MAX
                && let Ok(next) = tasks.try_recv()
            {
                match next {
                    Some(task) => batch.push(task),
                    None => {
                        is_last = true;
                        break;
                    }
                }
            }
            self.write(batch);
            if is_last {
                return;
            }
        }
    }

    fn write(&self, mut batch: Vec<Box<dyn Task>>) {
        let outcome = self.commit(&mut batch);
        for task in batch {
            task.done(outcome.clone());
        }
    }

    fn commit(&self, batch: &mut [Box<dyn Task>]) -> Result<(), Failure> {
        let start = self.clock.now();
        let is_durable = batch.iter().any(|task| task.lasts() == Lasts::Durably);
        let mut disk = self.vault.database()?.begin_write()?;
        disk.set_durability(if is_durable { Durability::Immediate } else { Durability::None })?;
        for task in batch.iter_mut() {
            task.write(&disk)?;
        }
        disk.commit()?;
        if is_durable {
            self.counts.sync.observe(self.clock.now().since(start).as_secs_f64());
            self.counts.batches.inc();
        }
        Ok(())
    }
}
