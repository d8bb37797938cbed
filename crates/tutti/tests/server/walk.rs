//! One photo through the whole house: front, flow, engine, cache, and back.

use crate::house::{House, SAMPLES, eventually};
use crate::picture::{Picture, format_of};

const PHOTO: &str = "/image/unsafe/rs:fit:512:512/plain/local:///photo01.jpg@webp";

#[test]
fn a_photo_is_made_once_and_the_second_request_is_a_hit() {
    let house = House::of_samples();
    let first = house.image(PHOTO);
    assert_eq!(first.cache_status(), "tutti; fwd=miss; stored");
    assert_eq!(first.field("Content-Type"), Some("image/webp"));
    assert_eq!(format_of(&first.body), Some(tutti_imaging::SourceFormat::WebP));
    let original = Picture::read(&std::fs::read(format!("{SAMPLES}/photo01.jpg")).unwrap());
    let shown = Picture::read(&first.body);
    assert_eq!(shown.width.max(shown.height), 512);
    let shape = |picture: &Picture| f64::from(picture.width) / f64::from(picture.height);
    assert!((shape(&shown) / shape(&original) - 1.0).abs() < 0.01, "{shown:?} of {original:?}");
    original.scaled(shown.width, shown.height).assert_shown_by(&first.body);
    for part in ["original;dur=", "engine;dur=", "total;dur="] {
        assert!(first.field("Server-Timing").unwrap().contains(part));
    }

    let second = house.image(PHOTO);
    assert!(second.cache_status().starts_with("tutti; hit; ttl="), "{}", second.cache_status());
    assert_eq!((second.etag(), &second.body), (first.etag(), &first.body));
    assert!(second.field("Age").is_some());
    assert_eq!(house.renders(), 1.0);
    let requests = |cache: &str| {
        let labels = ["service=\"image\"", "status=\"200\"", cache];
        house.metric("tutti_front_requests_total", &labels)
    };
    eventually("both requests are counted", || {
        (requests("cache=\"hit\"") == 1.0 && requests("cache=\"stored\"") == 1.0).then_some(())
    });
}

#[test]
fn the_printed_url_is_one_that_works() {
    let house = House::of_samples();
    let log = house.log();
    let line = log.lines().find_map(|line| line.strip_prefix("try ")).expect("a URL to try").trim();
    let target = line.strip_prefix(&format!("http://{}", house.http())).expect("this server's");
    assert_eq!(target, PHOTO);
    house.image(target);
}

#[test]
fn head_says_what_get_says_without_the_body() {
    let house = House::of_samples();
    let got = house.image(PHOTO);
    let head = house.ask("HEAD", PHOTO, &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    for name in ["ETag", "Content-Type", "Content-Length", "Cache-Control"] {
        assert_eq!(head.field(name), got.field(name), "{name}");
        assert!(head.field(name).is_some(), "{name}");
    }
    assert_eq!(head.field("Content-Length"), Some(got.body.len().to_string().as_str()));
    let missed = house.ask("HEAD", &PHOTO.replace("512", "100"), &[]);
    assert_eq!((missed.status, missed.body.len()), (200, 0));
    assert!(missed.field("Content-Length").is_some());
}

#[test]
fn conditions_and_ranges_are_bound_to_the_etag() {
    let house = House::of_samples();
    let got = house.image(PHOTO);
    let (etag, length) = (got.etag().to_owned(), got.body.len());
    for (condition, status) in
        [(etag.as_str(), 304), ("*", 304), ("\"x\"", 200), (&format!("\"x\", W/{etag}"), 304)]
    {
        let answer = house.ask("GET", PHOTO, &[("If-None-Match", condition)]);
        assert_eq!(answer.status, status, "{condition}");
        assert_eq!(answer.etag(), etag);
        assert_eq!(answer.body.is_empty(), status == 304);
    }
    assert_eq!(house.ask("GET", PHOTO, &[("If-Match", "\"x\"")]).status, 412);
    for (range, from, to) in
        [("bytes=0-99", 0, 99), ("bytes=100-", 100, length - 1), ("bytes=-10", length - 10, length - 1)]
    {
        let part = house.ask("GET", PHOTO, &[("Range", range)]);
        assert_eq!(part.status, 206, "{range}");
        let said = format!("bytes {from}-{to}/{length}");
        assert_eq!(part.field("Content-Range"), Some(said.as_str()));
        assert_eq!(part.body, got.body[from..=to]);
        let other = house.ask("GET", PHOTO, &[("Range", range), ("If-Range", "\"x\"")]);
        assert_eq!((other.status, &other.body), (200, &got.body), "another version is sent whole");
        let same = house.ask("GET", PHOTO, &[("Range", range), ("If-Range", &etag)]);
        assert_eq!((same.status, &same.body), (206, &part.body));
    }
    let behind = house.ask("GET", PHOTO, &[("Range", &format!("bytes={length}-"))]);
    assert_eq!(behind.status, 416);
    assert_eq!(behind.field("Content-Range"), Some(format!("bytes */{length}").as_str()));
}

#[test]
fn a_large_result_is_served_from_its_file() {
    let mut house = House::of_samples();
    let target = "/image/unsafe/rs:force:2600:2000/el:1/q:100/plain/local:///photo02.jpg@jpg";
    let made = house.image(target);
    assert!(made.body.len() > 1 << 20, "over what is kept in memory: {}", made.body.len());
    house.wait_for_kept(1);
    house.terminate();
    house.start_again();
    let kept = house.image(target);
    assert!(kept.is_hit(), "{}", kept.cache_status());
    assert!(kept.body == made.body);
    let part = house.ask("GET", target, &[("Range", "bytes=1000000-1000999")]);
    assert_eq!((part.status, &part.body[..]), (206, &made.body[1_000_000..1_001_000]));
    assert_eq!(house.ask("GET", target, &[("If-None-Match", made.etag())]).status, 304);
    assert_eq!(house.ask("HEAD", target, &[]).field("Content-Length"), made.field("Content-Length"));
    assert_eq!(house.renders(), 0.0);
}

#[test]
fn errors_stand_in_the_access_log_and_cannot_forge_its_lines() {
    let house = House::of_samples();
    let target = "/image/unsafe/w:50/plain/local:///none%22forged.jpg";
    assert_eq!(house.get(target).status, 404);
    let line = eventually("the line is written", || {
        let log = house.access_log();
        let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        lines.into_iter().find(|line| line["target"] == target)
    });
    assert_eq!(
        (&line["status"], &line["method"], &line["service"]),
        (&404.into(), &"GET".into(), &"image".into())
    );
}
