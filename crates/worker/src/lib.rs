//! Does jobs on this machine: CPU permits, engine pools, retries. Sees the registry, never a service.

pub mod capacity;
pub mod child;
pub mod config;
mod count;
mod job;
mod pace;
mod pool;
mod reply;
mod worker;

pub use capacity::Machine;
pub use child::run_engine;
pub use config::Config;
pub use worker::{Standing, Warmed, Worker};
