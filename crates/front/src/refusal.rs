//! Why a request is refused before any service sees it: closed set, each with its status, its word and its sentence.

/// A request that the front refuses. The connection is closed after every one of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// Not HTTP/1, or malformed in a way without a name of its own.
    Malformed,
    /// A line that ends in a bare line feed, or a carriage return inside one.
    LineEnding,
    /// A field name or value with a byte that has no place in it, a fold, or a space before the colon.
    Field,
    /// A request target that is no origin-form or absolute-form of this server.
    Target,
    /// A missing, repeated or invalid `Host`, or one that differs from the target's.
    Host,
    /// Framing that two readers could read in two ways.
    Framing,
    /// A broken chunked body.
    Chunk,
    /// An `Expect` other than `100-continue`.
    Expectation,
    /// A transfer coding other than chunked.
    Coding,
    /// A known method that nothing here has.
    Method,
    /// A method that nobody knows.
    UnknownMethod,
    /// A version other than 1.0 and 1.1.
    Version,
    /// A head that did not arrive in time.
    SlowHead,
    /// A body that did not arrive in time.
    SlowBody,
    /// A longer body than is taken.
    BodyLength,
    /// A longer target than is taken.
    TargetLength,
    /// A longer head than is taken.
    HeadLength,
    /// More fields than are taken.
    FieldCount,
    /// More connections than are taken.
    Connections,
}

impl Refusal {
    /// The status.
    pub(crate) const fn status(self) -> u16 {
        match self {
            Refusal::Malformed
            | Refusal::LineEnding
            | Refusal::Field
            | Refusal::Target
            | Refusal::Host
            | Refusal::Framing
            | Refusal::Chunk => 400,
            Refusal::Method => 405,
            Refusal::SlowHead | Refusal::SlowBody => 408,
            Refusal::BodyLength => 413,
            Refusal::TargetLength => 414,
            Refusal::Expectation => 417,
            Refusal::HeadLength | Refusal::FieldCount => 431,
            Refusal::UnknownMethod | Refusal::Coding => 501,
            Refusal::Connections => 503,
            Refusal::Version => 505,
        }
    }

    /// The label in metrics, and the last segment of the problem's `type`.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Refusal::Malformed => "malformed",
            Refusal::LineEnding => "line-ending",
            Refusal::Field => "field",
            Refusal::Target => "target",
            Refusal::Host => "host",
            Refusal::Framing => "framing",
            Refusal::Chunk => "chunk",
            Refusal::Expectation => "expectation",
            Refusal::Coding => "transfer-coding",
            Refusal::Method => "method-not-allowed",
            Refusal::UnknownMethod => "unknown-method",
            Refusal::Version => "version",
            Refusal::SlowHead => "slow-head",
            Refusal::SlowBody => "slow-body",
            Refusal::BodyLength => "body-length",
            Refusal::TargetLength => "target-length",
            Refusal::HeadLength => "head-length",
            Refusal::FieldCount => "field-count",
            Refusal::Connections => "connections",
        }
    }

    /// One sentence for the client.
    pub(crate) const fn sentence(self) -> &'static str {
        match self {
            Refusal::Malformed => "the request is not valid HTTP/1.1 (RFC 9112)",
            Refusal::LineEnding => {
                "every line of a request head ends in CR LF, and neither stands anywhere else"
            }
            Refusal::Field => "a header field has an invalid name, a byte that is not allowed, or is folded",
            Refusal::Target => {
                "the request target must be an absolute path or an http URL of this server, in ASCII"
            }
            Refusal::Host => {
                "a request names its host once, in `Host`, and an absolute target names the same"
            }
            Refusal::Framing => {
                "the length of the body is ambiguous: send one plain `Content-Length` or `Transfer-Encoding: chunked`"
            }
            Refusal::Chunk => "the chunked body is malformed; chunk extensions are not taken",
            Refusal::Expectation => "the only expectation that is met is `100-continue`",
            Refusal::Coding => "the only transfer coding that is taken is `chunked`, on HTTP/1.1",
            Refusal::Method => "only GET, HEAD and OPTIONS are allowed here",
            Refusal::UnknownMethod => "this method is not known",
            Refusal::Version => "only HTTP/1.1 and HTTP/1.0 are spoken here",
            Refusal::SlowHead => "the request head did not arrive in time",
            Refusal::SlowBody => "the request body did not arrive in time",
            Refusal::BodyLength => "the request body is longer than is taken here; send none",
            Refusal::TargetLength => "the request target is longer than is taken here",
            Refusal::HeadLength => "the request head is longer than is taken here",
            Refusal::FieldCount => "the request has more header fields than are taken here",
            Refusal::Connections => "too many connections are open; try again soon",
        }
    }
}
