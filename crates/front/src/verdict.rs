//! What the strict reader makes of a client's bytes, without a socket: for fuzzing and for replaying corpora. Answers nothing.
//!
//! It is the very reader of the connections ([`crate::Front`]) at the default limits: heads, framing, bodies, pipelining.

use crate::body::{BodyProgress, BodyReader};
use crate::config::Config;
use crate::framing::Framing;
use crate::head::{self, HeadLimits, Persistence, RequestHead};
use crate::refusal::Refusal;

/// What became of one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It was read to the end of its body, and would be answered.
    Taken {
        /// Its target as it was sent.
        target: String,
        /// Whether the connection goes on after it.
        goes_on: bool,
    },
    /// It was refused for this reason, as metrics name it, and the connection is closed.
    Refused(&'static str),
}

/// The verdicts on a stream that arrives in `pieces`, in order. What comes after a refusal, or after the last request of
/// a connection, is not read. A request that is not all there has no verdict yet.
pub fn verdicts<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Verdict> {
    let config = Config::default();
    let mut stream = Stream {
        limits: HeadLimits::of(&config),
        body_bytes: config.body_bytes,
        held: Vec::new(),
        seen: 0,
        phase: Phase::Head,
        verdicts: Vec::new(),
    };
    for piece in pieces {
        stream.take(piece);
    }
    stream.verdicts
}

struct Stream {
    limits: HeadLimits,
    body_bytes: u64,
    held: Vec<u8>,
    /// How many of the held bytes were looked at without finding the end of a head.
    seen: usize,
    phase: Phase,
    verdicts: Vec<Verdict>,
}

enum Phase {
    Head,
    Body(BodyReader, Verdict),
    Over,
}

impl Stream {
    fn take(&mut self, piece: &[u8]) {
        self.held.extend_from_slice(piece);
        loop {
            let step = match std::mem::replace(&mut self.phase, Phase::Head) {
                Phase::Head => self.read_head(),
                Phase::Body(reader, verdict) => self.read_body(reader, verdict),
                Phase::Over => {
                    self.phase = Phase::Over;
                    return;
                }
            };
            match step {
                Ok(Some(used)) => drop(self.held.drain(..used)),
                Ok(None) => return,
                Err(refusal) => {
                    self.verdicts.push(Verdict::Refused(refusal.word()));
                    self.phase = Phase::Over;
                }
            }
        }
    }

    /// How many bytes were used; none when more have to come.
    fn read_head(&mut self) -> Result<Option<usize>, Refusal> {
        if self.held.is_empty() {
            return Ok(None);
        }
        let mut slots = head::slots();
        let Some(head) = head::read(&self.held, self.seen, &self.limits, &mut slots)? else {
            self.seen = self.held.len();
            return Ok(None);
        };
        let (used, verdict) = (head.len, taken(&head));
        let reader = match head.framing {
            Framing::None => None,
            framing => Some(BodyReader::new(framing, self.body_bytes)?),
        };
        self.seen = 0;
        match reader {
            Some(reader) => self.phase = Phase::Body(reader, verdict),
            None => self.finish(verdict),
        }
        Ok(Some(used))
    }

    fn read_body(&mut self, mut reader: BodyReader, verdict: Verdict) -> Result<Option<usize>, Refusal> {
        match reader.read(&self.held)? {
            BodyProgress::More => {
                self.held.clear();
                self.phase = Phase::Body(reader, verdict);
                Ok(None)
            }
            BodyProgress::Ended(used) => {
                self.finish(verdict);
                Ok(Some(used))
            }
        }
    }

    fn finish(&mut self, verdict: Verdict) {
        if matches!(verdict, Verdict::Taken { goes_on: false, .. }) {
            self.phase = Phase::Over;
        }
        self.verdicts.push(verdict);
    }
}

fn taken(head: &RequestHead<'_, '_>) -> Verdict {
    Verdict::Taken { target: head.target.to_owned(), goes_on: head.persistence == Persistence::Keep }
}
