//! Why a folder could not be listed or changed, in words for those who look after it.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use tutti_base::{BodyError, Kind, Problem};

use super::LOOKED_MAX;
use crate::folders::{OpenError, called, uid};

/// Why nothing came of it.
#[derive(Debug)]
pub(super) enum ShelfError {
    NoFolder,
    Path,
    /// The name is taken by this, which is no file.
    Taken(&'static str),
    TooLong(u64),
    TooMany,
    Body(BodyError),
    File(Errno),
    Slow,
    Thread(String),
}

impl From<Errno> for ShelfError {
    fn from(errno: Errno) -> Self {
        ShelfError::File(errno)
    }
}

impl From<io::Error> for ShelfError {
    fn from(error: io::Error) -> Self {
        ShelfError::File(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

impl From<OpenError> for ShelfError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NoFolder => ShelfError::NoFolder,
            OpenError::Path => ShelfError::Path,
            OpenError::Irregular(what) => ShelfError::Taken(what),
            OpenError::Root(errno) | OpenError::File(errno) => ShelfError::File(errno),
            OpenError::Slow => ShelfError::Slow,
            OpenError::Thread(error) => ShelfError::Thread(error),
        }
    }
}

impl ShelfError {
    /// A word for metrics.
    pub(super) fn word(&self) -> &'static str {
        match self {
            ShelfError::NoFolder => "no_folder",
            ShelfError::Path => "path",
            ShelfError::Taken(_) => "taken",
            ShelfError::TooLong(_) => "too_long",
            ShelfError::TooMany => "too_many",
            ShelfError::Body(_) => "body",
            ShelfError::File(Errno::ACCESS | Errno::PERM | Errno::ROFS) => "denied",
            ShelfError::File(Errno::NOSPC | Errno::DQUOT) => "full",
            ShelfError::File(Errno::XDEV | Errno::LOOP) => "outside",
            ShelfError::File(_) => "failing",
            ShelfError::Slow => "timeout",
            ShelfError::Thread(_) => "thread",
        }
    }

    fn kind(&self) -> Kind {
        match self {
            ShelfError::NoFolder => Kind::NotFound,
            ShelfError::Path => Kind::BadRequest,
            ShelfError::Taken(_) => Kind::Conflict,
            ShelfError::TooLong(_) | ShelfError::TooMany => Kind::Unprocessable,
            ShelfError::Body(BodyError::TooLong { .. }) => Kind::Unprocessable,
            ShelfError::Body(BodyError::Timeout) => Kind::Timeout,
            ShelfError::Body(BodyError::Broken(_)) => Kind::BadRequest,
            ShelfError::File(errno) => match *errno {
                Errno::ACCESS | Errno::PERM | Errno::ROFS => Kind::Forbidden,
                Errno::XDEV | Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::EXIST => Kind::Conflict,
                Errno::NAMETOOLONG | Errno::INVAL | Errno::FBIG => Kind::Unprocessable,
                _ => Kind::Unavailable,
            },
            ShelfError::Slow => Kind::Unavailable,
            ShelfError::Thread(_) => Kind::Internal,
        }
    }

    /// For administrators: they may read where the folder is. `folders` are those that there are.
    pub(super) fn problem(&self, folder: &str, path: &str, root: &Path, folders: &[String]) -> Problem {
        let problem = Problem::new(self.kind(), self.text(folder, path, root, folders)).about("path");
        match self.kind() {
            Kind::Unavailable => problem.retry_after(Duration::from_secs(5)),
            _ => problem,
        }
    }

    fn text(&self, folder: &str, path: &str, root: &Path, folders: &[String]) -> String {
        let name = format!("local://{folder}/{path}");
        let place = format!("{} at {}", called(folder), root.display());
        match self {
            ShelfError::NoFolder => no_folder(folder, folders),
            ShelfError::Path => format!("`{path}` is no path of an original"),
            ShelfError::Taken(what) => format!("{name} is {what}; take another name"),
            ShelfError::TooLong(limit) => {
                format!("{name} would be longer than {limit} bytes, the most of an original")
            }
            ShelfError::TooMany => {
                format!("{place} has more than {LOOKED_MAX} names to look at; name a prefix that ends in `/`")
            }
            ShelfError::Body(error) => format!("{name} is not written: {error}"),
            ShelfError::File(Errno::ROFS) => {
                format!(
                    "{place} lies on a file system that is mounted read-only; change the original where it is kept"
                )
            }
            ShelfError::File(Errno::ACCESS | Errno::PERM) => {
                let uid = uid();
                format!(
                    "{place} may not be changed by uid {uid} at `{path}`; give that uid write permission there"
                )
            }
            ShelfError::File(Errno::NOSPC | Errno::DQUOT) => {
                format!("there is no room left in {place}; make some")
            }
            ShelfError::File(Errno::XDEV | Errno::LOOP) => {
                format!("{name}: a link on the way leads out of {place}")
            }
            ShelfError::File(Errno::NOTDIR | Errno::EXIST) => {
                format!("{name}: a part of its path is a file; take another name")
            }
            ShelfError::File(errno) => format!("{name} in {place}: {errno}"),
            ShelfError::Slow => format!("{place} does not answer"),
            ShelfError::Thread(error) => format!("{place}: {error}"),
        }
    }
}

/// Says that there is no folder `folder`, and which there are: `folders`.
pub fn no_folder(folder: &str, folders: &[String]) -> String {
    let names: Vec<String> = folders.iter().map(|name| called(name)).collect();
    let there =
        if names.is_empty() { "none; add one with `--originals`".to_owned() } else { names.join(", ") };
    format!("there is no {}; there is {there}", called(folder).trim_start_matches("the "))
}
