//! The users' part of the replicated store: a table of their own, under a quota. Touches no other table.

mod calls;
mod quota;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Semaphore;
use tutti_base::{Kind, Problem, envelope};
use tutti_store::{
    Change, Check, Commit, Entry, Key, LeaseId, Op, Page, Revision, Scan, Store, Txn, WatchError,
};

use tutti_telemetry::{Counter, Gauge, Metrics};

pub use calls::{
    Condition, Encoding, GrantCall, LeaseAnswer, PutCall, StoreAction, StoreChange, StoreEntry, StorePage,
    TxnAnswer, TxnCall, WatchPage,
};
pub(crate) use quota::Usage;
use quota::{Growth, holds, observed};

/// The table of the users' keys.
pub(crate) const TABLE: &str = "user";
/// The table of what is kept about them: the usage, and a mark for each lease.
const META: &str = "user-meta";
/// The most keys of the users.
pub const USER_KEYS_MAX: u64 = 10_000;
/// The most bytes of the users' keys and values together.
pub const USER_BYTES_MAX: u64 = 16 << 20;
/// The most leases of the users alive at once.
pub const USER_LEASES_MAX: usize = 512;
/// How often a write is tried again when others wrote meanwhile.
pub(crate) const TRIES_MAX: usize = 16;
/// The most changes of one answer of a watch, but for the rest of a transaction.
pub(crate) const CHANGES_MAX: usize = 256;
/// How long this node's state may take to show what the leader knew already.
const CATCH_UP: Duration = Duration::from_millis(500);
/// Pages that a count may take before it is given up.
const COUNT_PAGES_MAX: usize = 64;

/// The users' keys in `store`.
pub(crate) struct UserStore {
    store: Arc<dyn Store>,
    /// One write at a time from this node, so that its own writers do not make each other try again.
    turn: Semaphore,
    again: Counter,
    keys: Gauge,
    bytes: Gauge,
}

/// What a transaction met.
struct Seen {
    /// What reads showed at least.
    revision: Revision,
    /// The condition that nobody has written since.
    unchanged: Check,
    usage: Usage,
    entries: Vec<(Key, Option<Entry>)>,
}

impl Seen {
    fn entry(&self, key: &Key) -> Option<&Entry> {
        self.entries.iter().find(|(known, _)| known == key).and_then(|(_, entry)| entry.as_ref())
    }
}

impl UserStore {
    /// Registers its metrics; call once.
    pub(crate) fn new(store: Arc<dyn Store>, metrics: &Metrics) -> Self {
        Self {
            store,
            turn: Semaphore::new(1),
            again: metrics.counter("admin_user_again", "Writes of users tried again because others wrote"),
            keys: metrics.gauge("admin_user_keys", "Keys of users, as this node's writes last found them"),
            bytes: metrics.gauge("admin_user_bytes", "Bytes of users, as this node's writes last found them"),
        }
    }

    /// One value, as reads here show it.
    pub(crate) async fn get(&self, key: &str) -> Result<StorePage, Problem> {
        let at = key_of(key)?;
        let (store, revision) = (self.store.clone(), self.store.revision());
        let entry = blocking(move || store.get(&at)).await?;
        let entry = entry.ok_or_else(|| Problem::new(Kind::NotFound, format!("there is no key `{key}`")))?;
        let entries = vec![StoreEntry::of(key.as_bytes(), &entry)];
        Ok(StorePage { revision: revision.0, entries, more: false })
    }

    /// A page of the keys that begin with `prefix`, after `after`.
    pub(crate) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<StorePage, Problem> {
        let after = after.map(|after| after.as_bytes().to_vec());
        let scan = Scan { after, limit, ..Scan::prefix(TABLE, prefix) };
        let page = self.page(scan).await?;
        let entries = page.entries.iter().map(|(key, entry)| StoreEntry::of(key, entry)).collect();
        Ok(StorePage { revision: page.revision.0, entries, more: page.more })
    }

    async fn page(&self, scan: Scan) -> Result<Page, Problem> {
        let store = self.store.clone();
        blocking(move || store.range(&scan)).await
    }

    /// Applies a transaction within the quota. Not cancel-safe: a dropped future leaves open whether it is applied.
    pub(crate) async fn commit(&self, wanted: Txn) -> Result<TxnAnswer, Problem> {
        let _turn = self
            .turn
            .acquire()
            .await
            .map_err(|error| Problem::new(Kind::Internal, "closed").because(error))?;
        for _ in 0..TRIES_MAX {
            let seen = self.see(&wanted).await?;
            if let Some(stranger) = self.stranger(&wanted)? {
                if self.catch_up(seen.revision).await {
                    continue;
                }
                return Err(stranger);
            }
            let failed = wanted.when.iter().position(|check| !holds(check, seen.entry(check.key())));
            let ops = if failed.is_none() { &wanted.then } else { &wanted.otherwise };
            let growth = Growth::of(ops, |key| seen.entry(key));
            let mut after = growth.on(seen.usage);
            if after.is_over() && growth.grows() {
                // Keys that went with their leases are still counted.
                after = growth.on(self.count().await?);
                after.check()?;
            }
            match self.store.commit(attempt(&wanted, &seen, failed, after)).await? {
                Commit::Done(revision) => {
                    self.keys.set(after.keys as i64);
                    self.bytes.set(after.bytes as i64);
                    return Ok(answer(&wanted, &seen, failed, revision));
                }
                Commit::Failed { .. } => {
                    self.again.inc();
                    self.catch_up(seen.revision).await;
                }
            }
        }
        let text = format!("others wrote at the same time, {TRIES_MAX} times; try again in a moment");
        Err(Problem::new(Kind::Overloaded, text).retry_after(Duration::from_secs(1)))
    }

    /// The state that `wanted` is about. The usage is read first: whatever is written later changes it.
    async fn see(&self, wanted: &Txn) -> Result<Seen, Problem> {
        let keys: Vec<Key> =
            wanted.when.iter().map(Check::key).chain(ops(wanted).map(Op::key)).cloned().collect();
        let store = self.store.clone();
        let read = move || {
            let revision = store.revision();
            let at = usage_key();
            let entry = store.get(&at)?;
            let entries = keys.into_iter().map(|key| store.get(&key).map(|entry| (key, entry)));
            let entries = entries.collect::<Result<Vec<_>, _>>()?;
            Ok((revision, observed(&at, entry.as_ref()), entry, entries))
        };
        let (revision, unchanged, entry, entries) = blocking(read).await?;
        let usage = match entry {
            Some(entry) => envelope::open(&entry.value).map_err(|error| {
                Problem::new(Kind::Internal, "the users' usage is damaged").because(error)
            })?,
            None => Usage::default(),
        };
        Ok(Seen { revision, unchanged, usage, entries })
    }

    /// A lease in `wanted` that is not a user's.
    fn stranger(&self, wanted: &Txn) -> Result<Option<Problem>, Problem> {
        for op in ops(wanted) {
            if let Op::Put { lease: Some(lease), .. } = op
                && self.store.get(&mark(*lease))?.is_none()
            {
                return Ok(Some(no_lease(*lease)));
            }
        }
        Ok(None)
    }

    /// What the users have now, counted.
    async fn count(&self) -> Result<Usage, Problem> {
        let mut usage = Usage::default();
        let mut scan = Scan::prefix(TABLE, b"");
        for _ in 0..COUNT_PAGES_MAX {
            let page = self.page(scan.clone()).await?;
            for (key, entry) in &page.entries {
                usage.add(key.len() + entry.value.len());
            }
            match (page.more, page.entries.into_iter().last()) {
                (true, Some((last, _))) => scan.after = Some(last),
                _ => return Ok(usage),
            }
        }
        Err(Problem::new(Kind::Internal, format!("the users' keys do not end after {COUNT_PAGES_MAX} pages")))
    }

    /// Waits until reads here show something after `seen`; whether they do.
    async fn catch_up(&self, seen: Revision) -> bool {
        if self.store.revision() > seen {
            return true;
        }
        let Ok(mut watch) = self.store.watch(META, b"", seen) else { return false };
        matches!(
            tokio::time::timeout(CATCH_UP, watch.next()).await,
            Ok(Ok(_) | Err(WatchError::Behind { .. }))
        )
    }

    /// Changes after `after` of keys that begin with `prefix`; waits for the first as long as `wait` says.
    pub(crate) async fn watch(
        &self,
        prefix: &str,
        after: Option<u64>,
        wait: impl Future<Output = ()>,
    ) -> Result<WatchPage, Problem> {
        let now = self.store.revision();
        let after = after.map_or(now, Revision);
        let mut watch = self.store.watch(TABLE, prefix.as_bytes(), after)?;
        let first = tokio::select! {
            biased;
            first = watch.next() => first,
            () = wait => return Ok(WatchPage { next: after.max(now).0, ..WatchPage::default() }),
        };
        let mut page = WatchPage { next: after.0, ..WatchPage::default() };
        let mut next = Some(first);
        while let Some(change) = next {
            match change {
                Ok(change) if page.changes.len() >= CHANGES_MAX && change.revision.0 > page.next => break,
                Ok(Change { at, revision, entry }) => {
                    page.next = revision.0;
                    page.changes.push(StoreChange::of(&at.key, revision, entry.as_ref()));
                }
                Err(WatchError::Behind { resumed_after }) => {
                    (page.behind, page.next) = (true, resumed_after.0);
                    break;
                }
                Err(error) => return Err(Problem::new(Kind::Unavailable, error.to_string())),
            }
            next = watch.next().now_or_never();
        }
        Ok(page)
    }

    /// Grants a lease for the users' keys.
    pub(crate) async fn grant(&self, ttl: Duration) -> Result<LeaseAnswer, Problem> {
        let scan = Scan { limit: USER_LEASES_MAX, ..Scan::prefix(META, b"lease/") };
        if self.page(scan).await?.entries.len() >= USER_LEASES_MAX {
            let text =
                format!("there are {USER_LEASES_MAX} leases already; wait for some to end, or revoke some");
            return Err(Problem::new(Kind::Overloaded, text).retry_after(ttl.min(Duration::from_secs(60))));
        }
        let lease = self.store.grant(ttl).await?;
        let op = Op::Put { at: mark(lease.id), value: Default::default(), lease: Some(lease.id) };
        if let Err(error) = self.store.commit(Txn::of([op])).await {
            // Nobody would keep it alive.
            let _ = self.store.revoke(lease.id).await;
            return Err(error.into());
        }
        Ok(LeaseAnswer { lease: lease.id.0, ttl_ms: lease.ttl.as_millis() as u64 })
    }

    /// Lets a user's lease live for its whole time again.
    pub(crate) async fn keep_alive(&self, lease: LeaseId) -> Result<(), Problem> {
        self.check_lease(lease).await?;
        Ok(self.store.keep_alive(lease).await?)
    }

    /// Ends a user's lease.
    pub(crate) async fn revoke(&self, lease: LeaseId) -> Result<(), Problem> {
        self.check_lease(lease).await?;
        Ok(self.store.revoke(lease).await?)
    }

    async fn check_lease(&self, lease: LeaseId) -> Result<(), Problem> {
        let seen = self.store.revision();
        let there = || Ok::<_, Problem>(self.store.get(&mark(lease))?.is_some());
        if there()? || (self.catch_up(seen).await && there()?) {
            return Ok(());
        }
        Err(no_lease(lease))
    }
}

fn no_lease(lease: LeaseId) -> Problem {
    Problem::new(
        Kind::Conflict,
        format!("lease {} is not alive, or is not one of the users' leases", lease.0),
    )
}

fn ops(txn: &Txn) -> impl Iterator<Item = &Op> {
    txn.then.iter().chain(&txn.otherwise)
}

/// The key of the users' table that `key` names.
pub(crate) fn key_of(key: &str) -> Result<Key, Problem> {
    if key.is_empty() {
        return Err(Problem::new(Kind::BadRequest, "the key is empty").about("key"));
    }
    Ok(Key::new(TABLE, key))
}

fn usage_key() -> Key {
    Key::new(META, "usage")
}

fn mark(lease: LeaseId) -> Key {
    Key::new(META, format!("lease/{:016x}", lease.0))
}

/// The transaction that does one branch of `wanted`, if nothing has changed since it was chosen.
fn attempt(wanted: &Txn, seen: &Seen, failed: Option<usize>, after: Usage) -> Txn {
    let mut txn = Txn::default().when(seen.unchanged.clone());
    let ops = match failed.map(|at| wanted.when[at].key()) {
        None => {
            txn.when.extend(wanted.when.iter().cloned());
            &wanted.then
        }
        Some(key) => {
            txn.when.push(observed(key, seen.entry(key)));
            &wanted.otherwise
        }
    };
    txn.then.extend(ops.iter().cloned());
    if !ops.is_empty() {
        txn.then.push(Op::put(usage_key(), envelope::seal(&after)));
    }
    txn
}

fn answer(wanted: &Txn, seen: &Seen, failed: Option<usize>, revision: Revision) -> TxnAnswer {
    let Some(at) = failed else {
        return TxnAnswer { done: true, revision: Some(revision.0), ..TxnAnswer::default() };
    };
    let found = seen.entry(wanted.when[at].key()).map(|entry| entry.modified.0);
    let revision = (!wanted.otherwise.is_empty()).then_some(revision.0);
    TxnAnswer { done: false, revision, failed: Some(at), found }
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, tutti_store::StoreError> + Send + 'static,
) -> Result<T, Problem> {
    let read = tokio::task::spawn_blocking(read).await;
    let read =
        read.map_err(|error| Problem::new(Kind::Internal, "the store could not be read").because(error))?;
    Ok(read?)
}

#[cfg(test)]
mod tests {
    use tutti_base::BoxFuture;
    use tutti_store::simulated::{ManualClock, SimDisk};
    use tutti_store::{Config, Lease, RedbStore, StoreError, Watch};

    use super::*;

    /// A store where somebody else is always faster.
    struct Contended(Arc<RedbStore>);

    impl Store for Contended {
        fn get(&self, at: &Key) -> Result<Option<Entry>, StoreError> {
            self.0.get(at)
        }
        fn range(&self, scan: &Scan) -> Result<Page, StoreError> {
            self.0.range(scan)
        }
        fn commit(&self, _txn: Txn) -> BoxFuture<'_, Result<Commit, StoreError>> {
            Box::pin(async { Ok(Commit::Failed { check: 0, found: None, otherwise: None }) })
        }
        fn watch(&self, table: &str, prefix: &[u8], after: Revision) -> Result<Box<dyn Watch>, StoreError> {
            self.0.watch(table, prefix, after)
        }
        fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease, StoreError>> {
            self.0.grant(ttl)
        }
        fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
            self.0.keep_alive(lease)
        }
        fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
            self.0.revoke(lease)
        }
        fn revision(&self) -> Revision {
            self.0.revision()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_always_meets_others_is_given_up() {
        let (metrics, clock) = (Metrics::default(), Arc::new(ManualClock::default()));
        let store = RedbStore::open(&SimDisk::default(), clock, &metrics, &Config::default()).unwrap();
        let users = UserStore::new(Arc::new(Contended(store)), &metrics);
        let problem = users.commit(Txn::of([Op::put(key_of("k").unwrap(), "v")])).await.unwrap_err();
        assert_eq!(problem.kind, Kind::Overloaded);
        assert!(metrics.text().contains(&format!("tutti_admin_user_again_total {TRIES_MAX}")));
    }
}
