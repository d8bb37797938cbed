//! What this machine, or the part of it that we may use, can give: cores by affinity and quota, memory by limit.

use std::fs;
use std::path::{Path, PathBuf};

use tutti_flow::Capacity;

use crate::Config;

/// What this process may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// CPU milliseconds a millisecond.
    pub cores: f32,
    /// Memory in bytes.
    pub memory: u64,
    /// What the cores are bounded by.
    pub bound: Bound,
}

/// What bounds the CPU that a process gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The cores that it may run on: it competes for them, and niceness decides.
    Cores,
    /// A control group's quota: whoever uses it up stops the whole group for a while.
    Quota,
}

/// Where a control group's limit may stand: the controller's name in `/proc/self/cgroup` (empty for version 2), its
/// folder, and the files in it.
struct Place {
    controller: &'static str,
    folder: &'static str,
    file: &'static str,
}

const CPU: [Place; 4] = [
    Place { controller: "", folder: "sys/fs/cgroup", file: "cpu.max" },
    Place { controller: "", folder: "sys/fs/cgroup/unified", file: "cpu.max" },
    Place { controller: "cpu", folder: "sys/fs/cgroup/cpu", file: "cpu.cfs_quota_us" },
    Place { controller: "cpu", folder: "sys/fs/cgroup/cpu,cpuacct", file: "cpu.cfs_quota_us" },
];

const MEMORY: [Place; 3] = [
    Place { controller: "", folder: "sys/fs/cgroup", file: "memory.max" },
    Place { controller: "", folder: "sys/fs/cgroup/unified", file: "memory.max" },
    Place { controller: "memory", folder: "sys/fs/cgroup/memory", file: "memory.limit_in_bytes" },
];

impl Machine {
    /// Reads affinity, control groups (both versions) and memory. What cannot be read does not limit.
    pub fn read() -> Self {
        let allowed = rustix::thread::sched_getaffinity(None).map_or(1, |cpus| cpus.count());
        Self::read_beneath(Path::new("/"), allowed)
    }

    fn read_beneath(root: &Path, allowed: u32) -> Self {
        let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let quota = limits(root, &groups, &CPU, cores_of).fold(f32::INFINITY, f32::min);
        let meminfo = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
        let total = memory_total(&meminfo).unwrap_or(u64::MAX);
        let memory = limits(root, &groups, &MEMORY, bytes_of).fold(total, u64::min);
        let whole = allowed.max(1) as f32;
        let bound = if quota < whole { Bound::Quota } else { Bound::Cores };
        Self { cores: quota.min(whole), memory, bound }
    }

    /// What of it jobs get.
    pub fn capacity(&self, config: &Config) -> Capacity {
        let whole = (self.cores.ceil() as usize).max(1);
        let permits = config.permits.unwrap_or(whole).max(1);
        let cpu = self.cores.min(permits as f32) * (1.0 - config.reserve);
        Capacity { permits, cpu, bytes: config.bytes.unwrap_or(self.memory / 2) }
    }
}

/// The limits of this process's groups and all groups above them.
fn limits<'a, T: 'a>(
    root: &'a Path,
    groups: &'a str,
    places: &'a [Place],
    read: fn(&Path) -> Option<T>,
) -> impl Iterator<Item = T> + 'a {
    places.iter().flat_map(move |place| {
        let base = root.join(place.folder);
        let own = group_path(groups, place.controller).unwrap_or("/").trim_start_matches('/');
        // Inside a container the path may be the host's and not exist; the root of the mount is then our group.
        let folders: Vec<PathBuf> = base
            .join(own)
            .ancestors()
            .take_while(|path| path.starts_with(&base))
            .map(Path::to_owned)
            .collect();
        folders.into_iter().filter_map(move |folder| read(&folder.join(place.file)))
    })
}

fn group_path<'a>(groups: &'a str, controller: &str) -> Option<&'a str> {
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
        names.split(',').any(|name| name == controller).then_some(path)
    })
}

/// Version 2: `QUOTA PERIOD` or `max PERIOD`. Version 1: the quota alone, -1 for none, its period in the file beside.
fn cores_of(file: &Path) -> Option<f32> {
    let text = fs::read_to_string(file).ok()?;
    let mut words = text.split_whitespace();
    let quota: f32 = words.next()?.parse().ok().filter(|quota| *quota > 0.0)?;
    let period: f32 = match words.next() {
        Some(period) => period.parse().ok()?,
        None => fs::read_to_string(file.with_file_name("cpu.cfs_period_us")).ok()?.trim().parse().ok()?,
    };
    (period > 0.0).then(|| quota / period)
}

fn bytes_of(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Machine {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Machine::read_beneath(root.path(), 4)
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB\n");
    const GIB: u64 = 1 << 30;

    #[test]
    fn without_limits_it_is_the_whole_machine() {
        assert_eq!(machine(&[MEMINFO]), Machine { cores: 4.0, memory: 8 * GIB, bound: Bound::Cores });
        let unlimited = [
            MEMINFO,
            ("proc/self/cgroup", "0::/a\n"),
            ("sys/fs/cgroup/a/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/a/memory.max", "max\n"),
        ];
        assert_eq!(machine(&unlimited), Machine { cores: 4.0, memory: 8 * GIB, bound: Bound::Cores });
    }

    #[test]
    fn the_tightest_limit_of_a_group_and_those_above_it_counts() {
        let version_2 = [
            MEMINFO,
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/b/cpu.max", "300000 100000\n"),
            ("sys/fs/cgroup/a/cpu.max", "70000 100000\n"),
            ("sys/fs/cgroup/a/b/memory.max", "1073741824\n"),
        ];
        assert_eq!(machine(&version_2), Machine { cores: 0.7, memory: GIB, bound: Bound::Quota });
        let version_1 = [
            MEMINFO,
            ("proc/self/cgroup", "2:cpu,cpuacct:/x\n4:memory:/not/visible/here\n"),
            ("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "140000\n"),
            ("sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n"),
        ];
        assert_eq!(machine(&version_1), Machine { cores: 1.4, memory: 2 * GIB, bound: Bound::Quota });
    }

    #[test]
    fn parts_of_a_core_give_a_whole_permit_and_the_reserve_is_taken_off() {
        let config = Config::default();
        let given = |cores| Machine { cores, memory: 8 * GIB, bound: Bound::Cores }.capacity(&config);
        assert_eq!(given(0.7), Capacity { permits: 1, cpu: 0.7 * 0.75, bytes: 4 * GIB });
        assert_eq!(given(1.4).permits, 2);
        assert_eq!(given(2.0), Capacity { permits: 2, cpu: 1.5, bytes: 4 * GIB });
        let one = Config { permits: Some(1), reserve: 0.0, bytes: Some(GIB), ..config };
        let machine = Machine { cores: 8.0, memory: 8 * GIB, bound: Bound::Cores };
        assert_eq!(machine.capacity(&one), Capacity { permits: 1, cpu: 1.0, bytes: GIB });
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = Machine::read();
        assert!(machine.cores > 0.0 && machine.cores < 10_000.0 && machine.memory > 1 << 20, "{machine:?}");
    }
}
