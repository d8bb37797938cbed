//! The rules, each a function from what was read to findings, with its tables of exceptions beside it.

pub mod layers;
pub mod licences;
pub mod manifests;
pub mod prose;
pub mod purity;
pub mod safety;
pub mod shape;
