//! Real engines: this executable started again as a child, and everything that can go wrong with one.
//!
//! It has its own `main` because the children are this very file; `cargo test` knows it as any other test. Names given
//! as arguments select cases.
#![expect(clippy::unwrap_used, reason = "all of it is test code, which clippy knows only by #[test]")]

#[path = "engine/cases.rs"]
mod cases;
#[path = "engine/privilege.rs"]
mod privilege;
#[path = "engine/programs.rs"]
mod programs;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("engine") => tutti_process::engine::child::serve(&mut programs::run),
        Some("liar") => programs::lie(&args[1]),
        Some("parent") => cases::be_a_parent(),
        Some("dropped") => privilege::be_dropped(&args[1]),
        _ => run_cases(&args),
    }
}

fn run_cases(args: &[String]) -> ExitCode {
    let wanted: Vec<_> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let selected = cases::all()
        .into_iter()
        .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| name.contains(*w)));
    let mut failed = 0;
    for (name, case) in selected {
        let outcome = std::panic::catch_unwind(case);
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        failed += u8::from(outcome.is_err());
    }
    ExitCode::from(failed)
}
