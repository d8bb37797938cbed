//! Fuzzes the header probe on PNG files. What must hold is written in the owning crate, whose tests replay the corpus.
#![no_main]

#[path = "../../crates/imaging/tests/corpus/probing.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    check::holds(tutti_imaging::SourceFormat::Png, bytes);
});
