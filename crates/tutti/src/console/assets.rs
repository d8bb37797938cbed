//! Originals as administrators list, write and remove them: the journey's own answers in the words of the API.

use tutti_admin::console::{Asset, AssetDone, AssetName, AssetPage, AssetQuery};
use tutti_base::{Body, Problem};
use tutti_fetch::ShelfQuery;
use tutti_flow::Assets;
use tutti_flow::assets::{Held, Removal, Written};

/// A page of originals.
pub(super) async fn list(assets: &Assets, query: AssetQuery) -> Result<AssetPage, Problem> {
    let AssetQuery { folder, prefix, after, limit } = query;
    let page = assets.list(ShelfQuery { folder: folder.clone(), prefix, after, limit }).await?;
    let asset = |held: Held| Asset {
        path: held.path,
        bytes: held.bytes,
        modified: held.modified,
        nodes: held.nodes,
        conflict: held.conflict,
    };
    let assets = page.files.into_iter().map(asset).collect();
    Ok(AssetPage { folder, assets, more: page.more, absent: page.absent })
}

/// Writes an original.
pub(super) async fn put(assets: &Assets, name: AssetName, body: Body) -> Result<AssetDone, Problem> {
    let written = assets.put(&name.folder, &name.path, body).await?;
    let text = what_was_written(&written);
    Ok(AssetDone { url: name.to_string(), bytes: written.bytes, nodes: vec![written.node], text })
}

/// Removes an original everywhere.
pub(super) async fn remove(assets: &Assets, name: AssetName) -> Result<AssetDone, Problem> {
    let removal = assets.remove(&name.folder, &name.path).await?;
    let text = what_was_removed(&name.to_string(), &removal);
    Ok(AssetDone { url: name.to_string(), bytes: 0, nodes: removal.nodes, text })
}

fn what_was_written(written: &Written) -> String {
    match written.not_reached.as_slice() {
        [] => String::new(),
        nodes => format!("not reached: {}; an older one may be served there until then", nodes.join(", ")),
    }
}

fn what_was_removed(url: &str, removal: &Removal) -> String {
    let mut text = format!("{url} is removed");
    if !removal.nodes.is_empty() {
        text.push_str(&format!(" on {}", removal.nodes.join(", ")));
    }
    for (node, why) in &removal.hidden {
        text.push_str(&format!("; on {node} it is hidden and its file could not be removed: {why}"));
    }
    if !removal.not_reached.is_empty() {
        let nodes = removal.not_reached.join(", ");
        text.push_str(&format!("; not reached: {nodes}; what they have is removed when they are back"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_names_where_it_is_done_and_where_it_is_not() {
        let one = |name: &str| vec![name.to_owned()];
        let mut removal = Removal { nodes: one("one"), hidden: Vec::new(), not_reached: Vec::new() };
        assert_eq!(what_was_removed("local:///a", &removal), "local:///a is removed on one");
        removal.hidden = vec![("two".into(), "the disk is read-only".into())];
        removal.not_reached = one("three");
        let text = what_was_removed("local:///a", &removal);
        assert!(text.contains("on two it is hidden") && text.contains("read-only"), "{text}");
        assert!(text.contains("not reached: three"), "{text}");
    }
}
