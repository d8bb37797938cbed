//! Problems on the wire: `application/problem+json` (RFC 9457). Shows what a client may read and never the cause.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tutti_base::{Fault, Problem};

/// The body of a problem.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProblemBody {
    /// A relative reference whose last segment is the kind's word.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status's own words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// One sentence: what is wrong and the way out.
    pub detail: String,
    /// The option, limit or field concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

impl From<&Problem> for ProblemBody {
    fn from(problem: &Problem) -> Self {
        let status = problem.kind.status();
        let title = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        Self {
            kind: format!("/problems/{}", problem.kind.word()),
            title: title.unwrap_or("Problem").into(),
            status,
            detail: problem.detail.to_string(),
            subject: problem.subject.as_ref().map(ToString::to_string),
        }
    }
}

/// A [`Problem`] as an answer; logged here once where it is our fault.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Problem);

impl<E: Into<Problem>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Refusal(problem) = self;
        if problem.kind.fault() != Fault::Client {
            tracing::warn!(kind = problem.kind.word(), detail = %problem.detail, cause = problem.cause, "admin call failed");
        }
        let body = ProblemBody::from(&problem);
        let status = StatusCode::from_u16(body.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let text = serde_json::to_vec(&body).expect("a struct of texts and a number is JSON");
        let mut response = (status, text).into_response();
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(after) = problem.retry_after {
            fields.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        response
    }
}
