//! Too little capacity: refused at once with a time to come back, or a cheaper picture that says so and is not kept as
//! the real one.

use std::time::{Duration, Instant};

use crate::client;
use crate::engines::{slow, slower, while_busy};
use crate::house::{House, SAMPLES, Setup, eventually};
use crate::picture::Picture;

/// A server of the samples that does one job at a time, with this `[admission]`.
fn narrow(admission: &str) -> House {
    let mut house = House::with(Setup { originals: Some(SAMPLES.into()), ..Setup::default() });
    house.restart_under(&format!("[worker]\npermits = 1\n[admission]\n{admission}"));
    house
}

#[test]
fn surplus_is_refused_at_once_with_a_time_to_come_back() {
    let house = narrow("jobs = 1\nwhen_short = 'refuse'\n");
    let kept = "/image/unsafe/w:40/plain/local:///photo01.jpg@webp";
    house.image(kept);
    let (answer, refused) = while_busy(&house, &slow(1), || {
        let since = Instant::now();
        let refused = house.get("/image/unsafe/w:41/plain/local:///photo01.jpg@webp");
        assert!(since.elapsed() < Duration::from_secs(2), "it is decided on arrival: {:?}", since.elapsed());
        assert!(house.image(kept).is_hit(), "hits need no capacity");
        assert_eq!(house.get("/healthz").status, 200);
        refused
    });
    assert_eq!(answer.status, 200);
    assert_eq!(refused.status, 503);
    let after = refused.field("Retry-After").and_then(|after| after.parse::<u32>().ok());
    assert!(after.is_some_and(|seconds| seconds >= 1), "{refused:?}");
    assert_eq!(refused.problem()["type"], "urn:tutti:problem:overloaded");
    assert_eq!(refused.field("Cache-Control"), Some("no-store"));
    assert_eq!(house.metric("tutti_admission_shed_total", &["reason=\"jobs\""]), 1.0);
    house.image("/image/unsafe/w:41/plain/local:///photo01.jpg@webp");
}

#[test]
fn a_cheaper_picture_says_so_and_the_real_one_is_made_later() {
    // How long a job is predicted to hold the machine is the same each time a server has learned nothing yet.
    let mut house = narrow("target_wait_ms = 10000\n");
    let (_, wait) = while_busy(&house, &slower(1), || {
        let status = house.json(&["status"]);
        status["more"]["admission_wait_ms"].as_u64().expect("a wait")
    });
    assert!(wait >= 50, "a slow picture is predicted to be one: {wait} ms");
    // Full work may wait two targets in a lasting overload, cheaper work three: the slow job lies between.
    let target = (wait * 2 / 5).max(1);
    house.restart_under(&format!("[admission]\ntarget_wait_ms = {target}\n"));
    let options = |at: u32| format!("/image/unsafe/w:{}/plain/local:///photo03.jpg@webp", 60 + at);
    let (_, degraded) = while_busy(&house, &slower(2), || {
        std::thread::scope(|scope| {
            let mut asking = Vec::new();
            let ask = |at: u32| client::ask(house.http(), "GET", &options(at), &[]).expect("an answer");
            while house.metric("tutti_worker_busy", &[]) >= 1.0 && asking.len() < 12 {
                let at = asking.len() as u32;
                asking.push(scope.spawn(move || ask(at)));
                std::thread::sleep(Duration::from_millis(60));
            }
            let answers = asking.into_iter().map(|asking| asking.join().expect("an answer"));
            answers.enumerate().find(|(_, answer)| answer.cache_status().contains("degraded"))
        })
    });
    let (at, degraded) = degraded.expect("capacity was short for one of them");
    assert_eq!(degraded.cache_status(), "tutti; fwd=miss; detail=degraded-effort");
    assert_eq!(degraded.status, 200);
    let full = eventually("there is capacity again", || {
        let answer = house.image(&options(at as u32));
        (!answer.cache_status().contains("degraded")).then_some(answer)
    });
    assert_eq!(full.cache_status(), "tutti; fwd=miss; stored", "the cheaper one did not take its place");
    assert_ne!(full.etag(), degraded.etag());
    let (full, cheap) = (Picture::read(&full.body), Picture::read(&degraded.body));
    assert!(full.distance(&cheap) < 6.0, "the same picture at the same size: {cheap:?}");
    assert!(house.metric("tutti_flow_degraded_total", &["reason=\"effort\""]) >= 1.0);
}

#[test]
fn a_stale_picture_is_better_than_none() {
    let house = narrow("jobs = 1\n");
    house.apply("[image]\nfresh_s = 0\nstale_while_revalidate_s = 0\n");
    let target = "/image/unsafe/w:42/plain/local:///photo01.jpg@webp";
    let before = house.image(target);
    let (_, stale) = while_busy(&house, &slow(3), || house.image(target));
    assert!(stale.cache_status().ends_with("; detail=stale"), "{}", stale.cache_status());
    assert_eq!(stale.body, before.body);
    let after = house.image(target);
    assert_eq!(after.cache_status(), "tutti; fwd=stale; stored");
}
