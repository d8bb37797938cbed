//! What the demo prints: the first lines, events as they come, and one live line that is rewritten in place on a terminal.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use tutti_base::Tick;

use super::layout::{Layout, quoted};
use super::load::{self, Sums};
use super::status::Seen;

/// Between two live lines where nobody can watch them change.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Where it is printed.
pub(super) struct Screen {
    terminal: bool,
    last: String,
    printed: Option<Tick>,
}

impl Screen {
    /// Standard output.
    pub(super) fn new() -> Self {
        Self { terminal: io::stdout().is_terminal(), last: String::new(), printed: None }
    }

    /// Prints `text` above the live line.
    pub(super) fn say(&self, text: &str) {
        let text = if self.terminal {
            format!("\r\x1b[K{text}\n{}", rewritten(&self.last))
        } else {
            format!("{text}\n")
        };
        print(&text);
    }

    /// Shows `line`: in place on a terminal, else now and then and only when it has changed.
    pub(super) fn show(&mut self, line: String, now: Tick) {
        let due = self.printed.is_none_or(|printed| now.since(printed) >= LINE_EVERY);
        if line == self.last || !(self.terminal || due) {
            return;
        }
        print(&if self.terminal { rewritten(&line) } else { format!("{line}\n") });
        self.last = line;
        self.printed = Some(now);
    }

    /// Ends the live line.
    pub(super) fn end(&mut self) {
        if self.terminal && !std::mem::take(&mut self.last).is_empty() {
            print("\n");
        }
    }
}

/// `line` in place of the last one; the terminal cuts what does not fit, else it could not be rewritten.
fn rewritten(line: &str) -> String {
    format!("\r\x1b[?7l{line}\x1b[K\x1b[?7h")
}

fn print(text: &str) {
    let mut out = io::stdout().lock();
    // Nothing is left to tell whoever closed the terminal.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The live line.
pub(super) fn live_line(nodes: usize, seen: Option<&Seen>, master: Option<&str>, sums: &Sums) -> String {
    let up = seen.map_or_else(|| "?".to_owned(), |seen| seen.up().to_string());
    let all = seen.map_or(nodes, |seen| seen.nodes.len().max(nodes));
    let leader = seen.and_then(|seen| seen.leader.as_deref()).unwrap_or("none");
    let load = match seen.and_then(Seen::used_pct) {
        Some(used) => format!("{used:.0} % used, {:.0} % free", (100.0 - used).max(0.0)),
        None => "load unknown".to_owned(),
    };
    let Sums { requests, failed, retried, renders, .. } = sums;
    format!(
        "{up}/{all} up, leader {leader}, master {} | {load} | {requests} requests, {failed} failed, {retried} retried | \
         {:.0} % hits, {renders} renders",
        master.unwrap_or("none"),
        sums.hit_pct(),
    )
}

/// The first lines: where to look, and what to paste.
pub(super) fn first_lines(layout: &Layout, binary: &Path, picture: &str, token: Option<&str>) -> String {
    let tutti = quoted(&binary.display().to_string());
    let url = format!("http://{}{}", layout.address(), load::path(picture, 480, "webp"));
    let here = format!("--data {}", quoted(&layout.data(0).display().to_string()));
    let mut lines = vec![
        String::new(),
        format!("  pictures: {}   ({} nodes behind one address)", layout.page(), layout.nodes),
        String::new(),
        "paste into another shell:".to_owned(),
        format!("  # who would make this picture, and why?\n  {tutti} explain {} {here}", quoted(&url)),
        format!(
            "  # kill the master (holder of the address) with all its processes; it comes back after 5 s\n  kill -9 $(cat {})",
            quoted(&layout.master_file().display().to_string())
        ),
    ];
    if let Some(token) = token {
        let words: Vec<_> = layout.words(layout.nodes, Some(token)).iter().map(|word| quoted(word)).collect();
        lines.push(format!("  # add a machine\n  {tutti} {}", words.join(" ")));
    }
    lines.push(format!("  # how are the nodes?\n  {tutti} status {here}"));
    lines.push(format!("Ctrl-C stops everything. Logs: {}/*/log", layout.folder.display()));
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::status::SeenNode;
    use super::*;

    #[test]
    fn the_live_line_tells_what_is_known() {
        let node =
            |name: &str, up| SeenNode { name: name.into(), up, voter: Some(true), used_pct: Some(25.0) };
        let seen = Seen {
            nodes: vec![node("one", true), node("two", true), node("three", false)],
            leader: Some("two".into()),
            holder: None,
        };
        let sums = Sums { requests: 10, retried: 1, hits: 9, renders: 1, ..Sums::default() };
        assert_eq!(
            live_line(3, Some(&seen), Some("one"), &sums),
            "2/3 up, leader two, master one | 25 % used, 75 % free | 10 requests, 0 failed, 1 retried | \
             90 % hits, 1 renders"
        );
        assert!(
            live_line(3, None, None, &sums).starts_with("?/3 up, leader none, master none | load unknown | ")
        );
    }

    #[test]
    fn the_first_lines_can_be_pasted() {
        let layout = Layout::new([127, 0, 0, 10].into(), 3, Path::new("a b"), Path::new("samples")).unwrap();
        let text = first_lines(&layout, Path::new("/x/tutti"), "p.jpg", Some("T"));
        for part in [
            "pictures: http://127.0.0.10:8080/ ",
            "/x/tutti explain http://127.0.0.10:8080/image/unsafe/rs:fit:480:480/plain/local:///p.jpg@webp --data 'a b/one'",
            "kill -9 $(cat 'a b/master.pids')",
            "/x/tutti serve --name four --http 127.0.0.14:8080 ",
            "--gallery --join T\n",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
