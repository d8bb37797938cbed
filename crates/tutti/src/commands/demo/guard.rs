//! Sees to it that no node outlives the demo, even one that is killed: a process of its own that hears which servers
//! run, and kills those when it hears no more. Starts nothing.
//!
//! A death signal (prctl(2)) would not do: the kernel forgets it when a server started as root becomes a user of its own.

use std::collections::HashMap;
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::processes::Held;
use anyhow::Context;

/// The guard, as the demo holds it. Dropping it lets the guard kill what still runs, and waits for that.
pub(super) struct Guard {
    child: Child,
    wire: Option<ChildStdin>,
}

impl Guard {
    /// Starts one, out of reach of a Ctrl-C at the terminal.
    pub(super) fn start(binary: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(binary);
        command.args(["demo", "--guard"]).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().context("the guard of the demo could not be started")?;
        Ok(Self { wire: child.stdin.take(), child })
    }

    /// Tells of a server that has begun.
    pub(super) fn watch(&mut self, server: u32) {
        self.tell('+', server);
    }

    /// Tells of a server that has ended, before its id can be another's.
    pub(super) fn forget(&mut self, server: u32) {
        self.tell('-', server);
    }

    fn tell(&mut self, what: char, server: u32) {
        let told =
            self.wire.as_mut().map(|wire| writeln!(wire, "{what}{server}").and_then(|()| wire.flush()));
        if let Some(Err(error)) = told {
            eprintln!("the guard of the demo is gone ({error}): if the demo is killed, its nodes stay");
            self.wire = None;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.wire = None;
        // It ends by itself now; without a status nothing is lost.
        let _ = self.child.wait();
    }
}

/// Is the guard: hears `+ID` and `-ID` by line, and at the end kills what began and did not end.
///
/// Errors: standard input cannot be read.
pub(super) fn run() -> anyhow::Result<()> {
    let left = hear(io::stdin().lock(), |id| Some(Held::new(std::iter::once(id.parse().ok()?))))?;
    left.values().for_each(Held::kill);
    Ok(())
}

/// What began and did not end, each held so that no other process can be mistaken for it.
fn hear<T>(lines: impl BufRead, hold: impl Fn(&str) -> Option<T>) -> anyhow::Result<HashMap<String, T>> {
    let mut held = HashMap::new();
    for line in lines.lines() {
        let line = line.context("the guard cannot hear the demo")?;
        match line.split_at_checked(1) {
            Some(("+", id)) => held.extend(hold(id).map(|server| (id.to_owned(), server))),
            Some(("-", id)) => drop(held.remove(id)),
            _ => {}
        }
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_and_did_not_end_is_left() {
        let hold = |id: &str| (id != "3").then_some(());
        let left = hear(&b"+1\n+2\n-1\n+3\n\n+4\n"[..], hold).unwrap();
        let mut left: Vec<_> = left.keys().map(String::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["2", "4"], "3 was gone before it could be held");
    }
}
