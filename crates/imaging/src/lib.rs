//! Pixels: probe, geometry, decode, operations, encode. Pure and synchronous; knows no HTTP, no files, no clock.

pub mod spec;
