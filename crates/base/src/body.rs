//! Bodies: streams with optional length and content hash; a whole buffer and a file are the special cases.

use std::fs::File;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;

use crate::ContentHash;

/// Why a body ended early.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BodyError {
    /// It was longer than allowed.
    #[error("the body is longer than its limit of {limit} bytes")]
    TooLong {
        /// The limit, in bytes.
        limit: u64,
    },
    /// It ended before its stated length, or the connection broke.
    #[error("the body broke off: {0}")]
    Broken(String),
    /// It did not arrive in time.
    #[error("the body did not arrive in time")]
    Timeout,
}

/// The bytes of a request, an original or a result.
pub enum Body {
    /// All of it, in memory.
    Whole(Bytes),
    /// A range of an immutable file.
    File(FileBody),
    /// Bytes that are still arriving.
    Stream(StreamBody),
}

/// Bytes that are all there and do not change: what caches hold.
#[derive(Clone, Debug)]
pub enum KeptBody {
    /// All of it, in memory.
    Whole(Bytes),
    /// A range of an immutable file.
    File(FileBody),
}

impl KeptBody {
    /// The length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            KeptBody::Whole(bytes) => bytes.len() as u64,
            KeptBody::File(file) => file.len,
        }
    }
    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<KeptBody> for Body {
    fn from(kept: KeptBody) -> Self {
        match kept {
            KeptBody::Whole(bytes) => Body::Whole(bytes),
            KeptBody::File(file) => Body::File(file),
        }
    }
}

/// A range of a file that nobody changes while it is open (the caches write files once).
#[derive(Clone, Debug)]
pub struct FileBody {
    /// The open file; read it by position, never by its cursor.
    pub file: Arc<File>,
    /// Where the body begins in it.
    pub offset: u64,
    /// How long the body is.
    pub len: u64,
}

/// Bytes that are still arriving.
pub struct StreamBody {
    /// The length, where it is known in advance.
    pub len: Option<u64>,
    /// The hash of the whole body, where it is known in advance.
    pub hash: Option<ContentHash>,
    /// The pieces. Dropping it cancels the source of the bytes, unless others wait for them.
    pub chunks: Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>,
}

impl Body {
    /// A body of no bytes.
    pub const fn empty() -> Self {
        Body::Whole(Bytes::new())
    }
    /// The length, where it is known.
    pub fn len(&self) -> Option<u64> {
        match self {
            Body::Whole(bytes) => Some(bytes.len() as u64),
            Body::File(file) => Some(file.len),
            Body::Stream(stream) => stream.len,
        }
    }
    /// Whether it is known to have no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Body::Whole(bytes)
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({:?} bytes)", self.len())
    }
}
