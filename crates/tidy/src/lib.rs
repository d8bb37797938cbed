//! The house rules as code: it reads the checkout and `cargo metadata`, changes nothing, and knows no other package.
//!
//! `tests/house.rs` holds one test for each rule; the rules and their exceptions, as data, are in [`rules`].

pub mod cargo;
pub mod exception;
pub mod finding;
pub mod paths;
pub mod ratchet;
pub mod rules;
pub mod rust_source;
pub mod tree;

pub use exception::Exception;
pub use finding::{Finding, report};
pub use rust_source::RustSource;
pub use tree::Tree;
