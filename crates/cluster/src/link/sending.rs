//! How an answer goes out: whole where it is short, in pieces under the caller's credit where it is long.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use tokio::sync::Semaphore;
use tutti_base::net::SMALL_MAX;
use tutti_base::{Body, BodyError, FileBody, Kind, Problem, Reply, StreamBody};

use super::Link;
use crate::frame::{CHUNK_BYTES, FrameKind, HEAD_MAX, Outgoing, ReplyFrame, failed};

/// How long a caller may take nothing of a body before it is given up.
pub(crate) const STALL_MAX: Duration = Duration::from_secs(60);
/// How much of a file is read at once, in bytes.
const FILE_READ_BYTES: u64 = 256 << 10;

/// A body, piece by piece.
enum Pieces {
    Whole(Bytes),
    File(FileBody),
    Stream(StreamBody),
}

impl Pieces {
    fn of(body: Body) -> Self {
        match body {
            Body::Whole(bytes) => Pieces::Whole(bytes),
            Body::File(file) => Pieces::File(file),
            Body::Stream(stream) => Pieces::Stream(stream),
        }
    }

    /// The next piece; never an empty one.
    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        match self {
            Pieces::Whole(bytes) if bytes.is_empty() => None,
            Pieces::Whole(bytes) => Some(Ok(bytes.split_to(bytes.len().min(CHUNK_BYTES)))),
            Pieces::File(file) if file.len == 0 => None,
            Pieces::File(file) => {
                let length = file.len.min(FILE_READ_BYTES);
                let (from, offset) = (file.file.clone(), file.offset);
                file.offset += length;
                file.len -= length;
                Some(read(from, offset, length as usize).await)
            }
            Pieces::Stream(stream) => loop {
                match stream.chunks.next().await {
                    Some(Ok(bytes)) if bytes.is_empty() => {}
                    next => return next,
                }
            },
        }
    }
}

async fn read(file: Arc<std::fs::File>, offset: u64, length: usize) -> Result<Bytes, BodyError> {
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, offset).map(|()| Bytes::from(bytes))
    });
    match reading.await {
        Ok(read) => read.map_err(|error| BodyError::Broken(error.to_string())),
        Err(error) => Err(BodyError::Broken(error.to_string())),
    }
}

impl Link {
    /// Sends the answer to `call` and returns once it is in the queue.
    pub(super) async fn answer(&self, call: u32, outcome: Result<Reply, Problem>, credit: &Semaphore) {
        let sent = match outcome {
            Ok(reply) => self.send_reply(call, reply, credit).await,
            Err(problem) => Err(problem),
        };
        if let Err(problem) = sent {
            self.outbox.push(failed(call, problem));
        }
    }

    async fn send_reply(&self, call: u32, reply: Reply, credit: &Semaphore) -> Result<(), Problem> {
        let Reply { head, body } = reply;
        if head.len() > HEAD_MAX {
            let detail = format!("an answer's head of {} bytes is over the limit of {HEAD_MAX}", head.len());
            return Err(Problem::new(Kind::Internal, detail));
        }
        let (len, hash) = (body.len(), if let Body::Stream(stream) = &body { stream.hash } else { None });
        let mut pieces = Pieces::of(body);
        let mut first = Vec::new();
        if len.is_none_or(|len| len <= SMALL_MAX as u64)
            && let Some(whole) = gather(&mut pieces, &mut first).await?
        {
            return self.send(ReplyFrame::whole(call, &head, whole)).await;
        }
        self.send(ReplyFrame::pieces(call, &head, len, hash)).await?;
        let (mut total, mut crc) = (0, crc32fast::Hasher::new());
        let mut first = first.into_iter().map(Ok);
        while let Some(piece) = if let Some(piece) = first.next() { Some(piece) } else { pieces.next().await }
        {
            let mut piece: Bytes = piece.map_err(broken)?;
            total += piece.len() as u64;
            crc.update(&piece);
            while !piece.is_empty() {
                self.send_piece(call, piece.split_to(piece.len().min(CHUNK_BYTES)), credit).await?;
            }
        }
        if len.is_some_and(|len| len != total) {
            return Err(broken(BodyError::Broken("it has another length than it said".into())));
        }
        let end = [total.to_le_bytes().as_slice(), &crc.finalize().to_le_bytes()].concat();
        self.send(Outgoing::new(FrameKind::End, 0, call, &end)).await
    }

    async fn send_piece(&self, call: u32, piece: Bytes, credit: &Semaphore) -> Result<(), Problem> {
        let stalled = self.home.clock.sleep_until(self.home.clock.now() + STALL_MAX);
        let acquiring = std::pin::pin!(credit.acquire_many(piece.len() as u32));
        match select(acquiring, stalled).await {
            Either::Left((Ok(permits), _)) => permits.forget(),
            _ => return Err(Problem::new(Kind::Timeout, "nothing of the body was taken for a minute")),
        }
        self.send(Outgoing::with_body(FrameKind::Chunk, 0, call, &[], piece)).await
    }

    /// Waits for room in the queue; a connection that has ended has stopped this task or is about to.
    async fn send(&self, frame: Outgoing) -> Result<(), Problem> {
        let sent = self.outbox.send(frame).await;
        sent.map_err(|_| Problem::new(Kind::Unavailable, "the connection has ended"))
    }
}

/// The whole body where it is no longer than [`SMALL_MAX`]; else `None`, with its beginning in `first`.
async fn gather(pieces: &mut Pieces, first: &mut Vec<Bytes>) -> Result<Option<Bytes>, Problem> {
    let mut length = 0;
    while length <= SMALL_MAX {
        let Some(piece) = pieces.next().await else {
            return Ok(Some(join(first, length)));
        };
        let piece = piece.map_err(broken)?;
        length += piece.len();
        first.push(piece);
    }
    Ok(None)
}

fn join(pieces: &mut Vec<Bytes>, length: usize) -> Bytes {
    if pieces.len() == 1 {
        return pieces.remove(0);
    }
    let mut whole = BytesMut::with_capacity(length);
    pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
    whole.freeze()
}

fn broken(error: BodyError) -> Problem {
    let kind = if matches!(error, BodyError::Timeout) { Kind::Timeout } else { Kind::Unavailable };
    Problem::new(kind, "the body broke off at the node that sends it").because(error)
}
