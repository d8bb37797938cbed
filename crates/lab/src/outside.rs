//! Enters namespaces of its own before anything is started: network, processes and mounts. When the lab ends, in whatever
//! way, the kernel kills all that runs in them and takes the network down.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::quota;

/// This program; the link is what runs, not a path that may have been built anew.
const MYSELF: &str = "/proc/self/exe";

/// Runs this program again within namespaces, with the same words; whether all went well there.
///
/// Errors: not root, or `unshare` (util-linux) is missing.
pub(crate) fn enter() -> anyhow::Result<bool> {
    if !rustix::process::geteuid().is_root() {
        anyhow::bail!("network namespaces and quotas take root; run it with sudo");
    }
    quota::remove_stale();
    let groups = quota::name_of(std::process::id());
    let myself = std::fs::read_link(MYSELF).context("this program has no path")?;
    let words = words_of(Path::new("/proc/self/cmdline"))?;
    // When this process dies `unshare` is killed, and with it the first process of the namespace and so all others.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare"]);
    command.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command.arg(myself).args(words).args(["--inside", &groups]).stdin(Stdio::null());
    let status = command.status().context("`setpriv` cannot be run; it is in the package util-linux");
    quota::remove(&groups);
    Ok(status?.success())
}

/// The words of a command line as the kernel has it, without the program's name.
fn words_of(file: &Path) -> anyhow::Result<Vec<String>> {
    let bytes = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let text = String::from_utf8(bytes).context("the command line is not UTF-8")?;
    Ok(text.trim_end_matches('\0').split('\0').skip(1).map(Into::into).collect())
}
