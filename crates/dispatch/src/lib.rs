//! Decides which node gets work and whether it gets in at all. Pure: time, randomness and state are arguments.

pub mod admission;
pub mod model;

pub use admission::{Admission, Limits, Load, Shortage, Ticket, Verdict};
pub use model::{CostModel, Known};
