//! From answers to bytes: status lines, fields, bodies; what cannot be written at once goes on as an [`Output`].

use std::io::IoSlice;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;
use tutti_base::{Body, FileBody, KeptBody, Kind, Problem, StreamBody};
use tutti_flow::{Answer, CacheNote, Kept, Made};

use crate::access::Line;
use crate::answers::Answers;
use crate::conditional::Portion;
use crate::connection::{Connection, Phase, Writing};
use crate::exchange::Exchange;
use crate::face::{Face, clean, push_fields};
use crate::head::{Persistence, Verb, Version};
use crate::metrics::Label;
use crate::output::{Frame, Output, Progress, Source};
use crate::pump::Pump;
use crate::refusal::Refusal;
use crate::text::{push_field, push_hex, push_number};
use crate::turn::{Step, Turn};

mod pages;
mod reason;
mod timing;

pub(crate) use reason::reason;
use timing::{push_hit_timing, push_timing};

/// Bytes that a refused client may still send before its connection is cut.
const LINGER_BYTES: usize = 256 * 1024;

/// The body of an answer that is ready to go.
pub(crate) enum Payload<'p> {
    Nothing,
    Bytes(&'p Bytes, Range<usize>),
    File(FileBody),
    Stream(StreamBody, Frame),
}

impl Payload<'_> {
    /// What of it is in memory.
    fn at_hand(&self) -> &[u8] {
        match self {
            Payload::Bytes(bytes, range) => &bytes[range.clone()],
            _ => &[],
        }
    }
}

impl<A: Answers> Turn<A> {
    /// Sends whatever the journey answered.
    pub(crate) fn send_answer(
        &mut self,
        connection: &mut Connection,
        exchange: Exchange<'static>,
        answer: Answer,
    ) -> Step {
        match answer {
            Answer::Kept(kept) => self.send_kept(connection, exchange, &kept),
            Answer::Made(made) => self.send_made(connection, exchange, made),
            Answer::Problem(problem, cache, _) => self.send_problem(connection, exchange, problem, cache),
        }
    }

    /// Sends bytes with a binding, or the portion of them that was asked for.
    pub(crate) fn send_kept(
        &mut self,
        connection: &mut Connection,
        exchange: Exchange<'_>,
        kept: &Kept,
    ) -> Step {
        let mut tail = std::mem::take(&mut self.tail);
        tail.clear();
        self.push_kept_tail(&mut tail, &exchange, kept);
        let step = Face::with(&kept.entry, &kept.planned.plan, |face| {
            self.send_portion(connection, exchange, kept, face, &tail)
        });
        self.tail = tail;
        step
    }

    fn send_portion(
        &mut self,
        connection: &mut Connection,
        exchange: Exchange<'_>,
        kept: &Kept,
        face: &Face,
        tail: &[u8],
    ) -> Step {
        let body = &kept.entry.body;
        let len = body.len();
        let mut label = Label { service: exchange.service, status: 200, cache: kept.cache.word() };
        match exchange.preconditions.decide(face.etag.as_bytes(), len, exchange.verb) {
            Portion::Whole => {
                let payload = payload_of(body, 0, len, exchange.verb);
                self.deliver(connection, exchange, label, [&face.head, tail], payload)
            }
            Portion::Part { first, len: part } => {
                label.status = 206;
                let mut head = status_line(206);
                push_content_length(&mut head, part);
                let range = format!("bytes {first}-{}/{len}", first + part - 1);
                push_field(&mut head, "Content-Range", range.as_bytes());
                head.extend_from_slice(face.shared());
                let payload = payload_of(body, first, part, exchange.verb);
                self.deliver(connection, exchange, label, [&head, tail], payload)
            }
            Portion::NotModified => {
                label.status = 304;
                let mut head = status_line(304);
                head.extend_from_slice(face.validators());
                self.deliver(connection, exchange, label, [&head, tail], Payload::Nothing)
            }
            Portion::Failed => {
                let text = "the resource is not in the state that `If-Match` names";
                self.send_status(connection, exchange, 412, ("precondition-failed", text), &[])
            }
            Portion::Unsatisfiable => {
                let mut field = Vec::new();
                push_field(&mut field, "Content-Range", format!("bytes */{len}").as_bytes());
                let text = "the range begins behind the end of the resource";
                self.send_status(connection, exchange, 416, ("range", text), &field)
            }
        }
    }

    /// Sends bytes that belong to this answer alone.
    fn send_made(
        &mut self,
        connection: &mut Connection,
        mut exchange: Exchange<'static>,
        made: Made,
    ) -> Step {
        let mut head = status_line(made.status);
        let has_body = !matches!(made.status, 100..200 | 204 | 304);
        let known = made.body.len();
        match known {
            Some(len) if has_body => push_content_length(&mut head, len),
            None if has_body && exchange.version == Version::Http11 => {
                push_field(&mut head, "Transfer-Encoding", b"chunked");
            }
            None if has_body => exchange.persistence = Persistence::Close,
            _ => {}
        }
        if has_body {
            push_field(
                &mut head,
                "Content-Type",
                clean(&made.content_type, "application/octet-stream").as_bytes(),
            );
        }
        head.extend_from_slice(b"X-Content-Type-Options: nosniff\r\n");
        if !made.storable {
            head.extend_from_slice(b"Cache-Control: no-store\r\n");
        }
        push_fields(&mut head, made.fields.iter());
        push_cache_status(&mut head, made.cache);
        push_timing(&mut head, &made.timing, &made.whence, self.now.since(exchange.started));
        let mut tail = Vec::new();
        self.push_tail(&mut tail, &exchange);
        let label = Label { service: exchange.service, status: made.status, cache: made.cache.word() };
        let send = has_body && exchange.verb != Verb::Head;
        let keep;
        let payload = match made.body {
            _ if !send => Payload::Nothing,
            Body::Whole(bytes) => {
                keep = bytes;
                Payload::Bytes(&keep, 0..keep.len())
            }
            Body::File(file) => Payload::File(file),
            Body::Stream(stream) => {
                let frame = match (known, exchange.version) {
                    (Some(len), _) => Frame::Length(len),
                    (None, Version::Http11) => Frame::Chunked { owes_break: false },
                    (None, Version::Http10) => Frame::Close,
                };
                Payload::Stream(stream, frame)
            }
        };
        self.deliver(connection, exchange, label, [&head, &tail], payload)
    }

    /// Writes an answer, at once if the kernel takes it.
    pub(crate) fn deliver(
        &mut self,
        connection: &mut Connection,
        exchange: Exchange<'_>,
        label: Label,
        [head, tail]: [&[u8]; 2],
        payload: Payload<'_>,
    ) -> Step {
        let body = payload.at_hand();
        let total = head.len() + tail.len() + body.len();
        let slices = [IoSlice::new(head), IoSlice::new(tail), IoSlice::new(body)];
        let written = match rustix::io::writev(&*connection, &slices) {
            Ok(written) => written,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => {
                self.house.metrics.abandoned.inc();
                return Step::Close;
            }
        };
        if written == total && matches!(payload, Payload::Nothing | Payload::Bytes(..)) {
            return self.finish(connection, &exchange, label, total as u64);
        }
        let output = self.rest_of([head, tail], payload, written, connection);
        connection.phase = Phase::Writing(Box::new(Writing {
            exchange: exchange.into_owned(),
            label,
            output,
            blocked: None,
            blocked_nanos: 0,
        }));
        Step::Again
    }

    #[cold]
    fn rest_of(
        &self,
        heads: [&[u8]; 2],
        payload: Payload<'_>,
        written: usize,
        connection: &Connection,
    ) -> Output {
        let mut head = heads.concat();
        let of_head = written.min(head.len());
        head.drain(..of_head);
        let (piece, source) = match payload {
            Payload::Nothing => (Bytes::new(), Source::None),
            Payload::Bytes(bytes, range) => {
                (bytes.slice(range.start + (written - of_head)..range.end), Source::None)
            }
            Payload::File(rest) => (Bytes::new(), Source::File { rest, fetching: false }),
            Payload::Stream(stream, frame) => {
                let pump = Pump::start(stream, &self.outlet, connection.token);
                (Bytes::new(), Source::Stream { pump, frame })
            }
        };
        Output::new(head, piece, source, written as u64)
    }

    /// Writes on.
    pub(crate) fn write(&mut self, connection: &mut Connection) -> Step {
        let Phase::Writing(mut writing) = std::mem::replace(&mut connection.phase, Phase::Head) else {
            return Step::Park;
        };
        let before = writing.output.sent;
        let progress =
            writing.output.write(std::os::fd::AsFd::as_fd(&*connection), &self.outlet, connection.token);
        if writing.output.sent > before
            && let Some(since) = writing.blocked.take()
        {
            writing.blocked_nanos += self.now.since(since).as_nanos() as u64;
        }
        let step = match progress {
            Progress::Done => {
                return self.finish(connection, &writing.exchange, writing.label, writing.output.sent);
            }
            Progress::Broken(cause) => return self.broken(connection, *writing, cause),
            Progress::Starved if connection.hung_up => {
                return self.broken(connection, *writing, "the client went".to_owned());
            }
            Progress::Starved => Step::Park,
            Progress::Enough => Step::Yield,
            Progress::Blocked => {
                writing.blocked.get_or_insert(self.now);
                Step::Park
            }
        };
        connection.phase = Phase::Writing(writing);
        step
    }

    /// Takes a piece of a file that was read from the disk.
    pub(crate) fn take_piece(&mut self, token: crate::mailbox::Token, piece: std::io::Result<Bytes>) {
        let Some(mut connection) = self.take(token) else { return };
        let supplied = match &mut connection.phase {
            Phase::Writing(writing) => writing.output.supply(piece),
            _ => Ok(()),
        };
        let step = match (supplied, std::mem::replace(&mut connection.phase, Phase::Head)) {
            (Err(cause), Phase::Writing(writing)) => self.broken(&mut connection, *writing, cause),
            (_, phase) => {
                connection.phase = phase;
                Step::Again
            }
        };
        self.drive(connection, step);
    }

    /// Ends an answer in its middle: the client sees that by the missing end.
    pub(crate) fn broken(&mut self, connection: &mut Connection, writing: Writing, cause: String) -> Step {
        let Writing { mut exchange, label, output, .. } = writing;
        exchange.persistence = Persistence::Close;
        exchange.cause = Some(cause);
        self.house.metrics.abandoned.inc();
        self.note(connection, &exchange, label, output.sent);
        Step::Close
    }

    /// Counts and logs an answer that is out, and turns to what follows.
    fn finish(
        &mut self,
        connection: &mut Connection,
        exchange: &Exchange<'_>,
        label: Label,
        sent: u64,
    ) -> Step {
        self.note(connection, exchange, label, sent);
        connection.phase = Phase::Head;
        connection.since = self.now;
        if exchange.persistence == Persistence::Keep {
            return Step::Again;
        }
        connection.shut();
        if connection.hung_up && connection.held.is_empty() {
            return Step::Close;
        }
        // Closing with input unread would reset the connection, and with it the answer (RFC 9112 §9.6).
        connection.held = Vec::new();
        connection.phase = Phase::Linger { left: LINGER_BYTES };
        Step::Again
    }

    fn note(&mut self, connection: &mut Connection, exchange: &Exchange<'_>, label: Label, sent: u64) {
        self.now = self.house.clock.now();
        let elapsed = self.now.since(exchange.started);
        self.tally.count(label, elapsed, sent);
        if self.log.wants(label.status, elapsed) || exchange.cause.is_some() {
            self.log_line(connection, exchange, label, elapsed, sent);
        }
    }

    fn log_line(
        &mut self,
        connection: &mut Connection,
        exchange: &Exchange<'_>,
        label: Label,
        elapsed: Duration,
        bytes: u64,
    ) {
        let peer = connection.peer;
        let peer = connection.peer_text.get_or_insert_with(|| peer.to_string().into_boxed_str());
        let service = label.service.map_or("front", |id| self.answers.registry().get(id).describe().name);
        self.log.add(&Line {
            stamp: &self.date.stamp,
            wall: self.wall,
            id: exchange.id,
            peer,
            method: exchange.method,
            host: &exchange.host,
            target: &exchange.target,
            status: label.status,
            bytes,
            elapsed,
            service,
            cache: label.cache,
            cause: exchange.cause.as_deref(),
        });
    }

    /// The fields of a kept answer that change, and the end of the head.
    fn push_kept_tail(&self, out: &mut Vec<u8>, exchange: &Exchange<'_>, kept: &Kept) {
        let binding = &kept.entry.binding;
        match kept.cache {
            CacheNote::Hit | CacheNote::Stale => {
                out.extend_from_slice(b"Age: ");
                push_number(out, self.wall.since(binding.stored_at).as_secs());
                out.extend_from_slice(b"\r\nCache-Status: tutti; hit; ttl=");
                let left = binding.fresh_until.since(self.wall).as_secs();
                let over = self.wall.since(binding.fresh_until).as_secs();
                if over > 0 {
                    out.push(b'-');
                }
                push_number(out, left.max(over));
                if kept.cache == CacheNote::Stale {
                    out.extend_from_slice(b"; detail=stale");
                }
                out.extend_from_slice(b"\r\n");
            }
            note => push_cache_status(out, note),
        }
        if kept.cache == CacheNote::Hit && kept.timing.0.is_empty() {
            push_hit_timing(out, &kept.whence, &kept.entry);
        } else {
            push_timing(out, &kept.timing, &kept.whence, self.now.since(exchange.started));
        }
        self.push_tail(out, exchange);
    }

    /// The fields that every answer ends its head with.
    pub(crate) fn push_tail(&self, out: &mut Vec<u8>, exchange: &Exchange<'_>) {
        out.extend_from_slice(&self.date.field);
        out.extend_from_slice(b"Request-Id: ");
        push_hex(out, exchange.id.0);
        out.extend_from_slice(match (exchange.persistence, exchange.version) {
            (Persistence::Keep, Version::Http11) => b"\r\n\r\n",
            (Persistence::Keep, Version::Http10) => b"\r\nConnection: keep-alive\r\n\r\n",
            (Persistence::Close, _) => b"\r\nConnection: close\r\n\r\n",
        });
    }

    /// Refuses a request of which `bytes` are known, and closes. Nothing of it is read on.
    pub(crate) fn refuse(&mut self, connection: &mut Connection, refusal: Refusal, bytes: &[u8]) -> Step {
        use tutti_base::rng::Rng;
        self.house.metrics.refuse(refusal.word());
        let id = tutti_base::RequestId(self.rng.next());
        let line = &bytes[..memchr::memchr(b'\n', bytes).unwrap_or(bytes.len()).min(256)];
        let exchange = Exchange::refused(String::from_utf8_lossy(line).trim_end(), id, connection.since);
        connection.phase = Phase::Head;
        connection.held = Vec::new();
        let fields: &[u8] = match refusal {
            Refusal::Method => pages::ALLOW,
            Refusal::Connections => b"Retry-After: 1\r\n",
            _ => b"",
        };
        self.send_status(connection, exchange, refusal.status(), (refusal.word(), refusal.sentence()), fields)
    }
}

/// The part of `body` that is sent.
fn payload_of(body: &KeptBody, first: u64, len: u64, verb: Verb) -> Payload<'_> {
    match body {
        _ if verb == Verb::Head => Payload::Nothing,
        KeptBody::Whole(bytes) => Payload::Bytes(bytes, first as usize..(first + len) as usize),
        KeptBody::File(file) => {
            Payload::File(FileBody { file: file.file.clone(), offset: file.offset + first, len })
        }
    }
}

pub(crate) fn status_line(status: u16) -> Vec<u8> {
    let mut head = Vec::with_capacity(512);
    head.extend_from_slice(b"HTTP/1.1 ");
    push_number(&mut head, u64::from(status));
    head.push(b' ');
    head.extend_from_slice(reason(status).as_bytes());
    head.extend_from_slice(b"\r\n");
    head
}

pub(crate) fn push_content_length(head: &mut Vec<u8>, len: u64) {
    head.extend_from_slice(b"Content-Length: ");
    push_number(head, len);
    head.extend_from_slice(b"\r\n");
}

/// `Cache-Status` (RFC 9211) of what is no hit.
pub(crate) fn push_cache_status(head: &mut Vec<u8>, note: CacheNote) {
    head.extend_from_slice(b"Cache-Status: tutti; ");
    head.extend_from_slice(match note {
        CacheNote::Hit => b"hit",
        CacheNote::Stale => b"hit; detail=stale",
        CacheNote::Stored => b"fwd=miss; stored",
        CacheNote::Miss => b"fwd=miss",
        CacheNote::Collapsed => b"fwd=miss; collapsed",
        CacheNote::Renewed => b"fwd=stale; stored",
        CacheNote::Degraded(_) => b"fwd=miss; detail=degraded-",
        CacheNote::Bypass => b"fwd=bypass",
    });
    if let CacheNote::Degraded(word) = note {
        head.extend_from_slice(word.as_bytes());
    }
    head.extend_from_slice(b"\r\n");
}

/// Whether a problem is ours to look into.
fn is_ours(kind: Kind) -> bool {
    kind == Kind::Internal
}

/// Says once, in the log, what went wrong with us.
fn tell(problem: &Problem, exchange: &Exchange<'_>) {
    if is_ours(problem.kind) {
        let cause = problem.cause.as_deref().unwrap_or("unknown");
        tracing::error!(id = %exchange.id, target = %exchange.target, cause, "{}", problem.detail);
    }
}
