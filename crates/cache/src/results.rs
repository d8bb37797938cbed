//! The cache of results: memory before disk, one order of changes for both.

use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tutti_base::envelope::{self, seal};
use tutti_base::{Body, BoxFuture, ContentHash, KeptBody, RequestKey, ResultKey};

use crate::disk::index::Name;
use crate::disk::ledger::{Overflow, Standing};
use crate::disk::{Loaded, OnDisk, Shelved};
use crate::memory::Memory;
use crate::record::{Binding, Entry, ResultMeta};
use crate::{Results, Stats};

/// Keys are spread over as many locks. A lock is held for a change of both tiers, never across I/O.
const STRIPES: usize = 64;
/// What a binding without bytes takes while it waits to be written.
const BINDING_BYTES: u64 = 1024;

/// Results in memory and, with a folder, on disk.
pub struct TieredResults {
    memory: Arc<Memory>,
    stripes: Arc<Stripes>,
    disk: Option<OnDisk<Arc<Entry>>>,
}

/// Counts the changes of keys, so that what was read from disk before a change does not become resident after it.
struct Stripes([Mutex<u64>; STRIPES]);

impl Stripes {
    fn lock(&self, key: &RequestKey) -> MutexGuard<'_, u64> {
        let place = usize::try_from(key.prefix() % STRIPES as u64).expect("a remainder of 64 fits");
        self.0[place].lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn changes(&self, key: &RequestKey) -> u64 {
        *self.lock(key)
    }
}

impl TieredResults {
    pub(crate) fn new(memory: Arc<Memory>, disk: Option<OnDisk<Arc<Entry>>>) -> Self {
        let stripes = Arc::new(Stripes(std::array::from_fn(|_| Mutex::default())));
        Self { memory, stripes, disk }
    }

    /// Keeps `entry` under `key` in both tiers. `queued` is the memory that waiting for the disk takes.
    fn set(&self, key: RequestKey, entry: &Arc<Entry>, queued: u64, overflow: Overflow) {
        let mut changes = self.stripes.lock(&key);
        *changes += 1;
        self.memory.insert(key, entry);
        if let Some(disk) = &self.disk
            && entry.binding.degraded.is_none()
        {
            disk.shelf.keep(*key.as_bytes(), entry.clone(), None, queued, overflow);
        }
    }

    /// What waits for the disk under `key`: as good as resident, and made so.
    fn waiting(&self, disk: &OnDisk<Arc<Entry>>, key: &RequestKey) -> Found {
        let changes = self.stripes.lock(key);
        match disk.shelf.standing(key.as_bytes()) {
            Standing::Waiting(entry) => {
                self.memory.insert(*key, &entry);
                Found::Here(entry)
            }
            Standing::Perhaps => Found::OnDisk { changes: *changes },
            Standing::Absent => Found::Nowhere,
        }
    }

    /// The entry whose bytes `binding` wants, as far as memory has it.
    fn in_memory(&self, key: &RequestKey, result: &ResultKey) -> Option<Arc<Entry>> {
        let here = self.memory.get(key).filter(|entry| entry.binding.result == *result);
        let waiting = || match self.disk.as_ref()?.shelf.standing(key.as_bytes()) {
            Standing::Waiting(entry) if entry.binding.result == *result => Some(entry),
            Standing::Waiting(_) | Standing::Perhaps | Standing::Absent => None,
        };
        here.or_else(|| self.memory.by_result(result)).or_else(waiting)
    }
}

enum Found {
    Here(Arc<Entry>),
    OnDisk { changes: u64 },
    Nowhere,
}

impl Results for TieredResults {
    fn resident(&self, key: &RequestKey) -> Option<Arc<Entry>> {
        self.memory.get(key)
    }

    fn find<'a>(&'a self, key: &'a RequestKey) -> BoxFuture<'a, Option<Arc<Entry>>> {
        if let Some(entry) = self.memory.get(key) {
            return Box::pin(ready(Some(entry)));
        }
        let Some(disk) = &self.disk else { return Box::pin(ready(None)) };
        let changes = match self.waiting(disk, key) {
            Found::Here(entry) => return Box::pin(ready(Some(entry))),
            Found::Nowhere => return Box::pin(ready(None)),
            Found::OnDisk { changes } => changes,
        };
        let (memory, stripes, shelf, key) =
            (self.memory.clone(), self.stripes.clone(), disk.shelf.clone(), *key);
        disk.look_up(move || {
            let entry = Arc::new(entry_of(shelf.load(key.as_bytes(), memory.entry_max())?)?);
            let now = stripes.lock(&key);
            if *now == changes {
                memory.insert(key, &entry);
            }
            Some(entry)
        })
    }

    fn find_result<'a>(&'a self, result: &'a ResultKey) -> BoxFuture<'a, Option<(ResultMeta, Body)>> {
        if let Some(entry) = self.memory.by_result(result) {
            return Box::pin(ready(Some((entry.meta.clone(), entry.body.clone().into()))));
        }
        let Some(disk) = &self.disk else { return Box::pin(ready(None)) };
        let kept = disk.load_target(*result, self.memory.entry_max());
        Box::pin(async move { kept.await.map(|(meta, body)| (meta, body.into())) })
    }

    fn put(&self, key: RequestKey, binding: Binding, meta: ResultMeta, body: Bytes) -> Arc<Entry> {
        let queued = body.len() as u64 + BINDING_BYTES;
        let entry = Arc::new(Entry::new(binding, meta, KeptBody::Whole(body)));
        self.set(key, &entry, queued, Overflow::ForgetBefore);
        entry
    }

    fn rebind<'a>(&'a self, key: RequestKey, binding: Binding) -> BoxFuture<'a, Option<Arc<Entry>>> {
        if let Some(kept) = self.in_memory(&key, &binding.result) {
            let entry = Arc::new(Entry::new(binding, kept.meta.clone(), kept.body.clone()));
            self.set(key, &entry, BINDING_BYTES, Overflow::LeaveBefore);
            return Box::pin(ready(Some(entry)));
        }
        let Some(disk) = &self.disk else { return Box::pin(ready(None)) };
        let changes = self.stripes.changes(&key);
        let kept = disk.load_target(binding.result, self.memory.entry_max());
        Box::pin(async move {
            let (meta, body) = kept.await?;
            let entry = Arc::new(Entry::new(binding, meta, body));
            // What has changed in between, a purge perhaps, is newer than this.
            if self.stripes.changes(&key) == changes {
                self.set(key, &entry, BINDING_BYTES, Overflow::LeaveBefore);
            }
            Some(entry)
        })
    }

    fn forget(&self, key: &RequestKey) {
        let mut changes = self.stripes.lock(key);
        *changes += 1;
        self.memory.remove(key);
        if let Some(disk) = &self.disk {
            disk.shelf.forget(key.as_bytes());
        }
    }

    fn clear(&self) {
        // All locks in one order: no change is half before and half after.
        let mut stripes: Vec<_> = self
            .stripes
            .0
            .iter()
            .map(|stripe| stripe.lock().unwrap_or_else(PoisonError::into_inner))
            .collect();
        for changes in &mut stripes {
            **changes += 1;
        }
        self.memory.clear();
        if let Some(disk) = &self.disk {
            disk.shelf.clear();
        }
    }

    fn stats(&self) -> Stats {
        let (resident, resident_bytes) = self.memory.held();
        let mut stats = Stats { resident, resident_bytes, ..Stats::default() };
        if let Some(disk) = &self.disk {
            disk.shelf.add_to(&mut stats);
        }
        stats
    }
}

impl OnDisk<Arc<Entry>> {
    /// Reads a result by its own name.
    fn load_target(
        &self,
        result: ResultKey,
        whole_max: u64,
    ) -> BoxFuture<'static, Option<(ResultMeta, KeptBody)>> {
        let shelf = self.shelf.clone();
        self.look_up(move || {
            let loaded = shelf.load_target(result.as_bytes(), whole_max)?;
            Some((meta_of(&loaded)?, loaded.body))
        })
    }
}

impl Shelved for Arc<Entry> {
    fn target(&self) -> Name {
        *self.binding.result.as_bytes()
    }
    fn record(&self) -> Vec<u8> {
        seal(&self.binding)
    }
    fn facts(&self) -> Vec<u8> {
        seal(&self.meta)
    }
    fn hash(&self) -> ContentHash {
        self.meta.hash
    }
    fn len(&self) -> u64 {
        self.meta.len
    }
    fn bytes(&self) -> Option<&Bytes> {
        match &self.body {
            KeptBody::Whole(bytes) => Some(bytes),
            KeptBody::File(_) => None,
        }
    }
}

fn entry_of(loaded: Loaded) -> Option<Entry> {
    let meta = meta_of(&loaded)?;
    Some(Entry::new(readable(envelope::open(&loaded.record))?, meta, loaded.body))
}

fn meta_of(loaded: &Loaded) -> Option<ResultMeta> {
    readable(envelope::open::<ResultMeta>(&loaded.facts)).filter(|meta| meta.hash == loaded.hash)
}

/// What a newer or older build wrote and this one cannot read counts as not kept; it is replaced by the next put.
fn readable<T>(opened: Result<T, envelope::EnvelopeError>) -> Option<T> {
    opened.inspect_err(|error| tracing::debug!(target: "cache", %error, "a kept record is not readable")).ok()
}
