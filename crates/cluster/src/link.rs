//! One connection to a peer on one lane: what is under way on it. The side that dialled calls, the side that accepted
//! serves; two nodes that call each other have a connection each way. Who is dialled, and when, is decided in `links`.

mod calls;
mod duties;
mod outbox;
mod pump;
mod sending;
mod serving;
mod wire;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tutti_base::{Lane, NodeId, Problem, Tick};

use crate::datagram::Report;
use crate::frame::{Frame, FrameError, FrameKind, Hello, Outgoing, long, read_failed};
use crate::links::Home;
use calls::Calls;
pub(crate) use duties::ANONYMOUS_LIFE;
use outbox::Outbox;
pub(crate) use pump::Pump;
pub(crate) use sending::STALL_MAX;
pub(crate) use serving::ARRIVING_BYTES_MAX;
use serving::Serving;
pub(crate) use wire::{Wire, socket_error};

/// Which end of a connection this node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// This node dialled: it calls.
    Dialled,
    /// This node accepted a peer: it serves.
    Accepted,
    /// This node accepted a machine without a certificate: it serves what joining needs.
    Anonymous,
}

/// Why a connection ended.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("the peer closed the connection")]
    Closed,
    #[error("{0}")]
    Socket(String),
    #[error("the peer broke the protocol: {0}")]
    Protocol(#[from] FrameError),
    #[error("the peer was silent")]
    Silent,
    #[error("the peer refused this node: {0}")]
    Refused(Problem),
    #[error("this node cut it")]
    Cut,
}

/// One connection, shared by its pump and by those who call over it.
pub(crate) struct Link {
    pub(crate) peer: NodeId,
    pub(crate) lane: Lane,
    pub(crate) side: Side,
    /// What the peer said first.
    pub(crate) hello: Hello,
    home: Arc<Home>,
    outbox: Outbox,
    calls: Calls,
    serving: Serving,
    /// Smoothed round-trip time in nanoseconds; 0 before the first.
    rtt: AtomicU64,
    /// The peer's last word on datagrams of this node.
    report: Mutex<Report>,
    ended: AtomicBool,
}

impl Link {
    pub(crate) fn new(home: Arc<Home>, side: Side, lane: Lane, hello: Hello) -> Arc<Self> {
        Arc::new(Self {
            peer: hello.node,
            lane,
            side,
            outbox: Outbox::new(home.limits.queue_bytes_max, home.counts.waiting.clone()),
            calls: Calls::default(),
            serving: Serving::default(),
            rtt: AtomicU64::new(0),
            report: Mutex::default(),
            ended: AtomicBool::new(false),
            hello,
            home,
        })
    }

    /// Sends a frame that nobody waits for, where there is room.
    pub(crate) fn offer(&self, frame: Outgoing) -> bool {
        self.outbox.offer(frame).is_ok()
    }
    /// Ends it soon: the pump notices.
    pub(crate) fn cut(&self) {
        self.outbox.close();
    }
    /// Whether it has ended or is about to.
    pub(crate) fn is_closed(&self) -> bool {
        self.outbox.is_closed()
    }
    /// Smoothed round-trip time in nanoseconds; 0 before the first.
    pub(crate) fn rtt_ns(&self) -> u64 {
        self.rtt.load(Ordering::Relaxed)
    }
    /// The peer's last word on datagrams of this node.
    pub(crate) fn report(&self) -> Report {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails and stops everything that is under way.
    fn end(self: &Arc<Self>, why: &Ended) {
        self.outbox.close();
        self.calls.end(self.peer);
        self.serving.end();
        let first = !self.ended.swap(true, Ordering::Relaxed);
        if first && !matches!(why, Ended::Cut | Ended::Closed) {
            tracing::debug!(peer = %self.peer, lane = ?self.lane, side = ?self.side, "connection ended: {why}");
        }
    }

    /// Takes what the peer sent.
    fn take(self: &Arc<Self>, frame: Frame, now: Tick) -> Result<(), Ended> {
        let call = frame.call;
        match (self.side, frame.kind) {
            (Side::Dialled, FrameKind::Ack | FrameKind::Beat) => {}
            (Side::Dialled, FrameKind::Reply) => self.take_reply(call, frame.payload)?,
            (Side::Dialled, FrameKind::Chunk) => self.calls.chunk(call, frame.payload)?,
            (Side::Dialled, FrameKind::End) => self.calls.complete(call, &frame.payload),
            (Side::Dialled, FrameKind::Failed) => {
                let problem = read_failed(&frame.payload).map_err(Ended::from)?;
                if call == 0 {
                    return Err(Ended::Refused(problem));
                }
                self.calls.fail(self.peer, call, problem);
            }
            (Side::Dialled, FrameKind::Pong) => self.take_pong(&frame.payload, now),
            (Side::Accepted | Side::Anonymous, FrameKind::Call) => self.take_call(frame, now)?,
            (Side::Accepted, FrameKind::Chunk) => self.take_piece(call, &frame.payload, now)?,
            (Side::Accepted | Side::Anonymous, FrameKind::Cancel) => self.serving.cancel(call),
            (Side::Accepted, FrameKind::Window) => self.serving.grant(call, &frame.payload)?,
            (Side::Accepted, FrameKind::Cast) => self.take_cast(frame),
            (Side::Accepted, FrameKind::Ping) => self.take_ping(&frame.payload),
            _ => return Err(FrameError::Malformed("a frame that this side does not send").into()),
        }
        Ok(())
    }

    fn take_ping(&self, payload: &[u8]) {
        let heard = self.home.datagrams_from(self.peer).to_le_bytes();
        let payload = [&payload[..payload.len().min(8)], &heard].concat();
        self.outbox.push(Outgoing::new(FrameKind::Pong, 0, 0, &payload));
    }

    /// Smooths as RFC 6298 §2 does: seven parts old, one part new.
    fn take_pong(&self, payload: &[u8], now: Tick) {
        let sample = now.0.saturating_sub(long(payload, 0)).max(1);
        let smooth = match self.rtt_ns() {
            0 => sample,
            old => old - old / 8 + sample / 8,
        };
        self.rtt.store(smooth, Ordering::Relaxed);
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        *report = Report { heard: long(payload, 8), pongs: report.pongs + 1 };
    }
}
