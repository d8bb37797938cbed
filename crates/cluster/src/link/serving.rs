//! The server's side of a connection: calls that are being answered, and bodies of calls that arrive in pieces.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tracing::Instrument;
use tutti_base::net::SMALL_MAX;
use tutti_base::{Body, BoxFuture, Call, Kind, Lane, Problem, Reply, Tick, Topic};

use super::{Ended, Link, Side};
use crate::frame::{
    CallFrame, Frame, FrameError, FrameKind, Outgoing, ReplyFrame, WINDOW_BYTES, failed, word,
};

/// The most bytes of calls that arrive in pieces on one connection; more of them are refused.
pub(crate) const ARRIVING_BYTES_MAX: usize = 256 << 20;

/// A call that was taken.
enum Open {
    /// More of its body is to come.
    Arriving { call: Call, body: BytesMut, want: usize },
    /// It is being answered by a task of its own.
    Answering { task: AbortHandle, credit: Arc<Semaphore> },
}

/// The calls that are being answered on one connection.
#[derive(Default)]
pub(super) struct Serving {
    table: Mutex<HashMap<u32, Open>>,
    count: AtomicUsize,
}

type Work = BoxFuture<'static, Result<Result<Reply, Problem>, Box<dyn std::any::Any + Send>>>;

impl Serving {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Open>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// How many are open.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn remove(&self, call: u32) -> Option<Open> {
        let mut table = self.lock();
        let found = table.remove(&call);
        self.count.store(table.len(), Ordering::Relaxed);
        found
    }

    /// The caller has gone.
    pub(super) fn cancel(&self, call: u32) {
        if let Some(Open::Answering { task, .. }) = self.remove(call) {
            task.abort();
        }
    }

    /// The caller took more of a body.
    pub(super) fn grant(&self, call: u32, payload: &[u8]) -> Result<(), FrameError> {
        let table = self.lock();
        if let Some(Open::Answering { credit, .. }) = table.get(&call) {
            let granted = word(payload, 0) as usize;
            if credit.available_permits() + granted > WINDOW_BYTES as usize {
                return Err(FrameError::Malformed("more was granted than was sent"));
            }
            credit.add_permits(granted);
        }
        Ok(())
    }

    /// Stops all: the connection has ended.
    pub(super) fn end(&self) {
        let all = std::mem::take(&mut *self.lock());
        self.count.store(0, Ordering::Relaxed);
        for open in all.into_values() {
            if let Open::Answering { task, .. } = open {
                task.abort();
            }
        }
    }
}

impl Link {
    pub(super) fn take_cast(&self, frame: Frame) {
        match self.home.serve(frame.topic) {
            Some(serve) => serve.hear(self.peer, frame.payload),
            None => self.home.counts.refused("topic"),
        }
    }

    /// A call arrived. What cannot be served is answered so; what breaks the protocol ends the connection.
    pub(super) fn take_call(self: &Arc<Self>, frame: Frame, now: Tick) -> Result<(), Ended> {
        let (id, topic) = (frame.call, Topic(frame.topic));
        let parts = CallFrame::read(frame.payload)?;
        let want = parts.body_bytes;
        let call = Call { topic, lane: self.lane, head: parts.head, body: parts.body, within: parts.within };
        if self.serving.lock().contains_key(&id) {
            return Err(FrameError::Malformed("a call with the number of another").into());
        }
        if let Some((reason, problem)) = self.refusal(&call, want) {
            self.home.counts.refused(reason);
            self.outbox.push(failed(id, problem));
        } else if want > SMALL_MAX {
            let mut table = self.serving.lock();
            table.insert(id, Open::Arriving { call, body: BytesMut::with_capacity(want), want });
            self.serving.count.store(table.len(), Ordering::Relaxed);
        } else {
            self.start(id, call, now);
        }
        Ok(())
    }

    fn refusal(&self, call: &Call, want: usize) -> Option<(&'static str, Problem)> {
        if self.side == Side::Anonymous && call.topic != Topic::ROSTER {
            let detail = "without a certificate of this cluster a machine may only ask to join";
            return Some(("anonymous", Problem::new(Kind::Forbidden, detail)));
        }
        if want > SMALL_MAX && self.lane != Lane::Bulk {
            return Some(("body", Problem::new(Kind::BadRequest, "a body that long needs the bulk lane")));
        }
        let table = self.serving.lock();
        if table.len() >= self.home.limits.calls_max {
            let detail = "this node answers as many calls of yours as it may";
            return Some(("calls", Problem::new(Kind::Overloaded, detail)));
        }
        let arriving = |open: &Open| if let Open::Arriving { want, .. } = open { *want } else { 0 };
        if want > SMALL_MAX && table.values().map(arriving).sum::<usize>() + want > ARRIVING_BYTES_MAX {
            return Some(("arriving", Problem::new(Kind::Overloaded, "too many long bodies arrive at once")));
        }
        None
    }

    /// A piece of a call's body arrived.
    pub(super) fn take_piece(self: &Arc<Self>, id: u32, piece: &[u8], now: Tick) -> Result<(), Ended> {
        let mut table = self.serving.lock();
        // Pieces of a call that was refused or cancelled may still be under way.
        let Entry::Occupied(mut slot) = table.entry(id) else { return Ok(()) };
        let Open::Arriving { body, want, .. } = slot.get_mut() else { return Ok(()) };
        if body.len() + piece.len() > *want {
            return Err(FrameError::Malformed("a call's body is longer than it said").into());
        }
        body.extend_from_slice(piece);
        if body.len() < *want {
            return Ok(());
        }
        let whole = slot.remove();
        self.serving.count.store(table.len(), Ordering::Relaxed);
        drop(table);
        if let Open::Arriving { mut call, body, .. } = whole {
            call.body = body.freeze();
            self.start(id, call, now);
        }
        Ok(())
    }

    /// Asks the topic's server once in place; what is not ready at once is acknowledged and goes on in a task.
    fn start(self: &Arc<Self>, id: u32, call: Call, now: Tick) {
        let Some(serve) = self.home.serve(call.topic.0) else {
            self.home.counts.refused("topic");
            let detail = format!("this node does not answer on topic {}", call.topic.0);
            return self.outbox.push(failed(id, Problem::new(Kind::Unavailable, detail)));
        };
        let (from, topic, deadline) = (self.peer, call.topic, now + call.within);
        let work = AssertUnwindSafe(async move { serve.serve(from, call).await }).catch_unwind();
        let mut work: Work = Box::pin(work);
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => self.answer_at_once(id, topic, flatten(outcome)),
            Poll::Pending => {
                self.outbox.push(Outgoing::new(FrameKind::Ack, 0, id, &[]));
                let clock = self.home.clock.clone();
                self.spawn(id, topic, async move {
                    match select(work, clock.sleep_until(deadline)).await {
                        Either::Left((outcome, _)) => flatten(outcome),
                        Either::Right(_) => Err(Problem::new(
                            Kind::Timeout,
                            "the caller's time was over before the work was done",
                        )),
                    }
                });
            }
        }
    }

    fn answer_at_once(self: &Arc<Self>, id: u32, topic: Topic, outcome: Result<Reply, Problem>) {
        match outcome {
            Err(problem) => self.outbox.push(failed(id, problem)),
            Ok(Reply { head, body: Body::Whole(body) })
                if body.len() <= SMALL_MAX
                    && head.len() <= SMALL_MAX
                    && self.outbox.bytes() < self.home.limits.queue_bytes_max =>
            {
                self.outbox.push(ReplyFrame::whole(id, &head, body));
            }
            Ok(reply) => self.spawn(id, topic, std::future::ready(Ok(reply))),
        }
    }

    /// Answers in a task of its own, which the caller's going and the connection's end stop.
    fn spawn(
        self: &Arc<Self>,
        id: u32,
        topic: Topic,
        outcome: impl Future<Output = Result<Reply, Problem>> + Send + 'static,
    ) {
        let credit = Arc::new(Semaphore::new(WINDOW_BYTES as usize));
        let answering = Answering { link: self.clone(), call: id, done: false };
        let granted = credit.clone();
        let span = tracing::debug_span!("cluster.answer", peer = %self.peer, topic = topic.0);
        let work = async move {
            let mut answering = answering;
            let outcome = outcome.await;
            answering.link.answer(id, outcome, &granted).await;
            answering.done = true;
        };
        let mut table = self.serving.lock();
        let task = tokio::spawn(work.instrument(span)).abort_handle();
        table.insert(id, Open::Answering { task, credit });
        self.serving.count.store(table.len(), Ordering::Relaxed);
    }
}

/// Closes a call when its task ends, however it ends.
struct Answering {
    link: Arc<Link>,
    call: u32,
    done: bool,
}

impl Drop for Answering {
    fn drop(&mut self) {
        let was_open = self.link.serving.remove(self.call).is_some();
        if was_open && !self.done {
            self.link.outbox.push(failed(self.call, Problem::new(Kind::Internal, "the answer broke off")));
        }
    }
}

fn flatten(outcome: Result<Result<Reply, Problem>, Box<dyn std::any::Any + Send>>) -> Result<Reply, Problem> {
    outcome.unwrap_or_else(|_| Err(Problem::new(Kind::Internal, "what answers this call has a defect")))
}
