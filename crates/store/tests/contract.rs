//! The contract suite on redb, and what belongs to this implementation alone: power cuts, damage, restarts, a full queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use redb::ReadableTable;
use tutti_base::Clock;
use tutti_base::disk::{Disk, DiskFile};
use tutti_base::rng::{Rng, SplitMix};
use tutti_store::contract::{self, Subject};
use tutti_store::simulated::{Loss, ManualClock, SimDisk};
use tutti_store::{
    Check, Commit, Config, Key, LeaseId, Op, RealDisk, RedbStore, Revision, Scan, Store, StoreError, Txn,
    WatchError,
};
use tutti_telemetry::Metrics;

fn open_on(disk: &dyn Disk, clock: &Arc<ManualClock>) -> Arc<RedbStore> {
    open_with(disk, clock, &Metrics::default()).expect("the store opens")
}

fn open_with(
    disk: &dyn Disk,
    clock: &Arc<ManualClock>,
    metrics: &Metrics,
) -> Result<Arc<RedbStore>, StoreError> {
    RedbStore::open(disk, clock.clone(), metrics, &Config::default())
}

fn spawn_on(disk: &dyn Disk) -> Subject {
    let clock = Arc::new(ManualClock::default());
    let store = open_on(disk, &clock);
    tokio::spawn(store.expire_leases());
    Subject { store, clock }
}

fn key(name: &str) -> Key {
    Key::new("t", name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redb_keeps_the_contract_on_a_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    let made = AtomicU64::new(0);
    contract::check_all(|| {
        let place = folder.path().join(made.fetch_add(1, Ordering::Relaxed).to_string());
        tutti_store::disk::make_private_folder(&place).expect("a folder");
        spawn_on(&RealDisk::at(place))
    })
    .await;
    assert_eq!(made.into_inner(), 10);
}

#[tokio::test]
async fn redb_keeps_the_contract_on_a_simulated_disk() {
    contract::check_all(|| spawn_on(&SimDisk::default())).await;
}

/// Writes pairs until the power goes; returns the highest number acknowledged by each writer.
async fn write_until_dark(store: &Arc<RedbStore>) -> Vec<u64> {
    let writers = (0..4).map(|writer| {
        let store = store.clone();
        async move {
            for number in 1..=1000 {
                let text = number.to_string();
                let pair = ["x", "y"].map(|half| Op::put(key(&format!("{writer}{half}")), text.clone()));
                if store.commit(Txn::of(pair)).await.is_err() {
                    return number - 1;
                }
            }
            panic!("300 writes and syncs cannot carry 1000 durable transactions")
        }
    });
    join_all(writers).await
}

#[tokio::test]
async fn a_power_cut_at_any_moment_loses_nothing_acknowledged_and_tears_no_transaction() {
    let mut acknowledged_in_all = 0;
    for seed in 0..60 {
        let mut rng = SplitMix::new(seed);
        let (disk, clock) = (SimDisk::default(), Arc::new(ManualClock::default()));
        let store = open_on(&disk, &clock);
        disk.fail_after(1 + rng.below(300));
        let acknowledged = write_until_dark(&store).await;
        let refused = store.commit(Txn::of([Op::put(key("late"), "x")])).await;
        assert!(matches!(refused, Err(StoreError::Failed(_))), "no write after a failed disk: {refused:?}");
        let loss = if seed % 2 == 0 { Loss::All } else { Loss::Some };
        disk.cut_power(loss, &mut rng);
        drop(store);
        let store = open_on(&disk, &clock);
        for (writer, number) in acknowledged.iter().enumerate() {
            let [x, y] = ["x", "y"].map(|half| number_at(&*store, &format!("{writer}{half}")));
            assert!(x == y, "seed {seed}: a torn transaction, {x} and {y}");
            assert!(x == *number || x == number + 1, "seed {seed}: acknowledged {number}, found {x}");
        }
        acknowledged_in_all += acknowledged.iter().sum::<u64>();
        store.commit(Txn::of([Op::put(key("after"), "x")])).await.expect("it works again");
    }
    assert!(acknowledged_in_all > 500, "the test must write before it cuts: {acknowledged_in_all}");
}

fn number_at(store: &dyn Store, name: &str) -> u64 {
    let entry = store.get(&key(name)).expect("whole after a power cut");
    entry.map_or(0, |entry| String::from_utf8_lossy(&entry.value).parse().expect("a number"))
}

#[tokio::test]
async fn revisions_values_and_leases_last_over_a_restart() {
    let (disk, clock) = (SimDisk::default(), Arc::new(ManualClock::default()));
    let store = open_on(&disk, &clock);
    let lease = store.grant(Duration::from_secs(10)).await.unwrap().id;
    let op = Op::Put { at: key("held"), value: "x".into(), lease: Some(lease) };
    let written = store.commit(Txn::of([op])).await.unwrap().done().unwrap();
    clock.advance(Duration::from_secs(9));
    drop(store);
    let store = open_on(&disk, &clock);
    tokio::spawn(store.expire_leases());
    assert_eq!(store.revision(), written);
    let mut watch = store.watch("t", b"", Revision(0)).unwrap();
    assert_eq!(watch.next().await, Err(WatchError::Behind { resumed_after: written }));
    clock.advance(Duration::from_secs(9));
    store.keep_alive(lease).await.expect("its time began anew with the store");
    clock.advance(Duration::from_secs(10));
    assert_eq!(watch.next().await.unwrap().entry, None);
    assert_eq!(store.keep_alive(lease).await, Err(StoreError::NoLease(lease)));
    let next = store.grant(Duration::from_secs(10)).await.unwrap().id;
    assert!(next > lease);
}

#[tokio::test]
async fn a_dropped_store_ends_its_watches_and_its_expiry() {
    let disk = SimDisk::default();
    let clock = Arc::new(ManualClock::default());
    let store = open_on(&disk, &clock);
    let expiry = tokio::spawn(store.expire_leases());
    let mut watch = store.watch("t", b"", Revision(0)).unwrap();
    drop(store);
    assert_eq!(watch.next().await, Err(WatchError::Closed));
    expiry.await.unwrap();
}

#[tokio::test]
async fn writes_that_wait_share_one_sync() {
    let metrics = Metrics::default();
    let gate = Gated::default();
    let clock = Arc::new(ManualClock::default());
    let store = open_with(&gate, &clock, &metrics).unwrap();
    gate.set(Gate::Closed);
    let first = commit_in_background(&store, 0);
    wait_until(|| gate.is_waiting()).await;
    let writes: Vec<_> = (1..100).map(|index| commit_in_background(&store, index)).collect();
    wait_until(|| metrics.text().contains("tutti_store_queue_writes 99")).await;
    gate.set(Gate::Open);
    for write in writes.into_iter().chain([first]) {
        write.await.unwrap().unwrap();
    }
    let text = metrics.text();
    assert!(text.contains("tutti_store_commits_total 100"), "{text}");
    assert!(
        text.contains("tutti_store_batches_total 2"),
        "one for the first, one for all that waited: {text}"
    );
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_counts_it() {
    let metrics = Metrics::default();
    let gate = Gated::default();
    let clock = Arc::new(ManualClock::default());
    let config = Config { queue: 3, ..Config::default() };
    let store = RedbStore::open(&gate, clock, &metrics, &config).unwrap();
    gate.set(Gate::Closed);
    let first = commit_in_background(&store, 0);
    wait_until(|| gate.is_waiting()).await;
    let waiting: Vec<_> = (1..4).map(|index| commit_in_background(&store, index)).collect();
    wait_until(|| metrics.text().contains("tutti_store_queue_writes 3")).await;
    let refused = store.commit(Txn::of([Op::put(key("over"), "x")])).await;
    assert_eq!(refused, Err(StoreError::Busy { limit: 3 }));
    assert!(metrics.text().contains("tutti_store_refused_total{reason=\"busy\"} 1"), "{}", metrics.text());
    assert!(metrics.text().contains("tutti_limit_store_queue 3"));
    gate.set(Gate::Open);
    for write in waiting.into_iter().chain([first]) {
        write.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn as_many_leases_as_allowed_and_no_more() {
    let clock = Arc::new(ManualClock::default());
    let store = open_on(&SimDisk::default(), &clock);
    let ttl = Duration::from_secs(60);
    for _ in 0..tutti_store::store::LEASES_MAX / 256 {
        let grants = (0..256).map(|_| store.grant(ttl));
        assert!(join_all(grants).await.iter().all(Result::is_ok));
    }
    assert!(matches!(store.grant(ttl).await, Err(StoreError::TooLong { .. })));
    clock.advance(ttl);
    store.grant(ttl).await.expect("the others have expired");
}

#[tokio::test]
async fn a_damaged_value_names_its_table_and_key_and_can_be_deleted() {
    let disk = SimDisk::default();
    let clock = Arc::new(ManualClock::default());
    let store = open_on(&disk, &clock);
    store.commit(Txn::of([Op::put(key("good"), "x"), Op::put(key("bad"), "needle")])).await.unwrap();
    drop(store);
    flip_value(&disk, b"t\0bad").unwrap();
    let store = open_on(&disk, &clock);
    let error = store.get(&key("bad")).unwrap_err();
    assert!(matches!(&error, StoreError::Damaged { at, .. } if *at == key("bad")), "{error:?}");
    assert!(error.to_string().contains("t/bad"), "{error}");
    assert_eq!(store.range(&Scan::prefix("t", "")), Err(error.clone()));
    assert_eq!(store.commit(Txn::of([Op::put(key("bad"), "y")])).await, Err(error));
    assert!(store.get(&key("good")).unwrap().is_some());
    store.commit(Txn::of([Op::delete(key("bad"))])).await.expect("the way out");
    let txn = Txn::of([Op::put(key("bad"), "y")]).when(Check::Absent(key("bad")));
    assert!(matches!(store.commit(txn).await, Ok(Commit::Done(_))));
}

/// Damages a value behind redb's back, but with redb's own checksums right, so that only ours can notice.
fn flip_value(disk: &SimDisk, name: &[u8]) -> Result<(), redb::Error> {
    let values: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("values");
    let file = disk.open("store.redb")?;
    let database = redb::Database::builder().create_with_backend(Raw(file))?;
    let write = database.begin_write()?;
    {
        let mut table = write.open_table(values)?;
        let mut bytes = table.get(name)?.expect("the value is there").value().to_vec();
        *bytes.last_mut().expect("an envelope has bytes") ^= 1;
        table.insert(name, bytes.as_slice())?;
    }
    write.commit()?;
    Ok(())
}

#[tokio::test]
async fn a_damaged_file_is_refused_when_it_is_opened() {
    let disk = SimDisk::default();
    let clock = Arc::new(ManualClock::default());
    let store = open_on(&disk, &clock);
    store.commit(Txn::of([Op::put(key("a"), "the needle in the file")])).await.unwrap();
    drop(store);
    let bytes = disk.durable("store.redb");
    let needles: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"the needle")).collect();
    assert!(!needles.is_empty());
    needles.iter().for_each(|at| disk.damage("store.redb", *at));
    let refused = open_with(&disk, &clock, &Metrics::default()).err().expect("damage is noticed");
    assert!(refused.to_string().contains("store.redb"), "{refused}");
}

#[tokio::test]
async fn a_file_of_a_newer_format_and_one_in_use_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::at(folder.path());
    let clock = Arc::new(ManualClock::default());
    let store = open_on(&disk, &clock);
    let refused = open_with(&disk, &clock, &Metrics::default()).err().unwrap();
    assert!(refused.to_string().contains("in use by another server"), "{refused}");
    drop(store);
    let database = redb::Database::create(folder.path().join("store.redb")).unwrap();
    let meta: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("meta");
    let write = database.begin_write().unwrap();
    write.open_table(meta).unwrap().insert("format", 2).unwrap();
    write.commit().unwrap();
    drop(database);
    let refused = open_with(&disk, &clock, &Metrics::default()).err().unwrap();
    assert!(refused.to_string().contains("format 2"), "{refused}");
}

#[test]
fn a_configuration_without_room_is_refused() {
    assert!(Config::default().validate().is_ok());
    assert!(Config { queue: 0, ..Config::default() }.validate().unwrap_err().contains("store.queue"));
    assert!(Config { cache_bytes: 0, ..Config::default() }.validate().unwrap_err().contains("cache_bytes"));
}

#[tokio::test]
async fn the_clock_of_an_expired_lease_is_the_seam_and_not_the_machine() {
    let clock = Arc::new(ManualClock::default());
    let store = open_on(&SimDisk::default(), &clock);
    let lease = store.grant(Duration::from_millis(100)).await.unwrap().id;
    let start = clock.now();
    store.keep_alive(lease).await.unwrap();
    assert_eq!(clock.now(), start);
    clock.advance(Duration::from_millis(100));
    assert_eq!(store.keep_alive(lease).await, Err(StoreError::NoLease(lease)));
    assert_eq!(store.keep_alive(LeaseId(77)).await, Err(StoreError::NoLease(LeaseId(77))));
}

type Write = tokio::task::JoinHandle<Result<Commit, StoreError>>;

fn commit_in_background(store: &Arc<RedbStore>, index: usize) -> Write {
    let store = store.clone();
    tokio::spawn(async move { store.commit(Txn::of([Op::put(key(&index.to_string()), "x")])).await })
}

async fn wait_until(mut holds: impl FnMut() -> bool) {
    let patience = tokio::time::timeout(Duration::from_secs(60), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    patience.await.expect("the condition comes true");
}

struct Raw(Box<dyn DiskFile>);

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Raw")
    }
}

impl redb::StorageBackend for Raw {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read_at(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.0.sync()
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_at(offset, bytes)
    }
}

/// A disk whose syncs wait while its gate is closed.
#[derive(Clone, Default)]
struct Gated {
    disk: SimDisk,
    gate: Arc<(std::sync::Mutex<Gate>, std::sync::Condvar)>,
    waiting: Arc<AtomicU64>,
}

#[derive(Clone, Copy, PartialEq, Default)]
enum Gate {
    #[default]
    Open,
    Closed,
}

impl Gated {
    fn set(&self, gate: Gate) {
        *self.gate.0.lock().expect("nobody panics with the gate") = gate;
        self.gate.1.notify_all();
    }
    fn wait(&self) {
        let gate = self.gate.0.lock().expect("nobody panics with the gate");
        drop(
            self.gate.1.wait_while(gate, |gate| *gate == Gate::Closed).expect("nobody panics with the gate"),
        );
    }
    fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }
}

impl Disk for Gated {
    fn open(&self, name: &str) -> std::io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(GatedFile { file: self.disk.open(name)?, gates: self.clone() }))
    }
}

struct GatedFile {
    file: Box<dyn DiskFile>,
    gates: Gated,
}

impl DiskFile for GatedFile {
    fn len(&self) -> std::io::Result<u64> {
        self.file.len()
    }
    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<()> {
        self.file.read_at(offset, into)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_at(offset, bytes)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.file.set_len(len)
    }
    fn sync(&self) -> std::io::Result<()> {
        self.gates.waiting.fetch_add(1, Ordering::SeqCst);
        self.gates.wait();
        let synced = self.file.sync();
        self.gates.waiting.fetch_sub(1, Ordering::SeqCst);
        synced
    }
}
