//! The lab: clusters of real processes in network namespaces of their own, with faults and audits. Run by `scripts/soak.sh`;
//! leaves nothing behind, however it ends.

mod audit;
mod http;
mod load;
mod machine;
mod outside;
mod quota;
mod round;
mod scenario;
mod wires;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Puts a cluster of real processes through faults.
#[derive(Parser, Debug)]
#[command(name = "tutti-lab")]
struct Cli {
    /// The binary `tutti`.
    #[arg(long, value_name = "FILE")]
    binary: PathBuf,
    /// The scenarios.
    #[arg(long, value_name = "FILE", default_value = "crates/lab/scenarios/faults.toml")]
    scenarios: PathBuf,
    /// The photos that are asked for.
    #[arg(long, value_name = "DIR", default_value = "samples")]
    originals: PathBuf,
    /// The folder of nodes and logs, emptied first.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Only faults whose names have this in them.
    #[arg(long, value_name = "WORDS")]
    only: Option<String>,
    /// How often each fault is tried.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Be the lab within its namespaces, whose control groups have this name. Started by the lab only.
    #[arg(long, hide = true)]
    inside: Option<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.inside {
        None => outside::enter(),
        Some(groups) => round::all(&cli, groups),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tutti-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
