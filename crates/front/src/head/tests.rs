//! The reading of heads must not depend on how they were cut, and must not panic.

use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits { bytes: 400, fields: 6, target: 60 };

/// What reading `bytes` comes to when they arrive cut at `cuts`: the length of the head, or the refusal.
fn verdict(bytes: &[u8], cuts: &[usize]) -> Result<Option<usize>, Refusal> {
    let mut seen = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        let mut slots = slots();
        match read(&bytes[..end], seen, &LIMITS, &mut slots)? {
            Some(head) => return Ok(Some(head.len)),
            None => seen = end,
        }
    }
    Ok(None)
}

fn every_byte(bytes: &[u8]) -> Vec<usize> {
    (1..bytes.len()).collect()
}

/// Pieces that heads, and broken heads, are made of.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let texts: Vec<&'static [u8]> = vec![
        b"GET ",
        b"POST ",
        b"/path",
        b"/",
        b"http://h/",
        b" HTTP/1.1\r\n",
        b" HTTP/1.0\r\n",
        b" HTTP/3.0\r\n",
        b"Host: h\r\n",
        b"Host: x, y\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: +3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"X: y\r\n",
        b"X : y\r\n",
        b" fold\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"If-None-Match: *\r\n",
        b"Expect: 100-continue\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n",
        b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    ];
    prop_oneof![9 => prop::sample::select(texts).prop_map(<[u8]>::to_vec), 1 => prop::collection::vec(any::<u8>(), 0..4)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_verdict_does_not_depend_on_the_cuts(
        pieces in prop::collection::vec(piece(), 1..14),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let bytes = pieces.concat();
        prop_assume!(!bytes.is_empty());
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).filter(|cut| *cut > 0).collect();
        cuts.sort_unstable();
        let whole = verdict(&bytes, &[]);
        prop_assert_eq!(verdict(&bytes, &cuts), whole, "{}", bytes.escape_ascii());
        prop_assert_eq!(verdict(&bytes, &every_byte(&bytes)), whole, "{}", bytes.escape_ascii());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = verdict(&bytes, &[]);
    }
}

#[test]
fn a_head_ends_where_it_ends() {
    let head = b"GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(verdict(&[head, &b"rest"[..]].concat(), &[]), Ok(Some(head.len())));
    assert_eq!(verdict(&[&b"\r\n"[..], head].concat(), &[1, 2, 3]), Ok(Some(head.len() + 2)));
}
