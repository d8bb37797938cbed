//! openraft's own storage suite on this log and this state machine, and writes that arrive twice.

use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::testing::{StoreBuilder, Suite};
use openraft::{AnyError, EntryPayload, StorageIOError};
use tutti_base::Clock;
use tutti_telemetry::{Counter, Metrics};

use super::config::OUTCOMES_MAX;
use super::log::Log;
use super::machine::{Machine, Scene};
use super::pen::{Pen, Writing};
use super::types::{Batch, Entry, LogId, Origin, Refused, StorageError, Types, Write};
use super::vault::Vault;
use crate::counts::Counts;
use crate::simulated::{ManualClock, SimDisk};
use crate::store::Revision;
use crate::txn::{Commit, Key, Op, Txn};
use crate::work::{Command, Reply};

struct Build(Writing);

impl StoreBuilder<Types, Log, Machine> for Build {
    async fn build(&self) -> Result<((), Log, Machine), StorageError> {
        let refused = |error: &crate::StoreError| StorageIOError::<u64>::read(AnyError::new(error));
        let disk = Arc::new(SimDisk::default());
        let (vault, known, revision) = Vault::open(disk, 1 << 20).map_err(|error| refused(&error))?;
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
        let counts = Counts::register(&Metrics::default(), 1);
        let pen = Pen::new(vault.clone(), clock.clone(), counts.clone(), self.0)
            .map_err(|error| refused(&error))?;
        let scene = Scene::new(&vault, &pen, (&clock, self.0), counts, Counter::default(), revision);
        let health = scene.health.clone();
        Ok(((), Log::new(vault, pen, health, &known), Machine(Arc::new(scene))))
    }
}

#[test]
fn the_storage_suite_of_openraft_passes_on_a_thread_of_its_own() {
    Suite::test_all(Build(Writing::OnItsThread)).expect("every case of the suite");
}

#[test]
fn the_storage_suite_of_openraft_passes_in_place() {
    Suite::test_all(Build(Writing::InPlace)).expect("every case of the suite");
}

fn write(run: u64, sequence: u64, index: u64) -> Entry {
    let txn = Txn::of([Op::put(Key::new("t", "k"), sequence.to_string())]);
    let write = Write { from: Origin { node: 7, run, sequence }, command: Command::Commit(txn) };
    let log_id = LogId::new(openraft::CommittedLeaderId::new(1, 7), index);
    Entry { log_id, payload: EntryPayload::Normal(Batch { writes: vec![write], ..Batch::default() }) }
}

#[tokio::test]
async fn a_write_sent_twice_is_applied_once_and_one_that_is_too_old_is_not_guessed_at() {
    let ((), _log, mut machine) = Build(Writing::InPlace).build().await.expect("an empty store");
    let mut index = 0;
    let mut apply = async |run, sequence| {
        index += 1;
        let applied = machine.apply([write(run, sequence, index)]).await.expect("applied");
        applied[0].0[0].clone()
    };
    let done = |revision| Ok(Reply::Commit(Commit::Done(Revision(revision))));
    assert_eq!(apply(1, 1).await, done(1));
    assert_eq!(apply(1, 1).await, done(1), "the same outcome, and not once more");
    assert_eq!(apply(1, OUTCOMES_MAX).await, done(2));
    assert_eq!(apply(1, 1).await, done(1), "the last that is remembered");
    assert_eq!(apply(1, OUTCOMES_MAX + 1).await, done(3));
    assert_eq!(apply(1, 1).await, Err(Refused::Forgotten));
    assert_eq!(apply(2, 1).await, done(4), "a new run counts anew");
    assert_eq!(apply(1, OUTCOMES_MAX + 2).await, Err(Refused::Forgotten), "and the one before is over");
}
