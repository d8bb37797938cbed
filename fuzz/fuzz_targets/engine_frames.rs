//! Fuzzes the messages between server and engine, in both directions. What must hold is written in the owning crate, whose tests replay the corpus.
#![no_main]

#[path = "../../crates/process/tests/corpus/check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    check::holds(bytes);
});
