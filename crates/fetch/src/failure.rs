//! How a fetch from an origin fails: each kind with its label, its verdict for the breaker and what a client may read.

use std::time::Duration;

use tutti_base::{Kind, Problem};

use crate::breaker::Verdict;
use crate::guard::Denied;
use crate::target::{OriginId, TargetError};

/// Why one hop brought no usable answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The URL is none that we fetch.
    #[error("{0}")]
    Url(#[from] TargetError),
    /// The tenant's rules do not allow the URL.
    #[error("the allowed sources do not cover it")]
    NotAllowed,
    /// All its addresses are denied; this is the first.
    #[error("{0}")]
    Address(Denied),
    /// The breaker is open.
    #[error("its breaker is open after repeated failures, for {0:?} more")]
    Breaker(Duration),
    /// Too many wait for this origin already.
    #[error("{0} requests wait for a connection to it already")]
    Crowded(usize),
    /// So many origins are busy that no further one is taken on.
    #[error("{0} origins are in use already")]
    TooManyOrigins(usize),
    /// The name does not resolve.
    #[error("its name does not resolve: {0}")]
    Name(String),
    /// No connection.
    #[error("no connection: {0}")]
    Connect(String),
    /// The TLS handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Tls(String),
    /// A step took too long.
    #[error("{step} took longer than {limit:?}")]
    Timeout {
        /// Resolving, connecting, the head.
        step: Step,
        /// How long it was given.
        limit: Duration,
    },
    /// The connection broke before the end of the head.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The head is not valid HTTP, or over a limit.
    #[error("the answer is malformed: {0}")]
    Malformed(String),
    /// A 4xx.
    #[error("it answered {0}")]
    Status4xx(u16),
    /// A 5xx.
    #[error("it answered {0}")]
    Status5xx(u16),
    /// A status that answers no plain GET.
    #[error("it answered {0}, which answers no plain GET")]
    Status(u16),
    /// It encoded the content though we asked for identity.
    #[error("it encoded the content as `{0}` though identity was asked for")]
    Encoded(String),
    /// Longer than allowed by its own word.
    #[error("it announced {announced} bytes; the limit is {limit}")]
    TooLong {
        /// Its `Content-Length`.
        announced: u64,
        /// `max_body_bytes`.
        limit: u64,
    },
    /// Redirected too often.
    #[error("it redirected more than {0} times")]
    Redirects(usize),
}

/// What took too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Waiting for one of the connections to the origin.
    Queue,
    /// Resolving the name.
    Resolve,
    /// Connecting and the TLS handshake.
    Connect,
    /// From our request to the end of the head.
    Head,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Step::Queue => "waiting for a free connection",
            Step::Resolve => "resolving its name",
            Step::Connect => "connecting",
            Step::Head => "its answer",
        })
    }
}

/// A time-out says something of the origin only when it was given at least this long.
const PATIENCE: Duration = Duration::from_secs(1);

impl Failure {
    /// The label in metrics.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Failure::Url(TargetError::Scheme(_)) => "scheme",
            Failure::Url(_) => "url",
            Failure::NotAllowed => "not_allowed",
            Failure::Address(_) => "address",
            Failure::Breaker(_) => "breaker",
            Failure::Crowded(_) => "waiting",
            Failure::TooManyOrigins(_) => "origins",
            Failure::Name(_) => "name",
            Failure::Connect(_) => "connect",
            Failure::Tls(_) => "tls",
            Failure::Timeout { step: Step::Queue, .. } => "timeout_queue",
            Failure::Timeout { step: Step::Resolve, .. } => "timeout_name",
            Failure::Timeout { step: Step::Connect, .. } => "timeout_connect",
            Failure::Timeout { step: Step::Head, .. } => "timeout_head",
            Failure::Broken(_) => "broken",
            Failure::Malformed(_) => "malformed",
            Failure::Status4xx(_) => "status_4xx",
            Failure::Status5xx(_) => "status_5xx",
            Failure::Status(_) => "status_other",
            Failure::Encoded(_) => "encoded",
            Failure::TooLong { .. } => "too_long",
            Failure::Redirects(_) => "redirects",
        }
    }

    /// Whether it was refused by us before anything was sent.
    pub(crate) fn refused(&self) -> bool {
        matches!(
            self,
            Failure::Url(_)
                | Failure::NotAllowed
                | Failure::Address(_)
                | Failure::Breaker(_)
                | Failure::Crowded(_)
                | Failure::TooManyOrigins(_)
        )
    }

    /// What it says of the origin. A plain 500 is an answer to one URL; 502, 503 and 504 speak for the origin.
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Failure::Name(_)
            | Failure::Connect(_)
            | Failure::Tls(_)
            | Failure::Broken(_)
            | Failure::Malformed(_)
            | Failure::Status5xx(502..=504) => Verdict::Failure,
            Failure::Timeout { step: Step::Queue, .. } => Verdict::Unknown,
            Failure::Timeout { limit, .. } if *limit < PATIENCE => Verdict::Unknown,
            Failure::Timeout { .. } => Verdict::Failure,
            _ if self.refused() => Verdict::Unknown,
            _ => Verdict::Success,
        }
    }

    /// What the client gets. `origin` is the one that was asked for; `hop` is where it failed, for the log.
    pub(crate) fn problem(&self, origin: &OriginId, hop: &str) -> Problem {
        let cause = format!("{hop}: {self}");
        let problem = |kind, detail: String| Problem::new(kind, detail).about("source");
        let problem = match self {
            Failure::Url(_) | Failure::NotAllowed | Failure::Address(_) => problem(
                Kind::NotFound,
                format!("the source at {origin} is not allowed; the server's log says why"),
            ),
            Failure::Breaker(left) => {
                let detail = format!("the origin {origin} keeps failing and is not asked for a while");
                problem(Kind::OriginBroken, detail).retry_after(*left)
            }
            Failure::Crowded(_) | Failure::TooManyOrigins(_) => {
                let detail = format!("too many requests wait for the origin {origin}; try again soon");
                problem(Kind::Overloaded, detail).retry_after(Duration::from_secs(1))
            }
            Failure::Timeout { .. } => {
                problem(Kind::OriginTimeout, format!("the origin {origin} did not answer in time"))
            }
            Failure::Status4xx(status) => {
                problem(Kind::OriginStatus(*status), format!("the origin {origin} answered {status}"))
            }
            Failure::TooLong { announced, limit } => problem(
                Kind::Unprocessable,
                format!("the original has {announced} bytes; the limit is {limit} (`max_body_bytes`)"),
            ),
            Failure::Redirects(most) => problem(
                Kind::OriginBroken,
                format!("the origin {origin} redirects more than {most} times (`redirects_max`)"),
            ),
            Failure::Status5xx(status) | Failure::Status(status) => {
                problem(Kind::OriginBroken, format!("the origin {origin} answered {status}"))
            }
            _ => problem(Kind::OriginBroken, format!("the origin {origin} gave no usable answer")),
        };
        problem.because(cause)
    }
}
