//! Sending one request and reading the head of its answer, over a resting connection or a new one.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response};
use tutti_base::http::Validator;
use tutti_base::{Clock, Tick};
use tutti_telemetry::Counter;

use crate::count::Counts;
use crate::dial::{Dial, Dialer};
use crate::failure::{Failure, Step};
use crate::freshness::well_formed_etag;
use crate::link::Link;
use crate::origin::Live;
use crate::pool::{Lease, Origin, Turn};
use crate::{Network, Target, wait};

/// What we call ourselves.
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("Tutti/", env!("CARGO_PKG_VERSION")));
/// Any type: what it is, its bytes will tell. A wish list would let origins answer differently from what was put there.
const ACCEPT: HeaderValue = HeaderValue::from_static("*/*");
/// Content codings are not undone here, so none is wanted.
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// Sends requests.
pub(crate) struct Asker {
    pub(crate) dialer: Dialer,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counts: Arc<Counts>,
}

/// One request.
pub(crate) struct Ask<'a> {
    pub(crate) live: &'a Live,
    pub(crate) target: &'a Target,
    /// Exceptions from the guard.
    pub(crate) networks: &'a [Network],
    pub(crate) validator: &'a Validator,
    pub(crate) deadline: Tick,
}

/// An answer's head, and the connection that its body comes over.
type Answered = (Response<Incoming>, Lease);

/// Why sending brought no head.
enum Unanswered {
    /// The connection closed before any of the answer came: on a reused one that is no word about the origin.
    Closed(Turn, Failure),
    /// Anything else.
    Failed(Failure),
}

impl Asker {
    /// Asks `origin`. A reused connection that turns out to be closed costs one more attempt, on a new one.
    pub(crate) async fn ask(&self, origin: &Arc<Origin>, ask: &Ask<'_>) -> Result<Answered, Failure> {
        let turn = origin.turn(&*self.clock, ask.live.config.waiting_per_origin, ask.deadline).await?;
        let turn = match turn.resume(self.clock.now(), ask.live.era, ask.networks) {
            Err(turn) => turn,
            Ok(lease) => match self.send(lease, ask).await {
                Ok(answered) => return Ok(answered),
                Err(Unanswered::Failed(failure)) => return Err(failure),
                Err(Unanswered::Closed(turn, _)) => {
                    self.counts.retries.inc();
                    turn
                }
            },
        };
        let lease = self.connect(turn, ask).await?;
        self.send(lease, ask).await.map_err(|unanswered| match unanswered {
            Unanswered::Closed(_, failure) | Unanswered::Failed(failure) => failure,
        })
    }

    async fn connect(&self, turn: Turn, ask: &Ask<'_>) -> Result<Lease, Failure> {
        let limit = ask.deadline.since(self.clock.now());
        let slot = wait::until(&*self.clock, ask.deadline, turn.slot()).await;
        let slot = slot.ok_or(Failure::Timeout { step: Step::Queue, limit })?;
        let dial = Dial {
            origin: &ask.target.origin,
            networks: ask.networks,
            tls: &ask.live.tls,
            timeout: ask.live.config.connect_timeout(),
            deadline: ask.deadline,
        };
        let (wire, peer) = self.dialer.dial(&dial).await?;
        let link = Link::open(wire, peer, slot, &self.clock, &ask.live.config, ask.live.era).await?;
        Ok(turn.with(link))
    }

    async fn send(&self, mut lease: Lease, ask: &Ask<'_>) -> Result<Answered, Unanswered> {
        let began = self.clock.now();
        let until = ask.deadline.min(began + ask.live.config.head_timeout());
        let exchange = async {
            let sender = &mut lease.link.sender;
            sender.ready().await.map_err(|error| (error, false))?;
            let mut sent = Sent::count_in(&self.counts.origin);
            sender.try_send_request(request(ask.target, ask.validator)).await.map_err(|mut unsent| {
                sent.happened = unsent.take_message().is_none();
                (unsent.into_error(), sent.happened)
            })
        };
        let answered = wait::until(&*self.clock, until, exchange).await;
        self.counts.head_seconds.observe(self.clock.now().since(began).as_secs_f64());
        match answered {
            Some(Ok(response)) => Ok((response, lease)),
            Some(Err((error, _))) => Err(unanswered(&error, lease)),
            None => Err(Unanswered::Failed(Failure::Timeout { step: Step::Head, limit: until.since(began) })),
        }
    }
}

fn unanswered(error: &hyper::Error, lease: Lease) -> Unanswered {
    if error.is_parse() || error.is_user() {
        return Unanswered::Failed(Failure::Malformed(with_sources(error)));
    }
    Unanswered::Closed(lease.discard(), Failure::Broken(with_sources(error)))
}

fn with_sources(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Our request: nothing of the client's goes along.
fn request(target: &Target, validator: &Validator) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = target.path.parse().unwrap_or_default();
    let fields = request.headers_mut();
    let host = HeaderValue::from_str(&target.origin.authority()).expect("a parsed host is visible ASCII");
    fields.insert(header::HOST, host);
    fields.insert(header::USER_AGENT, USER_AGENT);
    fields.insert(header::ACCEPT, ACCEPT);
    fields.insert(header::ACCEPT_ENCODING, IDENTITY);
    if let Some(etag) = validator.etag.as_deref().filter(|etag| well_formed_etag(etag)) {
        fields.extend(HeaderValue::from_str(etag).ok().map(|etag| (header::IF_NONE_MATCH, etag)));
    }
    if let Some(date) =
        validator.last_modified.as_deref().filter(|date| httpdate::parse_http_date(date).is_ok())
    {
        fields.extend(HeaderValue::from_str(date).ok().map(|date| (header::IF_MODIFIED_SINCE, date)));
    }
    request
}

/// Counts a request when it is over, unless it was never sent; so that a cancelled one counts as well.
struct Sent<'a> {
    counter: &'a Counter,
    happened: bool,
}

impl<'a> Sent<'a> {
    fn count_in(counter: &'a Counter) -> Self {
        Self { counter, happened: true }
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if self.happened {
            self.counter.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_normal_path_is_a_request_target() {
        for path in ["/", "/a%20b?c=d%22", "/a[1]~!$&'()*+,;=:@/%5C", "/?", "/%C3%BC", "//x"] {
            let target = Target::parse(&format!("http://x.example{path}")).unwrap();
            let request = request(&target, &Validator::default());
            assert_eq!(request.uri().to_string(), path);
        }
    }

    #[test]
    fn only_our_own_fields_are_sent() {
        let target = Target::parse("http://x.example:81/a").unwrap();
        let validator = Validator { etag: Some("\"1\"".into()), last_modified: Some("no date".into()) };
        let request = request(&target, &validator);
        let names: Vec<_> = request.headers().keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["host", "user-agent", "accept", "accept-encoding", "if-none-match"]);
        assert_eq!(request.headers()["host"], "x.example:81");
    }
}
