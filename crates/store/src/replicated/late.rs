//! The list of writes that a voter took and that its cluster went on without: a file for people, never merged by itself.

use std::fmt::Write as _;

use openraft::EntryPayload;
use serde::Serialize;
use tutti_base::disk::Disk;

use super::log::Log;
use super::tables::Failure;
use super::types::{Batch, Entry};
use crate::secrets;
use crate::store::StoreError;
use crate::txn::{Key, Op};
use crate::work::Command;

/// How many entries are read at once.
const STEP: u64 = 256;

/// One write that was not taken over.
#[derive(Serialize, PartialEq, Debug)]
struct LateWrite {
    /// Its place in the old log.
    index: u64,
    /// The table and key, with bytes that are no text escaped.
    key: String,
    /// `put`, `delete`, `grant` or `revoke`.
    what: &'static str,
    /// What was put, where it is text; else in hexadecimal. Secrets are not shown.
    value: Option<String>,
    /// Whether it hung on conditions, so that it may not have been applied.
    conditional: bool,
}

#[derive(Serialize)]
struct LateWrites {
    what: &'static str,
    epoch_before: u64,
    epoch_now: u64,
    /// Entries after this one are not part of the cluster's history.
    after_index: u64,
    /// Entries up to this one had been cut from the log already and cannot be listed.
    cut_up_to: Option<u64>,
    writes: Vec<LateWrite>,
}

/// The file for the writes of the epoch `epoch`.
pub fn late_file(epoch: u64) -> String {
    format!("late-writes-{epoch}.json")
}

/// Lists the writes of `log` after `fork` in the file of `epoch`, durably. How many there are.
pub(crate) fn list(
    disk: &dyn Disk,
    log: &Log,
    epoch: u64,
    epoch_now: u64,
    fork: u64,
    purged: Option<u64>,
) -> Result<usize, StoreError> {
    let mut writes = Vec::new();
    let end = log.last().map_or(0, |last| last.index + 1);
    let mut next = fork + 1;
    while next < end {
        let upto = end.min(next + STEP);
        for entry in log.entries(next, upto, usize::MAX)? {
            describe(&entry, &mut writes);
        }
        next = upto;
    }
    let count = writes.len();
    let what = "Writes that this node acknowledged as a voter while the cluster went on without it. \
                They are in effect nowhere; write again what is still wanted.";
    let cut_up_to = purged.filter(|purged| *purged > fork);
    let late = LateWrites { what, epoch_before: epoch, epoch_now, after_index: fork, cut_up_to, writes };
    let text = serde_json::to_vec_pretty(&late).map_err(|error| StoreError::Failed(error.to_string()))?;
    let save = || -> std::io::Result<()> {
        let file = disk.open(&late_file(epoch))?;
        file.set_len(0)?;
        file.write_at(0, &text)?;
        file.sync()
    };
    save().map_err(|error| Failure::Disk(error.to_string()))?;
    Ok(count)
}

fn describe(entry: &Entry, writes: &mut Vec<LateWrite>) {
    let EntryPayload::Normal(Batch { writes: batch, .. }) = &entry.payload else { return };
    let index = entry.log_id.index;
    let plain = |key: String, what| LateWrite { index, key, what, value: None, conditional: false };
    for write in batch {
        match &write.command {
            Command::Grant(ttl) => writes.push(plain(format!("a lease of {ttl:?}"), "grant")),
            Command::Revoke(lease) => writes.push(plain(format!("lease {}", lease.0), "revoke")),
            Command::Commit(txn) => {
                let conditional = !txn.when.is_empty();
                for op in txn.then.iter().chain(&txn.otherwise) {
                    writes.push(LateWrite { conditional, ..of_op(index, op) });
                }
            }
        }
    }
}

fn of_op(index: u64, op: &Op) -> LateWrite {
    let (what, value) = match op {
        Op::Put { at, value, .. } => ("put", Some(shown(at, value))),
        Op::Delete { .. } => ("delete", None),
    };
    LateWrite { index, key: op.key().to_string(), what, value, conditional: false }
}

fn shown(at: &Key, value: &[u8]) -> String {
    if at.table == secrets::TABLE {
        return "(a secret)".into();
    }
    match std::str::from_utf8(value) {
        Ok(text) => text.into(),
        Err(_) => value.iter().fold(String::from("0x"), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }),
    }
}
