//! A folder, a clock, a volume and a disk that fail on demand, and entries to keep.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tutti_base::http::Validator;
use tutti_base::{
    BoxFuture, Clock, ContentHash, FileBody, KeptBody, RequestKey, ResultKey, SourceKey, Tick, Wall,
};
use tutti_cache::{
    Binding, CacheConfig, Caches, Entry, Faults, FileOp, Ground, OriginalRecord, ResultMeta, SealedOriginal,
    Space, Stats, Volume,
};
use tutti_telemetry::Metrics;

/// How long a condition may take to hold; reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) dir: PathBuf,
    pub(crate) config: CacheConfig,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) volume: Arc<HandVolume>,
    pub(crate) faults: Arc<HandFaults>,
    pub(crate) metrics: Metrics,
    pub(crate) caches: Caches,
    _folder: Option<tempfile::TempDir>,
}

impl World {
    /// Caches in a new folder. Memory takes results of up to 16 kB or so; `change` may change that.
    pub(crate) fn new(change: impl FnOnce(&mut CacheConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut world = Self::at(folder.path(), change);
        world._folder = Some(folder);
        world
    }

    pub(crate) fn at(dir: &Path, change: impl FnOnce(&mut CacheConfig)) -> Self {
        Self::with_faults(dir, Arc::default(), change)
    }

    pub(crate) fn with_faults(
        dir: &Path,
        faults: Arc<HandFaults>,
        change: impl FnOnce(&mut CacheConfig),
    ) -> Self {
        let mut config = CacheConfig {
            dir: Some(dir.to_owned()),
            memory_bytes: 4 << 20,
            resident_max_bytes: 16 << 10,
            disk_bytes: 1 << 30,
            ..CacheConfig::default()
        };
        change(&mut config);
        let (clock, volume, metrics) = (Arc::default(), Arc::<HandVolume>::default(), Metrics::default());
        let caches = open(&config, &clock, &volume, &faults, &metrics);
        Self { dir: dir.to_owned(), config, clock, volume, faults, metrics, caches, _folder: None }
    }

    /// Closes the caches and opens them again: memory is empty then.
    pub(crate) fn restart(mut self) -> Self {
        assert!(self.caches.close());
        self.metrics = Metrics::default();
        self.caches = open(&self.config, &self.clock, &self.volume, &self.faults, &self.metrics);
        self
    }

    pub(crate) fn put(&self, number: u64, len: usize) -> Arc<Entry> {
        self.put_as(number, number, len)
    }

    /// Puts the result `result` under the request `number`.
    pub(crate) fn put_as(&self, number: u64, result: u64, len: usize) -> Arc<Entry> {
        let body = body(result, len);
        self.caches.results.put(key(number), binding(result), meta(&body), body)
    }

    /// Puts and waits until it is on disk.
    pub(crate) fn put_on_disk(&self, number: u64, len: usize) {
        let before = self.stats().kept;
        self.put(number, len);
        eventually("it is on disk", || self.stats().kept > before && self.idle());
    }

    pub(crate) fn find(&self, number: u64) -> Option<Arc<Entry>> {
        now(self.caches.results.find(&key(number)))
    }

    /// Whether `number` is found; its bytes must then be right.
    pub(crate) fn finds(&self, number: u64, len: usize) -> bool {
        self.find(number).is_some_and(|entry| {
            assert_eq!(bytes(&entry.body), body(number, len), "entry {number}");
            true
        })
    }

    pub(crate) fn stats(&self) -> Stats {
        self.caches.results.stats()
    }

    pub(crate) fn idle(&self) -> bool {
        self.metric("tutti_cache_queue_entries") == 0
    }

    pub(crate) fn wait_until_idle(&self) {
        eventually("the queue is empty", || self.idle());
    }

    /// The sum of a metric over all labels, or of the lines that begin with `name` when it names labels.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.text();
        let lines = text.lines().filter(|line| line.starts_with(name));
        let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        values.sum()
    }

    /// All blob files of `kind` with their lengths.
    pub(crate) fn files(&self, kind: &str) -> Vec<(PathBuf, u64)> {
        files(&self.dir.join(kind).join("blobs"))
    }

    /// The file with the bytes of result `number`.
    pub(crate) fn file_of(&self, number: u64, len: usize) -> PathBuf {
        let hash = ContentHash::of(&body(number, len)).hex();
        self.dir.join("results/blobs").join(&hash[..2]).join(&hash[2..])
    }

    /// Writes an original, not kept yet.
    pub(crate) fn original(&self, content: &[u8]) -> SealedOriginal {
        let mut writer = self.caches.originals.writer();
        for chunk in content.chunks(1000) {
            writer.write(chunk).unwrap();
        }
        writer.seal().unwrap()
    }

    pub(crate) fn keep_original(&self, number: u64, content: &[u8]) {
        let sealed = self.original(content);
        let record = record(sealed.hash, content.len());
        (sealed.keep)(source(number), record);
    }

    pub(crate) fn find_original(&self, number: u64) -> Option<(OriginalRecord, FileBody)> {
        now(self.caches.originals.find(&source(number)))
    }
}

fn open(
    config: &CacheConfig,
    clock: &Arc<HandClock>,
    volume: &Arc<HandVolume>,
    faults: &Arc<HandFaults>,
    metrics: &Metrics,
) -> Caches {
    let ground = Ground { volume: volume.clone(), faults: faults.clone() };
    Caches::open_on(ground, config.clone(), clock.clone(), metrics).unwrap()
}

pub(crate) fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        // Other threads may rename and remove while this looks.
        let Ok(about) = entry.metadata() else { continue };
        if about.is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push((entry.path(), about.len()));
        }
    }
    found
}

pub(crate) fn key(number: u64) -> RequestKey {
    RequestKey::of(&[&number.to_le_bytes()])
}

pub(crate) fn source(number: u64) -> SourceKey {
    SourceKey::of(&[&number.to_le_bytes()])
}

pub(crate) fn result(number: u64) -> ResultKey {
    ResultKey::of(&[&number.to_le_bytes()])
}

/// The bytes of result `number`: no two numbers share them.
pub(crate) fn body(number: u64, len: usize) -> Bytes {
    let mut bytes: Vec<u8> = number.to_le_bytes().iter().copied().cycle().take(len).collect();
    if let Some(last) = bytes.last_mut() {
        *last ^= 0x5a;
    }
    bytes.into()
}

pub(crate) fn binding(number: u64) -> Binding {
    Binding {
        result: result(number),
        originals: vec![ContentHash::of(b"original")],
        stored_at: Wall(1000),
        fresh_until: Wall(2000),
        revalidate_until: Wall(3000),
        error_until: Wall(4000),
        tags: vec!["cat".into(), "dog".into()],
        purge_seen: 7,
        degraded: None,
    }
}

pub(crate) fn meta(body: &[u8]) -> ResultMeta {
    ResultMeta {
        content_type: "image/webp".into(),
        hash: ContentHash::of(body),
        len: body.len() as u64,
        fields: vec![("X-Width".into(), "512".into())],
        cpu_ms: 12.5,
        maker: None,
    }
}

pub(crate) fn record(hash: ContentHash, len: usize) -> OriginalRecord {
    OriginalRecord {
        hash,
        len: len as u64,
        claimed_type: Some("image/jpeg".into()),
        validator: Validator { etag: Some("\"v1\"".into()), last_modified: None },
        stored_at: Wall(1000),
        fresh_until: Wall(2000),
        error_until: Wall(3000),
        explicit_lifetime: true,
        shared: true,
        tags: vec!["cat".into()],
        purge_seen: 3,
    }
}

/// The bytes of a kept body, from memory or file.
pub(crate) fn bytes(body: &KeptBody) -> Bytes {
    match body {
        KeptBody::Whole(bytes) => bytes.clone(),
        KeptBody::File(file) => file_bytes(file),
    }
}

pub(crate) fn file_bytes(body: &FileBody) -> Bytes {
    let mut bytes = vec![0; usize::try_from(body.len).unwrap()];
    body.file.read_exact_at(&mut bytes, body.offset).unwrap();
    bytes.into()
}

pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Waits until `holds`; what it waits for is said when it never does.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Stands until it is moved.
#[derive(Default)]
pub(crate) struct HandClock(AtomicU64);

impl HandClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_nanos().try_into().unwrap(), Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Tick {
        Tick(self.0.load(Ordering::SeqCst))
    }
    fn wall(&self) -> Wall {
        Wall(0)
    }
    fn sleep_until(&self, _until: Tick) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

/// 1 TiB, and as much free as is said.
pub(crate) struct HandVolume {
    pub(crate) free: AtomicU64,
}

pub(crate) const VOLUME_BYTES: u64 = 1 << 40;

impl Default for HandVolume {
    fn default() -> Self {
        Self { free: AtomicU64::new(VOLUME_BYTES / 2) }
    }
}

impl Volume for HandVolume {
    fn space(&self, _dir: &Path) -> io::Result<Space> {
        Ok(Space { total: VOLUME_BYTES, free: self.free.load(Ordering::SeqCst) })
    }
}

/// Lets operations fail, or holds them up.
#[derive(Default, Debug)]
pub(crate) struct HandFaults {
    rules: Mutex<HashMap<FileOp, Rule>>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug)]
enum Rule {
    Fail(i32),
    Hold,
}

pub(crate) const EIO: i32 = 5;
pub(crate) const ENOSPC: i32 = 28;
pub(crate) const EROFS: i32 = 30;

impl HandFaults {
    /// Makes every `op` fail with this errno.
    pub(crate) fn fail(&self, op: FileOp, errno: i32) {
        self.rules.lock().unwrap().insert(op, Rule::Fail(errno));
    }
    /// Makes every `op` wait until the next [`HandFaults::heal`].
    pub(crate) fn hold(&self, op: FileOp) {
        self.rules.lock().unwrap().insert(op, Rule::Hold);
    }
    /// Lets everything work.
    pub(crate) fn heal(&self) {
        self.rules.lock().unwrap().clear();
        self.changed.notify_all();
    }
}

impl Faults for HandFaults {
    fn before(&self, op: FileOp) -> io::Result<()> {
        let held = |rules: &mut HashMap<FileOp, Rule>| matches!(rules.get(&op), Some(Rule::Hold));
        let rules = self.changed.wait_while(self.rules.lock().unwrap(), held).unwrap();
        match rules.get(&op) {
            Some(Rule::Fail(errno)) => Err(io::Error::from_raw_os_error(*errno)),
            Some(Rule::Hold) | None => Ok(()),
        }
    }
}
