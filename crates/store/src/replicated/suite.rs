//! openraft's own storage suite on this log and this state machine.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use openraft::testing::{StoreBuilder, Suite};
use openraft::{AnyError, StorageIOError};
use tokio::sync::watch;
use tutti_telemetry::{Counter, Metrics};

use super::health::Health;
use super::log::Log;
use super::machine::{Machine, Scene};
use super::pen::{Pen, Writing};
use super::types::{StorageError, Types};
use super::vault::Vault;
use crate::change_log::ChangeLog;
use crate::counts::Counts;
use crate::leases::Leases;
use crate::simulated::{ManualClock, SimDisk};

struct Build(Writing);

impl StoreBuilder<Types, Log, Machine> for Build {
    async fn build(&self) -> Result<((), Log, Machine), StorageError> {
        let refused = |error: &crate::StoreError| StorageIOError::<u64>::read(AnyError::new(error));
        let disk = Arc::new(SimDisk::default());
        let (vault, known, revision) = Vault::open(disk, 1 << 20).map_err(|error| refused(&error))?;
        let clock = Arc::new(ManualClock::default());
        let counts = Counts::register(&Metrics::default(), 1);
        let pen = Pen::new(vault.clone(), clock.clone(), counts.clone(), self.0)
            .map_err(|error| refused(&error))?;
        let health = Arc::new(Health::default());
        let scene = Scene {
            vault: vault.clone(),
            pen: pen.clone(),
            writing: self.0,
            health: health.clone(),
            clock,
            changes: Arc::new(ChangeLog::new(revision, Counter::default())),
            leases: Arc::new(Leases::default()),
            counts_leases: AtomicBool::new(false),
            counts,
            applied: watch::Sender::new(0),
            snapshots: Counter::default(),
            snapshot: Mutex::new(None),
        };
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
