//! Fuzzes whole jobs: decode, resize and encode, as engines do. What must hold is written in the owning crate, whose tests replay the corpus.
#![no_main]

#[path = "../../crates/imaging/tests/corpus/rendering.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    check::holds(bytes);
});
