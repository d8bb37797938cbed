//! Answers as the front gets them: what to send, and what to say of how it came about.

use std::sync::Arc;
use std::time::Duration;

use tutti_base::http::Field;
use tutti_base::{Body, Problem};
use tutti_cache::Entry;

use crate::Planned;

/// What a request is answered with.
#[derive(Debug)]
pub enum Answer {
    /// Bytes with a binding: from a cache, or just made and stored.
    Kept(Kept),
    /// Bytes that belong to this answer alone.
    Made(Made),
    /// A failure; the front makes `problem+json` of it.
    Problem(Problem, CacheNote, Timing),
}

/// Bytes with a binding.
pub struct Kept {
    /// The bytes and what is said of them.
    pub entry: Arc<Entry>,
    /// The plan they answer.
    pub planned: Arc<Planned>,
    /// For `Cache-Status`.
    pub cache: CacheNote,
    /// For `Server-Timing`.
    pub timing: Timing,
    /// Who made it, and why there.
    pub whence: Whence,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kept({:?}, {:?})", self.entry.binding.result, self.cache)
    }
}

/// Bytes that belong to one answer alone.
#[derive(Debug)]
pub struct Made {
    /// The status.
    pub status: u16,
    /// The value of `Content-Type`.
    pub content_type: String,
    /// Further fields.
    pub fields: Vec<Field>,
    /// The body.
    pub body: Body,
    /// Whether anyone may store it: else `Cache-Control: no-store` goes with it.
    pub storable: bool,
    /// For `Cache-Status`.
    pub cache: CacheNote,
    /// For `Server-Timing`.
    pub timing: Timing,
    /// Who made it, and why there.
    pub whence: Whence,
}

/// Which node made an answer and why it was chosen, by name and never by address; for `Server-Timing`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Whence {
    /// The name of the node whose engine made the bytes; none where no engine did, or nobody knows any more.
    pub maker: Option<Arc<str>>,
    /// Why that node: a short sentence; none for what was made before.
    pub why: Option<Arc<str>>,
    /// The name of the peer from whose cache or flight it came; none where it was at hand here.
    pub through: Option<Arc<str>>,
}

/// What `Cache-Status` says (RFC 9211).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CacheNote {
    /// `hit`: fresh, from memory or disk.
    Hit,
    /// `hit; detail=stale`: expired, while it is made anew or because origin or capacity failed.
    Stale,
    /// `fwd=miss; stored`: made and stored.
    Stored,
    /// `fwd=miss`: made and not stored.
    Miss,
    /// `fwd=miss; collapsed`: made for another request that asked at the same time.
    Collapsed,
    /// `fwd=stale; stored`: there was one, it had expired, and it was made anew.
    Renewed,
    /// `fwd=miss; detail=degraded-<word>`: a cheaper one, because capacity is short.
    Degraded(&'static str),
    /// `fwd=bypass`: nothing to cache.
    Bypass,
}

impl CacheNote {
    /// The label in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            CacheNote::Hit => "hit",
            CacheNote::Stale => "stale",
            CacheNote::Stored => "stored",
            CacheNote::Miss => "miss",
            CacheNote::Collapsed => "collapsed",
            CacheNote::Renewed => "renewed",
            CacheNote::Degraded(_) => "degraded",
            CacheNote::Bypass => "bypass",
        }
    }

    /// The word, with the rung's where it is degraded; [`Self::from_word`] reads it.
    pub(crate) fn full_word(self) -> String {
        match self {
            CacheNote::Degraded(rung) => format!("degraded-{rung}"),
            other => other.word().into(),
        }
    }

    /// The note of a [`Self::full_word`] from another node.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        use CacheNote::{Bypass, Collapsed, Hit, Miss, Renewed, Stale, Stored};
        if let Some(rung) = word.strip_prefix("degraded-") {
            return Some(CacheNote::Degraded(crate::wire::known(rung)));
        }
        [Hit, Stale, Stored, Miss, Collapsed, Renewed, Bypass].into_iter().find(|note| note.word() == word)
    }
}

/// How long the parts of the journey took, in the order in which they ended.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Timing(pub Vec<(&'static str, Duration)>);
