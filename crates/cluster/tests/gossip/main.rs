//! Memberships and hints of many nodes on a simulated network and virtual time, by seed; a few of whole nodes and real links.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod cluster;
mod detect;
mod faults;
mod hints;
mod real;
mod sim;
