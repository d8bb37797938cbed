//! What the front says by itself: problems (RFC 9457), health, the page at `/`, and the answer to OPTIONS.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tutti_base::{Kind, Problem};
use tutti_flow::CacheNote;

use super::{Payload, push_cache_status, push_content_length, reason, status_line, tell};
use crate::answers::Answers;
use crate::connection::Connection;
use crate::exchange::Exchange;
use crate::head::Verb;
use crate::metrics::Label;
use crate::text::push_field;
use crate::turn::{Step, Turn};

/// What may be asked here.
pub(super) const ALLOW: &[u8] = b"Allow: GET, HEAD, OPTIONS\r\n";

/// Neither health nor a failure may be remembered by anyone.
const NO_STORE: &[u8] = b"Cache-Control: no-store\r\n";

const HOME: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Tutti</title>\n\
    <p>This is <b>Tutti</b>, a server for dynamic media. It answers below its services' paths, such as\n\
    <code>/image/unsafe/rs:fit:512:512/plain/local:///photo01.jpg@webp</code>.\n\
    <p>Its health is at <a href=\"/healthz\">/healthz</a>.</html>\n";

/// A small answer of the front's own.
struct Page<'p> {
    status: u16,
    content_type: &'p str,
    /// Further fields, each with its line break.
    fields: &'p [u8],
    body: Bytes,
    cache: &'static str,
}

impl<A: Answers> Turn<A> {
    /// Answers with a problem that a service or the journey met.
    pub(crate) fn send_problem(
        &mut self,
        connection: &mut Connection,
        mut exchange: Exchange<'_>,
        problem: Problem,
        cache: CacheNote,
    ) -> Step {
        tell(&problem, &exchange);
        let status = problem.kind.status();
        let mut fields = NO_STORE.to_vec();
        push_cache_status(&mut fields, cache);
        if let Some(after) = retry_after(&problem) {
            push_field(&mut fields, "Retry-After", after.to_string().as_bytes());
        }
        if problem.kind == Kind::MethodNotAllowed {
            fields.extend_from_slice(ALLOW);
        }
        let body =
            document(status, problem.kind.word(), &problem.detail, problem.subject.as_deref(), &exchange);
        exchange.cause = problem.cause;
        let cache = cache.word();
        let page = Page { status, content_type: "application/problem+json", fields: &fields, body, cache };
        self.send_page(connection, exchange, page)
    }

    /// Answers with a problem of HTTP itself: a status, a word and a sentence.
    pub(crate) fn send_status(
        &mut self,
        connection: &mut Connection,
        exchange: Exchange<'_>,
        status: u16,
        (word, sentence): (&str, &str),
        fields: &[u8],
    ) -> Step {
        let fields = [NO_STORE, fields].concat();
        let body = document(status, word, sentence, None, &exchange);
        let page =
            Page { status, content_type: "application/problem+json", fields: &fields, body, cache: "none" };
        self.send_page(connection, exchange, page)
    }

    /// `/healthz`: this process answers.
    pub(crate) fn send_health(&mut self, connection: &mut Connection, exchange: Exchange<'_>) -> Step {
        self.send_text(connection, exchange, 200, "ok\n")
    }

    /// `/readyz`: send requests here.
    pub(crate) fn send_ready(&mut self, connection: &mut Connection, exchange: Exchange<'_>) -> Step {
        let ready = self.house.ready.load(Ordering::Relaxed) && self.draining.is_none();
        let (status, text) = if ready { (200, "ready\n") } else { (503, "not ready\n") };
        self.send_text(connection, exchange, status, text)
    }

    /// `/`: what this is.
    pub(crate) fn send_home(&mut self, connection: &mut Connection, exchange: Exchange<'_>) -> Step {
        let body = Bytes::from_static(HOME.as_bytes());
        let fields = b"Cache-Control: public, max-age=300\r\n";
        let page =
            Page { status: 200, content_type: "text/html; charset=utf-8", fields, body, cache: "none" };
        self.send_page(connection, exchange, page)
    }

    /// OPTIONS: what may be asked.
    pub(crate) fn send_options(&mut self, connection: &mut Connection, exchange: Exchange<'_>) -> Step {
        let label = Label { service: None, status: 204, cache: "none" };
        let mut head = status_line(204);
        head.extend_from_slice(ALLOW);
        let mut tail = Vec::new();
        self.push_tail(&mut tail, &exchange);
        self.deliver(connection, exchange, label, [&head, &tail], Payload::Nothing)
    }

    fn send_text(
        &mut self,
        connection: &mut Connection,
        exchange: Exchange<'_>,
        status: u16,
        text: &'static str,
    ) -> Step {
        let body = Bytes::from_static(text.as_bytes());
        let page =
            Page { status, content_type: "text/plain; charset=utf-8", fields: NO_STORE, body, cache: "none" };
        self.send_page(connection, exchange, page)
    }

    fn send_page(&mut self, connection: &mut Connection, exchange: Exchange<'_>, page: Page<'_>) -> Step {
        let mut head = status_line(page.status);
        push_content_length(&mut head, page.body.len() as u64);
        push_field(&mut head, "Content-Type", page.content_type.as_bytes());
        head.extend_from_slice(b"X-Content-Type-Options: nosniff\r\n");
        head.extend_from_slice(page.fields);
        let mut tail = Vec::new();
        self.push_tail(&mut tail, &exchange);
        let label = Label { service: exchange.service, status: page.status, cache: page.cache };
        let payload = match exchange.verb {
            Verb::Head => Payload::Nothing,
            Verb::Get | Verb::Options => Payload::Bytes(&page.body, 0..page.body.len()),
        };
        self.deliver(connection, exchange, label, [&head, &tail], payload)
    }
}

/// Seconds after which to try again; always said when we are the ones without capacity.
fn retry_after(problem: &Problem) -> Option<u64> {
    let seconds = |after: Duration| after.as_secs() + u64::from(after.subsec_nanos() > 0);
    match problem.kind {
        Kind::Overloaded | Kind::Unavailable | Kind::Timeout => {
            Some(problem.retry_after.map_or(1, seconds).max(1))
        }
        _ => problem.retry_after.map(seconds),
    }
}

/// A problem document.
fn document(status: u16, word: &str, detail: &str, subject: Option<&str>, exchange: &Exchange<'_>) -> Bytes {
    let mut value = serde_json::json!({
        "type": format!("urn:tutti:problem:{word}"),
        "title": reason(status),
        "status": status,
        "detail": detail,
        "request": exchange.id.to_string(),
    });
    if let (Some(subject), Some(object)) = (subject, value.as_object_mut()) {
        object.insert("subject".into(), subject.into());
    }
    let mut text = value.to_string();
    text.push('\n');
    text.into()
}
