//! Carries a body's pieces from the runtime to a front thread: streams by a bounded channel, cold file pieces one by one.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tutti_base::{BodyError, FileBody, StreamBody};

use crate::mailbox::{Letter, Mailbox, Token};

/// Most pieces of a stream that wait for the client; then its source waits.
const PIECES: usize = 4;

/// Longest piece of a file in bytes.
pub(crate) const FILE_PIECE: usize = 128 * 1024;

/// A task that ends when nobody holds it any more.
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    /// Holds `task`.
    pub(crate) fn new(task: JoinHandle<()>) -> Self {
        Self(task)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where a thread's outside work runs, and where its results go.
#[derive(Clone)]
pub(crate) struct Outlet {
    pub(crate) runtime: Handle,
    pub(crate) mailbox: Arc<Mailbox>,
}

/// A stream that is being sent.
pub(crate) struct Pump {
    pieces: mpsc::Receiver<Result<Bytes, BodyError>>,
    _task: Task,
}

/// What a pump has.
pub(crate) enum Pumped {
    Piece(Bytes),
    /// Nothing yet; a letter will come.
    Nothing,
    Ended,
    Broken(BodyError),
}

impl Pump {
    /// Starts to carry `stream` to the connection `token`.
    pub(crate) fn start(mut stream: StreamBody, outlet: &Outlet, token: Token) -> Self {
        let (sender, pieces) = mpsc::channel(PIECES);
        let mailbox = Arc::clone(&outlet.mailbox);
        let task = outlet.runtime.spawn(async move {
            while let Some(piece) = stream.chunks.next().await {
                let last = piece.is_err();
                if sender.send(piece).await.is_err() || last {
                    break;
                }
                mailbox.post(Letter::More(token));
            }
            drop(sender);
            mailbox.post(Letter::More(token));
        });
        Self { pieces, _task: Task(task) }
    }

    /// The next piece, if it is there.
    pub(crate) fn next(&mut self) -> Pumped {
        match self.pieces.try_recv() {
            Ok(Ok(piece)) => Pumped::Piece(piece),
            Ok(Err(error)) => Pumped::Broken(error),
            Err(mpsc::error::TryRecvError::Empty) => Pumped::Nothing,
            Err(mpsc::error::TryRecvError::Disconnected) => Pumped::Ended,
        }
    }
}

/// Reads a piece of a file if it is in memory already; `WouldBlock` if the disk is needed.
pub(crate) fn read_resident(file: &FileBody) -> io::Result<Bytes> {
    use rustix::io::{Errno, ReadWriteFlags};
    let mut piece = vec![0; file.len.min(FILE_PIECE as u64) as usize];
    let mut slices = [io::IoSliceMut::new(&mut piece)];
    match rustix::io::preadv2(&file.file, &mut slices, file.offset, ReadWriteFlags::NOWAIT) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(read) => {
            piece.truncate(read);
            Ok(piece.into())
        }
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => {
            Err(io::ErrorKind::WouldBlock.into())
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Has a piece of a file read from the disk; it comes by letter.
pub(crate) fn fetch_piece(file: FileBody, outlet: &Outlet, token: Token) {
    use std::os::unix::fs::FileExt;
    let mailbox = Arc::clone(&outlet.mailbox);
    // Not held: a read of one piece cannot be stopped, and ends by itself.
    outlet.runtime.spawn_blocking(move || {
        let mut piece = vec![0; file.len.min(FILE_PIECE as u64) as usize];
        let result = file.file.read_exact_at(&mut piece, file.offset).map(|()| Bytes::from(piece));
        mailbox.post(Letter::Piece(token, result));
    });
}
