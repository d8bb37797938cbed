//! Frames that wait to be sent on one connection, up to a number of bytes. Knows no socket.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tutti_telemetry::Gauge;

use crate::frame::Outgoing;

/// The connection has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Closed;

/// Why a frame was not taken.
#[derive(Debug)]
pub(super) enum Rejected {
    /// There is no room now; here it is again.
    Full(Outgoing),
    /// The connection has ended.
    Closed,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Outgoing>,
    bytes: usize,
    closed: bool,
}

/// The queue of one connection.
pub(super) struct Outbox {
    limit: usize,
    /// Bytes that wait on all connections.
    waiting: Gauge,
    queue: Mutex<Queue>,
    pump: AtomicWaker,
    room: Notify,
}

impl Outbox {
    pub(super) fn new(limit: usize, waiting: Gauge) -> Self {
        Self { limit, waiting, queue: Mutex::default(), pump: AtomicWaker::new(), room: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `frame` where there is room. An empty queue has room for any frame.
    pub(super) fn offer(&self, frame: Outgoing) -> Result<(), Rejected> {
        let queue = self.lock();
        if queue.closed {
            return Err(Rejected::Closed);
        }
        if queue.bytes > 0 && queue.bytes + frame.len() > self.limit {
            return Err(Rejected::Full(frame));
        }
        self.add(queue, frame);
        Ok(())
    }

    /// Takes `frame` in any case: for frames of a few bytes whose number is bounded by the calls under way.
    pub(super) fn push(&self, frame: Outgoing) {
        let queue = self.lock();
        if !queue.closed {
            self.add(queue, frame);
        }
    }

    fn add(&self, mut queue: MutexGuard<'_, Queue>, frame: Outgoing) {
        queue.bytes += frame.len();
        self.waiting.inc_by(frame.len() as i64);
        queue.frames.push_back(frame);
        drop(queue);
        self.pump.wake();
    }

    /// Takes `frame` once there is room. Cancel-safe: dropped before, it was not taken.
    pub(super) async fn send(&self, mut frame: Outgoing) -> Result<(), Closed> {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            match self.offer(frame) {
                Ok(()) => return Ok(()),
                Err(Rejected::Closed) => return Err(Closed),
                Err(Rejected::Full(again)) => frame = again,
            }
            room.await;
        }
    }

    /// Moves frames of up to `bytes` in all (at least one) to `into`.
    pub(super) fn take(&self, into: &mut Vec<Outgoing>, bytes: usize) {
        let mut queue = self.lock();
        let mut taken = 0;
        while let Some(length) = queue.frames.front().map(Outgoing::len) {
            if taken > 0 && taken + length > bytes {
                break;
            }
            taken += length;
            into.extend(queue.frames.pop_front());
        }
        queue.bytes -= taken;
        self.waiting.dec_by(taken as i64);
        drop(queue);
        if taken > 0 {
            self.room.notify_waiters();
        }
    }

    /// Whom to wake when there is something to send.
    pub(super) fn listen(&self, waker: &Waker) {
        self.pump.register(waker);
    }

    /// Takes nothing any more; what waits is dropped.
    pub(super) fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        self.waiting.dec_by(std::mem::take(&mut queue.bytes) as i64);
        let dropped = std::mem::take(&mut queue.frames);
        drop(queue);
        drop(dropped);
        self.room.notify_waiters();
        self.pump.wake();
    }
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::frame::FrameKind;

    fn frame(length: usize) -> Outgoing {
        Outgoing::new(FrameKind::Cast, 1, 0, &vec![0; length - crate::frame::HEADER_BYTES])
    }

    #[test]
    fn a_full_queue_takes_a_frame_once_there_is_room_and_an_empty_one_takes_any() {
        let outbox = Outbox::new(100, Gauge::default());
        assert!(outbox.offer(frame(500)).is_ok());
        assert!(matches!(outbox.offer(frame(20)), Err(Rejected::Full(_))));
        let mut sending = Box::pin(outbox.send(frame(20)));
        assert_eq!(sending.as_mut().now_or_never(), None);
        let mut taken = Vec::new();
        outbox.take(&mut taken, 50);
        assert_eq!((taken.len(), outbox.bytes()), (1, 0));
        assert_eq!(sending.now_or_never(), Some(Ok(())));
        assert_eq!(outbox.bytes(), 20);
        let mut large = Box::pin(outbox.send(frame(90)));
        assert_eq!(large.as_mut().now_or_never(), None);
        outbox.take(&mut taken, 50);
        assert_eq!(large.now_or_never(), Some(Ok(())), "however little stood before it");
    }

    #[test]
    fn a_closed_queue_lets_those_who_wait_go() {
        let outbox = Outbox::new(100, Gauge::default());
        assert!(outbox.offer(frame(100)).is_ok());
        let mut sending = Box::pin(outbox.send(frame(20)));
        assert_eq!(sending.as_mut().now_or_never(), None);
        outbox.close();
        assert_eq!(sending.now_or_never(), Some(Err(Closed)));
        assert!(matches!(outbox.offer(frame(20)), Err(Rejected::Closed)));
        assert!(outbox.is_closed() && outbox.bytes() == 0);
    }
}
