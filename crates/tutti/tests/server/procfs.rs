//! What the kernel says of processes: children, memory, users, listening sockets. Reads `/proc` alone.

use std::collections::BTreeSet;
use std::fs;

/// The processes that `pid` started and that still live, zombies left out.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|child| parent(*child) == Some(pid)).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    let state = words.next()?;
    let parent = words.next()?.parse().ok();
    parent.filter(|_| state != "Z")
}

/// Whether a process with this id lives.
pub(crate) fn lives(pid: u32) -> bool {
    parent(pid).is_some()
}

/// Resident memory of `pid` and its children, in bytes.
pub(crate) fn memory(pid: u32) -> u64 {
    let resident = |pid: u32| {
        let text = status(pid, "VmRSS").unwrap_or_default();
        text.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
    };
    children(pid).into_iter().chain([pid]).map(resident).sum()
}

/// A line of `/proc/PID/status`.
pub(crate) fn status(pid: u32, key: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.map(|value| value.trim().to_owned())
}

/// The TCP ports that `pid` listens on; none where its descriptors may not be looked at.
pub(crate) fn listening(pid: u32) -> Option<BTreeSet<u16>> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let links = descriptors.map(|entry| fs::read_link(entry.path()));
    let links: Vec<_> = links.collect::<Result<_, _>>().ok()?;
    let inodes: BTreeSet<String> = links
        .iter()
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let tables = ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/{pid}/net/{table}")));
    let lines: Vec<String> = tables.into_iter().flatten().collect();
    let rows = lines.iter().flat_map(|table| table.lines().skip(1));
    let ports = rows.filter_map(|row| {
        let words: Vec<&str> = row.split_whitespace().collect();
        let port = u16::from_str_radix(words.get(1)?.rsplit_once(':')?.1, 16).ok()?;
        let listens = *words.get(3)? == "0A" && inodes.contains(*words.get(9)?);
        listens.then_some(port)
    });
    Some(ports.collect())
}
