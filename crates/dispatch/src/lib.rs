//! Decides which node gets work and whether it gets in at all. Pure: time, randomness and state are arguments.

pub mod admission;
pub mod book;
pub mod breaker;
pub mod candidate;
pub mod choose;
pub mod dispatcher;
pub mod estimate;
pub mod explained;
pub mod history;
pub mod job;
pub mod model;
pub mod policy;
pub mod retry;
pub mod waiting;

pub use admission::{Admission, Limits, Load, Shortage, Ticket, Verdict};
pub use book::SentId;
pub use candidate::Candidate;
pub use dispatcher::{Counts, Dispatcher, NoPlace, Offer};
pub use explained::{Considered, Explained, Reason, Terms};
pub use job::{JobAsk, Outcome, Size};
pub use model::{CostModel, Known};
pub use policy::{Policy, UnknownPolicy};
pub use retry::RetryBudget;
pub use waiting::Ticket as WaitTicket;
