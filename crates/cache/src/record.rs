//! What is kept beside the bytes. All of it is versioned on disk.

use std::any::Any;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use tutti_base::envelope::{self, EnvelopeError, Versioned};
use tutti_base::http::{Field, Validator};
use tutti_base::{ContentHash, KeptBody, ResultKey, Wall};

/// What a request key points to: which bytes answer it, made from what, and until when that holds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Binding {
    /// The bytes.
    pub result: ResultKey,
    /// Content hashes of the originals they were made from.
    pub originals: Vec<ContentHash>,
    /// When they were made or last found to be right.
    pub stored_at: Wall,
    /// Fresh until then.
    pub fresh_until: Wall,
    /// May be served until then while it is made anew.
    pub revalidate_until: Wall,
    /// May be served until then when origin or capacity fails.
    pub error_until: Wall,
    /// What a purge finds it by: its sources' and its URL's names, its own tags and those of its originals.
    pub tags: Vec<String>,
    /// The last purge that was known when its fetch began.
    pub purge_seen: u64,
    /// Marked as degraded: the rung's word. Such a binding is never kept on disk.
    pub degraded: Option<String>,
}

impl Versioned for Binding {
    const KIND: u8 = 1;
    const VERSION: u16 = 1;
}

/// What is said of a result's bytes wherever they are.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ResultMeta {
    /// The value of `Content-Type`.
    pub content_type: String,
    /// The hash of the bytes: the ETag is made of it.
    pub hash: ContentHash,
    /// Their number.
    pub len: u64,
    /// Fields that belong to the bytes.
    pub fields: Vec<Field>,
    /// CPU time that making them took, in ms.
    pub cpu_ms: f32,
    /// The name of the node that made them; none where that is not known any more.
    pub maker: Option<String>,
}

/// Version 1, from before there were nodes.
#[derive(Deserialize)]
struct MetaOfOne {
    content_type: String,
    hash: ContentHash,
    len: u64,
    fields: Vec<Field>,
    cpu_ms: f32,
}

impl Versioned for ResultMeta {
    const KIND: u8 = 2;
    const VERSION: u16 = 2;
    fn migrate(version: u16, payload: &[u8]) -> Result<Self, EnvelopeError> {
        if version != 1 {
            return Err(EnvelopeError::Version { kind: Self::KIND, found: version, newest: Self::VERSION });
        }
        let MetaOfOne { content_type, hash, len, fields, cpu_ms } = envelope::payload(Self::KIND, payload)?;
        Ok(Self { content_type, hash, len, fields, cpu_ms, maker: None })
    }
}

/// A kept answer as the journey sees it.
pub struct Entry {
    /// Which bytes, until when.
    pub binding: Binding,
    /// What is said of them.
    pub meta: ResultMeta,
    /// `Whole` when resident, `File` when it is served from the disk.
    pub body: KeptBody,
    /// The last purge against which this entry was checked; raised by [`Entry::note_purge_checked`].
    purge_checked: AtomicU64,
    /// When its originals in folders were last found unchanged, in ms since 1970; raised by [`Entry::note_fresh`].
    originals_checked: AtomicU64,
    /// What the front has prepared to send this entry faster. Opaque here.
    pub face: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Entry {
    /// An entry that was checked against the purges that its binding has seen.
    pub fn new(binding: Binding, meta: ResultMeta, body: KeptBody) -> Self {
        let purge_checked = AtomicU64::new(binding.purge_seen);
        let originals_checked = AtomicU64::new(binding.stored_at.0);
        Self { binding, meta, body, purge_checked, originals_checked, face: OnceLock::new() }
    }
    /// When its originals in folders were last found unchanged.
    pub fn originals_checked(&self) -> Wall {
        Wall(self.originals_checked.load(Ordering::Relaxed))
    }
    /// Notes that its originals in folders were unchanged at `now`.
    pub fn note_fresh(&self, now: Wall) {
        self.originals_checked.fetch_max(now.0, Ordering::Relaxed);
    }
    /// The last purge against which it was checked.
    pub fn purge_checked(&self) -> u64 {
        self.purge_checked.load(Ordering::Acquire)
    }
    /// Notes that no purge up to `sequence` concerns it.
    pub fn note_purge_checked(&self, sequence: u64) {
        self.purge_checked.fetch_max(sequence, Ordering::AcqRel);
    }
}

/// What is kept of an original from outside.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct OriginalRecord {
    /// The hash of its bytes.
    pub hash: ContentHash,
    /// Their number.
    pub len: u64,
    /// The media type that the origin claimed.
    pub claimed_type: Option<String>,
    /// What to ask the origin with.
    pub validator: Validator,
    /// When it was fetched or last found unchanged.
    pub stored_at: Wall,
    /// Fresh until then.
    pub fresh_until: Wall,
    /// May be used until then when the origin fails.
    pub error_until: Wall,
    /// Whether the origin said how long it is fresh.
    pub explicit_lifetime: bool,
    /// Whether answers made of it may be shared (`private`, `no-store`, `Set-Cookie` forbid it). Unshared originals are
    /// never kept.
    pub shared: bool,
    /// Tags from `Cache-Tag` and `Surrogate-Key`.
    pub tags: Vec<String>,
    /// The last purge that was known when the fetch began.
    pub purge_seen: u64,
}

impl Versioned for OriginalRecord {
    const KIND: u8 = 3;
    const VERSION: u16 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_kept_by_the_version_before_is_read() {
        #[derive(Serialize, Deserialize)]
        struct Old(String, ContentHash, u64, Vec<Field>, f32);
        impl Versioned for Old {
            const KIND: u8 = 2;
            const VERSION: u16 = 1;
        }
        let old = Old("image/png".into(), ContentHash::of(b"x"), 1, Vec::new(), 2.0);
        let read: ResultMeta = envelope::open(&envelope::seal(&old)).unwrap();
        assert_eq!((read.content_type.as_str(), read.len, read.maker), ("image/png", 1, None));
    }
}
