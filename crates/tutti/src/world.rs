//! The machine behind the journey's seams: its clock, its runtime, its memory files, its purge log.

mod chance;
mod clock;
mod copies;
mod loads;
mod purges;
mod spawn;

pub(crate) use chance::Chance;
pub(crate) use clock::MachineClock;
pub(crate) use copies::MemoryCopies;
pub(crate) use loads::{Answered, Loads};
pub(crate) use purges::StoredPurges;
pub(crate) use spawn::OnRuntime;
