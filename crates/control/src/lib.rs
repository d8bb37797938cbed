//! Reconcilers of the cluster: who is a member, who votes, who holds which duty. The data path never waits for it.

pub mod boxes;
pub mod duty;
pub mod entry;
pub mod founding;
pub mod guard;
pub mod joining;
pub mod journal;
pub mod leaving;
pub mod quorum;
pub mod readers;
pub mod reconcile;
pub mod renewing;
pub mod resealing;
pub mod roster;
pub mod sentence;
pub mod tokens;
pub mod voters;

mod counts;
#[cfg(test)]
mod testing;

pub use boxes::SealingKey;
pub use counts::Counts;
pub use duty::{Duty, DutyRecord, Holder};
pub use guard::ByRoles;
pub use joining::{Answer, Ask, JoinAnswer, JoinRequest, Joining};
pub use journal::{Event, Journal};
pub use leaving::{Leaving, Removal};
pub use quorum::{Quorum, QuorumStatus};
pub use readers::Readers;
pub use reconcile::Reconciler;
pub use roster::{ClusterRecord, NodeRecord, Roster, RosterError, Standing};
pub use sentence::sentence;
pub use tokens::{TokenError, TokenRecord, Tokens};
