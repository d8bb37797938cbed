//! The front door: listeners, one strict HTTP/1 loop a thread, routing, responses, access log. Knows no service, only
//! the registry, and asks for answers through [`Answers`].
//!
//! One thread is one epoll loop over its own connections ([`turn`]). A hit is one read, one parse, one memoised plan,
//! one look-up and one vectored write, all in that thread. Everything else is asked of the runtime that was handed in
//! and comes back by letter ([`mailbox`]).

pub mod access;
pub mod answers;
pub mod config;
pub mod doors;
pub mod listeners;
pub mod router;
pub mod server;
pub mod verdict;

mod accept;
mod body;
mod conditional;
mod connection;
mod date;
mod exchange;
mod face;
mod framing;
mod head;
mod inherit;
mod mailbox;
mod metrics;
mod output;
mod pump;
mod reading;
mod refusal;
mod respond;
mod sweep;
mod target;
mod text;
mod turn;

pub use access::{LogConfig, LogFormat, LogMode};
pub use answers::Answers;
pub use config::{Config, ConfigError, ExtraMount};
pub use doors::{DOORS_MAX, Doors};
pub use router::{Router, RouterError};
pub use server::{Drained, Front, Outside, StartError};
