//! The one task of a connection: reads frames and takes them, does what is due, writes what waits. Decides nothing else.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tutti_base::Tick;

use super::duties::Duties;
use super::{Ended, Link, Side, Wire};
use crate::frame::{FrameReader, Outgoing};

/// The most reads before others on the thread have their turn.
const READS_A_TURN: usize = 8;
/// The most rounds of writing before others on the thread have their turn.
const WRITES_A_TURN: usize = 4;
/// How much is sealed at once, in bytes.
const SEAL_BYTES: usize = 256 << 10;

/// Drives one connection until it ends. Dropped, it ends it.
pub(crate) struct Pump {
    link: Arc<Link>,
    wire: Wire,
    reader: FrameReader,
    duties: Duties,
    sealing: Vec<Outgoing>,
    /// Whether the socket was full at the last write.
    blocked: bool,
}

impl Pump {
    pub(crate) fn new(link: Arc<Link>, wire: Wire, reader: FrameReader) -> Self {
        let duties = Duties::new(&link, link.home.clock.now());
        Self { link, wire, reader, duties, sealing: Vec::new(), blocked: false }
    }

    /// The connection that it drives.
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        self.link.outbox.listen(cx.waker());
        if self.link.is_closed() {
            return Err(Ended::Cut);
        }
        let now = self.link.home.clock.now();
        let more_to_read = self.read(cx, now)?;
        self.duties.attend(&self.link, self.reader.is_amid(), cx, now)?;
        let more_to_write = self.write(cx, now)?;
        if more_to_read || more_to_write {
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    fn read(&mut self, cx: &mut Context<'_>, now: Tick) -> Result<bool, Ended> {
        // The opening may have left some.
        self.take_frames(now)?;
        for _ in 0..READS_A_TURN {
            match self.wire.poll_read(cx, &mut self.reader) {
                Poll::Pending => return Ok(false),
                Poll::Ready(read) => self.link.home.counts.received.inc_by(read? as u64),
            };
            self.duties.heard(&self.link, now);
            self.take_frames(now)?;
        }
        Ok(true)
    }

    fn take_frames(&mut self, now: Tick) -> Result<(), Ended> {
        while let Some(frame) = self.reader.next() {
            self.link.take(frame, now)?;
        }
        Ok(())
    }

    fn write(&mut self, cx: &mut Context<'_>, now: Tick) -> Result<bool, Ended> {
        for _ in 0..WRITES_A_TURN {
            if !self.wire.has_backlog() {
                self.link.outbox.take(&mut self.sealing, SEAL_BYTES);
                if self.sealing.is_empty() {
                    return Ok(false);
                }
                self.wire.seal(&self.sealing)?;
                self.sealing.clear();
            }
            let mut wrote = 0;
            let flushed = self.wire.poll_flush(cx, &mut wrote);
            self.link.home.counts.sent.inc_by(wrote as u64);
            if self.blocked && wrote > 0 {
                self.duties.progressed(now);
            }
            self.blocked = flushed.is_pending();
            match flushed {
                Poll::Pending => return Ok(false),
                Poll::Ready(done) => done?,
            }
        }
        Ok(true)
    }
}

impl Future for Pump {
    type Output = Ended;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let this = self.get_mut();
        match this.turn(cx) {
            Ok(()) => Poll::Pending,
            Err(why) => {
                if this.link.side != Side::Dialled {
                    // What was answered just now, and why it ends: as far as the socket takes it.
                    let _ = this.wire.poll_flush(cx, &mut 0);
                }
                this.link.end(&why);
                Poll::Ready(why)
            }
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.link.end(&Ended::Cut);
    }
}
