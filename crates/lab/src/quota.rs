//! Control groups: what a node may use of a core, what it has used, and who belongs to it. Version 1, as this needs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

const LIMITS: &str = "/sys/fs/cgroup/cpu";
const COUNTS: &str = "/sys/fs/cgroup/cpuacct";
const PREFIX: &str = "tutti-lab-";
const PERIOD_US: u64 = 100_000;

/// The name of the groups of the lab with this process id.
pub(crate) fn name_of(process: u32) -> String {
    format!("{PREFIX}{process}")
}

/// Removes what labs left that no longer run.
pub(crate) fn remove_stale() {
    for entry in std::fs::read_dir(LIMITS).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|process| process.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            remove(&name);
        }
    }
}

/// Removes the groups of a lab whose processes have ended.
pub(crate) fn remove(name: &str) {
    for root in [LIMITS, COUNTS] {
        let group = Path::new(root).join(name);
        for entry in std::fs::read_dir(&group).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                // One that is in use stays, and the next lab removes it.
                let _ = std::fs::remove_dir(entry.path());
            }
        }
        let _ = std::fs::remove_dir(group);
    }
}

/// The group of one node.
pub(crate) struct Group {
    limits: PathBuf,
    counts: PathBuf,
}

impl Group {
    /// Makes it, with `percent` of one core.
    ///
    /// Errors: there are no control groups of version 1.
    pub(crate) fn new(lab: &str, node: &str, percent: u64) -> anyhow::Result<Self> {
        let group = Self {
            limits: Path::new(LIMITS).join(lab).join(node),
            counts: Path::new(COUNTS).join(lab).join(node),
        };
        for folder in [&group.limits, &group.counts] {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("no control group {}", folder.display()))?;
        }
        let write = |file: &str, value: u64| {
            std::fs::write(group.limits.join(file), value.to_string())
                .with_context(|| format!("no quota: {file}"))
        };
        write("cpu.cfs_period_us", PERIOD_US)?;
        write("cpu.cfs_quota_us", PERIOD_US * percent / 100)?;
        Ok(group)
    }

    /// The files to which a process writes its id to belong.
    pub(crate) fn doors(&self) -> [String; 2] {
        [&self.limits, &self.counts].map(|folder| folder.join("cgroup.procs").display().to_string())
    }

    /// Everyone who belongs.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let text = std::fs::read_to_string(self.limits.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// CPU time used so far.
    pub(crate) fn used(&self) -> Duration {
        let text = std::fs::read_to_string(self.counts.join("cpuacct.usage")).unwrap_or_default();
        Duration::from_nanos(text.trim().parse().unwrap_or(0))
    }
}
