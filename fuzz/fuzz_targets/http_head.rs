//! Fuzzes the strict HTTP/1 reader: a stream of requests, cut in several ways. What must hold is written in the owning crate, whose tests replay the corpus.
#![no_main]

#[path = "../../crates/front/tests/corpus/check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    check::holds(bytes);
});
