//! The dispatch simulator: production dispatch in virtual time, against the figures that are promised. Measures no machine.
//!
//! Every test runs several seeds, prints median and worst (`cargo test -- --show-output`), and asserts the worst unless
//! it says otherwise.

mod draw;
mod figures;
mod front;
mod node;
mod oracle;
mod scenarios;
mod world;
