//! Signed URLs: any of several keys, nothing without one, and no trace of a key anywhere.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::client::find;
use crate::house::{House, eventually};
use crate::picture::Picture;

/// Two pairs of key and salt.
const PAIRS: [(&str, &str); 2] = [
    ("first key, long and secret", "first salt, secret too"),
    ("second key, as secret", "second salt, secret"),
];

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// A server whose URLs have to be signed by one of the two pairs.
pub(crate) fn house() -> House {
    let house = House::start();
    let mut document = String::new();
    for (at, (key, salt)) in PAIRS.iter().enumerate() {
        house.done(&["secret", "set", &format!("key{at}")], &format!("{}\n", hex(key)));
        house.done(&["secret", "set", &format!("salt{at}")], &hex(salt));
        document.push_str(&format!(
            "[[tenants.main.keys]]\nkey = \"secret:key{at}\"\nsalt = \"secret:salt{at}\"\n"
        ));
    }
    house.apply(&document);
    house.put("scene.png", &Picture::scene(60, 40, 4).png());
    house
}

/// The target for `rest`, options and source, signed by a pair.
pub(crate) fn target(pair: usize, rest: &str) -> String {
    let (key, salt) = PAIRS[pair];
    let signature = tutti_service_image::sign(key.as_bytes(), salt.as_bytes(), rest);
    format!("/image/{signature}/{rest}")
}

const REST: &str = "w:30/plain/local:///scene.png@png";

#[test]
fn every_key_opens_and_nothing_else_does() {
    let house = house();
    for pair in 0..PAIRS.len() {
        let answer = house.image(&target(pair, REST));
        assert_eq!(Picture::read(&answer.body).size(), (30, 20));
    }
    let good = target(0, REST);
    let signature = good.split('/').nth(2).expect("a signature").to_owned();
    let forged = |by: &str| format!("/image/{by}/{REST}");
    let mut other = signature.clone().into_bytes();
    other[3] = if other[3] == b'A' { b'B' } else { b'A' };
    let other = String::from_utf8(other).expect("text");
    for target in [
        forged("unsafe"),
        forged("insecure"),
        forged("_"),
        forged(&other),
        forged(&signature[..20]),
        forged(&format!("{signature}AAAA")),
        forged(&signature.to_uppercase()),
        format!("/image/{REST}"),
        good.replace("w:30", "w:31"),
        good.replace("scene", "scen%65").replace("w:30", "w:030"),
        good.replace("@png", "@webp"),
    ] {
        let answer = house.get(&target);
        assert_eq!(answer.status, 403, "{target}");
        assert!(!answer.detail().contains(&signature), "the right signature is not told");
    }
    assert!(house.image(&good).is_hit());
}

#[test]
fn a_url_ends_when_it_says_so_even_when_its_picture_is_kept() {
    let house = house();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let until = |seconds: u64| target(0, &format!("exp:{seconds}/{REST}"));
    let past = house.get(&until(now - 1));
    assert_eq!(past.status, 404);
    assert!(past.detail().contains("expired"), "{}", past.detail());
    house.image(&until(now + 3600));
    let soon = until(now + 3);
    assert_eq!(house.get(&soon).status, 200);
    eventually("the URL expires", || (house.get(&soon).status == 404).then_some(()));
    assert_eq!(house.get(&until(1)).status, 404);
}

#[test]
fn the_command_makes_urls_that_work() {
    let house = house();
    let url = house.done(&["url", "local:///scene.png", "rs:fill:20:20", "q:60", "--format", "webp"], "");
    let target =
        url.trim().strip_prefix(&format!("http://{}", house.http())).expect("this server's").to_owned();
    let answer = house.image(&target);
    assert_eq!(answer.field("Content-Type"), Some("image/webp"));
    assert_eq!(Picture::read(&answer.body).size(), (20, 20));
    assert_eq!(house.json(&["url", "local:///scene.png"])["signed"], true);
    let wrong = house.tutti(&["url", "local:///scene.png", "qualty:60"]);
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("`quality`"), "{}", wrong.err);
}

#[test]
fn no_key_stands_in_documents_logs_or_files() {
    let mut house = house();
    house.image(&target(0, REST));
    house.get(&format!("/image/unsafe/{REST}"));
    let mut said = String::new();
    for words in [
        &["config", "show"][..],
        &["config", "history"],
        &["config", "diff", "0"],
        &["secret", "list"],
        &["doctor"],
        &["status"],
    ] {
        for form in [&[][..], &["--json"]] {
            said.push_str(&house.done(&[words, form].concat(), ""));
        }
    }
    assert!(said.contains("secret:key0"), "the document names its secrets");
    house.terminate_keeping(&mut said);
    for needle in PAIRS.iter().flat_map(|(key, salt)| [hex(key), hex(salt), (*key).into(), (*salt).into()]) {
        assert!(!said.contains(&needle), "{needle} was printed");
        assert_eq!(
            files_with(&house.data(), needle.as_bytes()),
            Vec::<String>::new(),
            "{needle} lies in a file"
        );
    }
}

fn files_with(folder: &Path, needle: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, needle));
        } else if path.is_file() && find(&std::fs::read(&path).expect("a file"), needle).is_some() {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn a_missing_secret_is_refused_and_serving_goes_on_signed() {
    let house = house();
    let lost = house.tutti_told(
        &["config", "apply", "-"],
        "[[tenants.main.keys]]\nkey = \"secret:none\"\nsalt = \"secret:salt0\"\n",
    );
    // Whether it is refused or kept without effect: unsigned URLs never open.
    let answer = house.get(&format!("/image/unsafe/{REST}"));
    assert_eq!(answer.status, 403, "{lost:?}");
    let plain = house.tutti_told(&["config", "apply", "-"], "[[tenants.main.keys]]\nkey = \"6b6579\"\n");
    assert_eq!(plain.code, 1, "a key itself does not belong in the document");
    assert!(plain.err.contains("secret:NAME"), "{}", plain.err);
}
