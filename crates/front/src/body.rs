//! Request bodies as limited streams: finds where a body ends, byte by byte if need be. Keeps nothing of it.

use crate::framing::Framing;
use crate::refusal::Refusal;

/// Most bytes of trailer fields behind a chunked body; they are thrown away.
const TRAILER_BYTES: u64 = 4096;

/// Reads over one request body.
#[derive(Debug)]
pub(crate) struct BodyReader {
    state: State,
    /// What may still come before it is too long.
    allowance: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// So many bytes of a plain body to go.
    Plain(u64),
    /// In the digits of a chunk's size: their value and number so far.
    Size(u64, u8),
    /// Behind the carriage return of a size line.
    SizeEnd(u64),
    /// So many bytes of a chunk to go.
    Chunk(u64),
    /// Before the carriage return behind a chunk.
    ChunkReturn,
    /// Before the line feed behind a chunk.
    ChunkFeed,
    /// In the trailer section: bytes so far, the place in its line.
    Trailer(u64, Line),
    /// Over.
    End,
}

/// The place in a line of the trailer section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Line {
    Start,
    Name,
    Value,
    Return,
    LastReturn,
}

/// How far a body got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BodyProgress {
    /// All bytes given belong to it, and more will.
    More,
    /// It ended after so many of the bytes given.
    Ended(usize),
}

impl BodyReader {
    /// A reader for a body of this framing, of at most `limit` bytes.
    ///
    /// Errors: `BodyLength` when its stated length is above the limit.
    pub(crate) fn new(framing: Framing, limit: u64) -> Result<Self, Refusal> {
        let state = match framing {
            Framing::None => State::End,
            Framing::Length(length) if length > limit => return Err(Refusal::BodyLength),
            Framing::Length(length) => State::Plain(length),
            Framing::Chunked => State::Size(0, 0),
        };
        Ok(Self { state, allowance: limit })
    }

    /// Reads over `bytes`.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<BodyProgress, Refusal> {
        let mut at = 0;
        while self.state != State::End {
            let Some(&byte) = bytes.get(at) else {
                return Ok(BodyProgress::More);
            };
            at += match self.state {
                State::Plain(left) => {
                    let taken = left.min((bytes.len() - at) as u64);
                    self.state = if taken == left { State::End } else { State::Plain(left - taken) };
                    taken as usize
                }
                State::Chunk(left) => {
                    let taken = left.min((bytes.len() - at) as u64);
                    self.state = if taken == left { State::ChunkReturn } else { State::Chunk(left - taken) };
                    taken as usize
                }
                state => {
                    self.state = self.step(state, byte)?;
                    1
                }
            };
        }
        Ok(BodyProgress::Ended(at))
    }

    /// One byte of a chunked body's frame.
    fn step(&mut self, state: State, byte: u8) -> Result<State, Refusal> {
        let next = match (state, byte) {
            (State::Size(value, digits), _) if byte.is_ascii_hexdigit() && digits < 15 => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                State::Size(value * 16 + u64::from(digit), digits + 1)
            }
            (State::Size(value, 1..), b'\r') => State::SizeEnd(value),
            (State::SizeEnd(0), b'\n') => State::Trailer(0, Line::Start),
            (State::SizeEnd(size), b'\n') => {
                self.allowance = self.allowance.checked_sub(size).ok_or(Refusal::BodyLength)?;
                State::Chunk(size)
            }
            (State::ChunkReturn, b'\r') => State::ChunkFeed,
            (State::ChunkFeed, b'\n') => State::Size(0, 0),
            (State::Trailer(.., Line::LastReturn), b'\n') => State::End,
            (State::Trailer(read, line), _) if read < TRAILER_BYTES => {
                State::Trailer(read + 1, line.next(byte).ok_or(Refusal::Chunk)?)
            }
            _ => return Err(Refusal::Chunk),
        };
        Ok(next)
    }
}

impl Line {
    /// The place after `byte`; none where it may not stand.
    fn next(self, byte: u8) -> Option<Self> {
        let is_token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        match (self, byte) {
            (Line::Start, b'\r') => Some(Line::LastReturn),
            (Line::Start | Line::Name, _) if is_token => Some(Line::Name),
            (Line::Name, b':') => Some(Line::Value),
            (Line::Value, b'\r') => Some(Line::Return),
            (Line::Value, b'\t' | b' '..=0x7e | 0x80..) => Some(Line::Value),
            (Line::Return, b'\n') => Some(Line::Start),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `text` as a whole and byte by byte; both must agree.
    #[track_caller]
    fn check(framing: Framing, limit: u64, text: &[u8], want: Result<BodyProgress, Refusal>) {
        let mut whole = BodyReader::new(framing, limit).unwrap();
        assert_eq!(whole.read(text), want, "{:?}", text.escape_ascii().to_string());
        let mut bytewise = BodyReader::new(framing, limit).unwrap();
        let mut got = Ok(BodyProgress::More);
        for (at, byte) in text.iter().enumerate() {
            got = bytewise.read(&[*byte]);
            match got {
                Ok(BodyProgress::More) => {}
                Ok(BodyProgress::Ended(used)) => {
                    got = Ok(BodyProgress::Ended(at + used));
                    break;
                }
                Err(_) => break,
            }
        }
        assert_eq!(got, want, "bytewise {:?}", text.escape_ascii().to_string());
    }

    #[test]
    fn bodies_end_where_they_say() {
        check(Framing::Length(3), 3, b"abcGET", Ok(BodyProgress::Ended(3)));
        check(Framing::Length(3), 3, b"ab", Ok(BodyProgress::More));
        check(Framing::Chunked, 9, b"3\r\nabc\r\n0\r\n\r\nX", Ok(BodyProgress::Ended(13)));
        check(Framing::Chunked, 9, b"3\r\nabc\r\n0\r\na: b\r\n\r\nX", Ok(BodyProgress::Ended(19)));
    }

    #[test]
    fn broken_chunks_are_refused() {
        let bad: [&[u8]; 14] = [
            b"\r\n",
            b"x\r\n",
            b"3;a=b\r\n",
            b"3 \r\n",
            b" 3\r\n",
            b"+3\r\n",
            b"0x3\r\n",
            b"3\n",
            b"3\rx",
            b"3\r\nabcd",
            b"3\r\nabc\n",
            b"fffffffffffffffff\r\n",
            b"0\r\n: b\r\n",
            b"0\r\na b: c\r\n",
        ];
        for text in bad {
            check(Framing::Chunked, 9, text, Err(Refusal::Chunk));
        }
        check(Framing::Chunked, 9, b"0\r\n a: b\r\n", Err(Refusal::Chunk));
    }

    #[test]
    fn a_body_above_its_limit_is_refused_and_one_at_the_limit_is_not() {
        assert_eq!(BodyReader::new(Framing::Length(4), 3).map(|_| ()), Err(Refusal::BodyLength));
        check(Framing::Chunked, 4, b"3\r\nabc\r\n2\r\n", Err(Refusal::BodyLength));
        check(Framing::Chunked, 5, b"3\r\nabc\r\n2\r\nab\r\n0\r\n\r\n", Ok(BodyProgress::Ended(20)));
        let long = [b"0\r\na:".to_vec(), vec![b'x'; TRAILER_BYTES as usize], b"\r\n\r\n".to_vec()].concat();
        check(Framing::Chunked, 5, &long, Err(Refusal::Chunk));
    }
}
