//! openraft's own storage suite on this log and this state machine.

use std::sync::Arc;

use openraft::testing::{StoreBuilder, Suite};
use openraft::{AnyError, StorageIOError};
use tutti_base::Clock;
use tutti_telemetry::{Counter, Metrics};

use super::log::Log;
use super::machine::{Machine, Scene};
use super::pen::{Pen, Writing};
use super::types::{StorageError, Types};
use super::vault::Vault;
use crate::counts::Counts;
use crate::simulated::{ManualClock, SimDisk};

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
