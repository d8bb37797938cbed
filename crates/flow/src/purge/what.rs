//! What a purge takes away, its limits, and what it is found by. Pure.

use serde::{Deserialize, Serialize};
use tutti_base::{Kind, Problem, RequestKey, SourceKey, Wall};

use super::{KEYS_MAX, PATH_LEN_MAX, TAG_LEN_MAX};

/// What a purge takes away.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum What {
    /// The answers to these requests, at most [`KEYS_MAX`]: one URL in all its variants.
    Requests(Vec<RequestKey>),
    /// Everything made of one original, and the original.
    Source(SourceKey),
    /// Everything that carries this tag of at most [`TAG_LEN_MAX`].
    Tag(String),
    /// Everything.
    All,
    /// A file of a folder, deleted for good: every copy of it that was last changed before `at`, on every node, and
    /// everything made of it.
    Deleted {
        /// Its name.
        source: SourceKey,
        /// The folder's name.
        folder: String,
        /// The path in it.
        path: String,
        /// When.
        at: Wall,
    },
}

/// The name under which a binding carries one of its originals among its tags.
pub fn source_tag(source: &SourceKey) -> String {
    format!("source:{}", source.hex())
}

/// The name under which a binding carries a tag of a service or an origin.
pub fn named_tag(tag: &str) -> String {
    format!("tag:{tag}")
}

impl What {
    /// Whether it takes away what has these tags, and answers `key` where it is an answer.
    pub(super) fn concerns(&self, tags: &[String], key: Option<&RequestKey>) -> bool {
        match self {
            What::All => true,
            What::Requests(keys) => key.is_some_and(|key| keys.contains(key)),
            What::Source(source) => tags.contains(&source_tag(source)),
            What::Tag(tag) => tags.contains(&named_tag(tag)),
            What::Deleted { source, .. } => tags.contains(&source_tag(source)),
        }
    }

    /// Refuses what is over a limit, as `BadRequest`.
    pub(super) fn check(&self) -> Result<(), Problem> {
        match self {
            What::All | What::Source(_) => Ok(()),
            What::Requests(keys) => within("the number of requests", keys.len(), KEYS_MAX),
            What::Tag(tag) => within("the length of the tag in bytes", tag.len(), TAG_LEN_MAX),
            What::Deleted { folder, path, .. } => {
                within("the length of the folder's name in bytes", folder.len(), TAG_LEN_MAX)?;
                within("the length of the path in bytes", path.len(), PATH_LEN_MAX)
            }
        }
    }

    /// About how many bytes it takes on its way.
    pub(super) fn weight(&self) -> usize {
        match self {
            What::All | What::Source(_) => 32,
            What::Requests(keys) => keys.len() * 32,
            What::Tag(tag) => tag.len(),
            What::Deleted { folder, path, .. } => 48 + folder.len() + path.len(),
        }
    }
}

fn within(what: &str, found: usize, most: usize) -> Result<(), Problem> {
    if found <= most {
        return Ok(());
    }
    let detail =
        format!("{what} of a purge is {found}, and at most {most} are taken; purge in parts, or everything");
    Err(Problem::new(Kind::BadRequest, detail))
}
