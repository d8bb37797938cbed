//! `tutti backup` and `tutti restore`.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tutti_admin::Client;

use super::print::{Out, bytes};

/// Writes a backup under another name first, so that a file of this name is a whole one.
pub(crate) async fn write(client: &Client, file: &Path, out: &Out) -> anyhow::Result<()> {
    if file.exists() {
        bail!("{} is there already; name another file", file.display());
    }
    let part = part(file);
    let written = async {
        let made =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
        let made = made.with_context(|| format!("cannot write {}", part.display()))?;
        let len = client.backup(&mut tokio::fs::File::from_std(made)).await?;
        std::fs::rename(&part, file).with_context(|| format!("cannot write {}", file.display()))?;
        anyhow::Ok(len)
    };
    match written.await {
        Ok(len) => out.done(&format!(
            "{} has {}: the cluster's small state, without secrets",
            file.display(),
            bytes(len)
        )),
        Err(error) => {
            let _ = std::fs::remove_file(&part);
            Err(error)
        }
    }
}

fn part(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    file.with_file_name(name)
}

/// Makes a backup the state.
pub(crate) async fn restore(client: &Client, file: &Path, out: &Out) -> anyhow::Result<()> {
    let done = client.restore(file).await?;
    out.say(&done, |done| {
        let text = if done.text.is_empty() { String::new() } else { format!("; {}", done.text) };
        format!("restored {} entries at revision {}{text}", done.entries, done.revision)
    })
}
