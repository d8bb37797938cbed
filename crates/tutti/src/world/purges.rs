//! The purge log in the store: one key a purge, the oldest taken away as new ones come.

use std::sync::Arc;

use tutti_base::{BoxFuture, Kind, Problem, envelope};
use tutti_flow::purge::LOG_LEN_MAX;
use tutti_flow::{Purge, PurgeKeeper};
use tutti_store::{Key, Op, Scan, Store, Txn};

const TABLE: &str = "purges";

/// Keeps the log in the store.
pub(crate) struct StoredPurges(pub Arc<dyn Store>);

impl PurgeKeeper for StoredPurges {
    fn load(&self) -> Vec<Purge> {
        let mut purges = Vec::new();
        let mut scan = Scan::prefix(TABLE, b"");
        loop {
            let page = match self.0.range(&scan) {
                Ok(page) => page,
                Err(error) => {
                    // Without the log nothing kept can be trusted: one purge of everything stands in for it.
                    tracing::error!(%error, "the purge log cannot be read: everything kept counts as purged");
                    return vec![Purge {
                        sequence: u64::MAX / 2,
                        origin: tutti_flow::purge::NOBODY,
                        number: 0,
                        what: tutti_flow::What::All,
                    }];
                }
            };
            purges.extend(page.entries.iter().filter_map(|(_, entry)| envelope::open(&entry.value).ok()));
            match page.entries.last() {
                Some((key, _)) if page.more => scan.after = Some(key.clone()),
                _ => return purges,
            }
        }
    }

    fn append<'a>(&'a self, purge: &'a Purge) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move {
            let key = |sequence: u64| Key::new(TABLE, sequence.to_be_bytes());
            let old = purge.sequence.checked_sub(LOG_LEN_MAX as u64).map(|old| Op::delete(key(old)));
            let ops = [Op::put(key(purge.sequence), envelope::seal(purge))].into_iter().chain(old);
            let kept = self.0.commit(Txn::of(ops)).await.map(|_| ());
            kept.map_err(|error| Problem::new(Kind::Internal, "the purge could not be kept").because(error))
        })
    }
}
