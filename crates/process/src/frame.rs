//! The messages between server and engine: one frame a datagram, bounded and versioned. Trusts no length it reads.
//!
//! Layout: `TE`, version (u8), zero (u8), length of the payload (u32, little endian), payload (postcard). The socket
//! keeps datagram boundaries, so the length is only there to be checked.

use serde::{Deserialize, Serialize};

use crate::sandbox::{SandboxReport, Setup};

/// The version of these messages. Both ends are one binary; a difference means that they are not.
pub const VERSION: u8 = 1;

/// The longest payload in bytes, either way: parameters of a job, header of a reply.
pub const PAYLOAD_MAX: usize = 64 * 1024;

/// The longest parameters or reply header in bytes; the rest of the payload is for what goes with them.
pub const TEXT_MAX: usize = PAYLOAD_MAX - 2 * 1024;

/// The most inputs of one job: descriptors that travel with its frame.
pub const INPUTS_MAX: usize = 64;

/// The longest frame in bytes.
pub const FRAME_MAX: usize = HEAD_LEN + PAYLOAD_MAX;

const HEAD_LEN: usize = 8;
const MAGIC: [u8; 2] = *b"TE";

/// What the server says to an engine.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum ToChild<'a> {
    /// The first message: how to lock itself in.
    Setup(Setup),
    /// One job. The descriptors of its inputs travel with the frame, in the order of their lengths.
    Job {
        /// Opaque here.
        #[serde(borrow)]
        params: &'a [u8],
        /// Length of each input in bytes.
        lens: Vec<u64>,
    },
}

/// What an engine says to the server. Nothing in it is believed before it is checked.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum FromChild<'a> {
    /// Locked in, and ready for jobs.
    Ready(SandboxReport),
    /// Could not lock itself in; it ends.
    Unready(&'a str),
    /// The job is done; its output lies at the start of the arena.
    Done {
        /// Length of the output in bytes.
        output_len: u64,
        /// CPU time since the reply before, in microseconds.
        cpu_us: u64,
        /// Resident memory now, in bytes.
        rss_bytes: u64,
        /// Opaque here.
        #[serde(borrow)]
        header: &'a [u8],
    },
    /// The job's output was longer than the arena.
    TooLong {
        /// Its length in bytes.
        output_len: u64,
    },
    /// The program panicked; the engine ends.
    Panicked(&'a str),
}

/// Why a frame was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Its payload would be, or claims to be, over [`PAYLOAD_MAX`].
    #[error("a frame of {len} bytes; the limit is {PAYLOAD_MAX}")]
    TooLong {
        /// The length in bytes.
        len: usize,
    },
    /// It is not a frame of ours, or does not say its own length.
    #[error("not a frame: {0}")]
    Malformed(&'static str),
    /// It is of another version.
    #[error("a frame of version {0}, where {VERSION} is spoken: server and engine are not one binary")]
    Version(u8),
}

/// Writes `message` as one frame into `frame`, which is emptied first.
pub fn encode<T: Serialize>(message: &T, frame: &mut Vec<u8>) -> Result<(), FrameError> {
    frame.clear();
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&[VERSION, 0, 0, 0, 0, 0]);
    let written = postcard::to_extend(message, std::mem::take(frame));
    *frame = written.map_err(|_| FrameError::Malformed("the message cannot be encoded"))?;
    let len = frame.len() - HEAD_LEN;
    if len > PAYLOAD_MAX {
        return Err(FrameError::TooLong { len });
    }
    frame[4..HEAD_LEN].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(())
}

/// Reads one whole frame.
pub fn decode<'a, T: Deserialize<'a>>(frame: &'a [u8]) -> Result<T, FrameError> {
    let (head, payload) =
        frame.split_at_checked(HEAD_LEN).ok_or(FrameError::Malformed("shorter than its head"))?;
    if head[..2] != MAGIC {
        return Err(FrameError::Malformed("it does not begin with TE"));
    }
    if head[2] != VERSION {
        return Err(FrameError::Version(head[2]));
    }
    let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
    if len > PAYLOAD_MAX {
        return Err(FrameError::TooLong { len });
    }
    if len != payload.len() {
        return Err(FrameError::Malformed("its length is not what it says"));
    }
    match postcard::take_from_bytes(payload) {
        Ok((message, [])) => Ok(message),
        Ok(_) => Err(FrameError::Malformed("bytes follow the message")),
        Err(_) => Err(FrameError::Malformed("the payload does not parse")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(params: &[u8]) -> Result<Vec<u8>, FrameError> {
        let mut frame = b"left over".to_vec();
        encode(&ToChild::Job { params, lens: vec![7, u64::MAX] }, &mut frame).map(|()| frame)
    }

    #[test]
    fn a_frame_round_trips_up_to_its_limit_and_not_beyond() {
        let longest = vec![9; TEXT_MAX];
        let frame = job(&longest).expect("at the limit");
        assert_eq!(decode(&frame), Ok(ToChild::Job { params: &longest, lens: vec![7, u64::MAX] }));
        assert!(matches!(job(&vec![9; PAYLOAD_MAX]), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn every_truncation_and_every_wrong_head_is_refused() {
        let frame = job(b"params").expect("short");
        for len in 0..frame.len() {
            assert!(decode::<ToChild<'_>>(&frame[..len]).is_err(), "cut to {len}");
        }
        for at in [0, 1, 2, 4, 7] {
            let mut wrong = frame.clone();
            wrong[at] ^= 0x81;
            assert!(decode::<ToChild<'_>>(&wrong).is_err(), "byte {at}");
        }
        let mut longer = frame.clone();
        longer.push(0);
        assert!(decode::<ToChild<'_>>(&longer).is_err());
    }

    #[test]
    fn arbitrary_payloads_neither_panic_nor_allocate_by_their_own_claim() {
        let mut rng = tutti_base::rng::SplitMix::new(3);
        for _ in 0..20_000 {
            let len = tutti_base::rng::Rng::below(&mut rng, 40) as usize;
            let mut frame = vec![b'T', b'E', VERSION, 0];
            frame.extend_from_slice(&(len as u32).to_le_bytes());
            frame.extend((0..len).map(|_| tutti_base::rng::Rng::next(&mut rng) as u8));
            let _ = decode::<FromChild<'_>>(&frame);
            let _ = decode::<ToChild<'_>>(&frame);
        }
    }
}
