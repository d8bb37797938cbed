//! The store of one node: redb on a disk seam, one writing thread, reads from snapshots. Decides nothing about its content.

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::{Either, select};
use redb::{Database, ReadableDatabase, ReadableTable};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tutti_base::disk::Disk;
use tutti_base::{BoxFuture, Clock, envelope};
use tutti_telemetry::Metrics;

use crate::backend::Backend;
use crate::change_log::ChangeLog;
use crate::counts::Counts;
use crate::leases::Leases;
use crate::reading::{self, failed};
use crate::record::{FORMAT, FORMAT_VERSION, HELD, LEASES, META, REVISION, StoredLease, VALUES};
use crate::store::{
    Entry, LEASE_TTL_MIN, Lease, LeaseId, Page, Revision, Scan, Store, StoreError, Watch, check_ttl,
};
use crate::txn::{Commit, KEY_MAX, Key, Txn, check_table};
use crate::work::{Command, Reply};
use crate::writer::{Job, Task, Writer};

/// The file on the disk.
pub const FILE: &str = "store.redb";

/// What an operator may set of the store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Memory for pages of the file, in bytes, at least 1 MiB.
    pub cache_bytes: usize,
    /// How many writes may wait for the disk, at least 1; more are refused.
    pub queue: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { cache_bytes: 16 << 20, queue: 1024 }
    }
}

impl Config {
    /// Whether the values make sense.
    pub fn validate(&self) -> Result<(), String> {
        if self.cache_bytes < 1 << 20 {
            return Err(format!("store.cache_bytes is {}; it must be at least 1048576", self.cache_bytes));
        }
        if self.queue == 0 {
            return Err("store.queue is 0; it must be at least 1".into());
        }
        Ok(())
    }
}

/// A store in one redb file. Dropping it finishes what is being written and releases the file.
pub struct RedbStore {
    database: Arc<Database>,
    jobs: SyncSender<Job>,
    queue: usize,
    thread: Mutex<Option<JoinHandle<()>>>,
    clock: Arc<dyn Clock>,
    leases: Arc<Leases>,
    log: Arc<ChangeLog>,
    counts: Counts,
}

impl RedbStore {
    /// Opens or makes the store on `disk`. Checks the whole file, repairs it after a crash, and lets the time of every
    /// stored lease start anew. Blocks; spawn [`Self::expire_leases`] beside it.
    ///
    /// Errors: the file is damaged, of a newer version, or in use.
    pub fn open(
        disk: &dyn Disk,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
        config: &Config,
    ) -> Result<Arc<Self>, StoreError> {
        Self::open_named(disk, FILE, clock, metrics, config)
    }

    /// As [`Self::open`], in the file `name`: what a node keeps for itself beside the replicated state. Its metrics are
    /// named `store_local_…` then; open one such store a process.
    pub fn open_named(
        disk: &dyn Disk,
        name: &str,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
        config: &Config,
    ) -> Result<Arc<Self>, StoreError> {
        config.validate().map_err(StoreError::Open)?;
        let file = disk.open(name).map_err(|error| StoreError::Open(error.to_string()))?;
        let database = Database::builder()
            .set_cache_size(config.cache_bytes)
            .set_check_integrity_on_open(true)
            .create_with_backend(Backend(file))
            .map_err(|error| StoreError::Open(format!("{name}: {error}; restore it from a backup")))?;
        let revision = prepare(&database)?;
        let counts = match name {
            FILE => Counts::register(metrics, config.queue),
            _ => Counts::named(metrics, "store_local"),
        };
        counts.revision.set(revision.0 as i64);
        let leases = Arc::new(read_leases(&database, &*clock)?);
        counts.leases.set(leases.len() as i64);
        let log = Arc::new(ChangeLog::new(revision, counts.behind.clone()));
        let database = Arc::new(database);
        let (jobs, waiting) = sync_channel(config.queue);
        let writer = Writer {
            database: database.clone(),
            clock: clock.clone(),
            leases: leases.clone(),
            log: log.clone(),
            counts: counts.clone(),
            failure: None,
        };
        let thread = std::thread::Builder::new()
            .name("tutti-store".into())
            .spawn(move || writer.run(&waiting))
            .map_err(|error| StoreError::Open(format!("no thread for its writer: {error}")))?;
        let thread = Mutex::new(Some(thread));
        let queue = config.queue;
        Ok(Arc::new(Self { database, jobs, queue, thread, clock, leases, log, counts }))
    }

    /// Ends leases when their time is over, until the store is dropped. Without it they end at the next write only.
    pub fn expire_leases(self: &Arc<Self>) -> impl Future<Output = ()> + Send + use<> {
        let leases = self.leases.clone();
        let clock = self.clock.clone();
        let store = Arc::downgrade(self);
        async move {
            while store.strong_count() > 0 {
                let changed = leases.changed.notified();
                match leases.next_end() {
                    Some(end) => {
                        let sleep = clock.sleep_until(end);
                        if let Either::Left(_) = select(std::pin::pin!(changed), sleep).await {
                            continue;
                        }
                    }
                    None => {
                        changed.await;
                        continue;
                    }
                }
                match expire(&store).await {
                    Ok(_) => {}
                    // The writer's next batch ends them; do not spin until then.
                    Err(StoreError::Busy { .. }) => clock.sleep_until(clock.now() + LEASE_TTL_MIN / 10).await,
                    Err(_) => return,
                }
            }
        }
    }

    async fn ask(&self, task: Task) -> Result<Reply, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.counts.queue.inc();
        let sent = self.jobs.try_send(Job { task, reply }).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy { limit: self.queue },
            TrySendError::Disconnected(_) => StoreError::Closed,
        });
        if let Err(error) = sent {
            self.counts.queue.dec();
            self.counts.refused(&error);
            return Err(error);
        }
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    fn stop(&self) {
        self.log.close();
        self.leases.changed.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (reply, _) = oneshot::channel();
        if let Some(thread) = thread {
            // Blocks while the queue is full; the writer empties it.
            let _ = self.jobs.send(Job { task: Task::Stop, reply });
            let _ = thread.join();
        }
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn expire(store: &Weak<RedbStore>) -> Result<Reply, StoreError> {
    store.upgrade().ok_or(StoreError::Closed)?.ask(Task::Expire).await
}

/// Makes the tables, checks the format and reads the revision.
pub(crate) fn prepare(database: &Database) -> Result<Revision, StoreError> {
    let work = || -> Result<(u64, u64), redb::Error> {
        let disk = database.begin_write()?;
        let (format, revision) = {
            let mut meta = disk.open_table(META)?;
            let format = meta.get(FORMAT)?.map_or(FORMAT_VERSION, |found| found.value());
            let revision = meta.get(REVISION)?.map_or(0, |found| found.value());
            meta.insert(FORMAT, format)?;
            disk.open_table(VALUES)?;
            disk.open_table(LEASES)?;
            disk.open_table(HELD)?;
            (format, revision)
        };
        disk.commit()?;
        Ok((format, revision))
    };
    match work().map_err(|error| StoreError::Open(format!("{FILE}: {error}")))? {
        (FORMAT_VERSION, revision) => Ok(Revision(revision)),
        (format, _) => Err(StoreError::Open(format!(
            "{FILE} has format {format}, this build knows {FORMAT_VERSION}; start the newer build again"
        ))),
    }
}

fn read_leases(database: &Database, clock: &dyn Clock) -> Result<Leases, StoreError> {
    let leases = Leases::default();
    let now = clock.now();
    let work = || -> Result<(), redb::Error> {
        let table = database.begin_read()?.open_table(LEASES)?;
        for found in table.iter()? {
            let (id, bytes) = found?;
            // A damaged lease ends soonest: nobody can say how long it was to live.
            let ttl = envelope::open::<StoredLease>(bytes.value())
                .map_or(LEASE_TTL_MIN, |stored| Duration::from_millis(stored.ttl_ms));
            leases.start(LeaseId(id.value()), ttl, now);
        }
        Ok(())
    };
    work().map_err(|error| StoreError::Open(format!("{FILE}: {error}")))?;
    Ok(leases)
}

impl Store for RedbStore {
    fn get(&self, at: &Key) -> Result<Option<Entry>, StoreError> {
        reading::get(&self.database.begin_read().map_err(failed)?, at)
    }

    fn range(&self, scan: &Scan) -> Result<Page, StoreError> {
        reading::range(&self.database.begin_read().map_err(failed)?, scan)
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Commit, StoreError>> {
        Box::pin(async move {
            txn.validate().inspect_err(|error| self.counts.refused(error))?;
            match self.ask(Task::Do(Command::Commit(txn))).await? {
                Reply::Commit(commit) => Ok(commit),
                Reply::Lease(_) | Reply::Done => Err(StoreError::Closed),
            }
        })
    }

    fn watch(&self, table: &str, prefix: &[u8], after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        check_table(table)?;
        StoreError::within("key", prefix.len(), KEY_MAX)?;
        Ok(Box::new(self.log.follow(table, prefix, after)))
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease, StoreError>> {
        Box::pin(async move {
            check_ttl(ttl)?;
            match self.ask(Task::Do(Command::Grant(ttl))).await? {
                Reply::Lease(lease) => Ok(lease),
                Reply::Commit(_) | Reply::Done => Err(StoreError::Closed),
            }
        })
    }

    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.leases.keep_alive(lease, self.clock.now()) })
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.ask(Task::Do(Command::Revoke(lease))).await.map(|_| ()) })
    }

    fn revision(&self) -> Revision {
        self.log.newest()
    }
}
