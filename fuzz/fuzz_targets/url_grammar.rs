//! Fuzzes the image service's URL grammar: lines are paths. What must hold is written in the owning crate, whose tests replay the corpus.
#![no_main]

#[path = "../../crates/services/image/tests/corpus/check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    check::holds(bytes);
});
