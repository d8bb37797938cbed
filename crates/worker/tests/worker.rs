//! The worker with real engines: this executable started again. Names given as arguments select cases.
#![expect(clippy::unwrap_used, reason = "all of it is test code, which clippy knows only by #[test]")]

#[path = "worker/bench.rs"]
mod bench;
#[path = "worker/cases.rs"]
mod cases;
#[path = "worker/services.rs"]
mod services;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["engine", "ghost"] => ExitCode::from(3),
        ["engine", name] => {
            let registry = services::registry();
            tutti_worker::run_engine(registry.find(name).expect("a service of ours").1.as_ref())
        }
        _ => run_cases(&args),
    }
}

fn run_cases(args: &[String]) -> ExitCode {
    let wanted: Vec<_> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let mut failed = 0;
    for (name, case) in cases::all() {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(*part)) {
            continue;
        }
        let outcome = std::panic::catch_unwind(case);
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        failed += u8::from(outcome.is_err());
    }
    ExitCode::from(failed)
}
