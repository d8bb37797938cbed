//! Requests that are wrong: unknown options with the nearest known one, and framing that could mean two things.

use crate::client::Client;
use crate::house::House;
use crate::picture::Picture;

#[test]
fn wrong_options_are_named_with_the_way_out() {
    let house = House::shared();
    house.put("options.png", &Picture::scene(30, 20, 3).png());
    for (options, status, subject, words) in [
        ("qualty:50", 404, "qualty", "`quality`"),
        ("widht:50", 404, "widht", "`width`"),
        ("frobnicate:1", 404, "frobnicate", "frobnicate"),
        ("rs:fitt:1:1", 404, "rs", "fit, fill"),
        ("q:101", 404, "q", "101"),
        ("w:-5", 404, "w", "-5"),
        ("w:99999999999999999999", 404, "w", "9999"),
        ("rot:45", 404, "rot", "45"),
        ("msr:100", 403, "msr", "limit"),
        ("wm:1:ce", 404, "wm", "not built"),
        ("pr:none", 404, "preset", "`none`"),
    ] {
        let answer = house.get(&format!("/image/unsafe/{options}/plain/local:///options.png@png"));
        assert_eq!(answer.status, status, "{options}");
        let problem = answer.problem();
        assert_eq!(problem["subject"], subject, "{options}: {problem}");
        assert!(answer.detail().contains(words), "{options}: {}", answer.detail());
        assert!(problem["type"].as_str().is_some_and(|kind| kind.starts_with("urn:tutti:problem:")));
        assert_eq!(answer.field("Cache-Control"), Some("no-store"));
    }
    let long = format!("/image/unsafe/{}:1/plain/local:///options.png", "x".repeat(5000));
    assert!(house.get(&long).body.len() < 1000, "an answer does not grow with the request");
}

#[test]
fn what_nobody_serves_is_not_found_and_what_nobody_takes_is_not_allowed() {
    let house = House::shared();
    for target in [
        "/nothing",
        "/image",
        "/image/",
        "/image/unsafe",
        "/image/unsafe/",
        "/imagex/unsafe/w:1/plain/local:///a",
    ] {
        assert_eq!(house.get(target).status, 404, "{target}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE"] {
        let answer = house.ask(method, "/image/unsafe/w:1/plain/local:///a.png", &[("Content-Length", "0")]);
        assert!([405, 501].contains(&answer.status), "{method}: {}", answer.status);
    }
    assert_eq!(house.get("/healthz").status, 200);
    assert_eq!(house.get("/readyz").status, 200);
}

#[test]
fn ambiguous_framing_is_refused_and_nothing_after_it_is_read() {
    let house = House::shared();
    const SMUGGLED: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let heads = [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for head in heads {
        let mut client = Client::connect(house.http()).expect("a connection");
        client.send([head, SMUGGLED].concat().as_bytes()).expect("it is sent");
        let answer = client.response("POST").unwrap_or_else(|error| panic!("{head:?}: {error}"));
        assert!([400, 501].contains(&answer.status), "{head:?}: {}", answer.status);
        assert_eq!(answer.field("Connection"), Some("close"), "{head:?}");
        assert!(client.is_closed(), "{head:?}: nothing follows");
    }
    assert_eq!(house.get("/healthz").status, 200);
}

#[test]
fn heads_over_a_limit_are_refused_by_name() {
    let house = House::shared();
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(10_000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(120));
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(40_000));
    for (request, status) in [(long, 414), (many, 431), (large, 431)] {
        let mut client = Client::connect(house.http()).expect("a connection");
        // The server may refuse, and close, before all of it is sent.
        let _ = client.send(request.as_bytes());
        let answer = client.response("GET").expect("an answer");
        assert_eq!(answer.status, status);
        assert!(client.is_closed());
    }
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let house = House::shared();
    house.put("pipelined.png", &Picture::scene(30, 20, 3).png());
    let mut client = Client::connect(house.http()).expect("a connection");
    let widths = 10..20;
    let request = |width| {
        format!("GET /image/unsafe/w:{width}/plain/local:///pipelined.png@png HTTP/1.1\r\nHost: a\r\n\r\n")
    };
    let requests: String = widths.clone().map(request).collect();
    client.send(requests.as_bytes()).expect("they are sent");
    for width in widths {
        let answer = client.response("GET").expect("an answer");
        assert_eq!(Picture::read(&answer.body).width, width);
    }
}
