//! Fetching from real servers on loopback, written here to behave as well or as badly as each test needs.

#![expect(clippy::unwrap_used, reason = "the servers and settings of these tests are made here")]

mod bodies;
mod breaker;
mod connections;
mod folders;
mod guarded;
mod hand_clock;
mod heads;
mod house;
mod redirects;
mod stage;
mod tls;
