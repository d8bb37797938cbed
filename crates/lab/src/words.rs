//! Runs programs of the system and waits for them.

use std::process::Command;

use anyhow::{Context, bail};

/// Runs the words of `line`.
///
/// Errors: it cannot be run or fails; with what it said.
pub(crate) fn run(line: &str) -> anyhow::Result<()> {
    let mut words = line.split_whitespace();
    let program = words.next().context("an empty line")?;
    let output =
        Command::new(program).args(words).output().with_context(|| format!("`{program}` cannot be run"))?;
    if !output.status.success() {
        bail!("`{line}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
