//! The request's journey: plan, look up, admit, flight, job, store, degrade. No sockets, no files, no clock of its own:
//! everything outside is reached over seams, so that the lab runs this very code.

pub mod answer;
pub mod assets;
pub mod dispatching;
pub mod explain;
pub mod failures;
pub mod flight;
pub mod gate;
pub mod gather;
pub mod journey;
pub mod make;
pub mod memo;
pub mod mesh;
pub mod meter;
pub mod originals;
pub mod planned;
pub mod purge;
pub mod seams;
pub mod seats;
pub mod serve;
pub mod spread;

mod copying;
mod look;
mod owner;
mod run;
mod share;
mod wire;

pub use answer::{Answer, CacheNote, Kept, Made, Timing, Whence};
pub use assets::Assets;
pub use dispatching::Dispatching;
pub use journey::{Config, Flow, Outside};
pub use memo::Memo;
pub use mesh::Alone;
pub use planned::Planned;
pub use purge::{Purge, PurgeLog, Stored, What, Write};
pub use seams::{Capacity, Copies, Dated, PurgeKeeper, Shelf, Spawn, Task, Tenants, Work};
pub use seats::Intake;
pub use serve::Answering;
pub use spread::{Reached, Settled};
