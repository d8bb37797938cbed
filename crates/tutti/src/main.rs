//! The binary: reads what was typed and does it. The only package that names all others.

mod build;
mod cli;
mod cluster;
mod commands;
mod console;
mod settings;
mod strict;
mod tenancy;
mod world;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    // An engine is not to see a command-line parser, a runtime or anything else that it does not need.
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == "engine") {
        return commands::engine::run(words.next().as_deref());
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let wrong_usage = error.use_stderr();
            // Nothing is left to tell whoever closed the terminal.
            let _ = error.print();
            return ExitCode::from(if wrong_usage { 2 } else { 0 });
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tutti: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Serve(args) => commands::serve::run(&args, cli.data.as_deref()),
        Command::Demo(args) => commands::demo::run(&args),
        Command::Completions { shell } => commands::completions::run(shell),
        Command::Help { word } => commands::help::run(&word.join(" ")),
        Command::Engine { service } => anyhow::bail!("`engine {service}` must be the first word"),
        asked => commands::ask::run(asked, cli.data, cli.json),
    }
}
