//! Strictness: the corpus of raw requests, as a whole, byte by byte, and cut at random.

use proptest::prelude::*;

use super::house::{Client, House, config, start};

/// The cases of the corpus: the statuses wanted, and the bytes.
fn corpus() -> Vec<(Vec<u16>, Vec<u8>)> {
    let text = include_str!("../../corpus/strict.txt");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (statuses, bytes) = line.split_once('\t').expect("statuses, a tab, bytes");
            (statuses.split(',').map(|status| status.parse().unwrap()).collect(), unescape(bytes))
        })
        .collect()
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (byte, used) = match after[0] {
            b'r' => (b'\r', 1),
            b'n' => (b'\n', 1),
            b't' => (b'\t', 1),
            b'0' => (0, 1),
            b'x' => (u8::from_str_radix(std::str::from_utf8(&after[1..3]).unwrap(), 16).unwrap(), 3),
            other => (other, 1),
        };
        bytes.push(byte);
        rest = &after[used..];
    }
    bytes
}

/// The statuses that `pieces`, sent one by one, are answered with until the connection ends.
fn statuses(house: &House, pieces: &[&[u8]]) -> Vec<u16> {
    use std::io::Write;
    let mut client = house.client();
    for piece in pieces {
        // A refused connection may be closed before all of it is sent.
        if client.stream.write_all(piece).is_err() {
            break;
        }
    }
    read_statuses(&mut client)
}

fn read_statuses(client: &mut Client) -> Vec<u16> {
    let mut statuses = Vec::new();
    while !client.is_over() {
        statuses.push(client.reply().status);
    }
    statuses
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[test]
fn every_case_of_the_corpus_is_answered_as_it_must_be() {
    let house = start(config());
    let cases = corpus();
    assert!(cases.len() > 100, "the corpus was not read: {} cases", cases.len());
    let wrong: Vec<_> = cases
        .iter()
        .filter_map(|(want, bytes)| {
            let got = statuses(&house, &[bytes]);
            (got != *want).then(|| format!("{} -> {got:?}, not {want:?}", shown(bytes)))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_case_is_answered_the_same_byte_by_byte() {
    let house = start(config());
    for (want, bytes) in corpus() {
        let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(statuses(&house, &pieces), want, "{}", shown(&bytes));
    }
}

#[test]
fn a_refusal_is_a_problem_and_says_what_is_wrong() {
    let house = start(config());
    let reply = house.ask("GET /t/hit HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n");
    assert_eq!((reply.status, reply.field("content-type")), (400, Some("application/problem+json")));
    assert_eq!(reply.field("connection"), Some("close"));
    let problem: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(problem["type"], "urn:tutti:problem:framing");
    assert!(problem["detail"].as_str().unwrap().contains("Content-Length"), "{problem}");
    let reply = house.ask("POST /t/hit HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((reply.status, reply.field("allow")), (405, Some("GET, HEAD, OPTIONS")));
    assert_eq!(house.metric("tutti_front_refused_total{reason=\"framing\"}"), 1.0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cases_cut_anywhere_are_answered_the_same(case in 0..corpus().len(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 1..5)) {
        let house = shared_house();
        let (want, bytes) = corpus().swap_remove(case);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(statuses(house, &pieces), want, "{}", shown(&bytes));
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 1..400), head in any::<bool>()) {
        use std::io::Write;
        let house = shared_house();
        let mut client = house.client();
        let start: &[u8] = if head { b"GET /t/hit HTTP/1.1\r\nHost: h\r\n" } else { b"" };
        // It may be refused in the middle.
        let _ = client.stream.write_all(&[start, &bytes].concat());
        drop(client);
        prop_assert_eq!(house.get("/t/hit", "").status, 200);
    }
}

fn shared_house() -> &'static House {
    static HOUSE: std::sync::OnceLock<House> = std::sync::OnceLock::new();
    HOUSE.get_or_init(|| start(config()))
}
