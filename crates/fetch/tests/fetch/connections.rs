//! Connections: kept, capped, waited for, closed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tutti_base::{Clock, Deadline, Kind};
use tutti_fetch::Fetch;

use crate::house::{House, config, until, whole};
use crate::stage::{Act, Stage, answer, ok, raw};

#[tokio::test]
async fn a_connection_is_used_again_after_every_kind_of_whole_answer() {
    let stage = Stage::open(|asked| match asked.path() {
        "/gone" => answer("404 Not Found", &[], b"nothing"),
        "/moved" => answer("302 Found", &["Location: /here"], b"there"),
        "/chunked" => vec![raw("200 OK", &["Transfer-Encoding: chunked"], b"3\r\nabc\r\n0\r\n\r\n")],
        "/empty" => ok(b""),
        _ => ok(b"photo"),
    })
    .await;
    let house = House::for_stage(&stage);
    for _ in 0..3 {
        assert_eq!(house.body(&stage.url("/a")).await.unwrap(), b"photo");
        assert_eq!(house.body(&stage.url("/moved")).await.unwrap(), b"photo");
        assert_eq!(house.body(&stage.url("/chunked")).await.unwrap(), b"abc");
        assert_eq!(house.body(&stage.url("/empty")).await.unwrap(), b"");
        assert_eq!(house.problem(&stage.url("/gone")).await.kind, Kind::OriginStatus(404));
    }
    assert_eq!(stage.accepted(), 1);
    assert_eq!(stage.requests(), 18);
    assert_eq!(house.metric("fetch_origin_total"), 18);
    assert_eq!(house.metric("fetch_connections"), 1);
}

#[tokio::test]
async fn a_resting_connection_closes_after_its_idle_time() {
    let stage = Stage::open(|_| ok(b"photo")).await;
    let house = House::with(&stage, "idle_timeout_ms = 1000");
    house.body(&stage.url("/")).await.unwrap();
    assert_eq!(stage.open_now(), 1);
    house.clock.hurry(Duration::from_millis(500), until(|| stage.open_now() == 0)).await;
    assert_eq!(house.metric("fetch_connections"), 0);
    house.body(&stage.url("/")).await.unwrap();
    assert_eq!(stage.accepted(), 2);
}

#[tokio::test]
async fn a_reused_connection_that_breaks_costs_one_silent_retry() {
    let stage = Stage::open(|asked| if asked.number == 1 { vec![Act::Close] } else { ok(b"photo") }).await;
    let house = House::for_stage(&stage);
    house.body(&stage.url("/")).await.unwrap();
    assert_eq!(house.body(&stage.url("/")).await.unwrap(), b"photo");
    assert_eq!((stage.accepted(), stage.requests()), (2, 3));
    assert_eq!(house.metric("fetch_retries_total"), 1);
}

#[tokio::test]
async fn a_new_connection_that_breaks_is_not_tried_again() {
    let stage = Stage::open(|_| vec![Act::Close]).await;
    let house = House::for_stage(&stage);
    assert_eq!(house.problem(&stage.url("/")).await.kind, Kind::OriginBroken);
    assert_eq!(stage.requests(), 1);
    assert_eq!(house.metric("fetch_origin_errors_total{kind=\"broken\"}"), 1);
}

#[tokio::test]
async fn there_are_never_more_than_64_connections_to_an_origin() {
    let gate = Arc::new(Semaphore::new(0));
    let passed = gate.clone();
    let stage = Stage::open(move |_| {
        let mut acts = vec![Act::Pass(passed.clone())];
        acts.extend(ok(b"photo"));
        acts
    })
    .await;
    let house = House::for_stage(&stage);
    let url = stage.url("/");
    let all = join_all((0..100).map(|_| house.body(&url)));
    let watch = async {
        until(|| stage.requests() == 64 && house.metric("fetch_waiting") == 36).await;
        assert_eq!(house.metric("fetch_connections"), 64);
        gate.add_permits(100);
    };
    let (bodies, ()) = tokio::join!(all, watch);
    assert!(bodies.into_iter().all(|body| body.unwrap() == b"photo"));
    assert_eq!(stage.seen.most_open.load(Ordering::SeqCst), 64);
    assert_eq!((stage.accepted(), house.metric("fetch_waiting")), (64, 0));
}

#[tokio::test]
async fn who_waits_for_a_connection_waits_until_the_deadline_at_most() {
    let stage = Stage::open(|_| vec![Act::Hold]).await;
    let house = House::with(&stage, "connections_per_origin = 1\nhead_timeout_ms = 60000");
    let url = stage.url("/");
    let mut short = house.request(&url);
    short.deadline = Deadline::after(house.clock.now(), Duration::from_secs(5));
    let first = house.problem(&url);
    let second = async {
        until(|| stage.requests() == 1).await;
        let waited = house.clock.hurry(Duration::from_millis(500), house.outside.fetch(&short)).await;
        assert_eq!(waited.err().unwrap().kind, Kind::OriginTimeout);
        assert_eq!(house.metric("fetch_origin_errors_total{kind=\"timeout_queue\"}"), 1);
        house.clock.advance(Duration::from_secs(60));
    };
    let (first, ()) = tokio::join!(first, second);
    assert_eq!(first.kind, Kind::OriginTimeout);
    assert_eq!(stage.requests(), 1);
}

#[tokio::test]
async fn more_than_may_wait_are_refused_at_once() {
    let gate = Arc::new(Semaphore::new(0));
    let passed = gate.clone();
    let stage = Stage::open(move |_| {
        let mut acts = vec![Act::Pass(passed.clone())];
        acts.extend(ok(b"photo"));
        acts
    })
    .await;
    let house = House::with(&stage, "connections_per_origin = 1\nwaiting_per_origin = 2");
    let url = stage.url("/");
    let all = join_all((0..3).map(|_| house.body(&url)));
    let watch = async {
        until(|| house.metric("fetch_waiting") == 2).await;
        let problem = house.problem(&url).await;
        assert_eq!(problem.kind, Kind::Overloaded);
        assert!(problem.retry_after.is_some());
        assert_eq!(house.metric("fetch_refused_total{reason=\"waiting\"}"), 1);
        gate.add_permits(3);
    };
    let (bodies, ()) = tokio::join!(all, watch);
    assert!(bodies.into_iter().all(|body| body.is_ok()));
}

#[tokio::test]
async fn a_dropped_fetch_or_body_closes_its_connection_and_frees_its_place() {
    let stage = Stage::open(|asked| match asked.path() {
        "/silent" => vec![Act::Hold],
        "/endless" => {
            vec![raw("200 OK", &["Transfer-Encoding: chunked"], b""), Act::Forever(b"1\r\nx\r\n".into())]
        }
        _ => ok(b"photo"),
    })
    .await;
    let house = House::with(&stage, "connections_per_origin = 1");
    let url = stage.url("/silent");
    tokio::select! {
        _ = house.get(&url) => panic!("a silent origin answered"),
        () = until(|| stage.requests() == 1) => {}
    }
    until(|| stage.open_now() == 0).await;
    drop(house.get(&stage.url("/endless")).await.ok().unwrap());
    assert_eq!(house.body(&stage.url("/")).await.unwrap(), b"photo");
    until(|| house.metric("fetch_connections") == 1).await;
    assert_eq!(stage.seen.most_open.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_origin_that_keeps_its_length_secret_is_read_to_the_close() {
    let stage = Stage::open(|_| vec![raw("200 OK", &["Connection: close"], b"photo"), Act::Close]).await;
    let house = House::for_stage(&stage);
    let fetched = house.get(&stage.url("/")).await.ok().unwrap();
    assert_eq!(whole(fetched).await.unwrap(), b"photo");
    assert_eq!(house.body(&stage.url("/")).await.unwrap(), b"photo");
    assert_eq!(stage.accepted(), 2);
}

#[tokio::test]
async fn new_settings_apply_to_what_is_fetched_next() {
    let stage = Stage::open(|_| ok(b"photo")).await;
    let house = House::for_stage(&stage);
    house.body(&stage.url("/")).await.unwrap();
    let smaller = toml::from_str(&config(&stage, "max_body_bytes = 3")).unwrap();
    house.outside.reconfigure(smaller).unwrap();
    assert_eq!(house.problem(&stage.url("/")).await.kind, Kind::Unprocessable);
    assert_eq!(house.metric("limit_fetch_body_bytes"), 3);
    assert_eq!(stage.accepted(), 2, "no connection of the old settings is used");
    house.outside.reconfigure(toml::from_str("").unwrap()).unwrap();
    assert_eq!(house.problem(&stage.url("/")).await.kind, Kind::NotFound);
    assert!(house.outside.reconfigure(toml::from_str("redirects_max = 21").unwrap()).is_err());
}

#[tokio::test]
async fn the_longest_unused_origin_is_forgotten_when_there_are_too_many() {
    let stages =
        [Stage::open(|_| ok(b"a")).await, Stage::open(|_| ok(b"b")).await, Stage::open(|_| ok(b"c")).await];
    let mut settings = String::from("origins_max = 2\n");
    for (number, stage) in stages.iter().enumerate() {
        let source = "allowed_networks = [\"127.0.0.1\"]";
        settings += &format!("[sources.s{number}]\nprefix = \"{}\"\n{source}\n", stage.url("/"));
    }
    let house = House::of(&settings, Arc::new(|_, _| true), crate::house::FakeNames::default());
    for stage in &stages {
        house.body(&stage.url("/")).await.unwrap();
        house.clock.advance(Duration::from_millis(1));
    }
    until(|| stages[0].open_now() == 0).await;
    assert_eq!(house.metric("fetch_connections"), 2);
    house.body(&stages[1].url("/")).await.unwrap();
    assert_eq!(stages[1].accepted(), 1, "the others keep their connections");
}
