//! What went wrong, in a closed set: what it is, whose fault, whether to try again, and what a client may read of it.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Whose fault a failure is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Fault {
    /// The request cannot be served as asked.
    Client,
    /// An origin failed or lied.
    Upstream,
    /// We failed, or have no capacity.
    Us,
}

/// The closed set of failures, mapped to HTTP once, in [`Kind::status`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// The request is not valid HTTP or not a valid call.
    BadRequest,
    /// The signature is missing or wrong, or an option needs a permission.
    Forbidden,
    /// Nothing is there, the URL or an option is unknown, it has expired, or the source is refused.
    NotFound,
    /// The method is not one that this resource has.
    MethodNotAllowed,
    /// A conditional change met another state than it named.
    Conflict,
    /// The input is malformed, or something is over a limit of the imaging path.
    Unprocessable,
    /// The origin answered with this 4xx.
    OriginStatus(u16),
    /// The origin answered 5xx, refused the connection, or broke off.
    OriginBroken,
    /// The origin did not answer in time.
    OriginTimeout,
    /// The work did not end before its deadline.
    Timeout,
    /// There is no capacity for it now.
    Overloaded,
    /// We are stopping, or not ready.
    Unavailable,
    /// A defect of ours.
    Internal,
}

impl Kind {
    /// The HTTP status (RFC 9110 §15).
    pub const fn status(self) -> u16 {
        match self {
            Kind::BadRequest => 400,
            Kind::Forbidden => 403,
            Kind::NotFound => 404,
            Kind::MethodNotAllowed => 405,
            Kind::Conflict => 409,
            Kind::Unprocessable => 422,
            Kind::OriginStatus(status) => status,
            Kind::OriginBroken => 502,
            Kind::OriginTimeout => 504,
            Kind::Timeout | Kind::Overloaded | Kind::Unavailable => 503,
            Kind::Internal => 500,
        }
    }

    /// A short stable word: the last segment of the problem's `type`, and the label in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::BadRequest => "bad-request",
            Kind::Forbidden => "forbidden",
            Kind::NotFound => "not-found",
            Kind::MethodNotAllowed => "method-not-allowed",
            Kind::Conflict => "conflict",
            Kind::Unprocessable => "unprocessable",
            Kind::OriginStatus(_) => "origin-status",
            Kind::OriginBroken => "origin-broken",
            Kind::OriginTimeout => "origin-timeout",
            Kind::Timeout => "timeout",
            Kind::Overloaded => "overloaded",
            Kind::Unavailable => "unavailable",
            Kind::Internal => "internal",
        }
    }

    /// Whose fault it is.
    pub const fn fault(self) -> Fault {
        match self {
            Kind::BadRequest
            | Kind::Forbidden
            | Kind::NotFound
            | Kind::MethodNotAllowed
            | Kind::Conflict
            | Kind::Unprocessable => Fault::Client,
            Kind::OriginStatus(_) | Kind::OriginBroken | Kind::OriginTimeout => Fault::Upstream,
            Kind::Timeout | Kind::Overloaded | Kind::Unavailable | Kind::Internal => Fault::Us,
        }
    }
}

/// One failure: what a client may read, and apart from it what only the log gets.
#[derive(Clone, PartialEq, Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{}: {detail}", kind.word())]
pub struct Problem {
    /// What it is.
    pub kind: Kind,
    /// One sentence for the client: names the thing, the value and the way out.
    pub detail: Cow<'static, str>,
    /// The option, limit or field concerned, if there is one.
    pub subject: Option<Cow<'static, str>>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// The cause, for the log only.
    pub cause: Option<String>,
    /// Whether an original's bytes alone are to blame, whatever is asked of them: remembered by their content hash.
    #[serde(default)]
    pub of_input: bool,
}

impl Problem {
    /// A failure of this kind.
    pub fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into(), subject: None, retry_after: None, cause: None, of_input: false }
    }
    /// Names the option, limit or field concerned.
    pub fn about(mut self, subject: impl Into<Cow<'static, str>>) -> Self {
        self.subject = Some(subject.into());
        self
    }
    /// Says when to try again.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }
    /// Blames an original's bytes alone.
    pub fn of_input(mut self) -> Self {
        self.of_input = true;
        self
    }
    /// Keeps the cause for the log.
    pub fn because(mut self, cause: impl ToString) -> Self {
        self.cause = Some(cause.to_string());
        self
    }
}
