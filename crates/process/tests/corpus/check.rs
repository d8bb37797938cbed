//! What holds of any datagram between server and engine. Shared by the replay of the corpus and the fuzz target
//! `engine_frames`.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};
use tutti_process::frame::{self, FRAME_MAX, FromChild, ToChild};

/// Panics when decoding `bytes`, in either direction, breaks a promise. Says in how many directions it is a frame.
pub(crate) fn holds(bytes: &[u8]) -> usize {
    usize::from(one_way::<ToChild<'_>>(bytes)) + usize::from(one_way::<FromChild<'_>>(bytes))
}

fn one_way<'a, T: Deserialize<'a> + Serialize + Debug>(bytes: &'a [u8]) -> bool {
    let Ok(message) = frame::decode::<T>(bytes) else { return false };
    assert!(bytes.len() <= FRAME_MAX, "a frame over the limit was taken");
    let mut again = Vec::new();
    frame::encode(&message, &mut again).expect("what was read can be written");
    assert!(again.len() <= bytes.len(), "writing is never longer than what was read");
    // Only borrowed text and bytes differ in lifetime: what they say is compared as it prints.
    same(&again, &message);
    true
}

fn same<T: Debug>(again: &[u8], message: &T) {
    let printed = format!("{message:?}");
    let to = frame::decode::<ToChild<'_>>(again).map(|message| format!("{message:?}"));
    let from = frame::decode::<FromChild<'_>>(again).map(|message| format!("{message:?}"));
    assert!([to, from].contains(&Ok(printed)), "what was written reads differently");
}
