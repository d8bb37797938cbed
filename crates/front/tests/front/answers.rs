//! What is answered: hits, misses, conditions, ranges, bodies of every kind.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tutti_base::KeptBody;
use tutti_front::{Config, ExtraMount};

use super::fake::file_body;
use super::house::{config, get, start, wait_for};

#[test]
fn a_hit_carries_its_fields() {
    let house = start(config());
    let reply = house.get("/t/hit", "");
    assert_eq!((reply.status, reply.text()), (200, "0123456789"));
    for (name, value) in [
        ("content-type", "image/webp"),
        ("content-length", "10"),
        ("cache-control", "public, max-age=3600, stale-while-revalidate=60"),
        ("vary", "Accept"),
        ("accept-ranges", "bytes"),
        ("x-content-type-options", "nosniff"),
        ("x-of-bytes", "yes"),
        ("server-timing", "cache;desc=hit"),
    ] {
        assert_eq!(reply.field(name), Some(value), "{name}");
    }
    assert!(reply.field("cache-status").unwrap().starts_with("tutti; hit; ttl="), "{}", reply.head);
    assert!(reply.field("date").unwrap().ends_with(" GMT"));
    assert_eq!(reply.field("etag").unwrap().len(), 34);
    assert_eq!(reply.field("request-id").unwrap().len(), 16);
    assert!(reply.field("age").unwrap().parse::<u64>().unwrap() < 60);
    wait_for("the count", || {
        house.metric("tutti_front_requests_total{service=\"fake\",status=\"200\",cache=\"hit\"}") == 1.0
    });
    house.fake.keep_bytes("/of-two", "abc");
    let timing = r#"cache;desc=hit, made;desc="two""#;
    assert_eq!(
        house.get("/t/of-two", "").field("server-timing"),
        Some(timing),
        "who made it is kept with it"
    );
    assert_eq!(house.fake.begun.load(Ordering::SeqCst), 0, "a hit asks nobody");
}

#[test]
fn what_was_just_made_says_so() {
    let house = start(config());
    house.fake.keep_bytes("/stored", "abc");
    let reply = house.get("/t/stored", "");
    assert_eq!((reply.status, reply.text()), (200, "abc"));
    assert_eq!(reply.field("cache-status"), Some("tutti; fwd=miss; stored"));
    let timing = reply.field("server-timing").unwrap();
    assert!(timing.starts_with("run;dur=2.00, total;dur="), "{}", reply.head);
    let whence = r#", made;desc="two", why;desc="fastest: \"12 ms\"", through;desc="three""#;
    assert!(timing.ends_with(whence), "{}", reply.head);
    assert_eq!(reply.field("age"), None);
}

#[test]
fn head_gives_the_same_head_and_no_body() {
    let house = start(config());
    let mut client = house.client();
    for path in ["/t/hit", "/t/made", "/t/chunks", "/healthz", "/nothing"] {
        client.send(get(path, "").replacen("GET", "HEAD", 1));
        let head = client.reply_without_body();
        let full = house.get(path, "");
        assert_eq!(head.status, full.status);
        assert_eq!(head.field("content-type"), full.field("content-type"), "{path}");
        if path != "/nothing" {
            assert_eq!(head.field("content-length"), full.field("content-length"), "{path}");
        }
    }
    client.send(get("/t/hit", "Connection: close\r\n"));
    assert_eq!(client.reply().text(), "0123456789", "no body of a HEAD stood in between");
    assert!(client.is_over());
}

#[test]
fn conditions_are_met() {
    let house = start(config());
    let etag = house.get("/t/hit", "").field("etag").unwrap().to_owned();
    for list in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".into()] {
        let mut client = house.client();
        client.send(get("/t/hit", &format!("If-None-Match: {list}\r\n")));
        let reply = client.reply_without_body();
        assert_eq!(reply.status, 304);
        assert_eq!(reply.field("etag"), Some(etag.as_str()));
        assert!(reply.field("cache-control").is_some() && reply.field("vary").is_some());
        assert_eq!((reply.field("content-length"), reply.field("content-type")), (None, None));
        client.send(get("/t/hit", ""));
        assert_eq!(client.reply().status, 200, "a 304 has no body");
    }
    let two_lines = format!("If-None-Match: \"x\"\r\nIf-None-Match: {etag}\r\n");
    let mut client = house.client();
    client.send(get("/t/hit", &two_lines));
    assert_eq!(client.reply_without_body().status, 304);
    assert_eq!(house.get("/t/hit", "If-None-Match: \"x\"\r\n").status, 200);
    assert_eq!(house.get("/t/hit", "If-Match: \"x\"\r\n").status, 412);
    assert_eq!(house.get("/t/hit", &format!("If-Match: {etag}\r\n")).status, 200);
    assert_eq!(house.get("/t/hit", "If-Modified-Since: Thu, 01 Jan 2099 00:00:00 GMT\r\n").status, 200);
}

#[test]
fn ranges_are_served_from_memory_and_from_files() {
    let house = start(config());
    let big: Vec<u8> = (0..1_000_000_u32).map(|at| (at / 7 % 251) as u8).collect();
    house.fake.keep("/file", KeptBody::File(file_body(&big)), &big);
    for (path, whole) in [("/t/hit", b"0123456789".to_vec()), ("/t/file", big)] {
        let len = whole.len();
        assert!(house.get(path, "").body == whole, "all of {path}");
        let last = len - 4;
        for (range, first, end) in [("2-5", 2, 6), ("-4", last, len), ("7-", 7, len), ("0-99999999", 0, len)]
        {
            let reply = house.get(path, &format!("Range: bytes={range}\r\n"));
            assert_eq!(reply.status, 206, "{path} {range}");
            assert_eq!(
                reply.field("content-range"),
                Some(format!("bytes {first}-{}/{len}", end - 1).as_str())
            );
            assert!(reply.body == whole[first..end], "{path} {range}");
        }
        let reply = house.get(path, &format!("Range: bytes={len}-\r\n"));
        assert_eq!(
            (reply.status, reply.field("content-range")),
            (416, Some(format!("bytes */{len}").as_str()))
        );
        assert_eq!(house.get(path, "Range: bytes=0-1,3-4\r\n").status, 200);
        assert_eq!(house.get(path, "Range: bytes=0-1\r\nIf-Range: \"old\"\r\n").status, 200);
        let etag = house.get(path, "").field("etag").unwrap().to_owned();
        assert_eq!(house.get(path, &format!("Range: bytes=0-1\r\nIf-Range: {etag}\r\n")).status, 206);
    }
}

#[test]
fn streams_are_chunked_or_sized_and_end_with_the_connection_for_old_clients() {
    let house = start(config());
    let mut client = house.client();
    client.send(get("/t/chunks", "Connection: close\r\n"));
    let reply = client.reply_without_body();
    assert_eq!(reply.field("transfer-encoding"), Some("chunked"));
    assert_eq!(client.rest(), b"4\r\n0000\r\n4\r\n1111\r\n4\r\n2222\r\n0\r\n\r\n");
    assert_eq!(house.get("/t/sized", "").text(), "000011112222");
    let mut client = house.client();
    client.send("GET /t/chunks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let reply = client.reply_without_body();
    assert_eq!((reply.field("connection"), reply.field("transfer-encoding")), (Some("close"), None));
    assert_eq!(client.rest(), b"000011112222");
}

#[test]
fn a_stream_that_breaks_never_looks_complete() {
    let house = start(config());
    for (path, got) in [
        ("/t/broken", &b"4\r\n0000\r\n4\r\n1111"[..]),
        ("/t/short", b"000011112222"),
        ("/t/long", b"00001111"),
    ] {
        let mut client = house.client();
        client.send(get(path, ""));
        client.reply_without_body();
        assert_eq!(client.rest().escape_ascii().to_string(), got.escape_ascii().to_string(), "{path}");
    }
}

#[test]
fn answers_without_a_body_have_none() {
    let house = start(config());
    let mut client = house.client();
    client.send(get("/t/empty", ""));
    let reply = client.reply_without_body();
    assert_eq!((reply.status, reply.field("content-length")), (204, None));
    client.send(get("/t/hit", ""));
    assert_eq!(client.reply().status, 200);
}

#[test]
fn failures_are_problems_that_name_the_thing_and_hide_the_cause() {
    let house = start(config());
    let reply = house.get("/t/forbidden", "");
    let problem: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((reply.status, &problem["subject"]), (403, &"signature".into()));
    let mut client = house.client();
    client.send(get("/t/full", ""));
    let reply = client.reply();
    assert_eq!((reply.status, reply.field("retry-after")), (503, Some("1")));
    assert!(!reply.text().contains("secret"));
    assert_eq!(reply.field("cache-control"), Some("no-store"));
    for path in ["/t/panics", "/t/plan-panics"] {
        client.send(get(path, ""));
        assert_eq!(client.reply().status, 500, "{path}");
    }
    client.send(get("/t/hit", ""));
    assert_eq!(client.reply().status, 200, "the connection and the thread live on");
}

#[test]
fn pipelined_requests_are_answered_in_order_around_a_miss() {
    let house = start(Config { pipeline: 2, ..config() });
    let mut client = house.client();
    let hits = get("/t/hit", "").repeat(5);
    client.send(hits.clone() + &get("/t/gated", "") + &hits + &get("/t/made", "Connection: close\r\n"));
    for _ in 0..5 {
        assert_eq!(client.reply().text(), "0123456789");
    }
    house.fake.gate.add_permits(1);
    assert_eq!(client.reply().text(), "gated");
    for _ in 0..5 {
        assert_eq!(client.reply().text(), "0123456789");
    }
    assert_eq!(client.reply().text(), "made");
    assert!(client.is_over());
}

#[test]
fn a_client_that_goes_stops_the_work() {
    let house = start(config());
    let mut client = house.client();
    client.send(get("/t/gated", ""));
    wait_for("the work to begin", || house.fake.begun.load(Ordering::SeqCst) == 1);
    assert_eq!(house.fake.dropped.load(Ordering::SeqCst), 0);
    drop(client);
    wait_for("the work to stop", || house.fake.dropped.load(Ordering::SeqCst) == 1);
    wait_for("the connection to end", || house.front.as_ref().unwrap().open_connections() == 0);
    assert_eq!(house.metric("tutti_front_abandoned_requests_total"), 1.0);
}

#[test]
fn a_body_is_asked_for_thrown_away_and_the_request_answered() {
    let house = start(config());
    let mut client = house.client();
    client.send(get("/t/made", "Expect: 100-continue\r\nContent-Length: 3\r\n"));
    assert_eq!(client.reply_without_body().head, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("ab");
    client.send("c");
    assert_eq!(client.reply().text(), "made");
    client.send(get("/t/hit", "Expect: 100-continue\r\n"));
    assert_eq!(client.reply().status, 200, "without a body there is nothing to ask for");
}

#[test]
fn the_front_answers_for_itself() {
    let house = start(config());
    assert_eq!(house.get("/healthz", "").text(), "ok\n");
    assert_eq!(house.get("/readyz", "").status, 503);
    house.front.as_ref().unwrap().mark_ready();
    assert_eq!(house.get("/readyz", "").status, 200);
    assert!(house.get("/", "").text().contains("Tutti"));
    assert_eq!(house.get("/favicon.ico", "").status, 404);
}

#[test]
fn mounts_can_be_added_while_it_runs() {
    let house = start(config());
    let ask = || house.ask("GET /hit HTTP/1.1\r\nHost: IMG.example:80\r\n\r\n").status;
    assert_eq!(ask(), 404);
    let mount = ExtraMount { service: "fake".into(), prefix: "/".into(), host: Some("img.example".into()) };
    let front = house.front.as_ref().unwrap();
    front.set_mounts(std::slice::from_ref(&mount)).unwrap();
    wait_for("the new mount", || ask() == 200);
    assert!(front.set_mounts(&[ExtraMount { service: "nope".into(), ..mount }]).is_err());
    assert_eq!(ask(), 200);
}

#[test]
fn an_answer_that_never_comes_is_given_up() {
    let config = Config { answer_grace_ms: 1, ..config() };
    let house = super::house::start_with(config, Duration::from_millis(10));
    let reply = house.get("/t/gated", "");
    assert_eq!((reply.status, reply.field("connection")), (503, Some("close")));
    wait_for("the work to stop", || house.fake.dropped.load(Ordering::SeqCst) == 1);
}
