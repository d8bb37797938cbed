//! One request on its way to its answer: what the answer, the metrics and the log still need of it.

use std::borrow::Cow;

use tutti_base::{RequestId, Tick};
use tutti_service::registry::ServiceId;

use crate::conditional::Preconditions;
use crate::head::{Persistence, RequestHead, Verb, Version};

/// What is still needed of a request once it is planned.
pub(crate) struct Exchange<'a> {
    pub(crate) id: RequestId,
    /// When its last byte had arrived.
    pub(crate) started: Tick,
    pub(crate) verb: Verb,
    /// Its method as the log writes it.
    pub(crate) method: &'static str,
    pub(crate) version: Version,
    /// Whether the connection goes on afterwards.
    pub(crate) persistence: Persistence,
    /// The authority as the client wrote it.
    pub(crate) host: Cow<'a, str>,
    /// The target as the client wrote it.
    pub(crate) target: Cow<'a, str>,
    pub(crate) preconditions: Preconditions<'a>,
    /// None: the front itself.
    pub(crate) service: Option<ServiceId>,
    /// For the log only.
    pub(crate) cause: Option<String>,
}

impl<'a> Exchange<'a> {
    /// What is needed of `head`.
    pub(crate) fn of(
        head: &'a RequestHead<'_, '_>,
        id: RequestId,
        started: Tick,
        persistence: Persistence,
    ) -> Self {
        Self {
            id,
            started,
            verb: head.verb,
            method: word(head.verb),
            version: head.version,
            persistence,
            host: Cow::Borrowed(head.place.host),
            target: Cow::Borrowed(head.target),
            preconditions: Preconditions::of(head),
            service: None,
            cause: None,
        }
    }

    /// A request of which nothing could be read but its first line.
    pub(crate) fn refused(line: &str, id: RequestId, started: Tick) -> Exchange<'static> {
        Exchange {
            id,
            started,
            verb: Verb::Get,
            method: "-",
            version: Version::Http11,
            persistence: Persistence::Close,
            host: Cow::Borrowed(""),
            target: Cow::Owned(line.to_owned()),
            preconditions: Preconditions::default(),
            service: None,
            cause: None,
        }
    }

    /// The same, independent of the request's bytes.
    pub(crate) fn into_owned(self) -> Exchange<'static> {
        Exchange {
            id: self.id,
            started: self.started,
            verb: self.verb,
            method: self.method,
            version: self.version,
            persistence: self.persistence,
            host: Cow::Owned(self.host.into_owned()),
            target: Cow::Owned(self.target.into_owned()),
            preconditions: self.preconditions.into_owned(),
            service: self.service,
            cause: self.cause,
        }
    }
}

const fn word(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "GET",
        Verb::Head => "HEAD",
        Verb::Options => "OPTIONS",
    }
}
