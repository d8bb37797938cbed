//! The front as clients see it: real sockets, raw bytes, made-up answers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/fake.rs"]
mod fake;
#[path = "support/house.rs"]
mod house;

#[path = "front/answers.rs"]
mod answers;
#[path = "front/doors.rs"]
mod doors;
#[path = "front/drain.rs"]
mod drain;
#[path = "front/limits.rs"]
mod limits;
#[path = "front/log.rs"]
mod log;
#[path = "front/strict.rs"]
mod strict;
