//! The commands: the document with its history, secrets, caches, explanations; what they print and how they end.

use serde_json::Value;

use crate::house::{Done, House, eventually, tutti};
use crate::picture::{Picture, format_of};

fn run(words: &[&str]) -> Done {
    tutti(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), "")
}

#[test]
fn the_exit_status_tells_done_from_failed_from_wrong_usage() {
    let nowhere = tempfile::tempdir().expect("a folder");
    let nowhere = nowhere.path().display().to_string();
    for (words, code) in [
        (vec!["--help"], 0),
        (vec!["--version"], 0),
        (vec!["help", "master"], 0),
        (vec!["completions", "bash"], 0),
        (vec![], 2),
        (vec!["frobnicate"], 2),
        (vec!["serve", "--frobnicate"], 2),
        (vec!["serve", "--http", "nonsense"], 2),
        (vec!["cache", "purge"], 2),
        (vec!["cache", "purge", "--all", "--tag", "x"], 2),
        (vec!["help", "frobnicate"], 1),
        (vec!["status", "--data", &nowhere], 1),
        (vec!["serve", "--config", "/nowhere/tutti.toml", "--data", &nowhere], 1),
    ] {
        let done = run(&words);
        assert_eq!(done.code, code, "{words:?}: {done:?}");
        assert_eq!(done.err.is_empty(), code == 0, "{words:?}: {done:?}");
    }
    let absent = run(&["status", "--data", &nowhere]);
    assert!(absent.err.contains("tutti serve") && absent.err.contains("--data"), "{}", absent.err);
    assert!(run(&["completions", "bash"]).out.contains("complete -F _tutti"));
    let master = run(&["help", "master"]).out;
    assert!(master.contains("node with the role front"), "{master}");
}

#[test]
fn the_document_is_set_shown_compared_and_rolled_back() {
    let house = House::start();
    let revision = || house.json(&["config", "show"])["revision"].as_u64().expect("a revision");
    assert_eq!(revision(), 0);
    let dry = house.done(&["config", "set", "image.quality.webp", "70", "--dry-run"], "");
    assert_eq!(dry, "+ image.quality.webp = 70\nnot done (dry run): revision 0 stays\n");
    assert_eq!(revision(), 0);
    house.done(&["config", "set", "image.quality.webp", "70", "--why", "it looks well"], "");
    let one = revision();
    assert!(one > 0);
    assert_eq!(house.done(&["config", "get", "image.quality.webp"], "").trim(), "70");
    assert_eq!(house.json(&["config", "get", "image.quality"])["value"]["webp"], 70);
    let late = house.tutti(&["config", "set", "image.quality.webp", "71", "--if-revision", "0"]);
    assert_eq!(late.code, 1, "{late:?}");
    assert!(late.err.contains(&one.to_string()), "{}", late.err);
    house.done(&["config", "set", "image.quality.webp", "72", "--if-revision", &one.to_string()], "");
    assert_eq!(house.done(&["config", "diff"], "").trim(), "~ image.quality.webp = 72  (was 70)");
    let history = house.json(&["config", "history"]);
    let whys: Vec<&Value> = history.as_array().expect("a list").iter().map(|one| &one["why"]).collect();
    assert!(whys.contains(&&"it looks well".into()), "{history}");
    assert!(house.done(&["config", "history"], "").contains("it looks well"));
    house.done(&["config", "rollback", &one.to_string()], "");
    assert_eq!(house.done(&["config", "get", "image.quality.webp"], "").trim(), "70");
    assert!(revision() > one + 1, "going back is a revision of its own");
    assert_eq!(house.tutti(&["config", "get", "image.quality.png"]).code, 1);
}

#[test]
fn apply_merges_by_table_and_replaces_only_when_told() {
    let house = House::start();
    house.apply("[image.quality]\nwebp = 70\njpeg = 71\n");
    house.apply("[image.quality]\nwebp = 60\n[image]\nfresh_s = 5\n");
    let value = || house.json(&["config", "show"])["value"].clone();
    assert_eq!(value(), serde_json::json!({"image": {"quality": {"webp": 60, "jpeg": 71}, "fresh_s": 5}}));
    let again = house.done(&["config", "apply", "-"], "[image]\nfresh_s = 5\n");
    assert!(again.contains("nothing to change"), "{again}");
    house.done(&["config", "apply", "-", "--replace"], "[image.quality]\nwebp = 60\n");
    assert_eq!(value(), serde_json::json!({"image": {"quality": {"webp": 60}}}));
}

#[test]
fn mistakes_in_the_document_are_named_and_change_nothing() {
    let house = House::start();
    for (document, words) in [
        ("[image]\nqualty = 3\n", "unknown option `qualty` in [image]; did you mean `quality`?"),
        ("[imag]\nfresh_s = 3\n", "did you mean `image`?"),
        ("[image.quality]\nwebp = 101\n", "webp = 101"),
        ("[image.quality]\nwebp = 'high'\n", "image.quality.webp"),
        ("[fetch]\nconnections_per_origin = 65\n", "from 1 to 64"),
        ("[fetch.sources.a]\nprefix = 'http://x/'\nallowed_networks = ['10.0.0.1/8']\n", "10.0.0.0/8"),
        ("[tenants.main.presets.image]\nthumb = 'qualty:3'\n", "`quality`"),
        ("[tenants.other]\n", "other"),
        ("this is no TOML", "TOML"),
    ] {
        let done = house.tutti_told(&["config", "apply", "-"], document);
        assert_eq!(done.code, 1, "{document}: {done:?}");
        assert!(done.err.contains(words), "{document}: {}", done.err);
    }
    assert_eq!(house.json(&["config", "show"])["revision"], 0);
}

#[test]
fn what_needs_a_restart_is_refused_with_the_way_out_and_holds_after_one() {
    let mut house = House::start();
    let refused = house.tutti(&["config", "set", "worker.permits", "1"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("restart") && refused.err.contains("worker"), "{}", refused.err);
    let kept = house.done(&["config", "set", "worker.permits", "1", "--at-restart"], "");
    assert!(kept.contains("restart: [worker] changes at the next start of tutti serve"), "{kept}");
    house.terminate();
    house.start_again();
    assert_eq!(house.metric("tutti_limit_worker_permits", &[]), 1.0);
}

#[test]
fn a_live_change_shows_in_the_next_answers() {
    let house = House::start();
    house.put("scene.png", &Picture::scene(300, 200, 2).png());
    let target = "/image/unsafe/w:290/plain/local:///scene.png@jpg";
    let fine = house.image(target);
    let plan = house.done(&["config", "set", "image.quality.jpeg", "10", "--json"], "");
    house.in_force(&serde_json::from_str(&plan).expect("a plan"));
    let coarse = house.image(target);
    assert_eq!(coarse.cache_status(), "tutti; fwd=miss; stored");
    assert!(coarse.body.len() * 2 < fine.body.len(), "{} of {}", coarse.body.len(), fine.body.len());
    house.apply("[image.quality]\njpeg = 80\n");
    let back = house.image(target);
    assert!(back.is_hit(), "what was made under the old settings is known again: {}", back.cache_status());
    assert_eq!(back.body, fine.body);
}

#[test]
fn secrets_are_listed_by_name_and_removed() {
    let house = House::start();
    house.done(&["secret", "set", "image-key"], "736563726574\n");
    let list = house.json(&["secret", "list"]);
    assert_eq!(list[0]["name"], "image-key");
    assert!(!list.to_string().contains("736563726574"));
    assert!(house.done(&["secret", "list"], "").contains("image-key"));
    house.done(&["secret", "rm", "image-key"], "");
    assert_eq!(house.json(&["secret", "list"]), serde_json::json!([]));
    assert_eq!(house.tutti(&["secret", "rm", "image-key"]).code, 1);
    assert_eq!(house.tutti_told(&["secret", "set", "no such/name"], "x").code, 1);
}

#[test]
fn explain_says_why_before_and_after() {
    let house = House::start();
    house.put("scene.png", &Picture::scene(60, 40, 2).png());
    let target = "/image/unsafe/w:30/plain/local:///scene.png@png";
    let step = |stage: &str| {
        let explained = house.json(&["explain", target]);
        assert_eq!(explained["service"], "image");
        let steps = explained["steps"].as_array().expect("steps").clone();
        let found = steps.into_iter().find(|step| step["stage"] == stage);
        found.unwrap_or_else(|| panic!("no {stage}: {explained}"))["text"].to_string()
    };
    assert!(step("plan").contains("local:///scene.png"));
    assert!(!step("look-up").contains("fresh for"));
    house.image(target);
    assert!(step("look-up").contains("fresh for"), "{}", step("look-up"));
    assert!(step("cost").contains("predicted CPU"));
    assert!(house.done(&["explain", target], "").contains("request key"));
    let refused = house.json(&["explain", "/image/unsafe/qualty:3/plain/local:///scene.png"]);
    assert_eq!(refused["status"], 404);
    assert!(refused["steps"][0]["text"].as_str().expect("a text").contains("`quality`"));
    assert_eq!(house.renders(), 1.0, "explaining does nothing");
}

#[test]
fn status_and_stats_show_what_was_done() {
    let house = House::start();
    house.put("scene.png", &Picture::scene(60, 40, 2).png());
    let target = "/image/unsafe/w:30/plain/local:///scene.png";
    house.image(target);
    house.image(target);
    let status = eventually("the requests are counted", || {
        let status = house.json(&["status"]);
        (status["requests"] == 2).then_some(status)
    });
    assert_eq!(
        (&status["hits"], &status["renders"], &status["state"]),
        (&1.into(), &1.into(), &"ready".into())
    );
    assert_eq!(status["pid"], house.pid());
    let stats = house.json(&["cache", "stats"]);
    assert_eq!(stats["results"]["resident"], 1);
    assert_eq!(stats["results"]["disk_ok"], true);
    for words in [&["status"][..], &["cache", "stats"], &["ports"], &["doctor"]] {
        let text = house.done(words, "");
        assert!(text.lines().count() >= 3, "{words:?}: {text}");
        assert!(serde_json::from_str::<Value>(&text).is_err(), "{words:?} prints text for people");
    }
    assert!(format_of(&house.image(target).body).is_some());
}
