//! The journey, end to end, over seams that the tests hold: caching, freshness, flights, purges, failures, degrading.
#![expect(clippy::unwrap_used, reason = "a poisoned lock ends the test")]

mod assets;
mod caching;
mod capacity;
mod cluster;
mod failing;
mod flights;
mod originals;
mod purging;
mod shelf;
mod town;
mod world;
