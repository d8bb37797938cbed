//! Limits of time, checked by one coarse sweep a thread; draining; and what a connection does while it waits.

use std::time::Duration;

use tutti_base::{Kind, Problem, Tick};

use crate::answers::Answers;
use crate::config::ms;
use crate::connection::{Connection, Phase, Read, Writing};
use crate::head::Persistence;
use crate::mailbox::Token;
use crate::refusal::Refusal;
use crate::turn::{Step, Turn};

/// How long a draining server, or a door that was shut, waits for the first request of a connection, in ms: its client was let in, and may have
/// asked already.
const FIRST_REQUEST_MS: u64 = 1000;

/// How often the access log is handed over.
const LOG_FLUSH: Duration = Duration::from_secs(1);

/// What a limit of time demands.
enum Verdict {
    /// Nothing yet.
    Fine,
    /// Close it; the label in metrics.
    Close(&'static str),
    /// Refuse what is arriving, and close.
    Refuse(Refusal),
    /// Answer that the time is over, and close.
    GiveUp,
}

impl<A: Answers> Turn<A> {
    /// Checks every connection's limits of time.
    pub(crate) fn sweep(&mut self) {
        if self.now.since(self.log_flushed) >= LOG_FLUSH {
            self.log_flushed = self.now;
            self.log.flush();
        }
        if !self.listening && self.draining.is_none() {
            // Fails only while descriptors or memory are still short; then the next sweep tries again.
            let _ = self.listen();
        }
        let end = self.draining.filter(|deadline| self.now >= *deadline);
        for slot in 0..self.slots.len() {
            let Some(connection) = self.slots[slot].connection.as_deref() else { continue };
            let verdict = match end {
                Some(_) => Verdict::Close("drain"),
                None => self.judge(connection),
            };
            self.carry_out(connection.token, verdict);
        }
    }

    fn judge(&self, connection: &Connection) -> Verdict {
        let config = &self.house.config;
        let over = |limit: u64| self.now.since(connection.since) >= ms(limit);
        match &connection.phase {
            Phase::Head if connection.held.is_empty() && over(config.idle_ms) => Verdict::Close("idle"),
            Phase::Head if self.is_ending(connection) && connection.is_idle() && over(FIRST_REQUEST_MS) => {
                Verdict::Close("idle")
            }
            Phase::Head if !connection.held.is_empty() && over(config.head_ms) => {
                Verdict::Refuse(Refusal::SlowHead)
            }
            Phase::Body(_) if over(config.body_ms) => Verdict::Refuse(Refusal::SlowBody),
            Phase::Linger { .. } if over(config.linger_ms) => Verdict::Close("linger"),
            Phase::Waiting(waiting) if self.now >= waiting.deadline.0 + ms(config.answer_grace_ms) => {
                Verdict::GiveUp
            }
            Phase::Writing(writing) => self.judge_writing(writing),
            _ => Verdict::Fine,
        }
    }

    fn judge_writing(&self, writing: &Writing) -> Verdict {
        let Some(blocked) = writing.blocked else { return Verdict::Fine };
        let config = &self.house.config;
        let stalled = self.now.since(blocked);
        let waited = stalled + Duration::from_nanos(writing.blocked_nanos);
        let least = config.write_rate.saturating_mul(waited.as_secs());
        if stalled >= ms(config.write_stall_ms) {
            Verdict::Close("write-stall")
        } else if waited >= ms(config.write_stall_ms) && writing.output.sent < least {
            Verdict::Close("write-rate")
        } else {
            Verdict::Fine
        }
    }

    fn carry_out(&mut self, token: Token, verdict: Verdict) {
        if matches!(verdict, Verdict::Fine) {
            return;
        }
        let Some(mut connection) = self.take(token) else { return };
        let step = match verdict {
            Verdict::Fine => Step::Park,
            Verdict::Close(reason) => {
                self.house.metrics.close(reason);
                self.cut(&mut connection, reason)
            }
            Verdict::Refuse(refusal) => {
                let head = std::mem::take(&mut connection.held);
                self.refuse(&mut connection, refusal, &head)
            }
            Verdict::GiveUp => self.give_up(&mut connection),
        };
        self.drive(connection, step);
    }

    /// Ends a connection in the middle of whatever it does.
    fn cut(&mut self, connection: &mut Connection, reason: &'static str) -> Step {
        match std::mem::replace(&mut connection.phase, Phase::Head) {
            Phase::Writing(writing) => self.broken(connection, *writing, reason.to_owned()),
            Phase::Waiting(waiting) => {
                self.house.metrics.abandoned.inc();
                drop(waiting);
                Step::Close
            }
            _ => Step::Close,
        }
    }

    fn give_up(&mut self, connection: &mut Connection) -> Step {
        let Phase::Waiting(waiting) = std::mem::replace(&mut connection.phase, Phase::Head) else {
            return Step::Park;
        };
        let mut exchange = waiting.exchange;
        exchange.persistence = Persistence::Close;
        let problem = Problem::new(Kind::Timeout, "the answer was not ready in time; try again soon")
            .retry_after(Duration::from_secs(1))
            .because("no answer came within the deadline and its grace");
        self.send_problem(connection, exchange, problem, tutti_flow::CacheNote::Bypass)
    }

    /// Stops accepting and closes what is idle; what runs may end until `deadline`.
    pub(crate) fn begin_drain(&mut self, deadline: Tick) {
        self.draining = Some(deadline);
        self.let_go_of_all();
        self.wind_up(|_| true);
    }

    /// Whether the connection answers what was asked, and takes no more.
    pub(crate) fn is_ending(&self, connection: &Connection) -> bool {
        self.draining.is_some() || connection.door.is_shut()
    }

    /// Closes those of `which` that are idle; the others end after their answer.
    pub(crate) fn wind_up(&mut self, which: impl Fn(&Connection) -> bool) {
        for slot in 0..self.slots.len() {
            let Some(mut connection) = self.slots[slot].connection.take_if(|connection| which(connection))
            else {
                continue;
            };
            // A request may have arrived that nobody has looked for yet: one more read, and without one it is over.
            connection.readable |= connection.is_idle();
            let step = if connection.is_idle() { Step::Again } else { Step::Park };
            self.drive(connection, step);
        }
    }

    /// Looks whether the client still waits.
    pub(crate) fn watch(&mut self, connection: &mut Connection) -> Step {
        if connection.hung_up {
            self.house.metrics.abandoned.inc();
            return Step::Close;
        }
        Step::Park
    }

    /// Throws away what a client sends after its last answer.
    pub(crate) fn linger(&mut self, connection: &mut Connection) -> Step {
        let Phase::Linger { left } = connection.phase else { return Step::Park };
        let room = self.scratch.len().min(left);
        if room == 0 {
            return Step::Close;
        }
        match connection.read(&mut self.scratch[..room]) {
            Read::End => Step::Close,
            Read::Nothing => Step::Park,
            Read::Bytes(read) => {
                connection.phase = Phase::Linger { left: left - read };
                Step::Again
            }
        }
    }
}
