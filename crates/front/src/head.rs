//! The strict reading of a request head (RFC 9112): a whole head, a part of one, or a refusal. Touches no socket.
//!
//! The verdict on a stream of bytes does not depend on how it was cut into reads: errors are found in the order in which
//! they stand, whether the head is there as a whole or comes byte by byte.

use std::mem::MaybeUninit;

use httparse::Header;
use tutti_service::Fields;

use crate::config::{Config, MOST_FIELDS};
use crate::framing::{Framing, FramingFields};
use crate::refusal::Refusal;
use crate::target::{self, Place};

/// Bytes of a request line beside its target: the longest method we know, the version, two spaces, the line break, and
/// some more for a method that we do not know.
const LINE_SPARE: usize = 64;

/// Room for the fields of one head, without initialising it.
pub(crate) type Slots<'b> = [MaybeUninit<Header<'b>>; MOST_FIELDS];

/// Empty room for one head.
pub(crate) const fn slots<'b>() -> Slots<'b> {
    [const { MaybeUninit::uninit() }; MOST_FIELDS]
}

/// What a head may be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    pub(crate) bytes: usize,
    pub(crate) fields: usize,
    pub(crate) target: usize,
}

impl HeadLimits {
    /// Those of a configuration.
    pub(crate) fn of(config: &Config) -> Self {
        Self { bytes: config.head_bytes, fields: config.fields, target: config.target_bytes }
    }
}

/// What is done with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verb {
    Get,
    Head,
    Options,
}

/// The versions that are spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Version {
    Http10,
    Http11,
}

/// Whether the connection goes on after the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Persistence {
    Keep,
    Close,
}

/// Whether the client waits for `100 Continue` before it sends its body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Expectation {
    None,
    Continue,
}

/// Whether the request carries any of the fields that RFC 9110 §13 and §14 speak of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Conditions {
    None,
    Some,
}

/// A request head that has passed every check.
#[derive(Debug)]
pub(crate) struct RequestHead<'h, 'b> {
    /// Its length in bytes.
    pub(crate) len: usize,
    pub(crate) verb: Verb,
    /// As it was sent.
    pub(crate) target: &'b str,
    pub(crate) place: Place<'b>,
    pub(crate) version: Version,
    pub(crate) framing: Framing,
    pub(crate) persistence: Persistence,
    pub(crate) expectation: Expectation,
    pub(crate) conditions: Conditions,
    pub(crate) fields: &'h [Header<'b>],
}

impl RequestHead<'_, '_> {
    /// The values of all fields called `name`.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }
}

impl Fields for RequestHead<'_, '_> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|field| field.name.len() == name.len() && field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
    }
}

/// Reads the head at the start of `bytes`. None: it is not all there yet, and what is there is in order.
/// `seen` bytes were looked at before, without finding an end.
pub(crate) fn read<'h, 'b>(
    bytes: &'b [u8],
    seen: usize,
    limits: &HeadLimits,
    slots: &'h mut Slots<'b>,
) -> Result<Option<RequestHead<'h, 'b>>, Refusal> {
    let skipped = match bytes {
        // One empty line before a request is forgiven (RFC 9112 §2.2).
        [b'\r', b'\n', ..] => 2,
        [b'\r'] => return Ok(None),
        _ => 0,
    };
    let rest = &bytes[skipped..];
    if rest.first() == Some(&b'\r') {
        return if rest.len() == 1 { Ok(None) } else { Err(Refusal::Malformed) };
    }
    let Some(end) = find_end(rest, seen.saturating_sub(skipped + 1), limits)? else {
        return Ok(None);
    };
    let mut request = httparse::Request::new(&mut []);
    let length = request
        .parse_with_uninit_headers(&rest[..end], &mut slots[..limits.fields])
        .map_err(|error| refusal_of(error, rest))?;
    if length != httparse::Status::Complete(end) {
        return Err(Refusal::Malformed);
    }
    check(request, skipped + end, limits).map(Some)
}

/// Where the head in `bytes` ends. Looks at line ends from `from` on.
fn find_end(bytes: &[u8], from: usize, limits: &HeadLimits) -> Result<Option<usize>, Refusal> {
    let window = &bytes[..bytes.len().min(limits.bytes)];
    let mut last_line = None;
    for at in memchr::memchr_iter(b'\n', window.get(from..).unwrap_or_default()) {
        let at = at + from;
        if at == 0 || window[at - 1] != b'\r' {
            return Err(earlier_error(&window[..at], limits).unwrap_or(Refusal::LineEnding));
        }
        if last_line.is_none() && at > limits.target + LINE_SPARE {
            check_line_length(window, limits)?;
        }
        if at >= 2 && window[at - 2] == b'\n' {
            return Ok(Some(at + 1));
        }
        last_line = Some(at);
    }
    check_line_length(window, limits)?;
    if bytes.len() > limits.bytes {
        return Err(earlier_error(window, limits).unwrap_or(Refusal::HeadLength));
    }
    // Whole lines only, so that an unfinished one counts the same however it was cut.
    match last_line.and_then(|at| earlier_error(&window[..=at], limits)) {
        Some(refusal) => Err(refusal),
        None => Ok(None),
    }
}

fn check_line_length(window: &[u8], limits: &HeadLimits) -> Result<(), Refusal> {
    let line = memchr::memchr(b'\n', window).unwrap_or(window.len());
    if line > limits.target + LINE_SPARE { Err(Refusal::TargetLength) } else { Ok(()) }
}

/// The first error in an unfinished head, if there is one already.
#[cold]
fn earlier_error(part: &[u8], limits: &HeadLimits) -> Option<Refusal> {
    if let Err(refusal) = check_line_length(part, limits) {
        return Some(refusal);
    }
    let mut slots = slots();
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(part, &mut slots[..limits.fields]) {
        Ok(_) => None,
        Err(error) => Some(refusal_of(error, part)),
    }
}

#[cold]
fn refusal_of(error: httparse::Error, bytes: &[u8]) -> Refusal {
    match error {
        httparse::Error::HeaderName | httparse::Error::HeaderValue => Refusal::Field,
        httparse::Error::NewLine => Refusal::LineEnding,
        httparse::Error::TooManyHeaders => Refusal::FieldCount,
        httparse::Error::Version if names_a_version(bytes) => Refusal::Version,
        _ => Refusal::Malformed,
    }
}

/// Whether the request line ends in a well-formed version (RFC 9112 §2.3).
fn names_a_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let version = words.nth(2).unwrap_or_default();
    let well_formed = matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit());
    well_formed && words.next().is_none()
}

/// The checks that need the whole head.
fn check<'h, 'b>(
    request: httparse::Request<'h, 'b>,
    len: usize,
    limits: &HeadLimits,
) -> Result<RequestHead<'h, 'b>, Refusal> {
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Refusal::Malformed);
    };
    if target.len() > limits.target {
        return Err(Refusal::TargetLength);
    }
    let version = if minor == 1 { Version::Http11 } else { Version::Http10 };
    let fields: &'h [Header<'b>] = request.headers;
    let named = Named::collect(fields)?;
    let framing = named.framing.decide(version)?;
    let verb = verb_of(method)?;
    let place = target::locate(target, named.host, version, verb)?;
    let expectation = named.expectation(version)?;
    let persistence = named.persistence(version);
    Ok(RequestHead {
        len,
        verb,
        target,
        place,
        version,
        framing,
        persistence,
        expectation,
        conditions: named.conditions,
        fields,
    })
}

fn verb_of(method: &str) -> Result<Verb, Refusal> {
    match method {
        "GET" => Ok(Verb::Get),
        "HEAD" => Ok(Verb::Head),
        "OPTIONS" => Ok(Verb::Options),
        "POST" | "PUT" | "DELETE" | "PATCH" | "TRACE" | "CONNECT" => Err(Refusal::Method),
        _ => Err(Refusal::UnknownMethod),
    }
}

/// The fields that the front itself reads.
struct Named<'b> {
    host: Option<&'b [u8]>,
    framing: FramingFields<'b>,
    expect: Option<&'b [u8]>,
    close: bool,
    keep_alive: bool,
    conditions: Conditions,
}

impl<'b> Named<'b> {
    fn collect(fields: &[Header<'b>]) -> Result<Self, Refusal> {
        let mut named = Self {
            host: None,
            framing: FramingFields::default(),
            expect: None,
            close: false,
            keep_alive: false,
            conditions: Conditions::None,
        };
        for field in fields {
            named.take(field)?;
        }
        Ok(named)
    }

    fn take(&mut self, field: &Header<'b>) -> Result<(), Refusal> {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        match field.name.len() {
            4 if is("host") && self.host.replace(field.value).is_some() => return Err(Refusal::Host),
            5 if is("range") => self.conditions = Conditions::Some,
            6 if is("expect") && self.expect.replace(field.value).is_some() => {
                return Err(Refusal::Expectation);
            }
            8 if is("if-match") || is("if-range") => self.conditions = Conditions::Some,
            10 if is("connection") => self.connection(field.value),
            13 if is("if-none-match") => self.conditions = Conditions::Some,
            14 if is("content-length") => self.framing.length(field.value)?,
            17 if is("transfer-encoding") => self.framing.coding(field.value)?,
            _ => {}
        }
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',') {
            let option = option.trim_ascii();
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn persistence(&self, version: Version) -> Persistence {
        match version {
            _ if self.close => Persistence::Close,
            Version::Http11 => Persistence::Keep,
            Version::Http10 if self.keep_alive => Persistence::Keep,
            Version::Http10 => Persistence::Close,
        }
    }

    /// An expectation of an HTTP/1.0 client is ignored (RFC 9110 §10.1.1).
    fn expectation(&self, version: Version) -> Result<Expectation, Refusal> {
        match self.expect {
            Some(value) if version == Version::Http11 => {
                let met = value.eq_ignore_ascii_case(b"100-continue");
                if met { Ok(Expectation::Continue) } else { Err(Refusal::Expectation) }
            }
            _ => Ok(Expectation::None),
        }
    }
}

#[cfg(test)]
mod tests;
