//! `tutti nodes`, `tutti node …` and `tutti promote`.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, bail};
use tutti_admin::Client;
use tutti_admin::console::{NodeAction, NodeDone, PromoteCall};

use super::print::Out;
use super::status;
use crate::cli::{NodeCommand, PromoteArgs};

/// Lists the nodes.
pub(crate) async fn list(client: &Client, out: &Out) -> anyhow::Result<()> {
    let nodes = client.status().await?.nodes;
    out.say(&nodes, |nodes| status::nodes(nodes))
}

/// Tells a node what to do.
pub(crate) async fn run(client: &Client, command: NodeCommand, out: &Out) -> anyhow::Result<()> {
    let (name, action) = match command {
        NodeCommand::Drain { name, why } => (name, NodeAction::Drain { why }),
        NodeCommand::Resume { name } => (name, NodeAction::Resume {}),
        NodeCommand::Remove { name, force } => (name, NodeAction::Remove { force }),
        NodeCommand::Roles { name, roles } => (name, NodeAction::Roles { roles }),
    };
    let done = client.node(&name, &action).await?;
    out.say(&done, text)
}

fn text(done: &NodeDone) -> String {
    let mut text = done.text.clone();
    if !done.rotate.is_empty() {
        text.push_str("\nIt could read these secrets; make new ones:");
        for name in &done.rotate {
            text.push_str(&format!("\n  tutti secret set {name}"));
        }
    }
    text
}

/// Makes a node the one voter, once its name was typed again.
pub(crate) async fn promote(client: &Client, args: PromoteArgs, out: &Out) -> anyhow::Result<()> {
    let PromoteArgs { name, confirm } = args;
    let confirm = match confirm {
        Some(confirm) => confirm,
        None => ask(&name)?,
    };
    if confirm != name {
        bail!("`{confirm}` is not `{name}`: nothing was done");
    }
    let promoted = client.promote(&PromoteCall { name, confirm }).await?;
    out.say(&promoted, |promoted| format!("{} (epoch {})", promoted.text, promoted.epoch))
}

fn ask(name: &str) -> anyhow::Result<String> {
    if !std::io::stdin().is_terminal() {
        bail!("promotion wants the name once more: add `--confirm {name}`");
    }
    eprint!(
        "`{name}` becomes the one voter under a new epoch. Do this only if the old voter is lost: what it wrote and \
         did not send is kept in a file and not merged.\nType the name of the node again: "
    );
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("the answer could not be read")?;
    Ok(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_node_leaves_a_list_of_what_to_rotate() {
        let done =
            NodeDone { text: "two is removed".into(), rotate: vec!["img.key".into()], ..NodeDone::default() };
        assert!(text(&done).ends_with("\n  tutti secret set img.key"));
        assert_eq!(text(&NodeDone { rotate: vec![], ..done }), "two is removed");
    }
}
