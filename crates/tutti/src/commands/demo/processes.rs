//! Which processes there are, as the kernel tells in /proc: the family of a server, and who listens at an address.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

/// Most processes that one server may have begotten.
const FAMILY_MAX: usize = 4096;

/// `first` and all processes that it begot, it first.
pub(super) fn family(first: u32) -> Vec<u32> {
    let everyone: Vec<(u32, u32)> =
        numbers(Path::new("/proc")).filter_map(|id| Some((id, parent(id)?))).collect();
    family_in(first, &everyone)
}

/// The same among `everyone`: process and parent.
fn family_in(first: u32, everyone: &[(u32, u32)]) -> Vec<u32> {
    let mut family = vec![first];
    let mut at = 0;
    while at < family.len() && family.len() < FAMILY_MAX {
        let parent = family[at];
        let children = everyone.iter().filter(|(id, of)| *of == parent && !family.contains(id));
        let children: Vec<u32> = children.map(|(id, _)| *id).collect();
        family.extend(children);
        at += 1;
    }
    family
}

#[cfg(test)]
/// Whether it lives. A dead one that nobody has buried does not.
pub(super) fn is_alive(id: u32) -> bool {
    parent(id).is_some()
}

fn parent(id: u32) -> Option<u32> {
    parent_in(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
}

/// The parent, and only of what still lives: behind the name in brackets stand state and parent (proc(5)).
fn parent_in(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut words = rest.split_whitespace();
    let state = words.next()?;
    words.next()?.parse().ok().filter(|_| !matches!(state, "Z" | "X"))
}

fn numbers(folder: &Path) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The one of `servers` that listens at `address`. None where none does, or where this user may not know.
pub(super) fn listener(address: SocketAddr, servers: &[u32]) -> Option<u32> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let socket = format!("socket:[{}]", listening_inode(&table, address)?);
    let holds = |server: &&u32| {
        let folder = format!("/proc/{server}/fd");
        let folder = Path::new(&folder);
        numbers(folder).any(|fd| {
            fs::read_link(folder.join(fd.to_string())).is_ok_and(|link| link.as_os_str() == socket.as_str())
        })
    };
    servers.iter().find(holds).copied()
}

/// The inode of the socket that listens at `address`, of a table as in /proc/net/tcp.
fn listening_inode(table: &str, address: SocketAddr) -> Option<&str> {
    let SocketAddr::V4(address) = address else { return None };
    // The kernel prints the address as a number in the machine's own order.
    let number = u32::from_ne_bytes(address.ip().octets());
    let local = format!("{number:08X}:{:04X}", address.port());
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.get(1) == Some(&local.as_str()) && row.get(3) == Some(&"0A"))?;
    row.get(9).copied()
}

/// Processes, held so that no others can be mistaken for them.
pub(super) struct Held(Vec<OwnedFd>);

impl Held {
    /// Those of `processes` that are there.
    pub(super) fn new(processes: impl Iterator<Item = u32>) -> Self {
        let hold = |id| pidfd_open(pid(id)?, PidfdFlags::empty()).ok();
        Self(processes.filter_map(hold).collect())
    }

    /// Kills those that are left.
    pub(super) fn kill(&self) {
        for process in &self.0 {
            // Whoever is gone needs no killing.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }
}

fn pid(id: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(id).ok()?)
}

/// Kills all of `processes` without a word, in their order. Those that are gone already are passed over.
pub(super) fn kill_all(processes: &[u32]) {
    for id in processes {
        signal(*id, Signal::KILL);
    }
}

/// Sends `signal`; whoever is gone needs none.
pub(super) fn signal(id: u32, signal: Signal) {
    if let Some(id) = pid(id) {
        let _ = kill_process(id, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_a_server_with_all_that_it_begot() {
        let everyone = [(2, 1), (3, 2), (4, 3), (5, 1), (6, 2)];
        assert_eq!(family_in(2, &everyone), [2, 3, 6, 4]);
        assert_eq!(family_in(9, &everyone), [9]);
    }

    #[test]
    fn a_name_with_brackets_does_not_hide_the_parent_and_the_dead_have_none() {
        assert_eq!(parent_in("7 (a) b) S 5 7 7"), Some(5));
        assert_eq!(parent_in("7 (a) Z 5 7 7"), None);
        assert_eq!(parent(std::process::id()), Some(std::os::unix::process::parent_id()));
    }

    #[test]
    fn this_process_is_found_to_listen_and_no_more_when_it_has_stopped() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert_eq!(listener(address, &[1, std::process::id()]), Some(std::process::id()));
        drop(socket);
        assert_eq!(listener(address, &[std::process::id()]), None);
    }
}
