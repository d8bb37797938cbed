//! Heads of answers: what is sent, statuses, freshness, and heads that lie, swell or never end.

use std::time::Duration;

use tutti_base::Kind;
use tutti_base::http::Validator;
use tutti_fetch::{Fetch, Fetched};

use crate::house::{House, cause};
use crate::stage::{Act, Stage, answer, ok, raw};

#[tokio::test]
async fn a_request_carries_our_own_fields_and_nothing_else() {
    let stage = Stage::open(|_| ok(b"photo")).await;
    let house = House::for_stage(&stage);
    house.body(&stage.url("/a%20b?c=d")).await.unwrap();
    let head = stage.seen.heads.lock().unwrap()[0].clone();
    let version = env!("CARGO_PKG_VERSION");
    let port = stage.port;
    assert_eq!(
        head,
        format!(
            "GET /a%20b?c=d HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nuser-agent: Tutti/{version}\r\naccept: */*\r\n\
             accept-encoding: identity\r\n\r\n"
        )
    );
}

#[tokio::test]
async fn what_the_origin_says_of_keeping_it_comes_along() {
    let stage = Stage::open(|_| {
        let lines = [
            "ETag: \"v1\"",
            "Last-Modified: Tue, 24 Nov 2026 11:00:00 GMT",
            "Content-Type: image/png",
            "Age: 10",
            "Cache-Control: max-age=60, stale-if-error=300",
            "Surrogate-Key: shoes red",
            "Cache-Tag: shop",
        ];
        answer("200 OK", &lines, b"photo")
    })
    .await;
    let house = House::for_stage(&stage);
    let Ok(Fetched::Body(said, body)) = house.get(&stage.url("/")).await else { panic!("no body") };
    assert_eq!(said.validator.etag.as_deref(), Some("\"v1\""));
    assert_eq!(said.claimed_type.as_deref(), Some("image/png"));
    assert_eq!(said.fresh_for, Some(Duration::from_secs(50)));
    assert_eq!(said.stale_if_error, Some(Duration::from_secs(300)));
    assert_eq!(said.tags, ["shoes", "red", "shop"]);
    assert!(said.shared);
    assert_eq!(body.len, Some(5));
}

#[tokio::test]
async fn an_answer_with_a_cookie_is_not_shared() {
    let stage =
        Stage::open(|_| answer("200 OK", &["Set-Cookie: id=1", "Cache-Control: max-age=60"], b"photo")).await;
    let house = House::for_stage(&stage);
    let Ok(Fetched::Body(said, _)) = house.get(&stage.url("/")).await else { panic!("no body") };
    assert!(!said.shared);
}

#[tokio::test]
async fn a_validator_is_sent_and_a_304_keeps_it() {
    let stage = Stage::open(|asked| match asked.field("if-none-match") {
        Some("\"v1\"") => vec![raw("304 Not Modified", &["Cache-Control: max-age=5"], b"")],
        _ => ok(b"photo"),
    })
    .await;
    let house = House::for_stage(&stage);
    let mut request = house.request(&stage.url("/"));
    let date = "Tue, 24 Nov 2026 11:00:00 GMT";
    request.validator = Validator { etag: Some("\"v1\"".into()), last_modified: Some(date.into()) };
    for _ in 0..2 {
        let Ok(Fetched::NotModified(said)) = house.outside.fetch(&request).await else { panic!("not a 304") };
        assert_eq!(said.validator, request.validator);
        assert_eq!(said.fresh_for, Some(Duration::from_secs(5)));
    }
    assert_eq!(stage.accepted(), 1);
    assert!(stage.seen.heads.lock().unwrap()[0].contains(&format!("if-modified-since: {date}")));
}

#[tokio::test]
async fn statuses_become_what_the_issue_says() {
    let stage = Stage::open(|asked| answer(&format!("{} Word", &asked.path()[1..]), &[], b"text")).await;
    let house = House::for_stage(&stage);
    for (status, kind) in [
        (404, Kind::OriginStatus(404)),
        (403, Kind::OriginStatus(403)),
        (410, Kind::OriginStatus(410)),
        (429, Kind::OriginStatus(429)),
        (500, Kind::OriginBroken),
        (503, Kind::OriginBroken),
        (201, Kind::OriginBroken),
        (206, Kind::OriginBroken),
        (300, Kind::OriginBroken),
        (304, Kind::OriginBroken),
        (302, Kind::OriginBroken),
        (101, Kind::OriginBroken),
        (700, Kind::OriginBroken),
    ] {
        let problem = house.problem(&stage.url(&format!("/{status}"))).await;
        assert_eq!(problem.kind, kind, "{status}: {problem:?}");
        house.body(&stage.url("/200")).await.unwrap();
    }
    assert_eq!(house.metric("fetch_origin_errors_total{kind=\"status_4xx\"}"), 4);
    assert_eq!(house.metric("fetch_origin_errors_total{kind=\"status_5xx\"}"), 2);
}

#[tokio::test]
async fn malformed_heads_are_broken_answers() {
    for head in [
        "HTP/1.1 200 OK\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "garbage\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: /a\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n",
    ] {
        let stage = Stage::open(move |_| vec![Act::Send(head.into()), Act::Close]).await;
        let house = House::for_stage(&stage);
        let problem = house.problem(&stage.url("/")).await;
        assert_eq!(problem.kind, Kind::OriginBroken, "{head:?}");
        assert_eq!(house.metric("fetch_origin_errors_total{kind=\"malformed\"}"), 1, "{head:?} {problem:?}");
    }
}

#[tokio::test]
async fn heads_over_their_limits_are_broken_answers() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101));
    for head in [long, many] {
        let stage = Stage::open(move |_| vec![Act::Send(head.clone().into()), Act::Hold]).await;
        let house = House::for_stage(&stage);
        assert_eq!(house.problem(&stage.url("/")).await.kind, Kind::OriginBroken);
        assert_eq!(house.metric("fetch_origin_errors_total{kind=\"malformed\"}"), 1);
    }
    let just = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 1\r\n\r\nx", "a: b\r\n".repeat(99));
    let stage = Stage::open(move |_| vec![Act::Send(just.clone().into())]).await;
    assert_eq!(House::for_stage(&stage).body(&stage.url("/")).await.unwrap(), b"x");
}

#[tokio::test]
async fn an_endless_head_ends_at_its_limit() {
    for bytes in ["X: y\r\n", "x"] {
        let stage =
            Stage::open(move |_| vec![Act::Send(b"HTTP/1.1 200 OK\r\n".into()), Act::Forever(bytes.into())])
                .await;
        let house = House::for_stage(&stage);
        assert_eq!(house.problem(&stage.url("/")).await.kind, Kind::OriginBroken);
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_in_time_is_a_time_out() {
    let endless_100 = "HTTP/1.1 100 Continue\r\n\r\n";
    let scripts = [vec![], vec!["HTTP/1.1 200"], vec![endless_100, endless_100]];
    for script in scripts {
        let stage = Stage::open(move |_| {
            script.iter().map(|text| Act::Send(text.as_bytes().into())).chain([Act::Hold]).collect()
        })
        .await;
        let house = House::with(&stage, "head_timeout_ms = 3000");
        let url = stage.url("/");
        let problem = house.clock.hurry(Duration::from_millis(100), house.problem(&url)).await;
        assert_eq!(problem.kind, Kind::OriginTimeout, "{problem:?}");
        assert!(cause(&problem).contains("took longer than 3s"), "{problem:?}");
    }
}

#[tokio::test]
async fn content_that_was_encoded_unasked_is_a_broken_answer() {
    let stage = Stage::open(|asked| match asked.path() {
        "/identity" => answer("200 OK", &["Content-Encoding: identity"], b"photo"),
        _ => answer("200 OK", &["Content-Encoding: gzip"], b"\x1f\x8b"),
    })
    .await;
    let house = House::for_stage(&stage);
    let problem = house.problem(&stage.url("/")).await;
    assert_eq!(problem.kind, Kind::OriginBroken);
    assert!(cause(&problem).contains("gzip"), "{problem:?}");
    assert_eq!(house.body(&stage.url("/identity")).await.unwrap(), b"photo");
}
