//! Originals managed over the command line: written, listed, replaced and removed, and what the server then serves.

use std::os::unix::fs::PermissionsExt;

use crate::house::{House, Setup, eventually, is_root};
use crate::picture::Picture;

/// A server with a folder `shop` beside the unnamed one, both of whichever user it runs as.
fn shop() -> (House, tempfile::TempDir) {
    let other = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(other.path(), PermissionsExt::from_mode(0o777)).expect("its mode");
    let words = vec!["--originals".into(), format!("shop={}", other.path().display())];
    (House::with(Setup { words, ..Setup::default() }), other)
}

fn file(house: &House, picture: &Picture) -> String {
    let path = house.folder().join("upload.png");
    std::fs::write(&path, picture.png()).expect("a file");
    path.display().to_string()
}

#[test]
fn an_original_is_written_listed_replaced_and_removed_for_good() {
    let (house, folder) = shop();
    let (red, blue) = (Picture::plain(50, 50, [220, 20, 20]), Picture::plain(50, 50, [20, 20, 220]));
    let target = "/image/unsafe/w:25/plain/local://shop/deep/sea.png@png";
    let url = "local://shop/deep/sea.png";
    assert_eq!(house.get(target).status, 404);

    let done = house.json(&["assets", "put", &file(&house, &red), url]);
    assert_eq!((&done["url"], &done["bytes"]), (&url.into(), &red.png().len().into()), "{done}");
    red.scaled(25, 25).assert_shown_by(&house.image(target).body);
    assert!(house.image(target).is_hit());
    assert_eq!(std::fs::read(folder.path().join("deep/sea.png")).expect("it is there"), red.png());

    house.done(&["assets", "put", &file(&house, &blue), url], "");
    blue.scaled(25, 25).assert_shown_by(&house.image(target).body);

    let list = house.json(&["assets", "ls", "shop=deep/"]);
    let assets = list["assets"].as_array().expect("assets");
    assert_eq!(
        (assets.len(), &assets[0]["path"], &assets[0]["conflict"]),
        (1, &"deep/sea.png".into(), &false.into())
    );
    assert_eq!(assets[0]["bytes"], blue.png().len());
    assert!(house.done(&["assets", "ls", "shop="], "").contains(url));

    let said = house.done(&["assets", "rm", url], "");
    assert!(said.contains("removed"), "{said}");
    assert_eq!(house.get(target).status, 404);
    assert!(!folder.path().join("deep/sea.png").exists());
    assert_eq!(house.json(&["assets", "ls", "shop="])["assets"], serde_json::json!([]));
    let again = house.tutti(&["assets", "rm", url]);
    assert!(again.code != 0 && again.err.contains("no original"), "{again:?}");
}

#[test]
fn a_deleted_original_stays_deleted_over_a_restart_and_a_new_one_counts() {
    let (mut house, folder) = shop();
    let red = Picture::plain(50, 50, [220, 20, 20]);
    let target = "/image/unsafe/w:25/plain/local://shop/a.png@png";
    let at = folder.path().join("a.png");
    house.done(&["assets", "put", &file(&house, &red), "local://shop/a.png"], "");
    // A copy with the date of the original, as a backup brings it back.
    let copy = folder.path().join("copy");
    let copied = std::process::Command::new("cp").arg("-p").args([&at, &copy]).status().expect("cp");
    assert!(copied.success());
    house.done(&["assets", "rm", "local://shop/a.png"], "");
    house.terminate();
    std::fs::rename(&copy, &at).expect("it is back");
    house.start_again();
    assert_eq!(house.get(target).status, 404);
    assert_eq!(house.json(&["assets", "ls", "shop="])["assets"], serde_json::json!([]));
    if is_root() {
        // Root's own file in a folder that all may write to is anyone's to remove.
        eventually("a list takes it away", || (!at.exists()).then_some(()));
    }
    house.done(&["assets", "put", &file(&house, &red), "local://shop/a.png"], "");
    red.scaled(25, 25).assert_shown_by(&house.image(target).body);
}

#[test]
fn the_folder_that_the_server_made_can_be_written_by_it() {
    let house = House::start();
    let red = Picture::plain(50, 50, [220, 20, 20]);
    house.done(&["assets", "put", &file(&house, &red), "local:///new/a b.png"], "");
    let target = "/image/unsafe/w:25/plain/local:///new/a%20b.png@png";
    red.scaled(25, 25).assert_shown_by(&house.image(target).body);
    // What people laid there themselves can be removed too.
    house.put("laid.png", &red.png());
    let list = house.done(&["assets", "ls"], "");
    assert!(list.contains("local:///laid.png") && list.contains("local:///new/a b.png"), "{list}");
    house.done(&["assets", "rm", "local:///laid.png"], "");
    eventually("it is gone", || (!house.originals().join("laid.png").exists()).then_some(()));
}

#[test]
fn what_may_not_be_written_says_why_and_what_to_do() {
    let closed = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(closed.path(), PermissionsExt::from_mode(0o555)).expect("its mode");
    let words = vec!["--originals".into(), format!("closed={}", closed.path().display())];
    let house = House::with(Setup { words, ..Setup::default() });
    let upload = file(&house, &Picture::plain(8, 8, [1, 2, 3]));
    for (url, word) in [
        ("local://closed/a.png", "write permission"),
        ("local://none/a.png", "there is no folder `none`"),
        ("local:///../a.png", "no path"),
    ] {
        let refused = house.tutti(&["assets", "put", &upload, url]);
        assert!(refused.code != 0 && refused.err.contains(word), "{url}: {refused:?}");
    }
    let none = house.tutti(&["assets", "ls", "none="]);
    assert!(none.code != 0 && none.err.contains("`closed`"), "{none:?}");
    assert_eq!(house.metric("tutti_flow_assets_total", &["reason=\"written\""]), 0.0);
}
