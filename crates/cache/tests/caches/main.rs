//! Both caches from outside: what is kept, for how long, and what they do when the disk is full, broken or lying.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod damage;
mod failing;
mod killed;
mod limits;
mod originals;
mod restart;
mod stress;
mod world;
