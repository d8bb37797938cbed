//! Folders as people change them: beneath their root, whole or not at all, with reasons for what may not be.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use futures_util::{FutureExt, stream};
use rustix::process::Uid;
use tutti_base::{BodyError, BoxFuture, Kind, StreamBody, Tick};

use super::*;
use crate::count;

/// A clock that stands.
struct Still;
impl Clock for Still {
    fn now(&self) -> Tick {
        Tick(0)
    }
    fn wall(&self) -> Wall {
        Wall(1_700_000_000_000)
    }
    fn sleep_until(&self, _: Tick) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

struct Place {
    house: tempfile::TempDir,
    shelf: Arc<Shelf>,
    metrics: Metrics,
}

impl Place {
    fn new() -> Self {
        let house = tempfile::tempdir().unwrap();
        fs::create_dir(house.path().join("root")).unwrap();
        let metrics = Metrics::default();
        let paths = [(String::new(), house.path().join("root"))].into();
        let counts = Arc::new(count::Counts::register(&metrics));
        let folders = Arc::new(Folders::new(paths, Arc::new(Still), counts));
        let shelf = Arc::new(Shelf::new(folders, Arc::new(Still), &metrics));
        Self { house, shelf, metrics }
    }
    fn root(&self) -> PathBuf {
        self.house.path().join("root")
    }
    async fn put(&self, path: &str, text: &'static str) -> Result<ShelfFile, Problem> {
        self.put_at(path, text, 1).await
    }
    async fn put_at(&self, path: &str, text: &'static str, at: u64) -> Result<ShelfFile, Problem> {
        self.shelf.put("", path, Bytes::from_static(text.as_bytes()).into(), 100, || Wall(at)).await
    }
    async fn page(&self, prefix: &str, after: &str, limit: usize) -> (Vec<String>, bool) {
        let query = ShelfQuery { folder: String::new(), prefix: prefix.into(), after: after.into(), limit };
        let page = self.shelf.list(query, Arc::new(|_, _| false)).await.unwrap();
        (page.files.into_iter().map(|file| file.path).collect(), page.more)
    }
    /// All names beneath the root, in any order; of files that are being written too.
    fn names(&self) -> Vec<String> {
        let listed = fs::read_dir(self.root()).unwrap();
        listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[tokio::test]
async fn a_file_is_written_whole_with_its_folders_and_dated_as_asked() {
    let place = Place::new();
    let file = place.put_at("a/b/c.jpg", "first", 5_000).await.unwrap();
    assert_eq!((file.stamp.len, file.stamp.modified_ns), (5, 5_000_000_000));
    let again = place.put_at("a/b/c.jpg", "second", 1_000).await.unwrap();
    assert_eq!(again.stamp.modified_ns, 5_001_000_000, "later than what it replaces");
    assert_eq!(fs::read(place.root().join("a/b/c.jpg")).unwrap(), b"second");
    assert_eq!(fs::read_dir(place.root().join("a/b")).unwrap().count(), 1, "nothing is left over");
    assert!(place.metrics.text().contains("tutti_fetch_shelf_total{kind=\"written\"} 2"));
}

#[tokio::test]
async fn a_body_that_breaks_off_or_is_too_long_changes_nothing() {
    let place = Place::new();
    place.put("a", "old").await.unwrap();
    let stream = |pieces: Vec<Result<Bytes, BodyError>>, len| {
        Body::Stream(StreamBody { len, hash: None, chunks: Box::pin(stream::iter(pieces)) })
    };
    let long = || Ok(Bytes::from_static(&[7; 60]));
    let broken = || Err(BodyError::Broken("gone".into()));
    for (body, kind) in [
        (stream(vec![long(), long()], None), Kind::Unprocessable),
        (stream(vec![long()], Some(101)), Kind::Unprocessable),
        (stream(vec![long(), broken()], None), Kind::BadRequest),
        (stream(vec![long()], Some(70)), Kind::BadRequest),
    ] {
        let put = place.shelf.put("", "a", body, 100, || Wall(9)).await;
        assert_eq!(put.unwrap_err().kind, kind);
    }
    let most = stream(vec![long(), Ok(Bytes::from_static(&[7; 40]))], Some(100));
    assert_eq!(place.shelf.put("", "most", most, 100, || Wall(9)).await.unwrap().stamp.len, 100);
    assert_eq!(fs::read(place.root().join("a")).unwrap(), b"old");
    while place.names().len() != 2 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn nothing_is_written_or_removed_outside_of_the_folder() {
    let place = Place::new();
    let (root, secret) = (place.root(), place.house.path().join("secret"));
    fs::write(&secret, "secret").unwrap();
    fs::create_dir(root.join("sub")).unwrap();
    symlink("..", root.join("up")).unwrap();
    symlink(place.house.path(), root.join("absolute")).unwrap();
    symlink("../secret", root.join("link")).unwrap();
    symlink("sub", root.join("near")).unwrap();
    for path in ["up/secret", "up/new", "absolute/secret", "up/new/deep"] {
        assert_eq!(place.put(path, "mine").await.unwrap_err().kind, Kind::Conflict, "{path}");
        assert_eq!(place.shelf.remove("", path, Wall(u64::MAX)).await, Ok(Removed::NotThere), "{path}");
    }
    for path in ["../secret", "sub/../../secret", "/etc/x", "", "a//b", "a/./b", ".tutti-put-1", "a\0"] {
        assert_eq!(place.put(path, "mine").await.unwrap_err().kind, Kind::BadRequest, "{path:?}");
    }
    // A link that leads out is replaced, and what it led to is left alone.
    place.put("link", "mine").await.unwrap();
    assert_eq!(
        (fs::read(&secret).unwrap(), fs::read(root.join("link")).unwrap()),
        (b"secret".to_vec(), b"mine".to_vec())
    );
    assert!(!place.house.path().join("new").exists());
    // Links within are followed, as for reading.
    place.put("near/a", "mine").await.unwrap();
    assert!(root.join("sub/a").exists());
}

#[tokio::test]
async fn a_name_that_is_a_folders_is_refused_and_so_is_one_below_a_file() {
    let place = Place::new();
    place.put("sub/file", "x").await.unwrap();
    symlink("sub", place.root().join("near")).unwrap();
    for path in ["sub", "near", "sub/file/deeper"] {
        let problem = place.put(path, "x").await.unwrap_err();
        assert_eq!(problem.kind, Kind::Conflict, "{path}: {problem}");
    }
    assert_eq!(place.shelf.remove("", "sub", Wall(u64::MAX)).await, Ok(Removed::NotThere));
    let problem = place.shelf.put("shop", "a", Body::empty(), 100, || Wall(1)).await.unwrap_err();
    assert_eq!(problem.kind, Kind::NotFound);
    assert!(problem.detail.contains("`shop`") && problem.detail.contains("the unnamed folder"), "{problem}");
}

#[tokio::test]
async fn what_was_changed_after_its_deletion_stays() {
    let place = Place::new();
    place.put_at("a", "x", 5_000).await.unwrap();
    assert_eq!(place.shelf.remove("", "a", Wall(4_999)).await, Ok(Removed::Newer));
    assert_eq!(place.shelf.remove("", "a", Wall(5_000)).await, Ok(Removed::Yes));
    assert_eq!(place.shelf.remove("", "a", Wall(5_000)).await, Ok(Removed::NotThere));
    place.put_at("a", "x", 5_000).await.unwrap();
    place.shelf.remove_older("", "a", Wall(5_000));
    while !place.names().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn pages_join_to_the_whole_in_the_order_of_paths() {
    let place = Place::new();
    let mut all = ["a", "a.jpg", "a-b", "b/1", "b/2/x", "b/2.jpg", "b.jpg", "c/d/e/f", "ü"].map(String::from);
    for path in &all {
        // `a` is a file here, so nothing lies below it.
        place.shelf.put("", path, Body::empty(), 1, || Wall(1)).await.unwrap();
    }
    all.sort();
    symlink("b/1", place.root().join("near")).unwrap();
    symlink("/etc/passwd", place.root().join("far")).unwrap();
    symlink("..", place.root().join("c/loop")).unwrap();
    fs::write(place.root().join(".tutti-put-9"), "under way").unwrap();
    let mut all = all.to_vec();
    all.insert(all.len() - 1, "near".into());
    assert_eq!(place.page("", "", 1000).await, (all.clone(), false));
    for limit in 1..=all.len() {
        let (mut got, mut after) = (Vec::new(), String::new());
        loop {
            let (page, more) = place.page("", &after, limit).await;
            assert!(page.len() <= limit);
            after = page.last().cloned().unwrap_or_default();
            got.extend(page);
            if !more {
                break;
            }
        }
        assert_eq!(got, all, "in pages of {limit}");
    }
    assert_eq!(place.page("b/2", "", 9).await.0, ["b/2.jpg", "b/2/x"]);
    assert_eq!(place.page("", "b/2.jpg", 9).await.0, ["b/2/x", "c/d/e/f", "near", "ü"]);
}

#[tokio::test]
async fn a_page_ends_at_its_limits_and_leaves_out_what_is_gone() {
    let place = Place::new();
    for number in 0..PAGE_MAX + 5 {
        fs::write(place.root().join(format!("{number:05}")), "").unwrap();
    }
    let (page, more) = place.page("", "", usize::MAX).await;
    assert_eq!((page.len(), more), (PAGE_MAX, true));
    let query = ShelfQuery { limit: PAGE_MAX, ..ShelfQuery::default() };
    let gone: Gone = Arc::new(|path, _| path < "00005");
    let page = place.shelf.list(query, gone).await.unwrap();
    assert_eq!((page.files.len(), page.more, page.files[0].path.as_str()), (PAGE_MAX, false, "00005"));
    let long = "x".repeat(200);
    let deep = place.root().join("z").join(&long).join(&long).join(&long);
    fs::create_dir_all(&deep).unwrap();
    (0..500).for_each(|number| fs::write(deep.join(format!("{number:04}")), "").unwrap());
    let (page, more) = place.page("z/", "", PAGE_MAX).await;
    let bytes: usize = page.iter().map(String::len).sum();
    assert!(more && (PAGE_BYTES_MAX..PAGE_BYTES_MAX + 1000).contains(&bytes), "{bytes}");
}

#[test]
fn a_folder_that_this_user_may_not_change_names_the_way_out() {
    let house = tempfile::tempdir().unwrap();
    fs::set_permissions(house.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let root = house.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o555)).unwrap();
    let place = root.clone();
    let tried = std::thread::spawn(move || {
        let uid = rustix::process::geteuid();
        if uid.is_root() {
            let nobody = Uid::from_raw(65_534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        }
        let uid = rustix::process::geteuid().as_raw();
        let error = Draft::begin(&place, "a", ".tutti-put-1".into()).err().unwrap();
        (uid, error.word(), error.problem("photos", "a", &place, &[]))
    });
    let (uid, word, problem) = tried.join().unwrap();
    assert_eq!((word, problem.kind), ("denied", Kind::Forbidden));
    assert!(
        problem.detail.contains("`photos`") && problem.detail.contains(&format!("uid {uid}")),
        "{problem}"
    );
    let full = ShelfError::File(rustix::io::Errno::NOSPC).problem("photos", "a", &root, &[]);
    assert!(full.kind == Kind::Unavailable && full.detail.contains("no room"), "{full}");
}

#[tokio::test]
async fn works_beyond_the_limit_wait_and_are_done() {
    let place = Place::new();
    assert!(place.metrics.text().contains(&format!("tutti_limit_fetch_shelf_works {WORKS_AT_ONCE}")));
    let busy = Arc::clone(&place.shelf.slots).acquire_many_owned(WORKS_AT_ONCE as u32).await.unwrap();
    let mut put = Box::pin(place.put("a", "x"));
    assert!((&mut put).now_or_never().is_none());
    tokio::task::yield_now().await;
    assert!((&mut put).now_or_never().is_none() && place.names().is_empty());
    drop(busy);
    put.await.unwrap();
}
