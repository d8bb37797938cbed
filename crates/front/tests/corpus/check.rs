//! What holds of any bytes that a client may send. Shared by the replay of the corpus and the fuzz target `http_head`.

use tutti_front::verdict::{Verdict, verdicts};

/// Panics when the strict reader breaks one of its promises on `bytes`.
pub(crate) fn holds(bytes: &[u8]) {
    let whole = verdicts([bytes]);
    for size in [1, 2, 3, 17] {
        assert_eq!(verdicts(bytes.chunks(size)), whole, "the verdict depends on how the bytes were cut");
    }
    for (at, verdict) in whole.iter().enumerate() {
        match verdict {
            Verdict::Taken { target, goes_on } => {
                assert!(target.bytes().all(|byte| byte.is_ascii_graphic()), "a target of {target:?}");
                assert!(*goes_on || at + 1 == whole.len(), "a request was read after the last one");
            }
            Verdict::Refused(_) => assert_eq!(at + 1, whole.len(), "something was read after a refusal"),
        }
    }
}
