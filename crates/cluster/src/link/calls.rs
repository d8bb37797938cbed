//! The caller's side of a connection: calls that wait for an answer, and answers that arrive in pieces.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::{Either, select};
use tokio::sync::{mpsc, oneshot};
use tutti_base::net::SMALL_MAX;
use tutti_base::{Body, BodyError, Call, CallError, Kind, NodeId, Problem, Reply, StreamBody, Tick};

use super::outbox::Closed;
use super::{Ended, Link};
use crate::frame::{
    CHUNK_BYTES, CallFrame, FrameError, FrameKind, Outgoing, ReplyBody, ReplyFrame, WINDOW_BYTES,
};
use crate::frame::{long, word};

type Answer = oneshot::Sender<Result<Reply, CallError>>;
type Chunks = mpsc::UnboundedSender<Result<Bytes, BodyError>>;

/// What a call waits for.
enum Waiting {
    /// The answer.
    Answer { since: Tick, answer: Answer },
    /// More of its body. The channel holds at most [`WINDOW_BYTES`]: the peer sends no more than was granted.
    Pieces { since: Tick, chunks: Chunks, left: u32, total: u64, crc: crc32fast::Hasher },
}

impl Waiting {
    fn since(&self) -> Tick {
        match self {
            Waiting::Answer { since, .. } | Waiting::Pieces { since, .. } => *since,
        }
    }
    fn fail(self, why: CallError) {
        match self {
            Waiting::Answer { answer, .. } => drop(answer.send(Err(why))),
            Waiting::Pieces { chunks, .. } => drop(chunks.send(Err(broken(&why)))),
        }
    }
}

fn broken(why: &CallError) -> BodyError {
    match why {
        CallError::Silent(_) | CallError::Late(_) => BodyError::Timeout,
        other => BodyError::Broken(other.to_string()),
    }
}

#[derive(Default)]
struct Table {
    next: u32,
    waiting: HashMap<u32, Waiting>,
    closed: bool,
}

/// The calls under way on one connection.
#[derive(Default)]
pub(super) struct Calls {
    table: Mutex<Table>,
    owed: AtomicUsize,
}

/// Why a call did not begin.
enum NotBegun {
    Closed,
    TooMany,
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait.
    pub(super) fn owed(&self) -> usize {
        self.owed.load(Ordering::Relaxed)
    }

    fn begin(&self, since: Tick, answer: Answer, most: usize) -> Result<u32, NotBegun> {
        let mut table = self.lock();
        if table.closed {
            return Err(NotBegun::Closed);
        }
        if table.waiting.len() >= most {
            return Err(NotBegun::TooMany);
        }
        // 0 is the connection itself; a number that is still in use is passed over.
        let mut call = table.next.wrapping_add(1).max(1);
        while table.waiting.contains_key(&call) {
            call = call.wrapping_add(1).max(1);
        }
        table.next = call;
        table.waiting.insert(call, Waiting::Answer { since, answer });
        self.count(&table);
        Ok(call)
    }

    fn count(&self, table: &Table) {
        self.owed.store(table.waiting.len(), Ordering::Relaxed);
    }

    fn remove(&self, call: u32) -> Option<Waiting> {
        let mut table = self.lock();
        let found = table.waiting.remove(&call);
        self.count(&table);
        found
    }

    /// The peer answered that it cannot, or cannot go on.
    pub(super) fn fail(&self, peer: NodeId, call: u32, problem: Problem) {
        if let Some(waiting) = self.remove(call) {
            waiting.fail(CallError::Refused(peer, Box::new(problem)));
        }
    }

    /// A piece of a body arrived. More than was granted breaks the protocol.
    pub(super) fn chunk(&self, call: u32, bytes: Bytes) -> Result<(), FrameError> {
        let mut table = self.lock();
        // A call that was given up may still have pieces under way.
        let Some(Waiting::Pieces { chunks, left, total, crc, .. }) = table.waiting.get_mut(&call) else {
            return Ok(());
        };
        let granted = left.checked_sub(bytes.len() as u32);
        *left = granted.ok_or(FrameError::Malformed("more bytes than were granted"))?;
        *total += bytes.len() as u64;
        crc.update(&bytes);
        // The receiver removes the call when it goes.
        let _ = chunks.send(Ok(bytes));
        Ok(())
    }

    fn grant(&self, call: u32, bytes: u32) -> bool {
        match self.lock().waiting.get_mut(&call) {
            Some(Waiting::Pieces { left, .. }) => {
                *left += bytes;
                true
            }
            _ => false,
        }
    }

    /// A body is complete, by the peer's word.
    pub(super) fn complete(&self, call: u32, payload: &[u8]) {
        if let Some(Waiting::Pieces { chunks, total, crc, .. }) = self.remove(call)
            && (total != long(payload, 0) || crc.finalize() != word(payload, 8))
        {
            let _ = chunks.send(Err(BodyError::Broken("its length or checksum does not match".into())));
        }
    }

    /// When the oldest that waits began.
    pub(super) fn oldest(&self) -> Option<Tick> {
        self.lock().waiting.values().map(Waiting::since).min()
    }

    /// Fails those that began at `until` or before; tells which.
    fn fail_silent(&self, peer: NodeId, until: Tick) -> Vec<u32> {
        let mut table = self.lock();
        let silent: Vec<(u32, Waiting)> =
            table.waiting.extract_if(|_, waiting| waiting.since() <= until).collect();
        self.count(&table);
        drop(table);
        let fail = |(call, waiting): (u32, Waiting)| {
            waiting.fail(CallError::Silent(peer));
            call
        };
        silent.into_iter().map(fail).collect()
    }

    /// Fails all: the connection has ended.
    pub(super) fn end(&self, peer: NodeId) {
        let mut table = self.lock();
        table.closed = true;
        let all = std::mem::take(&mut table.waiting);
        self.count(&table);
        drop(table);
        all.into_values().for_each(|waiting| waiting.fail(CallError::Broken(peer)));
    }
}

/// Gives a call up when it is dropped before its answer.
struct Interest<'a> {
    link: &'a Link,
    call: u32,
    answered: bool,
}

impl Drop for Interest<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.link.give_up(self.call);
        }
    }
}

impl Link {
    /// Asks the peer and waits for its answer until `deadline`. `Err(None)` says that the connection has ended and
    /// nothing was sent. Cancel-safe: dropped, the call is cancelled at the peer.
    pub(crate) async fn call(
        self: &Arc<Self>,
        call: &Call,
        deadline: Tick,
    ) -> Result<Reply, Option<CallError>> {
        let now = self.home.clock.now();
        self.check(call)?;
        let (answer, answered) = oneshot::channel();
        let id = match self.calls.begin(now, answer, self.home.limits.calls_max) {
            Ok(id) => id,
            Err(NotBegun::Closed) => return Err(None),
            Err(NotBegun::TooMany) => return Err(Some(self.too_many())),
        };
        let mut interest = Interest { link: self, call: id, answered: false };
        let within = deadline.since(now);
        let asking = async {
            let frame = CallFrame::frame(call.topic.0, id, within, &call.head, &call.body);
            let sent = self.send_call(frame, id, &call.body);
            tokio::pin!(sent);
            match select(answered, sent).await {
                Either::Left((answer, _)) => answer,
                Either::Right((_, answered)) => answered.await,
            }
        };
        tokio::pin!(asking);
        let answer = match select(asking, self.home.clock.sleep_until(deadline)).await {
            Either::Left((answer, _)) => answer.unwrap_or(Err(CallError::Broken(self.peer))),
            Either::Right(_) => return Err(Some(CallError::Late(self.peer))),
        };
        // Where it comes in pieces, its body gives it up from now on.
        interest.answered = answer.is_ok();
        answer.map_err(Some)
    }

    fn check(&self, call: &Call) -> Result<(), Option<CallError>> {
        let most = if self.lane == tutti_base::Lane::Bulk { crate::frame::CALL_BODY_MAX } else { SMALL_MAX };
        let too_long = |what: &'static str, bytes: usize, most: usize| {
            let detail = format!("a call's {what} of {bytes} bytes is over the limit of {most} on this lane");
            Some(CallError::Refused(self.peer, Box::new(Problem::new(Kind::Internal, detail))))
        };
        if call.head.len() > crate::frame::HEAD_MAX {
            return Err(too_long("head", call.head.len(), crate::frame::HEAD_MAX));
        }
        if call.body.len() > most {
            return Err(too_long("body", call.body.len(), most));
        }
        Ok(())
    }

    fn too_many(&self) -> CallError {
        self.home.counts.refused("calls");
        let detail = format!("{} calls are under way to this node already", self.home.limits.calls_max);
        CallError::Refused(self.peer, Box::new(Problem::new(Kind::Overloaded, detail)))
    }

    /// Sends the frame of a call, and then its body in pieces where it is long.
    async fn send_call(&self, frame: Outgoing, id: u32, body: &Bytes) -> Result<(), Closed> {
        self.outbox.send(frame).await?;
        if body.len() > SMALL_MAX {
            for from in (0..body.len()).step_by(CHUNK_BYTES) {
                let piece = body.slice(from..body.len().min(from + CHUNK_BYTES));
                self.outbox.send(Outgoing::with_body(FrameKind::Chunk, 0, id, &[], piece)).await?;
            }
        }
        Ok(())
    }

    /// Fails the calls that began at `until` or before, and cancels them should the peer wake. Tells how many.
    pub(super) fn give_up_silent(&self, until: Tick) -> usize {
        let silent = self.calls.fail_silent(self.peer, until);
        for call in &silent {
            self.outbox.push(Outgoing::new(FrameKind::Cancel, 0, *call, &[]));
        }
        silent.len()
    }

    /// Nobody waits for this call any more.
    fn give_up(&self, call: u32) {
        if self.calls.remove(call).is_some() {
            self.outbox.push(Outgoing::new(FrameKind::Cancel, 0, call, &[]));
        }
    }

    /// An answer arrived.
    pub(super) fn take_reply(self: &Arc<Self>, call: u32, payload: Bytes) -> Result<(), Ended> {
        let reply = ReplyFrame::read(payload)?;
        match reply.body {
            ReplyBody::Whole(body) => {
                if let Some(Waiting::Answer { answer, .. }) = self.calls.remove(call) {
                    // Who asked may have gone.
                    let _ = answer.send(Ok(Reply { head: reply.head, body: Body::Whole(body) }));
                }
            }
            ReplyBody::Pieces { len, hash } => {
                let Some((answer, pieces)) = self.begin_pieces(call) else { return Ok(()) };
                let body = Body::Stream(StreamBody { len, hash, chunks: Box::pin(pieces) });
                // Not taken, it is dropped and with it given up.
                drop(answer.send(Ok(Reply { head: reply.head, body })));
            }
        }
        Ok(())
    }

    fn begin_pieces(self: &Arc<Self>, call: u32) -> Option<(Answer, Pieces)> {
        let (chunks, arriving) = mpsc::unbounded_channel();
        let mut table = self.calls.lock();
        let slot = table.waiting.get_mut(&call)?;
        let since = slot.since();
        let crc = crc32fast::Hasher::new();
        let pieces = Waiting::Pieces { since, chunks, left: WINDOW_BYTES, total: 0, crc };
        let Waiting::Answer { answer, .. } = std::mem::replace(slot, pieces) else { return None };
        Some((answer, Pieces { link: self.clone(), call, arriving, taken: 0 }))
    }
}

/// The body of an answer as its pieces arrive. Dropped before its end, it is cancelled at the peer.
struct Pieces {
    link: Arc<Link>,
    call: u32,
    arriving: mpsc::UnboundedReceiver<Result<Bytes, BodyError>>,
    /// Bytes that were taken and not granted anew.
    taken: u32,
}

impl Stream for Pieces {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = std::task::ready!(self.arriving.poll_recv(cx));
        if let Some(Ok(bytes)) = &next {
            self.taken += bytes.len() as u32;
            if self.taken >= WINDOW_BYTES / 2 {
                let taken = std::mem::take(&mut self.taken);
                if self.link.calls.grant(self.call, taken) {
                    let frame = Outgoing::new(FrameKind::Window, 0, self.call, &taken.to_le_bytes());
                    self.link.outbox.push(frame);
                }
            }
        }
        Poll::Ready(next)
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.link.give_up(self.call);
    }
}
