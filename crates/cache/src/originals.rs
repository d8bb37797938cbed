//! The cache of originals: on disk while there is one, in unnamed memory files otherwise. Keeps nothing in memory.

use std::fs::{self, File};
use std::future::ready;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use tutti_base::envelope::{self, seal};
use tutti_base::id::ContentHasher;
use tutti_base::{BoxFuture, ContentHash, FileBody, KeptBody, SourceKey};
use tutti_telemetry::Counter;

use crate::disk::blobs::Incoming;
use crate::disk::index::Name;
use crate::disk::ledger::{Overflow, Standing};
use crate::disk::{Loaded, OnDisk, Shelf, Shelved};
use crate::record::OriginalRecord;
use crate::{OriginalWriter, Originals, SealedOriginal, Stats};

/// What an original's record takes while it waits to be entered; its bytes are on disk already.
const RECORD_BYTES: u64 = 1024;
/// Bytes copied at once from a file that cannot be written any more.
const RESCUE_CHUNK: usize = 256 * 1024;

type OriginalShelf = Arc<Shelf<Arc<KeptOriginal>>>;

/// Originals on disk.
pub struct DiskOriginals {
    disk: Option<OnDisk<Arc<KeptOriginal>>>,
    unnamed: Counter,
}

/// An original with its record.
pub(crate) struct KeptOriginal {
    record: OriginalRecord,
    body: FileBody,
}

impl DiskOriginals {
    pub(crate) fn new(disk: Option<OnDisk<Arc<KeptOriginal>>>, unnamed: Counter) -> Self {
        Self { disk, unnamed }
    }
}

impl Originals for DiskOriginals {
    fn find<'a>(&'a self, source: &'a SourceKey) -> BoxFuture<'a, Option<(OriginalRecord, FileBody)>> {
        let Some(disk) = &self.disk else { return Box::pin(ready(None)) };
        match disk.shelf.standing(source.as_bytes()) {
            Standing::Waiting(kept) => Box::pin(ready(Some((kept.record.clone(), kept.body.clone())))),
            Standing::Absent => Box::pin(ready(None)),
            Standing::Perhaps => {
                let (shelf, name) = (disk.shelf.clone(), *source.as_bytes());
                disk.look_up(move || original_of(shelf.load(&name, 0)?))
            }
        }
    }

    fn writer(&self) -> Box<dyn OriginalWriter> {
        let disk = self.disk.as_ref().map(|disk| disk.shelf.clone());
        let unnamed = self.unnamed.clone();
        Box::new(Writing {
            disk,
            unnamed,
            medium: Medium::Undecided,
            len: 0,
            hasher: ContentHasher::default(),
        })
    }

    fn update<'a>(&'a self, source: &'a SourceKey, record: OriginalRecord) -> BoxFuture<'a, bool> {
        let Some(disk) = &self.disk else { return Box::pin(ready(false)) };
        let name = *source.as_bytes();
        let changed = |kept: &Arc<KeptOriginal>| {
            let same = kept.record.hash == record.hash;
            same.then(|| Arc::new(KeptOriginal { record: record.clone(), body: kept.body.clone() }))
        };
        match disk.shelf.standing(&name) {
            Standing::Absent => Box::pin(ready(false)),
            // What waits may be written in between; then it is on disk.
            Standing::Waiting(_) if disk.shelf.amend(&name, changed) => Box::pin(ready(true)),
            Standing::Waiting(_) | Standing::Perhaps => {
                let shelf = disk.shelf.clone();
                let done = disk.look_up(move || {
                    let (before, body) = original_of(shelf.load(&name, 0)?)?;
                    // Forgotten in between, it stays so.
                    let is_kept =
                        before.hash == record.hash && !matches!(shelf.standing(&name), Standing::Absent);
                    let kept = Arc::new(KeptOriginal { record, body });
                    (is_kept && shelf.keep(name, kept, None, RECORD_BYTES, Overflow::LeaveBefore))
                        .then_some(())
                });
                Box::pin(async move { done.await.is_some() })
            }
        }
    }

    fn forget(&self, source: &SourceKey) {
        if let Some(disk) = &self.disk {
            disk.shelf.forget(source.as_bytes());
        }
    }

    fn clear(&self) {
        if let Some(disk) = &self.disk {
            disk.shelf.clear();
        }
    }

    fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        if let Some(disk) = &self.disk {
            disk.shelf.add_to(&mut stats);
        }
        stats
    }
}

fn original_of(loaded: Loaded) -> Option<(OriginalRecord, FileBody)> {
    let record: OriginalRecord = envelope::open(&loaded.record)
        .inspect_err(|error| tracing::debug!(target: "cache", %error, "a kept record is not readable"))
        .ok()?;
    match loaded.body {
        KeptBody::File(body) if record.hash == loaded.hash => Some((record, body)),
        KeptBody::File(_) | KeptBody::Whole(_) => None,
    }
}

impl Shelved for Arc<KeptOriginal> {
    fn target(&self) -> Name {
        *self.record.hash.as_bytes()
    }
    fn record(&self) -> Vec<u8> {
        seal(&self.record)
    }
    fn facts(&self) -> Vec<u8> {
        vec![]
    }
    fn hash(&self) -> ContentHash {
        self.record.hash
    }
    fn len(&self) -> u64 {
        self.body.len
    }
    fn bytes(&self) -> Option<&Bytes> {
        None
    }
}

/// An original that is being written.
struct Writing {
    disk: Option<OriginalShelf>,
    unnamed: Counter,
    medium: Medium,
    len: u64,
    hasher: ContentHasher,
}

/// Where its bytes go.
enum Medium {
    /// Nothing has come yet.
    Undecided,
    /// A file of the cache.
    Disk(Incoming),
    /// An unnamed memory file.
    Memory(File),
}

impl OriginalWriter for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.decide()?;
        if let Medium::Disk(incoming) = &self.medium
            && incoming.write_at(bytes, self.len).is_err()
        {
            if let Some(shelf) = &self.disk {
                shelf.count_error("write");
            }
            self.move_to_memory()?;
        }
        if let Medium::Memory(file) = &self.medium {
            file.write_all_at(bytes, self.len)?;
        }
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn seal(mut self: Box<Self>) -> io::Result<SealedOriginal> {
        self.decide()?;
        let hash = self.hasher.finish();
        let file = match &self.medium {
            Medium::Disk(incoming) => match incoming.reader() {
                Ok(file) => file,
                Err(_) => {
                    self.move_to_memory()?;
                    return self.seal();
                }
            },
            Medium::Memory(file) => sealed_reader(file)?,
            Medium::Undecided => return Err(io::Error::other("an original has nowhere to go")),
        };
        let body = FileBody { file: Arc::new(file), offset: 0, len: self.len };
        let keep = keeper(*self, hash, body.clone());
        Ok(SealedOriginal { hash, body, keep })
    }
}

impl Writing {
    fn decide(&mut self) -> io::Result<()> {
        if matches!(self.medium, Medium::Undecided) {
            self.medium = match self.disk.as_ref().and_then(|shelf| shelf.incoming()) {
                Some(incoming) => Medium::Disk(incoming),
                None => self.unnamed()?,
            };
        }
        Ok(())
    }

    fn unnamed(&self) -> io::Result<Medium> {
        self.unnamed.inc();
        let file = memfd_create("tutti-original", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        Ok(Medium::Memory(File::from(file)))
    }

    /// Goes on in memory after the disk failed, with what had been written so far.
    fn move_to_memory(&mut self) -> io::Result<()> {
        let Medium::Memory(memory) = self.unnamed()? else { return Ok(()) };
        if let Medium::Disk(incoming) = &self.medium {
            let mut chunk = vec![0; RESCUE_CHUNK];
            let mut at = 0;
            while at < self.len {
                let part = usize::try_from(self.len - at).map_or(RESCUE_CHUNK, |left| left.min(RESCUE_CHUNK));
                incoming.read_at(&mut chunk[..part], at)?;
                memory.write_all_at(&chunk[..part], at)?;
                at += part as u64;
            }
        }
        self.medium = Medium::Memory(memory);
        Ok(())
    }
}

/// Seals a memory file against every change and opens it for reading only.
fn sealed_reader(file: &File) -> io::Result<File> {
    fcntl_add_seals(file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    // Where /proc is not mounted, the sealed descriptor does as well: nobody can write through it.
    fs::File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).or_else(|_| file.try_clone())
}

/// What keeps a sealed original under a name.
fn keeper(
    writing: Writing,
    hash: ContentHash,
    body: FileBody,
) -> Box<dyn FnOnce(SourceKey, OriginalRecord) + Send> {
    let Writing { disk, medium, .. } = writing;
    Box::new(move |source, record| {
        // In memory it goes with its last reader, and one that may not be shared is never kept.
        let (Some(shelf), Medium::Disk(incoming), true) = (disk, medium, record.shared) else { return };
        let record = OriginalRecord { hash, len: body.len, ..record };
        let kept = Arc::new(KeptOriginal { record, body });
        shelf.keep(*source.as_bytes(), kept, Some(Arc::new(incoming)), RECORD_BYTES, Overflow::ForgetBefore);
    })
}
