//! `tutti store …`, but for its locks.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tutti_admin::Client;
use tutti_admin::client::Freshness;
use tutti_admin::user_store::{
    Condition, Encoding, PutCall, StoreAction, StoreEntry, StorePage, TxnAnswer, TxnCall,
};

use super::lock;
use super::print::{Out, table};
use crate::cli::StoreCommand;

/// How long one call waits for changes; the server may answer earlier.
const WAIT: Duration = Duration::from_secs(20);

/// Reads or writes the users' keys.
pub(crate) async fn run(client: &Client, command: StoreCommand, out: &Out) -> anyhow::Result<()> {
    match command {
        StoreCommand::Get { key, prefix, linearizable } => {
            let freshness = if linearizable { Freshness::Linearizable } else { Freshness::Local };
            if prefix {
                list(client, &key, freshness, out).await
            } else {
                get(client, &key, freshness, out).await
            }
        }
        StoreCommand::Put { key, value, if_revision, if_absent } => {
            let (value, encoding) = value_of(&value)?;
            let call = PutCall { key, value, encoding, lease: None, if_revision, if_absent };
            let answer = client.store_put(&call).await?;
            out.say(&answer, |answer| format!("revision {}", answer.revision.unwrap_or(0)))
        }
        StoreCommand::Rm { key } => remove(client, key, out).await,
        StoreCommand::Txn { file } => txn(client, &file, out).await,
        StoreCommand::Watch { prefix, after } => watch(client, &prefix, after, out).await,
        StoreCommand::Lock(args) => lock::run(client, args).await,
    }
}

fn value_of(given: &str) -> anyhow::Result<(String, Encoding)> {
    if given != "-" {
        return Ok((given.to_owned(), Encoding::Text));
    }
    let mut value = Vec::new();
    std::io::stdin().lock().read_to_end(&mut value).context("standard input could not be read")?;
    Ok(Encoding::write(&value))
}

async fn get(client: &Client, key: &str, freshness: Freshness, out: &Out) -> anyhow::Result<()> {
    let page = client.store_get(key, freshness).await?;
    let entry = page.entries.first().context("the server named no value")?;
    if out.is_json() {
        return out.say(entry, |_| String::new());
    }
    let bytes = entry.encoding.read(&entry.value).map_err(|text| anyhow!(text))?;
    let mut stdout = std::io::stdout();
    stdout.write_all(&bytes)?;
    if !bytes.ends_with(b"\n") {
        writeln!(stdout)?;
    }
    Ok(())
}

async fn list(client: &Client, prefix: &str, freshness: Freshness, out: &Out) -> anyhow::Result<()> {
    let mut all = client.store_list(prefix, None, freshness).await?;
    while all.more {
        let last = all.entries.last().map(|entry| entry.key.clone());
        let page = client.store_list(prefix, last.as_deref(), Freshness::Local).await?;
        all.more = page.more && !page.entries.is_empty();
        all.entries.extend(page.entries);
    }
    out.say(&all, listed)
}

fn listed(page: &StorePage) -> String {
    if page.entries.is_empty() {
        return format!("no keys (revision {})", page.revision);
    }
    let row = |entry: &StoreEntry| {
        let value = match entry.encoding {
            Encoding::Text => entry.value.escape_debug().to_string(),
            Encoding::Base64 => format!("base64:{}", entry.value),
        };
        let lease = entry.lease.map(|lease| lease.to_string()).unwrap_or_default();
        vec![entry.key.clone(), entry.modified.to_string(), lease, value]
    };
    let head = ["key", "revision", "lease", "value"].map(Into::into).to_vec();
    table(&[head].into_iter().chain(page.entries.iter().map(row)).collect::<Vec<_>>())
}

async fn remove(client: &Client, key: String, out: &Out) -> anyhow::Result<()> {
    let when = vec![Condition::Exists { key: key.clone() }];
    let call = TxnCall { when, then: vec![StoreAction::Delete { key: key.clone() }], otherwise: vec![] };
    let answer = client.store_txn(&call).await?;
    if !answer.done {
        bail!("there is no key `{key}`");
    }
    out.say(&answer, |answer| format!("revision {}", answer.revision.unwrap_or(0)))
}

async fn txn(client: &Client, file: &Path, out: &Out) -> anyhow::Result<()> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).context("standard input could not be read")?;
        text
    } else {
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
    };
    let call: TxnCall = serde_json::from_str(&text).with_context(|| {
        format!(
            "{} is no transaction; it has `when`, `then` and `otherwise`, see docs/cluster.md",
            file.display()
        )
    })?;
    let answer = client.store_txn(&call).await?;
    out.say(&answer, outcome)?;
    match answer.failed {
        Some(at) => bail!("condition {at} of `when` did not hold"),
        None => Ok(()),
    }
}

fn outcome(answer: &TxnAnswer) -> String {
    match (answer.done, answer.revision) {
        (true, Some(revision)) => format!("done: `then`, revision {revision}"),
        (true, None) => "done: `then`".into(),
        (false, Some(revision)) => format!("done: `otherwise`, revision {revision}"),
        (false, None) => "nothing was written".into(),
    }
}

async fn watch(client: &Client, prefix: &str, mut after: Option<u64>, out: &Out) -> anyhow::Result<()> {
    loop {
        let page = client.store_watch(prefix, after, WAIT).await?;
        for change in &page.changes {
            out.json_line(change)?;
        }
        if page.behind {
            out.json_line(&serde_json::json!({ "behind": true, "next": page.next }))?;
        }
        after = Some(page.next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_would_break_a_table_are_escaped() {
        let entry =
            StoreEntry { key: "k".into(), value: "a\nb".into(), modified: 7, ..StoreEntry::default() };
        let text = listed(&StorePage { entries: vec![entry], ..StorePage::default() });
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("a\\nb"), "{text}");
    }

    #[test]
    fn an_outcome_says_which_branch_was_done() {
        let answer = |done, revision| TxnAnswer { done, revision, ..TxnAnswer::default() };
        assert!(outcome(&answer(true, Some(3))).contains("`then`, revision 3"));
        assert!(outcome(&answer(false, Some(3))).contains("`otherwise`"));
        assert!(outcome(&answer(false, None)).contains("nothing"));
    }
}
