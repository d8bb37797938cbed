//! `tutti config …`.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use tutti_admin::Client;
use tutti_admin::client::{ApplyCall, CallTerms, RollbackCall, SetCall};
use tutti_store::document::{Consequence, Difference, Plan};

use super::print::{Out, table};
use super::show::time;
use crate::cli::{ChangeArgs, ConfigAction};

/// Shows or changes the document.
pub(crate) async fn run(client: &Client, action: ConfigAction, out: &Out) -> anyhow::Result<()> {
    match action {
        ConfigAction::Show => {
            let answer = client.config(None).await?;
            out.say(&answer, |answer| format!("# revision {}\n{}", answer.revision, answer.text))
        }
        ConfigAction::Get { path } => {
            let answer = client.config(Some(&path)).await?;
            out.say(&answer, |answer| answer.text.clone())
        }
        ConfigAction::Set { path, value, change } => {
            let call = SetCall { path, value, terms: terms(change) };
            out.say(&client.config_set(&call).await?, plan)
        }
        ConfigAction::Apply { file, replace, change } => {
            let call = ApplyCall { text: read(&file)?, replace, terms: terms(change) };
            out.say(&client.config_apply(&call).await?, plan)
        }
        ConfigAction::Diff { from, to } => {
            let differences = client.config_diff(from, to).await?;
            out.say(&differences, |differences| changes(differences))
        }
        ConfigAction::History => {
            let history = client.config_history().await?;
            out.say(&history, |history| {
                let head = ["revision", "when", "who", "changes", "why"].map(Into::into).to_vec();
                let rows = history.iter().map(|one| {
                    let changes = one.changes.map(|changes| changes.to_string()).unwrap_or_default();
                    vec![one.revision.to_string(), time(one.when), one.who.clone(), changes, one.why.clone()]
                });
                table(&[head].into_iter().chain(rows).collect::<Vec<_>>())
            })
        }
        ConfigAction::Rollback { revision, change } => {
            let call = RollbackCall { to: revision, terms: terms(change) };
            out.say(&client.config_rollback(&call).await?, plan)
        }
    }
}

fn terms(change: ChangeArgs) -> CallTerms {
    CallTerms {
        why: change.why,
        if_revision: change.if_revision,
        dry_run: change.dry_run,
        accept_restart: change.at_restart,
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).context("standard input could not be read")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn plan(plan: &Plan) -> String {
    let mut lines = vec![changes(&plan.changes)];
    lines.extend(plan.consequences.iter().map(|consequence| match consequence {
        Consequence::Note { text } => format!("note: {text}"),
        Consequence::Restart { path, what } => {
            format!("restart: [{path}] changes at the next start of {what}")
        }
    }));
    lines.push(match (plan.applied, plan.changes.is_empty()) {
        (true, _) => format!("done: revision {}", plan.revision),
        (false, true) => format!("nothing to change: revision {}", plan.revision),
        (false, false) => format!("not done (dry run): revision {} stays", plan.revision),
    });
    lines.retain(|line| !line.is_empty());
    lines.join("\n")
}

fn changes(differences: &[Difference]) -> String {
    let line = |difference: &Difference| match (&difference.old, &difference.new) {
        (None, Some(new)) => format!("+ {} = {new}", difference.path),
        (Some(old), None) => format!("- {} = {old}", difference.path),
        (old, new) => {
            let [old, new] = [old, new].map(|value| value.as_deref().unwrap_or("nothing"));
            format!("~ {} = {new}  (was {old})", difference.path)
        }
    };
    differences.iter().map(line).collect::<Vec<_>>().join("\n")
}
