//! What a connection owes to time: beats, pings, and the judgement that a peer is silent. One timer for all.
//!
//! The rule of silence: a caller that has heard nothing on the connection for [`SILENT_AFTER`] since it asked calls the
//! peer silent, but only while its own timer was on time; a late one starts the window again. Bytes of frames that are
//! not complete count as heard, and so does a full socket that takes more bytes.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tutti_base::net::{BEAT_EVERY, SILENT_AFTER};
use tutti_base::{BoxFuture, Lane, Tick};

use super::{Ended, Link, Side};
use crate::frame::{FrameKind, Outgoing};

/// A timer that comes later than this says more of this node than of its peer.
pub(crate) const LATE_TIMER: Duration = Duration::from_millis(25);
/// A connection on which a ping stays without any answer for this long is broken.
pub(crate) const DEAD_AFTER: Duration = Duration::from_secs(3);
/// How often the control lane is pinged.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(2);
/// How long another lane is idle before it is pinged.
pub(crate) const PING_IDLE_EVERY: Duration = Duration::from_secs(10);
/// An accepted connection on which nothing is heard for this long is closed.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(30);
/// How long a machine without a certificate may stay.
pub(crate) const ANONYMOUS_LIFE: Duration = Duration::from_secs(10);
/// The listener of links is told at most this often that a peer was heard.
const TELL_EVERY: Duration = Duration::from_millis(50);

/// The duties of one connection.
pub(super) struct Duties {
    timer: Option<(Tick, BoxFuture<'static, ()>)>,
    /// When to look for silence; set while answers are owed to this node.
    silence: Option<Tick>,
    /// When to beat; set while this node owes answers.
    beat: Option<Tick>,
    ping: Option<Tick>,
    /// When the connection ends unless something is heard until then.
    end: Option<Tick>,
    /// When the oldest ping without an answer was sent.
    unanswered: Option<Tick>,
    heard: Tick,
    told: Tick,
    /// When the full socket took bytes last.
    progressed: Tick,
    /// When this node's own timer was late last.
    excused: Tick,
}

impl Duties {
    pub(super) fn new(link: &Link, now: Tick) -> Self {
        let (ping, end) = match link.side {
            Side::Dialled => (Some(now), None),
            Side::Accepted => (None, Some(now + IDLE_MAX)),
            Side::Anonymous => (None, Some(now + ANONYMOUS_LIFE)),
        };
        let (timer, silence, beat, unanswered) = (None, None, None, None);
        let (heard, progressed, excused, told) = (now, now, now, Tick(0));
        Self { timer, silence, beat, ping, end, unanswered, heard, told, progressed, excused }
    }

    /// The peer sent something.
    pub(super) fn heard(&mut self, link: &Link, now: Tick) {
        self.heard = now;
        self.unanswered = None;
        if link.side == Side::Dialled && link.lane != Lane::Control {
            self.ping = Some(now + PING_IDLE_EVERY);
        }
        if link.side != Side::Anonymous && now.since(self.told) >= TELL_EVERY {
            self.told = now;
            link.home.tell(|events| events.heard(link.peer));
        }
    }
    /// A socket that was full took more.
    pub(super) fn progressed(&mut self, now: Tick) {
        self.progressed = now;
    }

    /// Does what is due and sets the timer for what is due next. `amid` says that a frame is arriving.
    pub(super) fn attend(
        &mut self,
        link: &Arc<Link>,
        amid: bool,
        cx: &mut Context<'_>,
        now: Tick,
    ) -> Result<(), Ended> {
        if link.calls.owed() > 0 && self.silence.is_none() {
            self.silence = Some(now + SILENT_AFTER);
        }
        let owes = amid || link.serving.count() > 0;
        if owes && link.side != Side::Dialled && self.beat.is_none() {
            self.beat = Some(now + BEAT_EVERY);
        }
        while self.rings(link, cx) {
            let now = link.home.clock.now();
            self.look_for_silence(link, now)?;
            self.send_beat(link, owes, now);
            self.send_ping(link, now)?;
            self.look_for_the_end(link, now)?;
        }
        Ok(())
    }

    /// Sets the timer to the next duty and asks it.
    fn rings(&mut self, link: &Link, cx: &mut Context<'_>) -> bool {
        let due = [self.silence, self.beat, self.ping, self.end].into_iter().flatten().min();
        let Some(due) = due else {
            self.timer = None;
            return false;
        };
        if self.timer.as_ref().is_none_or(|(at, _)| *at > due) {
            self.timer = Some((due, link.home.clock.sleep_until(due)));
        }
        let Some((at, sleep)) = self.timer.as_mut() else { return false };
        let at = *at;
        if sleep.as_mut().poll(cx) == Poll::Pending {
            return false;
        }
        self.timer = None;
        let now = link.home.clock.now();
        if now.since(at) > LATE_TIMER {
            self.excused = now;
            link.home.counts.late_timers.inc();
        }
        true
    }

    fn look_for_silence(&mut self, link: &Arc<Link>, now: Tick) -> Result<(), Ended> {
        if self.silence.is_none_or(|due| due > now) {
            return Ok(());
        }
        let quiet_since = self.heard.max(self.progressed).max(self.excused);
        if now.since(quiet_since) >= SILENT_AFTER {
            let silent = link.give_up_silent(now - SILENT_AFTER);
            link.home.counts.silent.inc_by(silent as u64);
            if silent > 0 {
                self.ping = Some(now);
            }
        }
        let oldest = link.calls.oldest();
        self.silence = oldest.map(|oldest| oldest.max(quiet_since) + SILENT_AFTER);
        Ok(())
    }

    fn send_beat(&mut self, link: &Link, owes: bool, now: Tick) {
        if self.beat.is_some_and(|due| due <= now) {
            self.beat = owes.then_some(now + BEAT_EVERY);
            if owes {
                link.outbox.push(Outgoing::new(FrameKind::Beat, 0, 0, &[]));
            }
        }
    }

    fn send_ping(&mut self, link: &Link, now: Tick) -> Result<(), Ended> {
        if self.ping.is_none_or(|due| due > now) {
            return Ok(());
        }
        let asked = *self.unanswered.get_or_insert(now);
        if now.since(asked.max(self.excused).max(self.progressed)) >= DEAD_AFTER {
            return Err(Ended::Silent);
        }
        link.outbox.push(Outgoing::new(FrameKind::Ping, 0, 0, &now.0.to_le_bytes()));
        self.ping = Some(now + PING_EVERY);
        Ok(())
    }

    fn look_for_the_end(&mut self, link: &Link, now: Tick) -> Result<(), Ended> {
        if self.end.is_none_or(|due| due > now) {
            return Ok(());
        }
        if link.side == Side::Anonymous || now.since(self.heard.max(self.excused)) >= IDLE_MAX {
            return Err(Ended::Silent);
        }
        self.end = Some(self.heard.max(self.excused) + IDLE_MAX);
        Ok(())
    }
}
