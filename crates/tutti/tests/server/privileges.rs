//! What a server may do, what its engines may not, and what becomes of a cache directory that is of no use.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::house::{House, Setup, is_root};
use crate::picture::Picture;
use crate::procfs;

const SERVER_UID: u32 = 63_999;

fn uid(pid: u32) -> u32 {
    let uids = procfs::status(pid, "Uid").expect("a process");
    uids.split_whitespace().next().and_then(|uid| uid.parse().ok()).expect("a uid")
}

fn capabilities(pid: u32, set: &str) -> u64 {
    u64::from_str_radix(&procfs::status(pid, set).expect("a process"), 16).expect("a set")
}

#[test]
fn started_as_root_it_is_a_user_of_its_own_with_five_capabilities() {
    if !is_root() {
        eprintln!("skipped: not root");
        return;
    }
    let house = House::of_samples();
    house.image("/image/unsafe/w:50/plain/local:///photo01.jpg@webp");
    let pid = house.pid();
    assert_eq!(uid(pid), SERVER_UID);
    // Reading beneath folders, changing and killing as engines' users, low ports (capabilities(7)).
    let kept = [2, 5, 6, 7, 10].iter().fold(0, |set, bit| set | 1_u64 << bit);
    assert_eq!(capabilities(pid, "CapEff") & !kept, 0);
    assert_ne!(capabilities(pid, "CapEff") & 1 << 2, 0);
    assert_eq!(capabilities(pid, "CapPrm") & !kept, 0);
    assert_eq!(procfs::status(pid, "NoNewPrivs").as_deref(), Some("1"));
    for entry in [house.data(), house.data().join("cache")] {
        assert_eq!(std::fs::metadata(&entry).expect("a folder").uid(), SERVER_UID, "{}", entry.display());
        assert_eq!(std::fs::metadata(&entry).expect("a folder").mode() & 0o077, 0);
    }
    let socket = std::fs::metadata(house.data().join("admin.sock")).expect("the socket");
    assert_eq!((socket.uid(), socket.mode() & 0o777), (SERVER_UID, 0o600));
    assert!(house.done(&["doctor"], "").contains("runs as uid 63999"));
}

#[test]
fn engines_hold_nothing() {
    let house = House::of_samples();
    house.image("/image/unsafe/w:50/plain/local:///photo01.jpg@webp");
    let engines = house.engines();
    assert!(!engines.is_empty());
    for engine in engines {
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            assert_eq!(capabilities(engine, set), 0, "{set}");
        }
        assert_eq!(procfs::status(engine, "Seccomp").as_deref(), Some("2"));
        assert_eq!(procfs::status(engine, "NoNewPrivs").as_deref(), Some("1"));
        if is_root() {
            assert_ne!(uid(engine), uid(house.pid()));
            assert!((64_000..65_000).contains(&uid(engine)));
        }
    }
}

#[test]
fn without_a_flag_for_them_originals_are_in_the_data_directory() {
    let house = House::start();
    assert!(house.data().join("originals").is_dir(), "the folder is made at the first start");
    std::fs::write(house.data().join("originals/a.png"), Picture::scene(40, 30, 1).png()).expect("a file");
    Picture::scene(40, 30, 1)
        .assert_shown_by(&house.image("/image/unsafe/w:40/plain/local:///a.png@png").body);
}

#[test]
fn started_by_somebody_else_it_serves_as_that_user() {
    const USER: u32 = 61_234;
    if !is_root() {
        eprintln!("skipped: not root; every other test runs as somebody else then");
        return;
    }
    let house = House::with(Setup { user: Some(USER), ..Setup::default() });
    house.put("scene.png", &Picture::scene(60, 40, 1).png());
    let target = "/image/unsafe/w:30/plain/local:///scene.png@png";
    Picture::scene(60, 40, 1).scaled(30, 20).assert_shown_by(&house.image(target).body);
    assert_eq!(uid(house.pid()), USER);
    assert!(house.done(&["doctor"], "").contains("runs as uid 61234"));
    for pid in house.engines().into_iter().chain([house.pid()]) {
        assert_eq!(capabilities(pid, "CapEff"), 0);
    }
    house.put("closed.png", &Picture::scene(60, 40, 1).png());
    let closed = house.originals().join("closed.png");
    std::fs::set_permissions(closed, std::os::unix::fs::PermissionsExt::from_mode(0o000)).expect("its mode");
    assert_eq!(house.get("/image/unsafe/w:30/plain/local:///closed.png@png").status, 404);
}

#[test]
fn a_file_has_the_settings_of_the_machine_and_flags_come_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let shop = folder.path().join("shop");
    std::fs::create_dir(&shop).expect("a folder");
    std::fs::write(shop.join("a.png"), Picture::scene(40, 30, 1).png()).expect("a file");
    let file = folder.path().join("tutti.toml");
    let text = format!("name = 'alpha'\nadmin = '127.0.0.1:1'\n[originals]\nshop = '{}'\n", shop.display());
    std::fs::write(&file, text).expect("a file");
    let words = vec!["--config".to_owned(), file.display().to_string()];
    let house = House::with(Setup { words, ..Setup::default() });
    assert_eq!(house.json(&["status"])["node"], "alpha");
    house.image("/image/unsafe/w:20/plain/local://shop/a.png@png");
}

/// A file system of a fixed size, taken away when this is dropped.
struct Mount(PathBuf);

impl Mount {
    /// None where this process may not mount.
    fn tmpfs(at: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(at).expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "none"]).arg(at);
        let mounted = mount.output().is_ok_and(|done| done.status.success());
        if !mounted {
            eprintln!("skipped: may not mount");
        }
        mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // What is still in use goes when it is no longer.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// A server whose cache is at `at` serves, keeps nothing there, and says so.
fn check_serves_without_storing(at: &Path) {
    let house = House::with(Setup { cache: Some(at.to_owned()), ..Setup::default() });
    house.put("scene.png", &Picture::scene(60, 40, 1).png());
    let target = "/image/unsafe/w:30/plain/local:///scene.png@png";
    Picture::scene(60, 40, 1).scaled(30, 20).assert_shown_by(&house.image(target).body);
    assert!(house.image(target).is_hit(), "memory is still there");
    let stats = house.json(&["cache", "stats"]);
    assert_eq!(
        (&stats["results"]["disk_ok"], &stats["results"]["kept"]),
        (&false.into(), &0.into()),
        "{stats}"
    );
    let report = house.json(&["doctor"]);
    let checks = report["checks"].as_array().expect("checks");
    let warned = checks.iter().any(|check| {
        let names = check["text"].as_str().is_some_and(|text| text.contains(&*at.to_string_lossy()));
        check["name"] == "cache" && check["verdict"] == "warning" && names
    });
    assert!(warned, "{report}");
}

#[test]
fn a_cache_directory_that_cannot_be_means_serving_without_storing() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("file"), "in the way").expect("a file");
    check_serves_without_storing(&folder.path().join("file/cache"));
}

#[test]
fn a_read_only_cache_directory_means_serving_without_storing() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(mount) = Mount::tmpfs(&folder.path().join("disk"), "size=1m,ro") else { return };
    check_serves_without_storing(&mount.0);
}

#[test]
fn a_cache_directory_too_small_for_anything_means_serving_without_storing() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(mount) = Mount::tmpfs(&folder.path().join("disk"), "size=16k,mode=755") else { return };
    check_serves_without_storing(&mount.0);
}

#[test]
fn a_disk_that_fills_up_means_no_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(mount) = Mount::tmpfs(&folder.path().join("disk"), "size=4m,mode=755") else { return };
    let house = House::with(Setup { cache: Some(mount.0.clone()), ..Setup::default() });
    house.put("scene.png", &Picture::scene(600, 400, 1).png());
    // Somebody else takes what the cache counted on.
    let filler = vec![1; 64 << 10];
    for number in 0..64 {
        let _ = std::fs::write(mount.0.join(format!("filler{number}")), &filler);
    }
    let target = |width| format!("/image/unsafe/w:{width}/plain/local:///scene.png@png");
    for width in 300..330 {
        house.image(&target(width));
    }
    for width in 300..330 {
        assert!(house.image(&target(width)).is_hit(), "{width}");
    }
    assert_eq!(house.renders(), 30.0);
}
