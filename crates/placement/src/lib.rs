//! Decides where things live: owners by rendezvous hashing, more of them for hot keys. Pure: state is an argument.

mod heat;
mod owners;

pub use heat::{HOT_KEYS_MAX, Heat, split};
pub use owners::{owners, owns};
