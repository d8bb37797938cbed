//! `tutti assets …`.

use std::path::Path;

use anyhow::anyhow;
use tutti_admin::Client;
use tutti_admin::console::{Asset, AssetDone, AssetName, AssetPage, AssetQuery};

use super::print::{Out, bytes, table};
use super::show::time;
use crate::cli::AssetsAction;

/// Originals of one answer.
const PAGE: usize = 1000;

/// Lists, writes or removes originals.
pub(crate) async fn run(client: &Client, action: AssetsAction, out: &Out) -> anyhow::Result<()> {
    match action {
        AssetsAction::Ls { what } => list(client, &what, out).await,
        AssetsAction::Put { file, url } => put(client, &file, &url, out).await,
        AssetsAction::Rm { url } => {
            let done = client.asset_remove(&name(&url)?).await?;
            out.say(&done, removed)
        }
    }
}

fn name(url: &str) -> anyhow::Result<AssetName> {
    AssetName::parse(url).map_err(|text| anyhow!(text))
}

async fn put(client: &Client, file: &Path, url: &str, out: &Out) -> anyhow::Result<()> {
    let done = client.asset_put(&name(url)?, file).await?;
    out.say(&done, |done| {
        let nodes =
            if done.nodes.is_empty() { String::new() } else { format!(" on {}", done.nodes.join(", ")) };
        let text = if done.text.is_empty() { String::new() } else { format!("\n{}", done.text) };
        format!("{} is written: {}{nodes}{text}", done.url, bytes(done.bytes))
    })
}

fn removed(done: &AssetDone) -> String {
    if done.text.is_empty() { format!("{} is removed", done.url) } else { done.text.clone() }
}

/// All pages, one after the other, as one list.
async fn list(client: &Client, what: &str, out: &Out) -> anyhow::Result<()> {
    let (folder, prefix) = what.split_once('=').unwrap_or(("", what));
    let mut query =
        AssetQuery { folder: folder.into(), prefix: prefix.into(), after: String::new(), limit: PAGE };
    let mut all = AssetPage { folder: folder.into(), ..AssetPage::default() };
    loop {
        let page = client.assets(&query).await?;
        all.assets.extend(page.assets);
        all.absent.extend(page.absent);
        match all.assets.last() {
            Some(last) if page.more && last.path > query.after => query.after = last.path.clone(),
            _ => break,
        }
    }
    all.absent.sort();
    all.absent.dedup();
    out.say(&all, listed)
}

fn listed(page: &AssetPage) -> String {
    let mut lines = Vec::new();
    if page.assets.is_empty() {
        lines.push("no originals".to_owned());
    } else {
        let head = ["original", "size", "written", "nodes", ""].map(Into::into).to_vec();
        let row = |asset: &Asset| {
            vec![
                format!("local://{}/{}", page.folder, asset.path),
                bytes(asset.bytes),
                time(asset.modified),
                asset.nodes.join(","),
                if asset.conflict { "CONFLICT: nodes differ, the newest counts" } else { "" }.to_owned(),
            ]
        };
        lines.push(table(&[head].into_iter().chain(page.assets.iter().map(row)).collect::<Vec<_>>()));
    }
    if !page.absent.is_empty() {
        lines.push(format!("not asked: {}; what only they hold is missing here", page.absent.join(", ")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_marks_conflicts_and_names_who_was_not_asked() {
        let asset = |path: &str, conflict| Asset { path: path.into(), conflict, ..Asset::default() };
        let page = AssetPage {
            folder: "photos".into(),
            assets: vec![asset("a.jpg", false), asset("b.jpg", true)],
            absent: vec!["two".into()],
            ..AssetPage::default()
        };
        let text = listed(&page);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("local://photos/a.jpg") && !lines[1].contains("CONFLICT"), "{text}");
        assert!(lines[2].contains("CONFLICT") && lines[3].contains("two"), "{text}");
    }
}
