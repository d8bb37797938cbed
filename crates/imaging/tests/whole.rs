//! The crate from outside: the probe and whole jobs, on files made here.
#![expect(clippy::unwrap_used, reason = "what fails to unwrap fails the test")]

#[path = "whole/made.rs"]
mod made;
#[path = "whole/probe.rs"]
mod probe;
#[path = "whole/render.rs"]
mod render;
