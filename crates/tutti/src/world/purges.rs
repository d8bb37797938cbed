//! The purge log in the store: one key a purge, one a deleted file, and how far all are known; each change in one
//! transaction. Decides nothing.

use std::sync::Arc;

use tutti_base::{BoxFuture, Kind, Problem, SourceKey, envelope};
use tutti_flow::purge::{KnownPurges, Reading, Vector};
use tutti_flow::{Purge, PurgeKeeper, Stored, Write};
use tutti_store::{Key, Op, Scan, Store, StoreError, Txn};

const TABLE: &str = "purges";
/// By the file's key, the purge that deleted it last.
const DELETIONS: &str = "purge-deletions";
/// Under [`VECTOR`], how far the purges of everyone are known.
const STATE: &str = "purge-state";
const VECTOR: &str = "vector";

/// Keeps the log in the store.
pub(crate) struct StoredPurges(pub Arc<dyn Store>);

impl PurgeKeeper for StoredPurges {
    fn load(&self) -> Stored {
        self.read().unwrap_or_else(|error| {
            tracing::error!(%error, "the purge log cannot be read: everything kept counts as purged");
            Stored { reading: Reading::Lost, ..Stored::default() }
        })
    }

    fn write<'a>(&'a self, write: &'a Write) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move {
            let kept = self.0.commit(Txn::of(ops(write))).await.map(|_| ());
            kept.map_err(|error| Problem::new(Kind::Internal, "the purge could not be kept").because(error))
        })
    }
}

impl StoredPurges {
    fn read(&self) -> Result<Stored, StoreError> {
        let mut stored = Stored::default();
        for (key, value) in self.all_of(TABLE)? {
            match (envelope::open(&value), <[u8; 8]>::try_from(key)) {
                (Ok(purge), _) => stored.purges.push(purge),
                (Err(error), Ok(place)) => {
                    let place = u64::from_be_bytes(place);
                    tracing::error!(%error, place, "a purge cannot be read: everything kept counts as purged");
                    stored.damaged.push(place);
                }
                (Err(_), Err(_)) => stored.reading = Reading::Lost,
            }
        }
        for (_, value) in self.all_of(DELETIONS)? {
            match envelope::open::<Purge>(&value) {
                Ok(deletion) => stored.deletions.push(deletion),
                Err(error) => {
                    tracing::error!(%error, "the deletion of a file cannot be read: it may come back")
                }
            }
        }
        stored.vector = match self.0.get(&vector_key())? {
            None => None,
            Some(entry) => match envelope::open::<KnownPurges>(&entry.value) {
                Ok(KnownPurges(vector)) => Some(vector),
                Err(error) => {
                    tracing::error!(%error, "which purges are known cannot be read: everything kept counts as purged");
                    stored.reading = Reading::Lost;
                    None
                }
            },
        };
        Ok(stored)
    }

    /// Everything of a table, in the order of the keys.
    fn all_of(&self, table: &str) -> Result<Vec<(Vec<u8>, bytes::Bytes)>, StoreError> {
        let (mut all, mut scan) = (Vec::new(), Scan::prefix(table, b""));
        loop {
            let page = self.0.range(&scan)?;
            scan.after = page.entries.last().map(|(key, _)| key.clone());
            all.extend(page.entries.into_iter().map(|(key, entry)| (key, entry.value)));
            if !page.more {
                return Ok(all);
            }
        }
    }
}

fn ops(write: &Write) -> Vec<Op> {
    let purge = |purge: &Purge| Op::put(Key::new(TABLE, purge.sequence.to_be_bytes()), envelope::seal(purge));
    let forgotten = |place: &u64| Op::delete(Key::new(TABLE, place.to_be_bytes()));
    let deletion = |(source, purge): &(SourceKey, Option<Purge>)| {
        let key = Key::new(DELETIONS, source.as_bytes());
        match purge {
            Some(purge) => Op::put(key, envelope::seal(purge)),
            None => Op::delete(key),
        }
    };
    let purges = write.purges.iter().map(purge).chain(write.forgotten.iter().map(forgotten));
    let vector = [known(&write.vector)];
    purges.chain(write.deletions.iter().map(deletion)).chain(vector).collect()
}

fn known(vector: &Vector) -> Op {
    Op::put(vector_key(), envelope::seal(&KnownPurges(vector.clone())))
}

fn vector_key() -> Key {
    Key::new(STATE, VECTOR)
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;
    use tutti_base::{NodeId, Wall};
    use tutti_flow::{PurgeLog, What};
    use tutti_store::RedbStore;
    use tutti_store::simulated::{ManualClock, SimDisk};
    use tutti_telemetry::Metrics;

    use super::*;
    use crate::world::OnRuntime;

    fn open(store: &Arc<RedbStore>) -> PurgeLog {
        let keeper = Arc::new(StoredPurges(Arc::<RedbStore>::clone(store)));
        let spawn = Arc::new(OnRuntime(Handle::current()));
        PurgeLog::load(keeper, spawn, NodeId(1), Wall(1_790_000_000_000), &Metrics::default())
    }

    fn gone(path: &str) -> What {
        let source = SourceKey::of(&[path.as_bytes()]);
        What::Deleted { source, folder: String::new(), path: path.into(), at: Wall(7) }
    }

    #[tokio::test]
    async fn the_log_is_read_as_it_was_written_and_damage_counts_as_everything() {
        let clock = Arc::new(ManualClock::default());
        let store = RedbStore::open(&SimDisk::default(), clock, &Metrics::default(), &Default::default());
        let store = store.expect("a store");
        let log = open(&store);
        let purges = (0..100).map(|n| log.purge(gone(&n.to_string())));
        let done = futures_util::future::join_all(purges).await;
        assert!(done.iter().all(Result::is_ok));
        let after = open(&store);
        assert_eq!((after.newest(), after.own()), (100, 100));
        assert!(
            (0..100)
                .all(|n: u32| after.deleted(&SourceKey::of(&[n.to_string().as_bytes()])) == Some(Wall(7)))
        );
        let damaged = Op::put(Key::new(TABLE, 50u64.to_be_bytes()), "not a purge");
        store.commit(Txn::of([damaged])).await.expect("kept");
        let after = open(&store);
        assert!(after.check(100, &[], None).is_err());
        let next = after.purge(What::All).await.expect("kept");
        assert_eq!(next.number, 1_790_000_001, "further than a purge a second could have come");
        let again = open(&store);
        assert_eq!((again.newest(), again.own()), (next.sequence, next.number), "the damage was let go");
    }
}
