//! The request's journey: plan, look up, admit, flight, job, store, degrade. No sockets, no files, no clock of its own:
//! everything outside is reached over seams, so that the lab runs this very code.

pub mod answer;
pub mod journey;
pub mod memo;
pub mod planned;
pub mod seams;

pub use answer::{Answer, CacheNote, Kept, Made, Timing};
pub use journey::Flow;
pub use memo::Memo;
pub use planned::Planned;
pub use seams::{Capacity, Task, Work};
