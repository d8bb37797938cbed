//! Receiving the body of an answer: bounded in bytes, by a least rate and by the deadline; whole, or an error.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use tutti_base::{BodyError, Clock, StreamBody, Tick};

use crate::count::Counts;
use crate::pool::Lease;
use crate::{Config, wait};

/// The most of an unwanted body that is read for the sake of its connection, in bytes.
const DRAIN_BYTES: u64 = 16 << 10;
/// The longest that reading an unwanted body may take.
const DRAIN_TIME: Duration = Duration::from_millis(100);

/// One body on its way.
pub(crate) struct Receiving {
    body: Incoming,
    /// The connection; gone once it has been given back.
    lease: Option<Lease>,
    clock: Arc<dyn Clock>,
    counts: Arc<Counts>,
    limits: Limits,
    received: u64,
    /// How long the origin has kept us waiting; time in which nobody asked for bytes does not count.
    waited: Duration,
}

/// What one body is held to.
struct Limits {
    bytes: u64,
    min_rate: u64,
    grace: Duration,
    deadline: Tick,
}

impl Receiving {
    pub(crate) fn new(
        body: Incoming,
        lease: Lease,
        clock: Arc<dyn Clock>,
        counts: Arc<Counts>,
        config: &Config,
        deadline: Tick,
    ) -> Self {
        let limits = Limits {
            bytes: config.max_body_bytes,
            min_rate: config.min_rate,
            grace: Duration::from_millis(config.min_rate_grace_ms),
            deadline,
        };
        Self { body, lease: Some(lease), clock, counts, limits, received: 0, waited: Duration::ZERO }
    }

    /// The body as a stream. Dropping it before its end closes the connection.
    pub(crate) fn into_stream(self) -> StreamBody {
        let len = self.body.size_hint().exact();
        let chunks = futures_util::stream::unfold(Some(self), |receiving| async move {
            let mut receiving = receiving?;
            match receiving.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(receiving))),
                Ok(None) => None,
                Err(error) => {
                    receiving.counts.origin_error(word(&error));
                    Some((Err(error), None))
                }
            }
        });
        StreamBody { len, hash: None, chunks: Box::pin(chunks) }
    }

    /// The next bytes; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        while !self.body.is_end_stream() {
            let began = self.clock.now();
            let until = self.limits.deadline.min(began + self.patience());
            let frame =
                wait::until(&*self.clock, until, self.body.frame()).await.ok_or(BodyError::Timeout)?;
            self.waited += self.clock.now().since(began);
            match frame {
                None => break,
                Some(Err(error)) => return Err(BodyError::Broken(error.to_string())),
                // Trailers say nothing that is used here.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) if bytes.is_empty() => {}
                    Ok(bytes) => return self.take(bytes).map(Some),
                    Err(_trailers) => {}
                },
            }
        }
        self.end();
        Ok(None)
    }

    fn take(&mut self, bytes: Bytes) -> Result<Bytes, BodyError> {
        self.received += bytes.len() as u64;
        self.counts.body_bytes.inc_by(bytes.len() as u64);
        if self.received > self.limits.bytes {
            return Err(BodyError::TooLong { limit: self.limits.bytes });
        }
        if self.body.is_end_stream() {
            self.end();
        }
        Ok(bytes)
    }

    /// How much longer the origin may keep us waiting before it is below the least rate.
    fn patience(&self) -> Duration {
        let Some(earned) = self.received.saturating_mul(1_000_000).checked_div(self.limits.min_rate) else {
            return Duration::from_secs(86_400);
        };
        (self.limits.grace + Duration::from_micros(earned)).saturating_sub(self.waited)
    }

    fn end(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back(self.clock.now());
        }
    }
}

fn word(error: &BodyError) -> &'static str {
    match error {
        BodyError::TooLong { .. } => "body_too_long",
        BodyError::Broken(_) => "body_broken",
        BodyError::Timeout => "body_timeout",
    }
}

/// Reads what is left of a body that nobody wants, if it is short, so that its connection can be used again; else
/// closes the connection.
pub(crate) async fn drain(mut body: Incoming, lease: Lease, clock: &dyn Clock) {
    let short = body.size_hint().upper().is_none_or(|upper| upper <= DRAIN_BYTES);
    if short && wait::until(clock, clock.now() + DRAIN_TIME, read_short(&mut body)).await == Some(Whole::Yes)
    {
        lease.give_back(clock.now());
    }
}

#[derive(PartialEq, Eq)]
enum Whole {
    Yes,
    No,
}

async fn read_short(body: &mut Incoming) -> Whole {
    let mut left = DRAIN_BYTES;
    while let Some(frame) = body.frame().await {
        let len = frame.map(|frame| frame.into_data().map_or(0, |bytes| bytes.len() as u64));
        match len.ok().and_then(|len| left.checked_sub(len)) {
            Some(rest) => left = rest,
            None => return Whole::No,
        }
    }
    Whole::Yes
}
