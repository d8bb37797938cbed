//! Frames on a connection between two nodes: how they are written and read. Knows neither sockets nor calls.
//!
//! A frame is 12 bytes and a payload: payload length (u32), kind (u8), topic or lane (u8), 0 (u16), call (u32), all little
//! endian. Its version is agreed once, by [`Hello`]. Kinds are append-only; unknown ones are skipped.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tutti_base::envelope::{self, EnvelopeError, Versioned};
use tutti_base::net::SMALL_MAX;
use tutti_base::{ContentHash, Lane, NodeId, Problem};

/// Length of what stands before every payload.
pub(crate) const HEADER_BYTES: usize = 12;
/// The longest head of a call or an answer.
pub(crate) const HEAD_MAX: usize = SMALL_MAX;
/// The longest payload: a head and a body that travels whole.
pub(crate) const FRAME_MAX: usize = HEAD_MAX + SMALL_MAX + 256;
/// The longest payload from a machine without a certificate.
pub(crate) const ANONYMOUS_FRAME_MAX: usize = 64 << 10;
/// The longest body that goes with a call; only the bulk lane takes more than [`SMALL_MAX`].
pub(crate) const CALL_BODY_MAX: usize = 128 << 20;
/// One piece of a body that travels in pieces.
pub(crate) const CHUNK_BYTES: usize = 128 << 10;
/// The most bytes of one streamed answer that are under way and not yet taken by the caller.
pub(crate) const WINDOW_BYTES: u32 = 1 << 20;

/// The protocol's generation: another one cannot be spoken with.
pub(crate) const PROTOCOL: u16 = 1;
/// Its revision: both sides do what the lower one knows.
pub(crate) const REVISION: u16 = 1;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum FrameKind {
    /// The first frame of each side.
    Hello = 1,
    /// A call, with its body up to [`SMALL_MAX`].
    Call = 2,
    /// The call arrived and is being worked on.
    Ack = 3,
    /// Whoever owes an answer lives.
    Beat = 4,
    /// An answer, with its body up to [`SMALL_MAX`].
    Reply = 5,
    /// A piece of a longer body.
    Chunk = 6,
    /// A longer body is complete.
    End = 7,
    /// There is no answer, or no rest of it.
    Failed = 8,
    /// The caller has gone.
    Cancel = 9,
    /// The caller took this many more bytes of a longer answer.
    Window = 10,
    /// A message without an answer.
    Cast = 11,
    /// Asks for a [`FrameKind::Pong`] with the same number.
    Ping = 12,
    /// The answer, with the count of datagrams received.
    Pong = 13,
}

impl FrameKind {
    fn of(number: u8) -> Option<Self> {
        use FrameKind::*;
        [Hello, Call, Ack, Beat, Reply, Chunk, End, Failed, Cancel, Window, Cast, Ping, Pong]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// A frame as it arrived.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: FrameKind,
    pub(crate) topic: u8,
    pub(crate) call: u32,
    pub(crate) payload: Bytes,
}

/// A frame to be sent: what was built for it, and bytes that are sent from where they lie.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) built: Vec<u8>,
    pub(crate) body: Bytes,
}

impl Outgoing {
    /// A frame of `kind` whose payload is `payload`.
    pub(crate) fn new(kind: FrameKind, topic: u8, call: u32, payload: &[u8]) -> Self {
        Self::with_body(kind, topic, call, &[payload], Bytes::new())
    }

    /// A frame whose payload is `parts` and then `body`.
    pub(crate) fn with_body(kind: FrameKind, topic: u8, call: u32, parts: &[&[u8]], body: Bytes) -> Self {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        let mut built = Vec::with_capacity(HEADER_BYTES + length);
        built.extend_from_slice(&((length + body.len()) as u32).to_le_bytes());
        built.extend_from_slice(&[kind as u8, topic, 0, 0]);
        built.extend_from_slice(&call.to_le_bytes());
        for part in parts {
            built.extend_from_slice(part);
        }
        Self { built, body }
    }

    /// Bytes that it takes on the connection, without TLS.
    pub(crate) fn len(&self) -> usize {
        self.built.len() + self.body.len()
    }
}

/// Why what arrived is not a frame.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// Longer than allowed; nothing of it was kept.
    #[error("a frame of {length} bytes where {limit} are allowed")]
    TooLong { length: usize, limit: usize },
    /// Its payload is not what its kind says.
    #[error("a malformed frame: {0}")]
    Malformed(&'static str),
    /// A body whose checksum does not match.
    #[error("the checksum of a body does not match")]
    Damaged,
    /// An envelope that cannot be opened.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

/// Puts frames together from bytes however they were cut.
pub(crate) struct FrameReader {
    limit: usize,
    header: [u8; HEADER_BYTES],
    have: usize,
    payload: BytesMut,
    want: usize,
    ready: VecDeque<Frame>,
}

impl FrameReader {
    /// Refuses payloads longer than `limit`.
    pub(crate) fn new(limit: usize) -> Self {
        let (header, payload) = ([0; HEADER_BYTES], BytesMut::new());
        Self { limit, header, have: 0, payload, want: 0, ready: VecDeque::new() }
    }

    /// Takes a smaller or larger limit, for frames that begin from now on.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Takes bytes; complete frames are then had from [`FrameReader::next`].
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), FrameError> {
        while !bytes.is_empty() {
            if self.have < HEADER_BYTES {
                let take = bytes.len().min(HEADER_BYTES - self.have);
                self.header[self.have..self.have + take].copy_from_slice(&bytes[..take]);
                self.have += take;
                bytes = &bytes[take..];
                if self.have < HEADER_BYTES {
                    return Ok(());
                }
                self.begin()?;
            }
            let take = bytes.len().min(self.want - self.payload.len());
            self.payload.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            if self.payload.len() == self.want {
                self.finish();
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), FrameError> {
        let length = u32::from_le_bytes([self.header[0], self.header[1], self.header[2], self.header[3]]);
        self.want = length as usize;
        if self.want > self.limit {
            return Err(FrameError::TooLong { length: self.want, limit: self.limit });
        }
        self.payload = BytesMut::with_capacity(self.want);
        Ok(())
    }

    fn finish(&mut self) {
        let payload = std::mem::take(&mut self.payload).freeze();
        let [_, _, _, _, kind, topic, _, _, call @ ..] = self.header;
        if let Some(kind) = FrameKind::of(kind) {
            self.ready.push_back(Frame { kind, topic, call: u32::from_le_bytes(call), payload });
        }
        (self.have, self.want) = (0, 0);
    }

    /// The next complete frame.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }
    /// Whether a frame has begun and is not complete.
    pub(crate) fn is_amid(&self) -> bool {
        self.have > 0
    }
}

/// The first frame of each side. Fields are only ever appended: an older reader skips what it does not know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) protocol: u16,
    pub(crate) revision: u16,
    /// Who speaks; 0 without a certificate.
    pub(crate) node: NodeId,
    /// The number of the lane.
    pub(crate) lane: u8,
    /// The version of the program, for people.
    pub(crate) software: String,
}

impl Versioned for Hello {
    const KIND: u8 = 72;
    const VERSION: u16 = 1;
}

impl Hello {
    pub(crate) fn of(node: NodeId, lane: Lane) -> Self {
        let software = env!("CARGO_PKG_VERSION").into();
        Self { protocol: PROTOCOL, revision: REVISION, node, lane: lane_number(lane), software }
    }
    pub(crate) fn frame(&self) -> Outgoing {
        Outgoing::new(FrameKind::Hello, 0, 0, &envelope::seal(self))
    }
    pub(crate) fn read(frame: &Frame) -> Result<Self, FrameError> {
        match frame.kind {
            FrameKind::Hello => Ok(envelope::open(&frame.payload)?),
            _ => Err(FrameError::Malformed("the first frame is no hello")),
        }
    }
}

/// A problem on its way to the caller.
#[derive(Serialize, Deserialize)]
struct Refusal(Problem);

impl Versioned for Refusal {
    const KIND: u8 = 73;
    const VERSION: u16 = 1;
}

/// The frame that ends `call` without an answer.
pub(crate) fn failed(call: u32, problem: Problem) -> Outgoing {
    Outgoing::new(FrameKind::Failed, 0, call, &envelope::seal(&Refusal(problem)))
}

/// What [`failed`] wrote.
pub(crate) fn read_failed(payload: &[u8]) -> Result<Problem, FrameError> {
    Ok(envelope::open::<Refusal>(payload)?.0)
}

/// The number of a lane in a hello.
pub(crate) const fn lane_number(lane: Lane) -> u8 {
    match lane {
        Lane::Control => 1,
        Lane::Small => 2,
        Lane::Bulk => 3,
    }
}

/// The lane of a number.
pub(crate) fn lane_of(number: u8) -> Option<Lane> {
    Lane::ALL.into_iter().find(|lane| lane_number(*lane) == number)
}

/// A call's fixed part: within in microseconds, lengths of head and body, CRC-32 of the body where it is whole.
pub(crate) struct CallFrame {
    pub(crate) within: Duration,
    pub(crate) head: Bytes,
    pub(crate) body_bytes: usize,
    pub(crate) body: Bytes,
}

impl CallFrame {
    const FIXED: usize = 16;

    /// The frame of a call. A body beyond [`SMALL_MAX`] follows in pieces.
    pub(crate) fn frame(topic: u8, call: u32, within: Duration, head: &[u8], body: &Bytes) -> Outgoing {
        let whole = if body.len() <= SMALL_MAX { body.clone() } else { Bytes::new() };
        let mut fixed = [0; Self::FIXED];
        let within = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
        let words = [within, head.len() as u32, body.len() as u32, crc32fast::hash(&whole)];
        for (at, word) in words.into_iter().enumerate() {
            fixed[4 * at..4 * at + 4].copy_from_slice(&word.to_le_bytes());
        }
        Outgoing::with_body(FrameKind::Call, topic, call, &[&fixed, head], whole)
    }

    pub(crate) fn read(mut payload: Bytes) -> Result<Self, FrameError> {
        let short = FrameError::Malformed("a call is too short");
        if payload.len() < Self::FIXED {
            return Err(short);
        }
        let fixed = payload.split_to(Self::FIXED);
        let word = |at: usize| word(&fixed, 4 * at);
        let (head_bytes, body_bytes) = (word(1) as usize, word(2) as usize);
        if payload.len() < head_bytes || body_bytes > CALL_BODY_MAX {
            return Err(short);
        }
        let head = payload.split_to(head_bytes);
        let expected = if body_bytes <= SMALL_MAX { body_bytes } else { 0 };
        if payload.len() != expected {
            return Err(FrameError::Malformed("a call's body has another length than it says"));
        }
        if crc32fast::hash(&payload) != word(3) {
            return Err(FrameError::Damaged);
        }
        let within = Duration::from_micros(u64::from(word(0)));
        Ok(Self { within, head, body_bytes, body: payload })
    }
}

/// How an answer's body travels.
#[derive(Debug)]
pub(crate) enum ReplyBody {
    /// In this frame.
    Whole(Bytes),
    /// In the frames that follow.
    Pieces { len: Option<u64>, hash: Option<ContentHash> },
}

/// An answer: flags (1 in pieces, 2 length known, 4 hash known), head length, body length, CRC-32, hash.
#[derive(Debug)]
pub(crate) struct ReplyFrame {
    pub(crate) head: Bytes,
    pub(crate) body: ReplyBody,
}

impl ReplyFrame {
    const FIXED: usize = 20;
    const PIECES: u32 = 1;
    const LENGTH: u32 = 2;
    const HASH: u32 = 4;

    pub(crate) fn whole(call: u32, head: &[u8], body: Bytes) -> Outgoing {
        let fixed = Self::fixed(0, head.len(), body.len() as u64, crc32fast::hash(&body));
        Outgoing::with_body(FrameKind::Reply, 0, call, &[&fixed, head], body)
    }

    pub(crate) fn pieces(call: u32, head: &[u8], len: Option<u64>, hash: Option<ContentHash>) -> Outgoing {
        let known = len.map_or(0, |_| Self::LENGTH) | hash.map_or(0, |_| Self::HASH);
        let fixed = Self::fixed(Self::PIECES | known, head.len(), len.unwrap_or(0), 0);
        let hash = hash.map(|hash| *hash.as_bytes());
        let hash = hash.as_ref().map_or(&[][..], |hash| hash);
        Outgoing::with_body(FrameKind::Reply, 0, call, &[&fixed, hash, head], Bytes::new())
    }

    fn fixed(flags: u32, head: usize, body: u64, crc: u32) -> [u8; Self::FIXED] {
        let mut fixed = [0; Self::FIXED];
        fixed[..4].copy_from_slice(&flags.to_le_bytes());
        fixed[4..8].copy_from_slice(&(head as u32).to_le_bytes());
        fixed[8..16].copy_from_slice(&body.to_le_bytes());
        fixed[16..].copy_from_slice(&crc.to_le_bytes());
        fixed
    }

    pub(crate) fn read(mut payload: Bytes) -> Result<Self, FrameError> {
        let short = FrameError::Malformed("an answer is too short");
        if payload.len() < Self::FIXED {
            return Err(short);
        }
        let fixed = payload.split_to(Self::FIXED);
        let (flags, head_bytes) = (word(&fixed, 0), word(&fixed, 4) as usize);
        let length = u64::from(word(&fixed, 8)) | u64::from(word(&fixed, 12)) << 32;
        let hash_bytes = if flags & Self::HASH == 0 { 0 } else { 32 };
        if payload.len() < hash_bytes || payload.len() - hash_bytes < head_bytes {
            return Err(short);
        }
        let hash = payload.split_to(hash_bytes);
        let head = payload.split_to(head_bytes);
        if flags & Self::PIECES != 0 {
            let len = (flags & Self::LENGTH != 0).then_some(length);
            let hash = hash.first_chunk::<32>().map(|hash| ContentHash::from_bytes(*hash));
            return Ok(Self { head, body: ReplyBody::Pieces { len, hash } });
        }
        if payload.len() as u64 != length {
            return Err(FrameError::Malformed("an answer's body has another length than it says"));
        }
        if crc32fast::hash(&payload) != word(&fixed, 16) {
            return Err(FrameError::Damaged);
        }
        Ok(Self { head, body: ReplyBody::Whole(payload) })
    }
}

/// The little-endian u32 at `at`; 0 where there is none.
pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.first_chunk()).map_or(0, |four| u32::from_le_bytes(*four))
}

/// The little-endian u64 at `at`; 0 where there is none.
pub(crate) fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}

#[cfg(test)]
#[path = "frame/tests.rs"]
mod tests;
