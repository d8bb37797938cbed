//! What every implementation of [`Store`] must do, as checks that panic with a reason. Used by this package's tests and by
//! those of every other implementation.

use std::sync::Arc;
use std::time::Duration;

use crate::simulated::ManualClock;
use crate::store::{
    Change, LEASE_TTL_MAX, LEASE_TTL_MIN, LeaseId, PAGE_ENTRIES_MAX, Revision, Scan, Store, StoreError,
    Watch, WatchError,
};
use crate::txn::{Check, Commit, KEY_MAX, Key, Op, TXN_BYTES_MAX, TXN_OPS_MAX, Txn, VALUE_MAX};

/// How long a check waits for what must happen, in real time.
const PATIENCE: Duration = Duration::from_secs(60);
const TABLE: &str = "contract";

/// An empty store under test, with its hands on the clock. Leases must expire by themselves when the clock moves.
pub struct Subject {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Its clock.
    pub clock: Arc<ManualClock>,
}

/// Runs every check, each on a new store from `make`.
pub async fn check_all(make: impl Fn() -> Subject) {
    check_values_and_revisions(&make()).await;
    check_conditions(&make()).await;
    check_transactions_are_whole(&make()).await;
    check_one_of_many_wins(&make()).await;
    check_ranges(&make()).await;
    check_limits(&make()).await;
    check_watches(&make()).await;
    check_slow_watches(&make()).await;
    check_leases(&make()).await;
    check_fencing(&make()).await;
}

fn key(name: &str) -> Key {
    Key::new(TABLE, name)
}

async fn done(store: &dyn Store, txn: Txn) -> Revision {
    let commit = store.commit(txn).await.expect("a valid transaction is applied");
    commit.done().expect("its conditions hold")
}

async fn put(store: &dyn Store, name: &str, value: &str) -> Revision {
    done(store, Txn::of([Op::put(key(name), value.to_owned())])).await
}

fn value(store: &dyn Store, name: &str) -> Option<String> {
    let entry = store.get(&key(name)).expect("a value is readable")?;
    Some(String::from_utf8_lossy(&entry.value).into_owned())
}

async fn next(watch: &mut dyn Watch) -> Result<Change, WatchError> {
    tokio::time::timeout(PATIENCE, watch.next()).await.expect("a watch shows what happened")
}

/// Puts and deletes count revisions; a key keeps when it came to be; reads see what was acknowledged.
pub async fn check_values_and_revisions(subject: &Subject) {
    let store = &*subject.store;
    assert_eq!(store.revision(), Revision(0), "a new store is at revision 0");
    assert_eq!(store.get(&key("a")), Ok(None));
    let first = put(store, "a", "1").await;
    let second = put(store, "a", "2").await;
    assert_eq!((first, second, store.revision()), (Revision(1), Revision(2), Revision(2)));
    let entry = store.get(&key("a")).expect("readable").expect("there");
    assert_eq!((entry.created, entry.modified, entry.lease), (first, second, None));
    assert_eq!(&entry.value[..], b"2");
    assert_eq!(store.get(&Key::new("other", "a")), Ok(None), "tables are apart");
    let gone = done(store, Txn::of([Op::delete(key("a"))])).await;
    assert_eq!((gone, value(store, "a")), (Revision(3), None));
    let idle = done(store, Txn::of([Op::delete(key("a"))])).await;
    assert_eq!(idle, gone, "what changes nothing makes no revision");
    let again = put(store, "a", "3").await;
    let entry = store.get(&key("a")).expect("readable").expect("there");
    assert_eq!(entry.created, again, "a key that returns is a new one");
}

/// Each kind of condition holds when it should and fails when it should, naming what it found.
pub async fn check_conditions(subject: &Subject) {
    let store = &*subject.store;
    let lease = store.grant(LEASE_TTL_MAX).await.expect("a lease").id;
    let at = put(store, "a", "1").await;
    let held = Op::Put { at: key("held"), value: "h".into(), lease: Some(lease) };
    let held_at = done(store, Txn::of([held])).await;
    let cases = [
        (Check::Modified(key("a"), at), None),
        (Check::Modified(key("a"), Revision(at.0 + 1)), Some(Some(at))),
        (Check::Modified(key("b"), at), Some(None)),
        (Check::Absent(key("b")), None),
        (Check::Absent(key("a")), Some(Some(at))),
        (Check::Exists(key("a")), None),
        (Check::Exists(key("b")), Some(None)),
        (Check::Equals(key("a"), "1".into()), None),
        (Check::Equals(key("a"), "2".into()), Some(Some(at))),
        (Check::Equals(key("b"), "".into()), Some(None)),
        (Check::Held(key("held"), lease), None),
        (Check::Held(key("held"), LeaseId(lease.0 + 1)), Some(Some(held_at))),
        (Check::Held(key("a"), lease), Some(Some(at))),
    ];
    for (check, failure) in cases {
        let before = store.revision();
        let txn = Txn::of([Op::put(key("mark"), "then")])
            .when(Check::Exists(key("a")))
            .when(check.clone())
            .otherwise(Op::put(key("mark"), "otherwise"));
        let commit = store.commit(txn).await.expect("applied either way");
        let after = Revision(before.0 + 1);
        let (expected, mark) = match failure {
            None => (Commit::Done(after), "then"),
            Some(found) => (Commit::Failed { check: 1, found, otherwise: Some(after) }, "otherwise"),
        };
        assert_eq!((commit, value(store, "mark").as_deref()), (expected, Some(mark)), "{check:?}");
    }
    let before = store.revision();
    let refused = store.commit(Txn::of([Op::put(key("a"), "x")]).when(Check::Exists(key("b")))).await;
    assert_eq!(refused, Ok(Commit::Failed { check: 0, found: None, otherwise: None }));
    assert_eq!((value(store, "a").as_deref(), store.revision()), (Some("1"), before));
}

/// All operations of a transaction share one revision; one that is refused leaves nothing behind.
pub async fn check_transactions_are_whole(subject: &Subject) {
    let store = &*subject.store;
    let at = done(store, Txn::of([Op::put(key("a"), "1"), Op::put(key("b"), "1")])).await;
    for name in ["a", "b"] {
        assert_eq!(store.get(&key(name)).expect("readable").expect("there").modified, at);
    }
    let dead = LeaseId(u64::MAX);
    let broken = Txn::of([
        Op::put(key("a"), "2"),
        Op::Put { at: key("b"), value: "2".into(), lease: Some(dead) },
        Op::delete(key("b2")),
    ]);
    assert_eq!(store.commit(broken).await, Err(StoreError::NoLease(dead)));
    assert_eq!((value(store, "a"), store.revision()), (Some("1".into()), at));
    let twice = Txn::of([Op::put(key("a"), "3"), Op::delete(key("a"))]);
    assert!(matches!(store.commit(twice).await, Err(StoreError::Invalid(_))));
    assert_eq!(value(store, "a").as_deref(), Some("1"));
}

/// Of many that swap against the same revision exactly one wins, every round.
pub async fn check_one_of_many_wins(subject: &Subject) {
    let mut at = put(&*subject.store, "counter", "start").await;
    for round in 0..10 {
        let attempts = (0..16).map(|writer| {
            let txn = Txn::of([Op::put(key("counter"), format!("{round} {writer}"))])
                .when(Check::Modified(key("counter"), at));
            let store = subject.store.clone();
            async move { store.commit(txn).await.expect("applied or refused").done() }
        });
        let winners: Vec<_> = futures_util::future::join_all(attempts).await.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "round {round}");
        at = winners[0];
    }
}

/// Ranges are ordered, keep to their prefix and table, and page without gap or repetition.
pub async fn check_ranges(subject: &Subject) {
    let store = &*subject.store;
    let total = PAGE_ENTRIES_MAX + 5;
    let names: Vec<String> = (0..total).map(|index| format!("n/{index:05}")).collect();
    for some in names.chunks(TXN_OPS_MAX) {
        done(store, Txn::of(some.iter().rev().map(|name| Op::put(key(name), name.clone())))).await;
    }
    put(store, "m", "before").await;
    put(store, "n0", "after: `0` follows `/`").await;
    done(store, Txn::of([Op::put(Key::new("contract-b", "n/1"), "elsewhere")])).await;
    let page = store.range(&Scan::prefix(TABLE, "n/")).expect("readable");
    assert_eq!((page.entries.len(), page.more, page.revision), (PAGE_ENTRIES_MAX, true, store.revision()));
    let mut seen = Vec::new();
    let mut scan = Scan { limit: 300, ..Scan::prefix(TABLE, "n/") };
    loop {
        let page = store.range(&scan).expect("readable");
        seen.extend(page.entries.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()));
        if !page.more {
            break;
        }
        scan.after = seen.last().map(|last| last.clone().into_bytes());
    }
    assert_eq!(seen, names);
    let all = store.range(&Scan { limit: 2, ..Scan::prefix(TABLE, "") }).expect("readable");
    assert_eq!(all.entries[0].0, b"m");
}

/// What is at a limit is taken, what is over it is refused by name.
pub async fn check_limits(subject: &Subject) {
    let store = &*subject.store;
    let too_long = |what: &'static str, len, limit| Err(StoreError::TooLong { what, len, limit });
    let long_key = |len: usize| Key::new(TABLE, vec![b'k'; len]);
    done(store, Txn::of([Op::put(long_key(KEY_MAX), "")])).await;
    let over = store.commit(Txn::of([Op::put(long_key(KEY_MAX + 1), "")])).await;
    assert_eq!(over, too_long("key", KEY_MAX + 1, KEY_MAX));
    done(store, Txn::of([Op::put(key("v"), vec![7; VALUE_MAX])])).await;
    assert_eq!(store.get(&key("v")).expect("readable").expect("there").value.len(), VALUE_MAX);
    let over = store.commit(Txn::of([Op::put(key("v"), vec![7; VALUE_MAX + 1])])).await;
    assert_eq!(over, too_long("value", VALUE_MAX + 1, VALUE_MAX));
    let many = |count: usize| Txn::of((0..count).map(|index| Op::put(key(&format!("o{index}")), "")));
    done(store, many(TXN_OPS_MAX)).await;
    let over = store.commit(many(TXN_OPS_MAX + 1)).await;
    assert_eq!(over, too_long("number of conditions and operations", TXN_OPS_MAX + 1, TXN_OPS_MAX));
    let big = Txn::of((0..5).map(|index| Op::put(key(&format!("b{index}")), vec![0; VALUE_MAX])));
    let over = store.commit(big).await;
    assert!(matches!(over, Err(StoreError::TooLong { what: "transaction", limit: TXN_BYTES_MAX, .. })));
    for bad in [Key::new("", "k"), Key::new("Upper", "k"), Key::new(TABLE, "")] {
        let refused = store.commit(Txn::of([Op::put(bad.clone(), "")])).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{bad:?}");
    }
    for ttl in [LEASE_TTL_MIN - Duration::from_millis(1), LEASE_TTL_MAX + Duration::from_millis(1)] {
        assert!(matches!(store.grant(ttl).await, Err(StoreError::Invalid(_))), "{ttl:?}");
    }
}

/// A watch shows its table and prefix, all of it, in order, from the revision it was asked for.
pub async fn check_watches(subject: &Subject) {
    let store = &*subject.store;
    let start = put(store, "w/1", "one").await;
    let mut from_now = store.watch(TABLE, b"w/", start).expect("a watch");
    let mut from_before = store.watch(TABLE, b"w/", Revision(0)).expect("a watch");
    put(store, "other", "x").await;
    done(store, Txn::of([Op::put(Key::new("elsewhere", "w/1"), "x")])).await;
    let two = done(store, Txn::of([Op::put(key("w/2"), "two"), Op::delete(key("w/1"))])).await;
    let seen = next(&mut *from_before).await.expect("the change before the watch");
    assert_eq!((seen.at, seen.revision), (key("w/1"), start));
    for watch in [&mut from_now, &mut from_before] {
        let put = next(&mut **watch).await.expect("the put");
        assert_eq!((&put.at, put.revision), (&key("w/2"), two));
        assert_eq!(put.entry.expect("a value").value, "two");
        let gone = next(&mut **watch).await.expect("the delete");
        assert_eq!((gone.at, gone.revision, gone.entry), (key("w/1"), two, None));
    }
    let mut waiting = store.watch(TABLE, b"w/", two).expect("a watch");
    let (seen, three) = futures_util::future::join(next(&mut *waiting), put(store, "w/3", "three")).await;
    assert_eq!(seen.expect("what happens while it waits").revision, three);
}

/// A watch that is too slow is told so, and goes on completely after a new reading. Writers never wait for it.
pub async fn check_slow_watches(subject: &Subject) {
    let store = &*subject.store;
    let mut slow = store.watch(TABLE, b"", Revision(0)).expect("a watch");
    let mut resumed = None;
    for _ in 0..16 {
        // 64 MiB in the end: more than any implementation may keep for a watch.
        let big = Txn::of((0..4).map(|index| Op::put(key(&format!("s{index}")), vec![0; VALUE_MAX - 64])));
        done(store, big).await;
    }
    while resumed.is_none() {
        match next(&mut *slow).await {
            Err(WatchError::Behind { resumed_after }) => resumed = Some(resumed_after),
            other => assert!(other.is_ok(), "{:?}", other.err()),
        }
    }
    let page = store.range(&Scan { limit: 1, ..Scan::prefix(TABLE, "") }).expect("readable");
    assert!(page.revision >= resumed.expect("it fell behind"));
    let after = put(store, "after", "x").await;
    loop {
        let change = next(&mut *slow).await.expect("complete from here on");
        if change.revision == after {
            break;
        }
    }
}

/// A lease lives as long as it is kept alive; when it ends, its keys go with it, in one revision.
pub async fn check_leases(subject: &Subject) {
    let (store, clock) = (&*subject.store, &subject.clock);
    let ttl = Duration::from_secs(10);
    let lease = store.grant(ttl).await.expect("a lease");
    let mut watch = store.watch(TABLE, b"", store.revision()).expect("a watch");
    let attached = |name: &str| Op::Put { at: key(name), value: "x".into(), lease: Some(lease.id) };
    done(store, Txn::of([attached("l/1"), attached("l/2"), attached("l/3"), Op::put(key("own"), "x")])).await;
    put(store, "l/3", "no longer attached").await;
    for _ in 0..5 {
        next(&mut *watch).await.expect("the puts");
    }
    for _ in 0..3 {
        clock.advance(ttl - Duration::from_millis(1));
        store.keep_alive(lease.id).await.expect("alive within its time");
    }
    clock.advance(ttl - Duration::from_millis(1));
    assert_eq!(value(store, "l/1").as_deref(), Some("x"), "alive to the last");
    clock.advance(Duration::from_millis(1));
    let gone = [next(&mut *watch).await.expect("gone"), next(&mut *watch).await.expect("gone")];
    assert_eq!(gone.each_ref().map(|change| &change.entry), [&None, &None]);
    assert_eq!(gone[0].revision, gone[1].revision);
    let names = ["l/1", "l/2", "l/3", "own"].map(|name| value(store, name).is_some());
    assert_eq!(names, [false, false, true, true]);
    let dead = Err(StoreError::NoLease(lease.id));
    assert_eq!(store.keep_alive(lease.id).await, dead);
    assert_eq!(store.revoke(lease.id).await, dead);
    let other = store.grant(ttl).await.expect("a lease").id;
    done(store, Txn::of([Op::Put { at: key("r"), value: "x".into(), lease: Some(other) }])).await;
    store.revoke(other).await.expect("alive");
    assert_eq!(value(store, "r"), None, "revoked with its keys");
    assert_eq!(store.keep_alive(other).await, Err(StoreError::NoLease(other)));
}

/// A later holder's token is higher, and nothing of an earlier holder is applied any more.
pub async fn check_fencing(subject: &Subject) {
    let (store, clock) = (&*subject.store, &subject.clock);
    let ttl = Duration::from_secs(1);
    let take = |lease| {
        let op = Op::Put { at: key("lock"), value: "holder".into(), lease: Some(lease) };
        Txn::of([op]).when(Check::Absent(key("lock")))
    };
    let work = |lease, by: &str| {
        Txn::of([Op::put(key("work"), by.to_owned())]).when(Check::Held(key("lock"), lease))
    };
    let first = store.grant(ttl).await.expect("a lease").id;
    let second = store.grant(LEASE_TTL_MAX).await.expect("a lease").id;
    assert!(second.token() > first.token());
    done(store, take(first)).await;
    assert_eq!(store.commit(take(second)).await.expect("decided").done(), None, "held by the first");
    done(store, work(first, "first")).await;
    // From here the first holder believes that it still holds the lock.
    clock.advance(ttl);
    done(store, take(second)).await;
    done(store, work(second, "second")).await;
    assert_eq!(store.commit(work(first, "first")).await.expect("decided").done(), None, "fenced");
    assert_eq!(value(store, "work").as_deref(), Some("second"));
}
