//! Originals from http origins: kept, revalidated, stood in for, and never believed.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::house::{House, eventually};
use crate::origin::{Origin, allowing, answer, hang, image, reaching};
use crate::picture::Picture;
use crate::signed;

/// Stale answers are not served while they are made anew, so that each request shows what the origin said.
const NO_STALE: &str = "[image]\nstale_while_revalidate_s = 0\n";

fn scene() -> Picture {
    Picture::scene(90, 60, 5)
}

#[test]
fn an_original_is_fetched_once_for_all_that_is_made_of_it() {
    let origin = Origin::answering(image("Cache-Control: max-age=3600\r\n", &scene().png()));
    let house = House::start();
    house.apply(&allowing(&[&origin]));
    let targets: Vec<_> = (10..20).map(|width| origin.image(&format!("w:{width}"), "a.png")).collect();
    std::thread::scope(|scope| {
        let asking: Vec<_> = targets.iter().map(|target| scope.spawn(|| house.image(target))).collect();
        for (width, asking) in (10..20).zip(asking) {
            assert_eq!(Picture::read(&asking.join().expect("an answer").body).width, width);
        }
    });
    assert!(targets.iter().all(|target| house.image(target).is_hit()));
    assert_eq!(origin.count(), 1);
    assert_eq!(house.metric("tutti_fetch_origin_total", &[]), 1.0);
    assert_eq!(house.renders(), 10.0);
}

#[test]
fn an_expired_original_is_revalidated_and_made_anew_only_when_it_changed() {
    let changed = Arc::new(AtomicBool::new(false));
    let new = Arc::clone(&changed);
    let origin = Origin::start(move |asked, stream| {
        let (etag, picture) = match new.load(Ordering::SeqCst) {
            false => ("\"one\"", scene()),
            true => ("\"two\"", Picture::plain(90, 60, [200, 0, 0])),
        };
        let fields = format!("Cache-Control: max-age=0\r\nETag: {etag}\r\n");
        let same = asked.field("If-None-Match") == Some(etag);
        stream.write_all(&if same {
            answer("304 Not Modified", &fields, b"")
        } else {
            image(&fields, &picture.png())
        })
    });
    let house = House::start();
    house.apply(&(allowing(&[&origin]) + NO_STALE));
    let target = origin.image("w:30", "a.png");
    let first = house.image(&target);
    for asked in 2..4 {
        let again = house.image(&target);
        assert_eq!(again.cache_status(), "tutti; fwd=stale; stored");
        assert_eq!((again.etag(), &again.body), (first.etag(), &first.body));
        assert_eq!(origin.count(), asked);
        assert_eq!(origin.asked()[asked - 1].field("If-None-Match"), Some("\"one\""));
    }
    assert_eq!(house.renders(), 1.0);
    changed.store(true, Ordering::SeqCst);
    Picture::plain(30, 20, [200, 0, 0]).assert_shown_by(&house.image(&target).body);
    assert_eq!(house.renders(), 2.0);
}

#[test]
fn a_stale_answer_is_served_while_a_new_one_is_made() {
    let origin = Origin::start(|asked, stream| {
        let picture = if asked.before == 0 { scene() } else { Picture::plain(90, 60, [0, 200, 0]) };
        stream.write_all(&image("Cache-Control: max-age=0\r\n", &picture.png()))
    });
    let house = House::start();
    house.apply(&allowing(&[&origin]));
    let target = origin.image("w:30", "a.png");
    let old = house.image(&target);
    let stale = house.image(&target);
    assert!(stale.cache_status().contains("; detail=stale"), "{}", stale.cache_status());
    assert_eq!(stale.body, old.body);
    let green = Picture::plain(30, 20, [0, 200, 0]);
    eventually("the new one takes its place", || {
        (Picture::read(&house.image(&target).body).distance(&green) < 6.0).then_some(())
    });
}

#[test]
fn what_is_kept_stands_in_when_the_origin_fails() {
    let failing = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&failing);
    let origin = Origin::start(move |_, stream| {
        let good = image("Cache-Control: max-age=0\r\n", &scene().png());
        stream.write_all(&if fails.load(Ordering::SeqCst) { answer("503 Busy", "", b"") } else { good })
    });
    let house = House::start();
    house.apply(&(allowing(&[&origin]) + NO_STALE));
    let target = origin.image("w:30", "a.png");
    let first = house.image(&target);
    failing.store(true, Ordering::SeqCst);
    assert_eq!(house.image(&target).body, first.body, "a failing origin");
    let other = origin.image("w:45", "a.png");
    scene().scaled(45, 30).assert_shown_by(&house.image(&other).body);
    assert!(house.metric("tutti_flow_originals_total", &["reason=\"stale\""]) >= 1.0);
    drop(origin);
    assert_eq!(house.image(&target).body, first.body, "an origin that is gone");
}

#[test]
fn refusals_of_an_origin_are_passed_on_and_remembered() {
    for status in ["404 Not Found", "403 Forbidden", "410 Gone"] {
        let origin = Origin::answering(answer(status, "Cache-Control: max-age=3600\r\n", b"nothing"));
        let house = House::start();
        house.apply(&allowing(&[&origin]));
        for width in [30, 31, 30] {
            let refused = house.get(&origin.image(&format!("w:{width}"), "a.png"));
            assert_eq!(refused.status, status[..3].parse::<u16>().expect("a number"));
            assert_eq!(refused.field("Cache-Control"), Some("no-store"));
        }
        assert_eq!(origin.count(), 1, "{status} is remembered");
    }
}

/// What an origin may do wrong, and the status that it gets.
type Wrongdoer = (&'static str, u16, Origin);

fn liars() -> Vec<Wrongdoer> {
    let bytes = |text: &str| Origin::answering(text.as_bytes().to_vec());
    let short = "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\nshort";
    let two = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nshort!";
    let zipped = image("Content-Encoding: gzip\r\n", b"\x1f\x8b");
    vec![
        ("500", 502, Origin::answering(answer("500 Oops", "", b""))),
        ("302 without a place", 502, Origin::answering(answer("302 Found", "", b""))),
        ("garbage", 502, bytes("\u{16}\u{3}\u{1} this is no HTTP\r\n\r\n")),
        ("nothing", 502, bytes("")),
        ("a lie about its length", 502, bytes(short)),
        ("two lengths", 502, bytes(two)),
        ("an encoding that nobody asked for", 502, Origin::answering(zipped)),
        ("too long by its own word", 422, Origin::answering(image("", &vec![0; 3 << 20]))),
        ("no picture", 422, Origin::answering(image("", b"<html>sorry</html>"))),
        ("an empty body", 422, Origin::answering(image("", b""))),
    ]
}

fn endless() -> Vec<Wrongdoer> {
    let without_end = |head: &'static str, again: &'static str| {
        Origin::start(move |_, stream| {
            stream.write_all(head.as_bytes())?;
            loop {
                stream.write_all(again.as_bytes())?;
            }
        })
    };
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    vec![
        (
            "an endless head",
            502,
            without_end("HTTP/1.1 200 OK\r\n", "X-More: and more and more and more\r\n"),
        ),
        ("an endless body", 422, without_end("HTTP/1.1 200 OK\r\n\r\n", "0123456789abcdef0123456789abcdef")),
        ("an endless body in chunks", 422, without_end(chunked, "10\r\n0123456789abcdef\r\n")),
    ]
}

fn slow() -> Vec<Wrongdoer> {
    let and_no_more = |begin: &'static str| {
        Origin::start(move |_, stream| {
            stream.write_all(begin.as_bytes())?;
            hang(stream)
        })
    };
    let drip = Origin::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n")?;
        loop {
            stream.write_all(b"x")?;
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    vec![
        ("silence", 504, and_no_more("")),
        ("half a head", 504, and_no_more("HTTP/1.1 200 OK\r\nContent-")),
        ("half a body", 504, and_no_more("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nabc")),
        ("a drip", 504, drip),
    ]
}

#[test]
fn slow_endless_and_lying_origins_are_bounded_and_named() {
    let wrongdoers: Vec<Wrongdoer> = [liars(), endless(), slow()].into_iter().flatten().collect();
    let origins: Vec<&Origin> = wrongdoers.iter().map(|(_, _, origin)| origin).collect();
    let house = House::start();
    let limits = "[fetch]\nmax_body_bytes = 1048576\nhead_timeout_ms = 700\nmin_rate = 100000\nmin_rate_grace_ms = 500\n";
    house.apply(&(allowing(&origins) + limits + "[image.limits]\nsource_bytes = 1048576\n"));
    for (what, status, origin) in &wrongdoers {
        let since = Instant::now();
        let answer = house.get(&origin.image("w:30", "a.png"));
        assert_eq!(answer.status, *status, "{what}: {}", String::from_utf8_lossy(&answer.body));
        answer.problem();
        assert!(since.elapsed() < Duration::from_secs(9), "{what} took {:?}", since.elapsed());
    }
    let gone = Origin::answering(Vec::new());
    house.apply(&allowing(&[&gone]));
    let target = gone.image("w:30", "a.png");
    drop(gone);
    assert_eq!(house.get(&target).status, 502, "nobody listens");
    assert_eq!(house.renders(), 0.0);
    house.put("fine.png", &scene().png());
    house.image("/image/unsafe/w:30/plain/local:///fine.png");
}

#[test]
fn what_is_for_one_client_is_made_for_each_and_stored_for_none() {
    for field in ["Cache-Control: private, max-age=600", "Cache-Control: no-store", "Set-Cookie: id=1"] {
        let origin = Origin::answering(image(&format!("{field}\r\n"), &scene().png()));
        let house = House::start();
        house.apply(&allowing(&[&origin]));
        let target = origin.image("w:30", "a.png");
        for asked in 1..4 {
            let answer = house.image(&target);
            assert_eq!(answer.cache_status(), "tutti; fwd=miss", "{field}");
            assert_eq!(answer.field("Cache-Control"), Some("no-store"), "{field}");
            assert_eq!(answer.field("Set-Cookie"), None);
            scene().scaled(30, 20).assert_shown_by(&answer.body);
            assert_eq!(origin.count(), asked, "{field}");
        }
        let stats = house.json(&["cache", "stats"]);
        for held in ["results", "originals"] {
            assert_eq!(
                (&stats[held]["resident"], &stats[held]["kept"]),
                (&0.into(), &0.into()),
                "{field}: {stats}"
            );
        }
    }
}

#[test]
fn sources_that_nobody_allowed_are_not_asked() {
    let origin = Origin::answering(image("", &scene().png()));
    let other = Origin::answering(image("", &scene().png()));
    let house = House::start();
    assert_eq!(house.get(&origin.image("w:30", "a.png")).status, 404, "without a key and a list, none");
    house.apply(&(allowing(&[&origin]) + &reaching(&[&other])));
    assert_eq!(house.get(&other.image("w:30", "a.png")).status, 404);
    let at = |authority: String| format!("/image/unsafe/w:30/plain/http://{authority}/a.png@png");
    for authority in [
        format!("{}@{}", origin.address, other.address),
        format!("{}.evil.example", origin.address.ip()),
        format!("LOCALHOST:{}", origin.address.port()),
    ] {
        assert_eq!(house.get(&at(authority.clone())).status, 404, "{authority}");
    }
    for scheme in ["ftp", "gopher", "data", "s3", "file"] {
        let target = format!("/image/unsafe/w:30/plain/{scheme}://{}/a.png@png", origin.address);
        assert_eq!(house.get(&target).status, 404, "{scheme}");
    }
    assert_eq!((origin.count(), other.count()), (0, 0));
    house.image(&origin.image("w:30", "a.png"));
}

#[test]
fn no_redirect_and_no_spelling_leads_to_a_private_address() {
    let hidden = Origin::answering(image("", &scene().png()));
    let port = hidden.address.port();
    let origin = Origin::start(move |asked, stream| {
        let place = asked.path.strip_prefix("/to/").unwrap_or_default();
        let fields = match place {
            "home" => "Location: /a.png\r\n".to_owned(),
            "" => return stream.write_all(&image("", &scene().png())),
            host => format!("Location: http://{host}/x.png\r\n"),
        };
        stream.write_all(&answer("302 Found", &fields, b""))
    });
    // With a key everything may be asked for: only the address guard stands between.
    let house = signed::house();
    house.apply(&reaching(&[&origin]));
    let ask = |source: String| house.get(&signed::target(0, &format!("w:30/plain/{source}@png")));
    assert_eq!(ask(format!("http://{}/to/home", origin.address)).status, 200, "a redirect at home");
    for host in [
        format!("127.0.0.1:{port}"),
        format!("127.1:{port}"),
        format!("127.0.0.2:{port}"),
        format!("localhost:{port}"),
        format!("2130706433:{port}"),
        format!("0x7f000001:{port}"),
        format!("0177.0.0.1:{port}"),
        format!("0:{port}"),
        format!("0.0.0.0:{port}"),
        format!("[::1]:{port}"),
        format!("[::]:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("[::127.0.0.1]:{port}"),
        format!("[64:ff9b::7f00:1]:{port}"),
        "169.254.169.254".into(),
        "[fe80::1]".into(),
        "10.0.0.1".into(),
        "192.168.1.1".into(),
        "172.16.0.1".into(),
        "100.64.0.1".into(),
    ] {
        let redirected = ask(format!("http://{}/to/{host}", origin.address));
        assert_eq!(
            redirected.status,
            404,
            "a redirect to {host}: {}",
            String::from_utf8_lossy(&redirected.body)
        );
        let direct = ask(format!("http://{host}/x.png"));
        assert_eq!(direct.status, 404, "{host}: {}", String::from_utf8_lossy(&direct.body));
        assert!(!redirected.detail().contains(&host), "where it led is not told");
    }
    assert_eq!(hidden.count(), 0);
}

#[test]
fn exceptions_from_the_address_guard_are_shown() {
    let origin = Origin::answering(Vec::new());
    let mut house = House::start();
    assert!(house.done(&["doctor"], "").contains("no private or local address"));
    house.apply(&allowing(&[&origin]));
    let exception = format!("may reach 127.0.0.1/32 for URLs beneath http://{}/", origin.address);
    assert!(house.done(&["doctor"], "").contains(&exception));
    house.terminate();
    house.start_again();
    assert!(house.log().contains(&exception), "each is logged at start: {}", house.log());
}

#[test]
fn what_an_origin_wants_revalidated_is_not_served_stale() {
    let failing = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&failing);
    let origin = Origin::start(move |_, stream| {
        let good = image("Cache-Control: max-age=0, must-revalidate\r\n", &scene().png());
        stream.write_all(&if fails.load(Ordering::SeqCst) { answer("503 Busy", "", b"") } else { good })
    });
    let house = House::start();
    house.apply(&allowing(&[&origin]));
    let target = origin.image("w:30", "a.png");
    house.image(&target);
    let again = house.image(&target);
    assert_eq!(
        (again.cache_status(), origin.count()),
        ("tutti; fwd=stale; stored", 2),
        "it was asked at once"
    );
    failing.store(true, Ordering::SeqCst);
    assert_eq!(house.get(&target).status, 502);
}

#[test]
fn an_origin_that_keeps_failing_is_left_alone() {
    let origin = Origin::answering(answer("503 Busy", "", b""));
    let house = House::start();
    house.apply(&allowing(&[&origin]));
    for number in 0..20 {
        let answer = house.get(&origin.image("w:30", &format!("{number}.png")));
        assert_eq!(answer.status, 502, "{number}");
    }
    assert!((5..=8).contains(&origin.count()), "asked {} times", origin.count());
    assert!(house.metric("tutti_fetch_breaker_opened_total", &[]) >= 1.0);
    house.put("fine.png", &scene().png());
    house.image("/image/unsafe/w:30/plain/local:///fine.png");
}
