//! The request's journey: plan, look up, admit, flight, job, store, degrade. No sockets, no files, no clock of its own:
//! everything outside is reached over seams, so that the lab runs this very code.

pub mod answer;
pub mod explain;
pub mod failures;
pub mod flight;
pub mod gate;
pub mod gather;
pub mod journey;
pub mod make;
pub mod memo;
pub mod meter;
pub mod originals;
pub mod planned;
pub mod purge;
pub mod seams;

pub use answer::{Answer, CacheNote, Kept, Made, Timing};
pub use journey::{Config, Flow, Outside};
pub use memo::Memo;
pub use planned::Planned;
pub use purge::{Purge, PurgeLog, What};
pub use seams::{Capacity, Copies, PurgeKeeper, Spawn, Task, Tenants, Work};
