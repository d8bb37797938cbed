//! Named folders through the one door.

use std::fs;
use std::sync::Arc;

use tutti_base::{Kind, Problem, Source};
use tutti_fetch::{Fetch, Fetched, FolderFile, FolderPaths, FolderState};

use crate::house::{FakeNames, House, cause};

fn house(folders: FolderPaths) -> House {
    House::build("", folders, Arc::new(|_, _| true), Arc::new(FakeNames::default()))
}

async fn open(house: &House, folder: &str, path: &str) -> Result<FolderFile, Problem> {
    let mut request = house.request("");
    request.source = Source::Local { folder: folder.into(), path: path.into() };
    match house.outside.fetch(&request).await {
        Ok(Fetched::File(file)) => Ok(file),
        Ok(_) => panic!("a folder gave no file"),
        Err(problem) => Err(problem),
    }
}

#[tokio::test]
async fn files_of_named_and_unnamed_folders_are_opened() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(one.path().join("a"), "one").unwrap();
    fs::create_dir(two.path().join("sub")).unwrap();
    fs::write(two.path().join("sub/ä b"), "second").unwrap();
    let paths = FolderPaths::from([("".into(), one.path().into()), ("two".into(), two.path().into())]);
    let house = house(paths);
    let file = open(&house, "", "a").await.unwrap();
    assert_eq!(std::io::read_to_string(&*file.file).unwrap(), "one");
    assert_eq!(file.stamp.len, 3);
    assert_eq!(open(&house, "two", "sub/ä b").await.unwrap().stamp.len, 6);
    assert_eq!(house.metric("fetch_files_total"), 2);
    assert!(house.outside.check_folders().iter().all(|report| report.readable()));
}

#[tokio::test]
async fn what_is_not_there_or_not_ours_is_not_found_and_says_why() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("sub")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", root.path().join("link")).unwrap();
    let house = house(FolderPaths::from([("".into(), root.path().into())]));
    for (folder, path, why) in [
        ("", "nothing", "No such file"),
        ("other", "a", "no folder `other` is configured"),
        ("", "sub", "a folder, not a regular file"),
        ("", "link", "leads out of it"),
        ("", "../x", "components"),
        ("", "sub/../../x", "components"),
        ("", "/etc/passwd", "components"),
        ("", "a\0b", "NUL"),
        ("", "", "components"),
    ] {
        let problem = open(&house, folder, path).await.unwrap_err();
        assert_eq!(problem.kind, Kind::NotFound, "{path}");
        assert!(cause(&problem).contains(why), "{path:?}: {problem:?}");
        assert!(!problem.detail.contains(&root.path().display().to_string()), "{problem:?}");
    }
    assert_eq!(house.metric("fetch_file_errors_total{kind=\"outside\"}"), 1);
}

#[tokio::test]
async fn a_folder_that_appears_or_changes_later_is_seen() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("photos");
    let house = house(FolderPaths::from([("p".into(), root.clone())]));
    assert_eq!(house.outside.check_folders()[0].state, FolderState::Missing);
    assert_eq!(open(&house, "p", "a").await.unwrap_err().kind, Kind::NotFound);
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a"), "1").unwrap();
    assert_eq!(open(&house, "p", "a").await.unwrap().stamp.len, 1);
    house.outside.use_folders(FolderPaths::new());
    assert_eq!(open(&house, "p", "a").await.unwrap_err().kind, Kind::NotFound);
}
