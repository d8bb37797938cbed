//! The seam at which tests make files fail. It is asked before each file operation and does none itself.

use std::io;

/// A kind of file operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FileOp {
    /// Making a folder.
    MakeFolder,
    /// Making a file that is to be written.
    Create,
    /// Writing to such a file.
    Write,
    /// Moving a whole file to its name.
    Rename,
    /// Opening a kept file.
    Open,
    /// Reading from it.
    Read,
    /// Removing a file.
    Remove,
    /// Listing a folder.
    List,
    /// Reading the index.
    IndexRead,
    /// Writing the index.
    IndexWrite,
    /// Syncing the index to stable storage.
    IndexSync,
}

/// Decides which file operations fail.
pub trait Faults: Send + Sync + std::fmt::Debug {
    /// An error makes the operation that follows fail with it.
    fn before(&self, op: FileOp) -> io::Result<()>;
}

/// The machine as it is.
#[derive(Debug)]
pub struct NoFaults;

impl Faults for NoFaults {
    fn before(&self, _op: FileOp) -> io::Result<()> {
        Ok(())
    }
}
