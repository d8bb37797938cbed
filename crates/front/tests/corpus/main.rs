//! Replays what the fuzz target `http_head` was given and has found, and the cases of the strict corpus.

mod check;

use tutti_front::verdict::{Verdict, verdicts};

#[test]
fn the_fuzz_corpus_replays() {
    let mut verdict_count = 0;
    for file in
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/http_head")).unwrap()
    {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        check::holds(&bytes);
        verdict_count += verdicts([&bytes[..]]).len();
    }
    assert!(verdict_count > 30, "the corpus was not read: {verdict_count} verdicts");
}

#[test]
fn a_stream_is_read_as_connections_read_it() {
    let taken = |target: &str, goes_on| Verdict::Taken { target: target.into(), goes_on };
    let two = b"GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.0\r\n\r\nGET /c";
    assert_eq!(verdicts([&two[..]]), [taken("/a", true), taken("/b", false)]);
    let smuggled =
        b"GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(verdicts([&smuggled[..]]), [Verdict::Refused("framing")]);
    let chunk = b"GET /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    assert_eq!(verdicts([&chunk[..]]), [Verdict::Refused("chunk")]);
    assert_eq!(verdicts([&b"GET /a HTTP/1.1\r\nHost: h\r\n"[..]]), []);
}
