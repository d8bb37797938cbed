//! Originals in folders: changes are seen soon, and nothing outside of the folder ever is.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::client::Client;
use crate::house::{House, eventually, is_root};
use crate::picture::Picture;

#[test]
fn a_changed_file_is_seen_and_a_deleted_one_is_gone() {
    let house = House::shared();
    let (red, blue) = (Picture::plain(50, 50, [220, 20, 20]), Picture::plain(50, 50, [20, 20, 220]));
    let target = "/image/unsafe/w:25/plain/local:///changing.png@png";
    house.put("changing.png", &red.png());
    red.scaled(25, 25).assert_shown_by(&house.image(target).body);
    assert!(house.image(target).is_hit());
    let since = std::time::Instant::now();
    house.put("changing.png", &blue.png());
    let blue = blue.scaled(25, 25);
    eventually("the change is seen", || {
        (Picture::read(&house.image(target).body).distance(&blue) < 6.0).then_some(())
    });
    assert!(since.elapsed().as_secs() < 10, "a change is seen after a second, not after minutes");
    std::fs::remove_file(house.originals().join("changing.png")).expect("it is there");
    eventually("the deletion is seen", || (house.get(target).status == 404).then_some(()));
    house.put("changing.png", &red.png());
    eventually("the return is seen", || (house.get(target).status == 200).then_some(()));
}

#[test]
fn no_encoding_of_a_path_leads_out_of_the_folder() {
    let house = House::shared();
    house.put("inside/fine.png", &Picture::plain(8, 8, [1, 2, 3]).png());
    house.image("/image/unsafe/w:4/plain/local:///inside/fine.png@png");
    // A picture that would be served, if only it could be reached.
    std::fs::write(house.data().join("secret.png"), Picture::plain(8, 8, [9, 9, 9]).png()).expect("a file");
    let plain = [
        "local:///../secret.png",
        "local:///inside/../../secret.png",
        "local:///./../secret.png",
        "local:///%2e%2e/secret.png",
        "local:///%2E%2E/secret.png",
        "local:///.%2e/secret.png",
        "local:///..%2fsecret.png",
        "local:///%2e%2e%2fsecret.png",
        "local:///%252e%252e%252fsecret.png",
        "local:///%252e%252e/secret.png",
        "local:///..%5csecret.png",
        "local:///..%255csecret.png",
        "local:///%c0%ae%c0%ae/secret.png",
        "local:///%c0%ae%c0%ae%c0%afsecret.png",
        "local:///%uff0e%uff0e/secret.png",
        "local:///....//secret.png",
        "local:////etc/passwd",
        "local:///%2fetc/passwd",
        "local:///%00/../secret.png",
        "local:///inside/fine.png%00.png/../../../secret.png",
        "local://../secret.png",
        "local://..%2f/secret.png",
        "local://./secret.png",
        "local://%2e%2e/secret.png",
        "local%3A%2F%2F%2F..%2Fsecret.png",
        "file:///etc/passwd",
        "file://localhost/etc/passwd",
        "/etc/passwd",
        "../secret.png",
    ];
    let targets = plain.iter().map(|source| format!("/image/unsafe/w:4/plain/{source}@png"));
    // base64url of `local:///../secret.png`, `local:///inside/../../secret.png` and `local:////etc/passwd`.
    let encoded = [
        "bG9jYWw6Ly8vLi4vc2VjcmV0LnBuZw",
        "bG9jYWw6Ly8vaW5zaWRlLy4uLy4uL3NlY3JldC5wbmc",
        "bG9jYWw6Ly8vL2V0Yy9wYXNzd2Q",
    ];
    let encoded = encoded.iter().map(|source| format!("/image/unsafe/w:4/{source}.png"));
    for target in targets.chain(encoded) {
        assert_eq!(house.get(&target).status, 404, "{target}");
        let raw = target.replace("/w:4/", "/raw:1/").replace("@png", "");
        assert_eq!(house.get(&raw).status, 404, "{raw}");
    }
}

#[test]
fn bytes_that_no_url_may_have_are_refused_as_requests() {
    let house = House::shared();
    for path in ["local:///..\\secret.png", "local:///\u{0}../secret.png", "local:///a b.png"] {
        let mut client = Client::connect(house.http()).expect("a connection");
        let request = format!("GET /image/unsafe/w:4/plain/{path}@png HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.send(request.as_bytes()).expect("it is sent");
        let status = client.response("GET").expect("an answer").status;
        assert!([400, 404].contains(&status), "{path:?}: {status}");
    }
}

#[test]
fn links_out_of_the_folder_and_what_is_no_file_are_not_found() {
    let house = House::shared();
    let outside = house.folder().join("outside");
    std::fs::create_dir_all(&outside).expect("a folder");
    std::fs::write(outside.join("secret.png"), Picture::plain(8, 8, [9, 9, 9]).png()).expect("a file");
    std::fs::set_permissions(&outside, PermissionsExt::from_mode(0o755)).expect("its mode");
    let inside = house.originals();
    symlink(outside.join("secret.png"), inside.join("link.png")).expect("a link");
    symlink("../../outside/secret.png", inside.join("upward.png")).expect("a link");
    symlink(&outside, inside.join("folder-link")).expect("a link");
    symlink("/proc/self/root", inside.join("root")).expect("a link");
    std::fs::create_dir_all(inside.join("folder.png")).expect("a folder");
    let pipe = inside.join("pipe.png");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    let names = [
        "link.png",
        "upward.png",
        "folder-link/secret.png",
        "root/etc/passwd",
        "folder.png",
        "pipe.png",
        "none.png",
    ];
    for name in names {
        let answer = house.get(&format!("/image/unsafe/w:4/plain/local:///{name}@png"));
        assert_eq!(answer.status, 404, "{name}");
        assert!(!answer.detail().contains("outside"), "paths of the machine are not told");
    }
}

#[test]
fn a_file_that_the_server_may_not_read_is_not_found() {
    let house = House::shared();
    house.put("closed.png", &Picture::plain(8, 8, [1, 2, 3]).png());
    let closed = house.originals().join("closed.png");
    std::fs::set_permissions(closed, PermissionsExt::from_mode(0o000)).expect("its mode");
    let status = house.get("/image/unsafe/w:4/plain/local:///closed.png@png").status;
    // Started as root the server keeps the one capability that reads what is beneath its folders.
    assert_eq!(status, if is_root() { 200 } else { 404 });
}

#[test]
fn named_folders_are_apart() {
    let other = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(other.path(), PermissionsExt::from_mode(0o755)).expect("its mode");
    std::fs::write(other.path().join("a.png"), Picture::plain(8, 8, [250, 0, 0]).png()).expect("a file");
    let words = vec!["--originals".into(), format!("shop={}", other.path().display())];
    let house = House::with(crate::house::Setup { words, ..Default::default() });
    house.put("a.png", &Picture::plain(8, 8, [0, 0, 250]).png());
    let shown = |source: &str| house.image(&format!("/image/unsafe/w:8/plain/{source}@png")).body;
    Picture::plain(8, 8, [0, 0, 250]).assert_shown_by(&shown("local:///a.png"));
    Picture::plain(8, 8, [250, 0, 0]).assert_shown_by(&shown("local://shop/a.png"));
    assert_eq!(house.get("/image/unsafe/w:8/plain/local://none/a.png@png").status, 404);
}
