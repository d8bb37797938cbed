//! From bytes to requests: reads heads and bodies, and sends each request to where it is answered.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tracing::Instrument;
use tutti_base::http::Method;
use tutti_base::rng::Rng;
use tutti_base::{Context, Deadline, Kind, Problem, RequestId};
use tutti_flow::{Answer, CacheNote, Kept, Planned, Timing, Whence};
use tutti_service::Head;
use tutti_service::registry::ServiceId;

use crate::answers::Answers;
use crate::body::{BodyProgress, BodyReader};
use crate::connection::{Connection, Pending, Phase, Read, Waiting};
use crate::exchange::Exchange;
use crate::framing::Framing;
use crate::head::{self, Expectation, Persistence, RequestHead, Verb};
use crate::mailbox::{Letter, Mailbox, Token};
use crate::pump::Task;
use crate::router::Route;
use crate::turn::{Step, Turn};

impl<A: Answers> Turn<A> {
    /// Reads on towards the next head, and answers the requests that are there.
    pub(crate) fn read_head(&mut self, connection: &mut Connection) -> Step {
        let mut scratch = std::mem::take(&mut self.scratch);
        let step = self.read_head_into(connection, &mut scratch);
        self.scratch = scratch;
        step
    }

    fn read_head_into(&mut self, connection: &mut Connection, scratch: &mut [u8]) -> Step {
        let mut filled = connection.held.len();
        if connection.seen >= filled {
            if !connection.readable {
                return self.await_more(connection);
            }
            match connection.read(&mut scratch[filled..]) {
                Read::End => return Step::Close,
                Read::Nothing => return self.await_more(connection),
                Read::Bytes(read) => {
                    if filled == 0 {
                        connection.since = self.now;
                    }
                    scratch[..filled].copy_from_slice(&connection.held);
                    filled += read;
                }
            }
        } else {
            scratch[..filled].copy_from_slice(&connection.held);
        }
        self.take_requests(connection, &scratch[..filled])
    }

    /// An idle connection of a draining server or a shut door is over; one that has asked nothing yet gets a moment to.
    fn await_more(&self, connection: &Connection) -> Step {
        if self.is_ending(connection) && connection.is_idle() && connection.requests > 0 {
            connection.shut();
            return Step::Close;
        }
        Step::Park
    }

    /// Answers the requests in `bytes` in turn, as long as answers go out at once. Holds the rest.
    fn take_requests(&mut self, connection: &mut Connection, bytes: &[u8]) -> Step {
        let mut used = 0;
        let mut seen = connection.seen;
        let mut step = Step::Again;
        for _ in 0..self.house.config.pipeline {
            if used == bytes.len() || step != Step::Again || !matches!(connection.phase, Phase::Head) {
                break;
            }
            let rest = &bytes[used..];
            let mut slots = head::slots();
            match head::read(rest, seen, &self.limits, &mut slots) {
                Ok(None) => {
                    connection.hold(rest, rest.len());
                    return step;
                }
                Err(refusal) => return self.refuse(connection, refusal, rest),
                Ok(Some(head)) => {
                    connection.requests += 1;
                    seen = 0;
                    used += head.len;
                    step = self.take_request(connection, &head, rest);
                }
            }
        }
        connection.hold(&bytes[used..], 0);
        if step == Step::Again && matches!(connection.phase, Phase::Head) && used < bytes.len() {
            return Step::Yield;
        }
        step
    }

    fn take_request(
        &mut self,
        connection: &mut Connection,
        head: &RequestHead<'_, '_>,
        bytes: &[u8],
    ) -> Step {
        if head.framing == Framing::None {
            return self.answer(connection, head);
        }
        let reader = match BodyReader::new(head.framing, self.house.config.body_bytes) {
            Ok(reader) => reader,
            Err(refusal) => return self.refuse(connection, refusal, bytes),
        };
        let waits = head.expectation == Expectation::Continue && bytes.len() == head.len;
        if waits && connection.write_short(b"HTTP/1.1 100 Continue\r\n\r\n").is_err() {
            return Step::Close;
        }
        connection.since = self.now;
        connection.phase = Phase::Body(Box::new(Pending { head: bytes[..head.len].to_vec(), reader }));
        Step::Again
    }

    /// Reads on towards the end of a body, then answers its request.
    pub(crate) fn read_body(&mut self, connection: &mut Connection) -> Step {
        let mut scratch = std::mem::take(&mut self.scratch);
        let step = self.read_body_into(connection, &mut scratch);
        self.scratch = scratch;
        step
    }

    fn read_body_into(&mut self, connection: &mut Connection, scratch: &mut [u8]) -> Step {
        let mut filled = connection.held.len();
        scratch[..filled].copy_from_slice(&connection.held);
        if filled == 0 {
            if !connection.readable {
                return Step::Park;
            }
            filled = match connection.read(scratch) {
                Read::End => return Step::Close,
                Read::Nothing => return Step::Park,
                Read::Bytes(read) => read,
            };
        }
        let Phase::Body(pending) = &mut connection.phase else { return Step::Park };
        match pending.reader.read(&scratch[..filled]) {
            Err(refusal) => {
                let Phase::Body(pending) = std::mem::replace(&mut connection.phase, Phase::Head) else {
                    return Step::Close;
                };
                self.refuse(connection, refusal, &pending.head)
            }
            Ok(BodyProgress::More) => {
                connection.hold(&[], 0);
                Step::Again
            }
            Ok(BodyProgress::Ended(used)) => {
                connection.hold(&scratch[used..filled], 0);
                self.answer_pending(connection)
            }
        }
    }

    fn answer_pending(&mut self, connection: &mut Connection) -> Step {
        let Phase::Body(pending) = std::mem::replace(&mut connection.phase, Phase::Head) else {
            return Step::Park;
        };
        let mut slots = head::slots();
        match head::read(&pending.head, 0, &self.limits, &mut slots) {
            Ok(Some(head)) => self.answer(connection, &head),
            // The same bytes were a whole head before.
            Ok(None) | Err(_) => Step::Close,
        }
    }

    /// Answers one whole request, or has it answered.
    fn answer(&mut self, connection: &mut Connection, head: &RequestHead<'_, '_>) -> Step {
        let last = self.is_ending(connection) || connection.requests >= self.house.config.requests;
        let persistence = if last { Persistence::Close } else { head.persistence };
        let id = RequestId(self.rng.next());
        let mut exchange = Exchange::of(head, id, self.now, persistence);
        if head.verb == Verb::Options {
            return self.send_options(connection, exchange);
        }
        let place = head.place;
        let mut room = std::mem::take(&mut self.host);
        let host = lower(place.host, &mut room);
        let step = match self.router.route(host, place.path) {
            Route::Service(service, path) => {
                exchange.service = Some(service);
                let method = if head.verb == Verb::Head { Method::Head } else { Method::Get };
                let asked = Head { method, host, path, query: place.query, fields: head };
                self.ask(connection, exchange, service, &asked)
            }
            Route::Health => self.send_health(connection, exchange),
            Route::Ready => self.send_ready(connection, exchange),
            Route::Home => self.send_home(connection, exchange),
            Route::Nowhere => {
                let problem = Problem::new(Kind::NotFound, "nothing is served at this path");
                self.send_problem(connection, exchange, problem, CacheNote::Bypass)
            }
        };
        self.host = room;
        step
    }

    /// The path of a hit: one memoised plan, one look-up, one write. Everything else goes to the runtime.
    fn ask(
        &mut self,
        connection: &mut Connection,
        exchange: Exchange<'_>,
        service: ServiceId,
        asked: &Head<'_>,
    ) -> Step {
        let planning = || self.answers.plan(&mut self.memo, service, asked);
        let planned = match catch_unwind(AssertUnwindSafe(planning)) {
            Ok(Ok(planned)) => planned,
            Ok(Err(problem)) => return self.send_problem(connection, exchange, problem, CacheNote::Bypass),
            Err(_) => {
                self.memo = self.answers.memo(self.house.config.memo_entries);
                let problem = Problem::new(Kind::Internal, "planning this request failed").because("a panic");
                return self.send_problem(connection, exchange, problem, CacheNote::Bypass);
            }
        };
        match self.answers.resident(&planned, self.wall) {
            Some(entry) => {
                let (timing, whence) = (Timing::default(), Whence::default());
                let kept = Kept { entry, planned, cache: CacheNote::Hit, timing, whence };
                self.send_kept(connection, exchange, &kept)
            }
            None => self.have_made(connection, exchange.into_owned(), service, planned),
        }
    }

    /// Has the answer made on the runtime; it comes by letter.
    fn have_made(
        &mut self,
        connection: &mut Connection,
        exchange: Exchange<'static>,
        service: ServiceId,
        planned: Arc<Planned>,
    ) -> Step {
        let within = self.answers.registry().get(service).describe().deadline;
        let deadline = Deadline::after(exchange.started, within);
        let context =
            Context { id: exchange.id, tenant: planned.tenant.clone(), arrived: exchange.started, deadline };
        let span = tracing::info_span!("front.request", id = %exchange.id, target = %exchange.target);
        // Its own spans lie within this one from their making on.
        let answering = span.in_scope(|| self.answers.answer(planned, context));
        let postage =
            Postage { mailbox: Arc::clone(&self.outlet.mailbox), token: connection.token, sent: false };
        let task = async move {
            let answer = answering.await;
            postage.send(answer);
        };
        let task = Task::new(self.outlet.runtime.spawn(task.instrument(span)));
        connection.phase = Phase::Waiting(Box::new(Waiting { exchange, deadline, _task: task }));
        Step::Again
    }

    /// Sends the answer that a connection waits for.
    pub(crate) fn take_answer(&mut self, token: Token, answer: Answer) {
        let Some(mut connection) = self.take(token) else { return };
        let step = match std::mem::replace(&mut connection.phase, Phase::Head) {
            Phase::Waiting(waiting) => {
                let mut exchange = waiting.exchange;
                if self.is_ending(&connection) {
                    exchange.persistence = Persistence::Close;
                }
                self.send_answer(&mut connection, exchange, answer)
            }
            other => {
                connection.phase = other;
                Step::Park
            }
        };
        self.drive(connection, step);
    }
}

/// A promise that a letter will come, even if the making of the answer panics.
struct Postage {
    mailbox: Arc<Mailbox>,
    token: Token,
    sent: bool,
}

impl Postage {
    fn send(mut self, answer: Answer) {
        self.sent = true;
        self.mailbox.post(Letter::Answer(self.token, answer));
    }
}

impl Drop for Postage {
    fn drop(&mut self) {
        if !self.sent {
            let problem = Problem::new(Kind::Internal, "making the answer failed").because("a panic");
            let answer = Answer::Problem(problem, CacheNote::Bypass, Timing::default());
            self.mailbox.post(Letter::Answer(self.token, answer));
        }
    }
}

/// `host` in lower case, copied only where it has to be.
fn lower<'a>(host: &'a str, room: &'a mut String) -> &'a str {
    if !host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return host;
    }
    room.clear();
    room.push_str(host);
    room.make_ascii_lowercase();
    room
}
