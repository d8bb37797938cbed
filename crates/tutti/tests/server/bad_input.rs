//! Originals that are broken or hostile: refused by their content, once, in bounded time and memory.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::damage::{Fate, cases};
use crate::house::House;
use crate::picture::Picture;
use crate::procfs;

/// By how much server and engines together may grow.
const GROWTH_MAX: u64 = 300 << 20;

#[test]
fn broken_and_hostile_files_are_refused_and_do_no_harm() {
    let house = House::start();
    house.put("fine.png", &Picture::scene(120, 80, 3).png());
    house.image("/image/unsafe/w:60/plain/local:///fine.png@png");
    let cases = cases();
    for case in &cases {
        house.put(&case.name, &case.bytes);
    }
    let before = procfs::memory(house.pid());
    let (most, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut wrong = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                most.fetch_max(procfs::memory(house.pid()), Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        for case in &cases {
            let since = Instant::now();
            let answer = house.get(&format!("/image/unsafe/w:60/plain/local:///{}@png", case.name));
            let (name, took) = (&case.name, since.elapsed());
            if took > Duration::from_secs(8) {
                wrong.push(format!("{name}: took {took:?}"));
            }
            match &case.fate {
                Fate::Refused if answer.status == 422 => assert!(!answer.detail().is_empty()),
                Fate::Shown(picture) if answer.status == 200 => {
                    picture.scaled(60, 40).assert_shown_by(&answer.body)
                }
                _ => {
                    wrong.push(format!("{name}: {} {}", answer.status, String::from_utf8_lossy(&answer.body)))
                }
            }
        }
        done.store(true, Ordering::SeqCst);
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let grown = most.into_inner().saturating_sub(before);
    assert!(grown > 0, "memory was looked at");
    assert!(grown < GROWTH_MAX, "server and engines grew by {} MB", grown >> 20);
    assert!(house.image("/image/unsafe/w:60/plain/local:///fine.png@png").is_hit());
    assert_eq!(house.metric("tutti_engine_kills_total", &["reason=\"crash\""]), 0.0, "no engine crashed");

    let jobs = || house.metric("tutti_engine_jobs_total", &[]);
    let first = jobs();
    for case in cases.iter().filter(|case| matches!(case.fate, Fate::Refused)) {
        let again = house.get(&format!("/image/unsafe/w:61/plain/local:///{}@webp", case.name));
        assert_eq!(again.status, 422, "{}", case.name);
    }
    assert_eq!(jobs(), first, "what is broken is remembered by its content, and no engine sees it twice");
}

#[test]
fn the_same_bytes_under_another_name_are_remembered_and_mended_ones_are_served() {
    let house = House::start();
    let mut broken = Picture::scene(120, 80, 3).png();
    let at = broken.len() / 2;
    broken[at] ^= 0x55;
    house.put("broken.png", &broken);
    let target = |name: &str| format!("/image/unsafe/w:60/plain/local:///{name}.png@png");
    assert_eq!(house.get(&target("broken")).status, 422);
    let jobs = house.metric("tutti_engine_jobs_total", &[]);
    assert!(jobs >= 1.0, "an engine found it out");
    house.put("other.png", &broken);
    assert_eq!(house.get(&target("other")).status, 422);
    assert_eq!(house.metric("tutti_engine_jobs_total", &[]), jobs);
    house.put("broken.png", &Picture::scene(120, 80, 3).png());
    assert_eq!(house.get(&target("broken")).status, 200);
}

#[test]
fn results_over_a_limit_are_refused_by_their_options_and_not_by_their_original() {
    let house = House::shared();
    house.put("limits.png", &Picture::scene(120, 80, 3).png());
    let target = |options: &str| format!("/image/unsafe/{options}/plain/local:///limits.png@png");
    let answer = house.get(&target("rs:force:9000:100/el:1"));
    assert_eq!(answer.status, 422);
    assert!(
        answer.problem()["subject"].as_str().expect("a limit").contains("max_result_dimension"),
        "{}",
        answer.detail()
    );
    assert!(answer.detail().contains("8192"), "{}", answer.detail());
    house.image(&target("rs:force:900:100/el:1"));
}
