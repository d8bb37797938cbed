//! The commands, one file each.

pub(crate) mod ask;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod engine;
pub(crate) mod help;
pub(crate) mod serve;
