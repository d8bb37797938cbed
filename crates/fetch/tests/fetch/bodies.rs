//! Bodies: whole or an error, whatever the origin claims; bounded in bytes and time.

use std::time::Duration;

use futures_util::StreamExt;
use tutti_base::{BodyError, Clock, Deadline, Kind};
use tutti_fetch::{Fetch, Fetched};

use crate::house::{House, until, whole};
use crate::stage::{Act, Stage, ok, raw};

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_and_not_a_short_body() {
    for (lines, body) in [
        ("Content-Length: 10", "123"),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n"),
        ("Transfer-Encoding: chunked", "10\r\nabc"),
        ("Transfer-Encoding: chunked", "zz\r\nabc\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "ffffffffffffffffff\r\nabc"),
    ] {
        let stage = Stage::open(move |_| vec![raw("200 OK", &[lines], body.as_bytes()), Act::Close]).await;
        let house = House::for_stage(&stage);
        let error = house.body(&stage.url("/")).await.unwrap_err();
        assert!(matches!(error, BodyError::Broken(_)), "{body:?}: {error:?}");
        assert_eq!(house.metric("fetch_origin_errors_total{kind=\"body_broken\"}"), 1);
        until(|| house.metric("fetch_connections") == 0).await;
    }
}

#[tokio::test]
async fn bytes_beyond_the_stated_length_never_become_the_next_answer() {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let stage = Stage::open(move |asked| match asked.path() {
        "/long" => vec![raw("200 OK", &["Content-Length: 3"], format!("abc{evil}").as_bytes())],
        _ => ok(b"good"),
    })
    .await;
    let house = House::for_stage(&stage);
    for _ in 0..20 {
        assert_eq!(house.body(&stage.url("/long")).await.unwrap(), b"abc");
        assert_eq!(house.body(&stage.url("/next")).await.unwrap(), b"good");
    }
}

#[tokio::test]
async fn a_body_announced_over_the_limit_is_refused_before_it_is_read() {
    let stage = Stage::open(|asked| match asked.path() {
        "/fits" => ok(&[7; 1000]),
        _ => ok(&[7; 1001]),
    })
    .await;
    let house = House::with(&stage, "max_body_bytes = 1000");
    assert_eq!(house.body(&stage.url("/fits")).await.unwrap().len(), 1000);
    let problem = house.problem(&stage.url("/over")).await;
    assert_eq!(problem.kind, Kind::Unprocessable);
    assert!(problem.detail.contains("1001") && problem.detail.contains("1000"), "{problem:?}");
}

#[tokio::test]
async fn an_endless_body_ends_at_the_limit() {
    for (line, chunk) in [("Transfer-Encoding: chunked", "4\r\nabcd\r\n"), ("Connection: close", "abcd")] {
        let stage = Stage::open(move |_| vec![raw("200 OK", &[line], b""), Act::Forever(chunk.into())]).await;
        let house = House::with(&stage, "max_body_bytes = 100000");
        let error = house.body(&stage.url("/")).await.unwrap_err();
        assert!(matches!(error, BodyError::TooLong { limit: 100_000 }), "{error:?}");
        assert_eq!(house.metric("fetch_origin_errors_total{kind=\"body_too_long\"}"), 1);
        until(|| stage.open_now() == 0).await;
    }
}

#[tokio::test]
async fn a_body_below_the_least_rate_is_given_up() {
    let stage = Stage::open(|_| vec![raw("200 OK", &["Content-Length: 100000"], b"some"), Act::Hold]).await;
    let house = House::with(&stage, "min_rate = 1000\nmin_rate_grace_ms = 2000");
    let mut request = house.request(&stage.url("/"));
    request.deadline = Deadline::after(house.clock.now(), Duration::from_secs(3600));
    let fetched = house.outside.fetch(&request).await.ok().unwrap();
    let began = house.clock.now();
    let error = house.clock.hurry(Duration::from_millis(100), whole(fetched)).await.unwrap_err();
    assert!(matches!(error, BodyError::Timeout), "{error:?}");
    let took = house.clock.now().since(began);
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(60), "{took:?}");
    assert_eq!(house.metric("fetch_origin_errors_total{kind=\"body_timeout\"}"), 1);
}

#[tokio::test]
async fn a_body_ends_at_the_deadline_even_when_no_rate_is_asked_of_it() {
    let stage = Stage::open(|_| vec![raw("200 OK", &["Content-Length: 10"], b"some"), Act::Hold]).await;
    let house = House::with(&stage, "min_rate = 0");
    let request = house.request(&stage.url("/"));
    let fetched = house.outside.fetch(&request).await.ok().unwrap();
    let error = house.clock.hurry(Duration::from_secs(1), whole(fetched)).await.unwrap_err();
    assert!(matches!(error, BodyError::Timeout), "{error:?}");
    assert!(request.deadline.passed(house.clock.now()));
}

#[tokio::test]
async fn time_in_which_nobody_asks_for_bytes_is_not_the_origins() {
    let stage = Stage::open(|_| ok(&[7; 400_000])).await;
    let house = House::with(&stage, "min_rate = 100000\nmin_rate_grace_ms = 1");
    let mut request = house.request(&stage.url("/"));
    request.deadline = Deadline::after(house.clock.now(), Duration::from_secs(36_000));
    let Ok(Fetched::Body(_, mut body)) = house.outside.fetch(&request).await else { panic!("no body") };
    let mut received = 0;
    while let Some(chunk) = body.chunks.next().await {
        received += chunk.unwrap().len();
        house.clock.advance(Duration::from_secs(100));
    }
    assert_eq!(received, 400_000);
}
