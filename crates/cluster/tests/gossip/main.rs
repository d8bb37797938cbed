//! Memberships and hints of many nodes on a simulated network and virtual time, by seed. No socket, no wall clock.

mod cluster;
mod detect;
mod faults;
mod hints;
mod real;
mod sim;
