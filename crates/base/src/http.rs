//! The few words of HTTP that more than one room needs: methods, validators, cache tags. No parsing of messages.

use serde::{Deserialize, Serialize};

/// The methods that a service may be asked with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Method {
    /// GET
    Get,
    /// HEAD: planned and cached as GET; the front leaves the body away.
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// OPTIONS
    Options,
}

/// What an origin gave us to ask with again (RFC 9110 §8.8).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Validator {
    /// Its `ETag`, as sent.
    pub etag: Option<String>,
    /// Its `Last-Modified`, as sent.
    pub last_modified: Option<String>,
}

impl Validator {
    /// Whether there is nothing to ask with.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }
}

/// A field of an answer: name in the case that it is sent in, value without line breaks.
pub type Field = (String, String);
