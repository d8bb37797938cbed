//! This node's own folders, for this node's administrators and for peers: what the journey knows of a file joined with what
//! the folder says. Asks no other node.

use std::sync::Arc;

use tutti_base::{Body, Problem, Source, SourceKey, TenantId, Wall};
use tutti_fetch::{Gone, Removed, ShelfFile, ShelfQuery};

use super::MS;
use crate::Flow;
use crate::wire::{WireFile, WireShelf, WireShelved, WireStamp};

impl Flow {
    /// Does to this node's own folders what is asked, here or by a peer.
    pub(crate) async fn shelve(&self, ask: WireShelf, body: Body) -> Result<WireShelved, Problem> {
        let shelf = &self.outside.shelf;
        match ask {
            WireShelf::List { folder, prefix, after, limit } => {
                let gone = self.gone_from(&folder);
                let query = ShelfQuery { folder: folder.clone(), prefix, after, limit: limit as usize };
                let page = shelf.list(query, gone).await?;
                let files = page.files.into_iter().map(|file| self.wire_file(&folder, file));
                Ok(WireShelved::Page { files: files.collect(), more: page.more })
            }
            WireShelf::Put { folder, path, at_least } => {
                let (purges, clock) = (Arc::clone(&self.purges), Arc::clone(&self.outside.clock));
                let key = key_of(&folder, &path);
                let dated = move || {
                    let deleted = purges.deleted(&key).map_or(Wall(0), |at| Wall(at.0 + 1));
                    clock.wall().max(deleted).max(at_least)
                };
                let most = self.config.original_bytes_max;
                let file = shelf.put(&folder, &path, body, most, Box::new(dated)).await?;
                self.desk.forget_look(&key);
                Ok(WireShelved::Written(self.wire_file(&folder, file)))
            }
            WireShelf::Remove { folder, path, at } => {
                let removed = shelf.remove(&folder, &path, at).await?;
                Ok(WireShelved::Removed { stays: removed == Removed::Newer })
            }
        }
    }

    /// Which files of `folder` are deleted, and only are not removed yet: a crash came between, or they could not be. It is
    /// tried again.
    fn gone_from(&self, folder: &str) -> Gone {
        let (purges, shelf) = (Arc::clone(&self.purges), Arc::clone(&self.outside.shelf));
        let folder = folder.to_owned();
        Arc::new(move |path, modified_ns| {
            let deleted = purges.deleted(&key_of(&folder, path));
            let gone = deleted.filter(|at| modified_ns.div_euclid(MS) <= i128::from(at.0));
            if let Some(at) = gone {
                shelf.remove_older(&folder, path, at);
            }
            gone.is_some()
        })
    }

    fn wire_file(&self, folder: &str, file: ShelfFile) -> WireFile {
        let known = self.desk.known(&key_of(folder, &file.path));
        let hash = known.filter(|(stamp, _)| *stamp == file.stamp).map(|(_, hash)| hash);
        let stamp = WireStamp { modified_ns: file.stamp.modified_ns, len: file.stamp.len, hash };
        WireFile { path: file.path, stamp }
    }
}

fn key_of(folder: &str, path: &str) -> SourceKey {
    Source::Local { folder: folder.into(), path: path.into() }.key(&TenantId::default())
}
