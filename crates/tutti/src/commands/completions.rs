//! `tutti completions SHELL`.

use clap::CommandFactory;

use crate::cli::Cli;

/// Prints completions for `shell`.
pub(crate) fn run(shell: clap_complete::Shell) -> anyhow::Result<()> {
    clap_complete::generate(shell, &mut Cli::command(), "tutti", &mut std::io::stdout());
    Ok(())
}
