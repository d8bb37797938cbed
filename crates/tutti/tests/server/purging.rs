//! Purges by URL, source, tag and everything: what they take away is not served again, not even after a kill.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::house::{House, eventually};
use crate::origin::{Origin, allowing, image};
use crate::picture::Picture;

/// An origin whose pictures are fresh for an hour and change when the test says so.
struct Gallery {
    origin: Origin,
    issue: Arc<AtomicU32>,
}

impl Gallery {
    fn open() -> Self {
        let issue = Arc::new(AtomicU32::new(0));
        let current = Arc::clone(&issue);
        let origin = Origin::start(move |asked, stream| {
            let tags = if asked.path.contains("cat") { "animals, cats" } else { "plants" };
            let fields =
                format!("Cache-Control: max-age=3600\r\nCache-Tag: {tags}\r\nSurrogate-Key: all-of-it\r\n");
            let issue = issue_of(current.load(Ordering::SeqCst), &asked.path);
            stream.write_all(&image(&fields, &issue.png()))
        });
        Self { origin, issue }
    }

    /// Changes all pictures.
    fn next(&self) {
        self.issue.fetch_add(1, Ordering::SeqCst);
    }

    #[track_caller]
    fn assert_newest(&self, name: &str, body: &[u8]) {
        issue_of(self.issue.load(Ordering::SeqCst), name).scaled(30, 20).assert_shown_by(body);
    }
}

/// Each issue of each picture is another one.
fn issue_of(number: u32, path: &str) -> Picture {
    let blue = if path.contains("cat") { 90 } else { 200 };
    Picture::plain(60, 40, [(number * 40) as u8, 200 - (number * 30) as u8, blue])
}

#[test]
fn a_purge_takes_what_it_names_and_spares_the_rest() {
    let gallery = Gallery::open();
    let house = House::start();
    house.apply(&allowing(&[&gallery.origin]));
    let (cat, rose) = (gallery.origin.image("w:30", "cat.png"), gallery.origin.image("w:30", "rose.png"));
    let both = || [house.image(&cat), house.image(&rose)];
    both();
    assert!(both().iter().all(|answer| answer.is_hit()));

    let source = format!("http://{}/cat.png", gallery.origin.address);
    for (words, spared) in [
        (vec!["--source", &source], true),
        (vec!["--tag", "cats"], true),
        (vec!["--tag", "animals"], true),
        (vec!["--tag", "all-of-it"], false),
        (vec!["--all"], false),
    ] {
        gallery.next();
        house.done(&[&["cache", "purge"], &words[..]].concat(), "");
        let [cat, rose] = both();
        assert!(!cat.is_hit(), "{words:?}: {}", cat.cache_status());
        gallery.assert_newest("cat", &cat.body);
        assert_eq!(rose.is_hit(), spared, "{words:?}: {}", rose.cache_status());
        if !spared {
            gallery.assert_newest("rose", &rose.body);
        }
    }
    house.done(&["cache", "purge", "--tag", "unknown"], "");
    assert!(both().iter().all(|answer| answer.is_hit()));
}

#[test]
fn a_purge_of_a_url_takes_its_variants_and_no_other_url() {
    let house = House::start();
    house.put("scene.png", &Picture::scene(80, 60, 3).png());
    let (purged, other) =
        ("/image/unsafe/w:40/plain/local:///scene.png", "/image/unsafe/w:41/plain/local:///scene.png");
    let webp = [("Accept", "image/webp,*/*")];
    let ages = || {
        let answers =
            [house.ask("GET", purged, &[]), house.ask("GET", purged, &webp), house.ask("GET", other, &[])];
        answers.map(|answer| answer.field("Age").is_some())
    };
    assert_eq!(ages(), [false; 3], "all are made");
    assert_eq!(ages(), [true; 3], "all are kept");
    house.done(&["cache", "purge", "--url", purged], "");
    assert_eq!(ages(), [false, false, true]);
    let whole = format!("http://{}{purged}", house.http());
    house.done(&["cache", "purge", "--url", &whole], "");
    assert_eq!(ages(), [false, false, true], "a whole URL names the same");
}

#[test]
fn a_purge_survives_a_kill() {
    let gallery = Gallery::open();
    let mut house = House::start();
    house.apply(&allowing(&[&gallery.origin]));
    let target = gallery.origin.image("w:30", "cat.png");
    house.image(&target);
    house.wait_for_kept(1);
    gallery.next();
    house.done(&["cache", "purge", "--tag", "cats"], "");
    house.kill();
    house.start_again();
    let after = house.image(&target);
    assert!(!after.is_hit(), "{}", after.cache_status());
    gallery.assert_newest("cat", &after.body);
}

#[test]
fn what_was_begun_before_a_purge_does_not_survive_it() {
    let released = Arc::new(AtomicU32::new(0));
    let gate = Arc::clone(&released);
    let origin = Origin::start(move |asked, stream| {
        while asked.before == 0 && gate.load(Ordering::SeqCst) == 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let issue = issue_of(asked.before.min(1) as u32, "cat");
        stream.write_all(&image("Cache-Control: max-age=3600\r\n", &issue.png()))
    });
    let house = House::start();
    house.apply(&allowing(&[&origin]));
    let target = origin.image("w:30", "cat.png");
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| house.image(&target));
        eventually("the origin is asked", || (origin.count() == 1).then_some(()));
        house.done(&["cache", "purge", "--source", &format!("http://{}/cat.png", origin.address)], "");
        released.store(1, Ordering::SeqCst);
        issue_of(1, "cat").scaled(30, 20).assert_shown_by(&asking.join().expect("an answer").body);
    });
    let after = house.image(&target);
    assert!(after.is_hit());
    issue_of(1, "cat").scaled(30, 20).assert_shown_by(&after.body);
    assert_eq!(origin.count(), 2);
}
