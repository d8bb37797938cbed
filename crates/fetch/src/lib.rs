//! Originals from outside: http(s) origins and named folders, behind [`Fetch`]. Guards addresses and paths; keeps nothing.

mod ask;
pub mod breaker;
mod cap;
pub mod config;
mod count;
mod dial;
mod failure;
pub mod folders;
pub mod freshness;
pub mod guard;
mod link;
pub mod names;
pub mod network;
pub mod origin;
mod outside;
pub mod pattern;
mod pool;
mod receive;
mod roots;
pub mod shelf;
pub mod target;
mod wait;

pub use config::{Config, ConfigError, SourceConfig};
pub use folders::{FolderPaths, FolderReport, FolderState};
pub use names::Names;
pub use network::{Network, NetworkError};
pub use origin::AllowUrl;
pub use outside::Outside;
pub use pattern::{Pattern, PatternError};
pub use shelf::{Gone, Removed, Shelf, ShelfFile, ShelfPage, ShelfQuery};
pub use target::{Target, TargetError};

use std::fs::File;
use std::sync::Arc;

use tutti_base::http::Validator;
use tutti_base::{BoxFuture, Deadline, Problem, Source, StreamBody, TenantId};

/// Gets originals.
pub trait Fetch: Send + Sync {
    /// Gets `request.source`, or learns that it is unchanged. The body is not read yet when this returns. Cancel-safe.
    fn fetch<'a>(&'a self, request: &'a FetchRequest) -> BoxFuture<'a, Result<Fetched, Problem>>;
}

/// What to get.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// From where.
    pub source: Source,
    /// For whom; decides which sources and networks are allowed.
    pub tenant: TenantId,
    /// What is kept of it, to ask with.
    pub validator: Validator,
    /// When the answer is due.
    pub deadline: Deadline,
}

/// What came of it.
pub enum Fetched {
    /// A file of a named folder, open. Its content may still change under us: copy before use.
    File(FolderFile),
    /// An origin's 200, its body on its way.
    Body(OriginAnswer, StreamBody),
    /// An origin's 304.
    NotModified(OriginAnswer),
}

/// A file of a named folder.
#[derive(Clone, Debug)]
pub struct FolderFile {
    /// The open file.
    pub file: Arc<File>,
    /// Its identity: changes whenever the content may have changed.
    pub stamp: FileStamp,
}

/// Device, inode, length, modification and change time: equal stamps mean equal content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileStamp {
    /// Device.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// Length in bytes.
    pub len: u64,
    /// Modification time in ns since 1970.
    pub modified_ns: i128,
    /// Change time in ns since 1970.
    pub changed_ns: i128,
}

/// What an origin said besides the body (RFC 9111).
#[derive(Clone, PartialEq, Debug, Default)]
pub struct OriginAnswer {
    /// What to ask with next time.
    pub validator: Validator,
    /// The media type that it claims.
    pub claimed_type: Option<String>,
    /// For how long it says that this is fresh, less its `Age`; none where it does not say.
    pub fresh_for: Option<std::time::Duration>,
    /// Its `stale-while-revalidate`.
    pub stale_while_revalidate: Option<std::time::Duration>,
    /// Its `stale-if-error`.
    pub stale_if_error: Option<std::time::Duration>,
    /// Whether the answer may be shared: none of `private`, `no-store`, `Set-Cookie`, `Vary: *`.
    pub shared: bool,
    /// Tags from `Cache-Tag` and `Surrogate-Key`.
    pub tags: Vec<String>,
}
