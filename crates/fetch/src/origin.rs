//! Originals from http(s) origins: GET and nothing else, redirects by us with every hop checked anew, no credentials.

use std::sync::Arc;

use arc_swap::ArcSwap;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::{Response, StatusCode};
use tutti_base::http::Validator;
use tutti_base::{Clock, Deadline, Kind, Problem, TenantId};

use crate::ask::{Ask, Asker};
use crate::breaker::Verdict;
use crate::config::{ConfigError, Exceptions};
use crate::count::Counts;
use crate::dial::Dialer;
use crate::failure::Failure;
use crate::names::Names;
use crate::pool::{Lease, Pool};
use crate::receive::{self, Receiving};
use crate::target::{TargetError, URL_BYTES_MAX};
use crate::{Config, FetchRequest, Fetched, Target, freshness, roots};

/// Says whether a tenant's rules allow a URL. Asked for every hop, the first one included; must not block.
pub type AllowUrl = Arc<dyn Fn(&TenantId, &str) -> bool + Send + Sync>;

/// All http(s) origins.
pub struct Origins {
    live: ArcSwap<Live>,
    allow: AllowUrl,
    pool: Pool,
    asker: Asker,
    clock: Arc<dyn Clock>,
    counts: Arc<Counts>,
}

/// The settings in force, and what was made of them.
pub(crate) struct Live {
    pub(crate) config: Config,
    pub(crate) tls: Arc<rustls::ClientConfig>,
    /// Counts the changes of settings.
    pub(crate) era: u64,
}

/// What one hop came to.
enum Hop {
    Here(Fetched),
    /// The value of `Location`.
    Onward(String),
}

impl Live {
    fn of(config: Config, era: u64) -> Result<Arc<Self>, ConfigError> {
        config.validate()?;
        let tls = roots::client_config(&config.extra_roots)?;
        Ok(Arc::new(Self { config, tls, era }))
    }
}

impl Origins {
    /// Origins under `config`; reads the files of `extra_roots`.
    pub(crate) fn new(
        config: Config,
        names: Arc<dyn Names>,
        allow: AllowUrl,
        clock: Arc<dyn Clock>,
        counts: Arc<Counts>,
    ) -> Result<Self, ConfigError> {
        let live = Live::of(config, 0)?;
        counts.limits(&live.config);
        let dialer = Dialer { names, clock: clock.clone() };
        let asker = Asker { dialer, clock: clock.clone(), counts: counts.clone() };
        let pool = Pool::new(counts.clone());
        Ok(Self { live: ArcSwap::new(live), allow, pool, asker, clock, counts })
    }

    /// Applies new settings. What is under way ends under the old ones; no connection made under them is used again.
    pub(crate) fn reconfigure(&self, config: Config) -> Result<(), ConfigError> {
        let live = Live::of(config, self.live.load().era + 1)?;
        self.counts.limits(&live.config);
        self.live.store(live.clone());
        self.pool.reconfigure(&live.config);
        Ok(())
    }

    /// Gets `url` for `request`. Cancel-safe: a dropped fetch closes its connection.
    pub(crate) async fn fetch(&self, request: &FetchRequest, url: &str) -> Result<Fetched, Problem> {
        let live = self.live.load_full();
        let asked = Target::parse(url).map_err(|error| self.not_a_url(error))?;
        let exceptions = Exceptions::of(&live.config, &request.tenant, &asked);
        let mut hop = asked.clone();
        let mut redirects = 0;
        loop {
            let came = match self.hop(&live, request, exceptions, &hop).await {
                Ok(Hop::Here(fetched)) => return Ok(fetched),
                Ok(Hop::Onward(_)) if redirects == live.config.redirects_max => {
                    Err(Failure::Redirects(redirects))
                }
                Ok(Hop::Onward(location)) => hop.join(&location).map_err(Failure::Url),
                Err(failure) => Err(failure),
            };
            hop = came.map_err(|failure| self.failed(&failure, &asked, &hop))?;
            redirects += 1;
            self.counts.redirects.inc();
        }
    }

    fn failed(&self, failure: &Failure, asked: &Target, hop: &Target) -> Problem {
        if failure.refused() {
            self.counts.refused(failure.word());
        } else {
            self.counts.origin_error(failure.word());
        }
        failure.problem(&asked.origin, &hop.to_string())
    }

    fn not_a_url(&self, error: TargetError) -> Problem {
        let failure = Failure::Url(error);
        self.counts.refused(failure.word());
        Problem::new(Kind::NotFound, "the source is not a URL that is fetched here")
            .about("source")
            .because(failure)
    }

    /// One request to one origin, and what it answered.
    async fn hop(
        &self,
        live: &Live,
        request: &FetchRequest,
        exceptions: Exceptions<'_>,
        target: &Target,
    ) -> Result<Hop, Failure> {
        if !(self.allow)(&request.tenant, &target.to_string()) {
            return Err(Failure::NotAllowed);
        }
        let origin = self.pool.origin(&target.origin, &live.config, self.clock.now())?;
        let trial = origin.admit(&self.clock)?;
        let ask = Ask {
            live,
            target,
            networks: exceptions.at(target),
            validator: &request.validator,
            deadline: request.deadline.0,
        };
        let answered = match self.asker.ask(&origin, &ask).await {
            Ok((response, lease)) => self.judge(live, request, response, lease).await,
            Err(failure) => Err(failure),
        };
        trial.settle(answered.as_ref().map_or_else(Failure::verdict, |_| Verdict::Success));
        answered
    }

    /// What an answer comes to, by its status.
    async fn judge(
        &self,
        live: &Live,
        request: &FetchRequest,
        response: Response<Incoming>,
        lease: Lease,
    ) -> Result<Hop, Failure> {
        framing(response.headers())?;
        let status = response.status();
        if status == StatusCode::OK {
            return self.receive(live, request.deadline, response, lease).map(Hop::Here);
        }
        let (head, body) = response.into_parts();
        receive::drain(body, lease, &*self.clock).await;
        match status.as_u16() {
            304 if !request.validator.is_empty() => {
                Ok(Hop::Here(self.unchanged(&head.headers, &request.validator)))
            }
            301 | 302 | 303 | 307 | 308 => location(&head.headers).map(Hop::Onward),
            code @ 400..=499 => Err(Failure::Status4xx(code)),
            code @ 500..=599 => Err(Failure::Status5xx(code)),
            code => Err(Failure::Status(code)),
        }
    }

    fn receive(
        &self,
        live: &Live,
        deadline: Deadline,
        response: Response<Incoming>,
        lease: Lease,
    ) -> Result<Fetched, Failure> {
        let (head, body) = response.into_parts();
        if let Some(coding) = coding(&head.headers) {
            return Err(Failure::Encoded(coding));
        }
        let limit = live.config.max_body_bytes;
        match hyper::body::Body::size_hint(&body).exact() {
            Some(announced) if announced > limit => return Err(Failure::TooLong { announced, limit }),
            _ => {}
        }
        let answer = self.read_answer(&head.headers);
        let (clock, counts) = (self.clock.clone(), self.counts.clone());
        let receiving = Receiving::new(body, lease, clock, counts, &live.config, deadline.0);
        Ok(Fetched::Body(answer, receiving.into_stream()))
    }

    /// A 304: what it does not say of the validator holds as we asked with it (RFC 9111 §4.3.4).
    fn unchanged(&self, fields: &HeaderMap, asked: &Validator) -> Fetched {
        let mut answer = self.read_answer(fields);
        let told = &mut answer.validator;
        told.etag = told.etag.take().or_else(|| asked.etag.clone());
        told.last_modified = told.last_modified.take().or_else(|| asked.last_modified.clone());
        Fetched::NotModified(answer)
    }

    fn read_answer(&self, fields: &HeaderMap) -> crate::OriginAnswer {
        let reading = freshness::read(fields, self.clock.wall());
        self.counts.tags_dropped.inc_by(reading.tags_dropped as u64);
        reading.answer
    }
}

/// Refuses what leaves the length of a body in doubt; hyper resolves some of it, we take no answer from who sends it.
fn framing(fields: &HeaderMap) -> Result<(), Failure> {
    let lengths = fields.get_all(header::CONTENT_LENGTH).iter().count();
    let codings: Vec<_> = fields.get_all(header::TRANSFER_ENCODING).iter().collect();
    let chunked =
        |value: &header::HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    match codings.as_slice() {
        [] if lengths <= 1 => Ok(()),
        [] => Err(Failure::Malformed("several Content-Length fields".into())),
        [_] if lengths > 0 => Err(Failure::Malformed("Content-Length beside Transfer-Encoding".into())),
        [one] if chunked(one) => Ok(()),
        _ => Err(Failure::Malformed("a Transfer-Encoding other than `chunked`".into())),
    }
}

/// The content coding, where it is not identity.
fn coding(fields: &HeaderMap) -> Option<String> {
    let codings = fields.get_all(header::CONTENT_ENCODING);
    let coded =
        codings.iter().find(|value| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"))?;
    Some(String::from_utf8_lossy(coded.as_bytes()).chars().take(64).collect())
}

fn location(fields: &HeaderMap) -> Result<String, Failure> {
    let mut locations = fields.get_all(header::LOCATION).iter();
    let location =
        locations.next().ok_or_else(|| Failure::Malformed("a redirect without Location".into()))?;
    if locations.next().is_some() || location.len() > URL_BYTES_MAX {
        return Err(Failure::Malformed("several Location fields, or one that is too long".into()));
    }
    let text = std::str::from_utf8(location.as_bytes());
    text.map(|text| text.trim().to_owned()).map_err(|_| Failure::Malformed("Location is not UTF-8".into()))
}
