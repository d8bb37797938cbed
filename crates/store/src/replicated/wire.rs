//! What stores say to one another: a small head with the epoch, and a body. Every byte of it is in an envelope.

use bytes::Bytes;
use openraft::error::SnapshotMismatch;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};
use tutti_base::envelope::{self, EnvelopeError, Versioned};

use super::types::{LogId, Outcome, Refused, Types, Vote, Write};
use crate::store::LeaseId;

/// In whose name a message speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) epoch: u64,
}

impl Versioned for Head {
    const KIND: u8 = 30;
    const VERSION: u16 = 1;
}

/// What is asked.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Ask {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<u64>),
    Chunk(InstallSnapshotRequest<Types>),
    /// Would you vote for me? Changes nothing.
    PreVote(Option<LogId>),
    /// Apply this, if you lead.
    Write(Write),
    /// Keep it alive, if you lead.
    KeepAlive(LeaseId),
    /// Up to which entry must I have applied so that a read shows all that was acknowledged before now?
    ReadIndex,
    /// Which epochs were there, and where did they begin?
    Epochs,
    /// Take me in again as a new learner, if you lead.
    Rejoin,
}

impl Versioned for Ask {
    const KIND: u8 = 31;
    const VERSION: u16 = 1;
}

/// What is answered.
#[derive(Serialize, Deserialize)]
pub(crate) enum Answer {
    Append(AppendEntriesResponse<u64>),
    Vote(VoteResponse<u64>),
    Chunk(InstallSnapshotResponse<u64>),
    /// Another part of another snapshot was expected.
    Mismatch(SnapshotMismatch),
    PreVote(bool),
    /// Where in the log it stands, and what became of it.
    Write(u64, Outcome),
    KeepAlive(Result<(), Refused>),
    ReadIndex(u64),
    Epochs(Vec<(u64, u64)>),
    /// The leader's vote.
    Rejoin(Vote),
    NotLeader(Option<u64>),
    /// It was not done, and may be tried again.
    Busy(String),
    /// It may or may not be done.
    Unsure,
    /// This node is not in the state to answer.
    Unavailable(String),
    /// The asker speaks in the name of an older epoch.
    Older,
}

impl Versioned for Answer {
    const KIND: u8 = 32;
    const VERSION: u16 = 1;
}

/// Seals a head and a body.
pub(crate) fn sealed<T: Versioned>(epoch: u64, body: &T) -> (Bytes, Bytes) {
    (envelope::seal(&Head { epoch }).into(), envelope::seal(body).into())
}

/// Opens what [`sealed`] made.
pub(crate) fn opened<T: Versioned>(head: &[u8], body: &[u8]) -> Result<(u64, T), EnvelopeError> {
    let head: Head = envelope::open(head)?;
    Ok((head.epoch, envelope::open(body)?))
}
