//! One list of requests, against one node and through every front of five: the same answers. And none of them tells where
//! a node is.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::client::{Client, Response, find};
use crate::cluster::{Cluster, SAMPLES};
use crate::node::Node;
use crate::picture::Picture;

/// What may differ between two answers to one request.
const MAY_DIFFER: [&str; 5] = ["Date", "Age", "Cache-Status", "Server-Timing", "Request-Id"];
const PHOTOS: [&str; 3] = ["photo01.jpg", "photo02.jpg", "photo07.jpg"];
const FORMATS: [&str; 3] = ["jpg", "png", "webp"];
/// The result that ranges and conditions are about.
const RANGED: &str = "/image/unsafe/rs:fit:150:150/plain/local:///photo02.jpg@jpg";
/// Over 1 MiB.
const BIG: &str = "/image/unsafe/rs:fit:1100:1100/plain/local:///photo01.jpg@png";

/// A request: its bytes, and what it is for the reader of a failure.
struct Asked {
    method: &'static str,
    bytes: Vec<u8>,
}

fn asked(method: &'static str, target: &str, fields: &[(&str, &str)]) -> Asked {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    Asked { method, bytes: format!("{head}\r\n").into_bytes() }
}

fn plain(target: &str) -> Asked {
    asked("GET", target, &[])
}

/// What is asked; `etag` is that of [`RANGED`].
fn requests(etag: &str) -> Vec<Asked> {
    let mut all = pictures();
    all.extend(negotiations());
    all.extend(ranges(etag));
    all.extend(conditions(etag));
    all.extend(mistakes());
    all.extend(gathers());
    all
}

fn pictures() -> Vec<Asked> {
    let options = [
        "rs:fit:60:60",
        "rs:fill:50:40/g:no",
        "c:40:30/g:nowe",
        "rs:fit:50:50/rot:90/bl:2",
        "w:32/dpr:2/q:40",
    ];
    let mut all = Vec::new();
    for options in options {
        for photo in PHOTOS {
            for format in FORMATS {
                let target = format!("/image/unsafe/{options}/plain/local:///{photo}@{format}");
                all.push(plain(&target));
                all.push(asked("HEAD", &target, &[]));
            }
        }
    }
    for rest in [
        "plain/local%3A%2F%2F%2Fsmall.png@jpg",
        "w:20/bG9jYWw6Ly8vc21hbGwucG5n.jpg",
        "w:21/plain/local:///small.webp@png",
        "w:22/plain/local:///deep/er/small.jpg@webp",
        "w:900/plain/local:///small.png@png",
        "w:900/el:1/plain/local:///small.png@png",
    ] {
        all.push(plain(&format!("/image/unsafe/{rest}")));
    }
    all.push(plain(BIG));
    all.push(asked("GET", BIG, &[("Range", "bytes=1000000-1000009")]));
    all
}

fn negotiations() -> Vec<Asked> {
    let accepts = [
        "*/*",
        "image/*",
        "image/avif,image/webp,image/apng,*/*;q=0.8",
        "image/webp",
        "image/webp;q=0.5, */*;q=0.1",
        "image/webp;q=0, */*",
        "image/webp;q=0.2, image/jpeg;q=0.9, image/png;q=0.9",
        "text/html",
        "nonsense;;;",
    ];
    let target = "/image/unsafe/w:70/plain/local:///photo02.jpg";
    accepts.iter().map(|accept| asked("GET", target, &[("Accept", accept)])).chain([plain(target)]).collect()
}

fn ranges(etag: &str) -> Vec<Asked> {
    let mut all = Vec::new();
    for range in [
        "bytes=0-9",
        "bytes=-5",
        "bytes=5-",
        "bytes=0-0,2-3",
        "bytes=99999999-",
        "bytes=9-2",
        "bytes=x",
        "lines=1-2",
    ] {
        all.push(asked("GET", RANGED, &[("Range", range)]));
        all.push(asked("HEAD", RANGED, &[("Range", range)]));
        all.push(asked("GET", RANGED, &[("Range", range), ("If-Range", etag)]));
        all.push(asked("GET", RANGED, &[("Range", range), ("If-Range", "\"other\"")]));
    }
    all
}

fn conditions(etag: &str) -> Vec<Asked> {
    let weak = format!("W/{etag}");
    let list = format!("\"a\", {etag}, \"b\"");
    let mut all = Vec::new();
    for value in [etag, &weak, &list, "*", "\"other\"", "nonsense"] {
        for field in ["If-None-Match", "If-Match"] {
            all.push(asked("GET", RANGED, &[(field, value)]));
            all.push(asked("HEAD", RANGED, &[(field, value)]));
        }
    }
    all.push(asked("GET", RANGED, &[("If-Modified-Since", "Tue, 24 Nov 2026 22:51:51 GMT")]));
    all
}

fn mistakes() -> Vec<Asked> {
    let mut all = Vec::new();
    for options in
        ["qualty:50", "frobnicate:1", "rs:fitt:1:1", "q:101", "w:-5", "rot:45", "msr:100", "pr:none"]
    {
        all.push(plain(&format!("/image/unsafe/{options}/plain/local:///small.png@png")));
    }
    for target in [
        "/nothing",
        "/image",
        "/image/",
        "/image/unsafe",
        "/imagex/unsafe/w:1/plain/local:///a",
        "/image/unsafe/w:10/plain/local:///missing.png",
        "/image/unsafe/w:10/plain/local:///../secret.png",
        "/image/unsafe/w:10/plain/local://nowhere/small.png",
        "/image/unsafe/w:10/plain/local:///broken.png",
        "/image/unsafe/w:10/plain/local:///cut.jpg",
        "/image/unsafe/w:10/plain/local:///text.png@jpg",
        "/image/unsafe/w:10/plain/http://127.0.0.1:1/a.jpg",
        "/image/unsafe/w:10/plain/ftp://a/b.jpg",
        "/healthz",
        "/readyz",
    ] {
        all.push(plain(target));
        all.push(asked("HEAD", target, &[]));
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        for target in [RANGED, "/echo/a", "/nothing"] {
            all.push(asked(method, target, &[("Content-Length", "0")]));
        }
    }
    let raw = |text: String| Asked { method: "GET", bytes: text.into_bytes() };
    all.push(raw("GET / HTTP/1.1\r\n\r\n".into()));
    all.push(raw("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n".into()));
    all.push(raw("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".into()));
    all.push(raw(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(10_000))));
    all.push(raw(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(120))));
    all
}

fn gathers() -> Vec<Asked> {
    let many = vec!["x"; 65].join(",");
    ["/echo/a", "/echo/a,b,c", "/echo/", "/echo/a,,b", &format!("/echo/{many}")]
        .into_iter()
        .map(plain)
        .collect()
}

/// An answer without what may differ: also the request's id within a problem.
#[derive(Clone, PartialEq, Debug)]
struct Told {
    status: u16,
    fields: BTreeMap<String, String>,
    body: Vec<u8>,
}

fn ask(front: SocketAddr, asked: &Asked) -> Response {
    let words = String::from_utf8_lossy(&asked.bytes[..asked.bytes.len().min(300)]).into_owned();
    let answer = Client::connect(front).and_then(|mut client| {
        client.send(&asked.bytes)?;
        client.response(asked.method)
    });
    answer.unwrap_or_else(|error| panic!("{words} of {front}: {error}"))
}

fn told(answer: &Response) -> Told {
    let differs = |name: &str| MAY_DIFFER.iter().any(|known| known.eq_ignore_ascii_case(name));
    let fields = answer.fields.iter().filter(|(name, _)| !differs(name));
    let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    let mut body = answer.body.clone();
    if let Some(id) = answer.field("Request-Id")
        && answer.status >= 400
        && let Some(at) = find(&body, id.as_bytes())
    {
        body.splice(at..at + id.len(), *b"ID");
    }
    Told { status: answer.status, fields, body }
}

/// Puts originals of all kinds beside the sample photos.
fn fill(folder: &std::path::Path) {
    std::fs::create_dir_all(folder.join("deep/er")).expect("a folder");
    for photo in PHOTOS {
        std::fs::copy(format!("{SAMPLES}/{photo}"), folder.join(photo)).expect("a photo");
    }
    let scene = Picture::scene(90, 60, 1);
    let photo = std::fs::read(format!("{SAMPLES}/photo01.jpg")).expect("a photo");
    for (name, bytes) in [
        ("small.png", scene.png()),
        ("small.webp", scene.webp()),
        ("deep/er/small.jpg", scene.jpeg()),
        ("broken.png", [&scene.png()[..60], b"nothing like it"].concat()),
        ("cut.jpg", photo[..600].to_vec()),
        ("text.png", b"no picture at all".to_vec()),
    ] {
        std::fs::write(folder.join(name), bytes).expect("an original");
    }
}

/// Where no answer may point to: how each node is reached.
fn addresses(nodes: &[Node]) -> Vec<String> {
    nodes.iter().map(|node| node.host.to_string()).collect()
}

fn assert_hides(answer: &Response, addresses: &[String], words: &str) {
    for address in addresses {
        let in_fields = answer.fields.iter().any(|(_, value)| value.contains(address));
        assert!(
            !in_fields && find(&answer.body, address.as_bytes()).is_none(),
            "{words} tells {address}: {answer:?}"
        );
    }
}

#[test]
fn five_nodes_answer_as_one_does_through_any_front_and_hide_where_they_are() {
    let one = Cluster::with(1, &[]);
    fill(&one.nodes[0].originals());
    // The originals are on one of the five alone, and the others have a folder of that name too.
    let five = Cluster::with(5, &[]);
    fill(&five.nodes[2].originals());
    let hidden = addresses(&five.nodes);

    let etag = one.nodes[0].image(RANGED).etag().to_owned();
    let requests = requests(&etag);
    let wanted: Vec<Told> = requests.iter().map(|request| told(&ask(one.nodes[0].http(), request))).collect();
    let mut compared = 0;
    let mut differ = Vec::new();
    for (turn, (request, wanted)) in requests.iter().zip(&wanted).enumerate() {
        // Each front is the first to be asked for some, and two others find what it left behind.
        for step in 0..3 {
            let front = &five.nodes[(turn + step * 2) % five.nodes.len()];
            let answer = ask(front.http(), request);
            let words = String::from_utf8_lossy(&request.bytes[..request.bytes.len().min(200)]);
            assert_hides(&answer, &hidden, &words);
            let found = told(&answer);
            compared += 1;
            if found != *wanted {
                differ.push(difference(&words, &front.name, wanted, &found));
            }
        }
    }
    println!("{compared} answers of 5 nodes compared with those of 1, of {} requests", requests.len());
    assert!(differ.is_empty(), "{} of {compared} differ:\n{}", differ.len(), differ.join("\n"));
    let statuses: BTreeMap<u16, usize> = wanted.iter().fold(BTreeMap::new(), |mut sums, told| {
        *sums.entry(told.status).or_default() += 1;
        sums
    });
    println!("statuses: {statuses:?}");
    for status in [200, 206, 304, 400, 403, 404, 405, 412, 414, 416, 422, 431] {
        assert!(statuses.contains_key(&status), "no request is answered {status}: {statuses:?}");
    }
}

fn difference(words: &str, front: &str, wanted: &Told, found: &Told) -> String {
    let brief = |body: &[u8]| String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
    let same_body = wanted.body == found.body;
    let bodies =
        if same_body { String::new() } else { format!("{} / {}", brief(&wanted.body), brief(&found.body)) };
    format!(
        "{words}by `{front}`: {} {:?} / {} {:?} {bodies}",
        wanted.status, wanted.fields, found.status, found.fields
    )
}
