//! The demo's folder: made or emptied at the start, and gone at the end where nobody asked for it. Removes nothing that a
//! demo has not made.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The file that tells a demo's folder from any other.
const MARK: &str = "made-by-tutti-demo";

/// Most pictures that the load asks for.
const PICTURES_MAX: usize = 100;

/// The folder.
pub(super) struct Folder {
    path: PathBuf,
    temporary: bool,
}

impl Folder {
    /// `given`, empty; or one in the folder for temporary files, which goes when this is dropped.
    ///
    /// Errors: `given` holds what no demo has made; a folder cannot be made.
    pub(super) fn ready(given: Option<&Path>) -> anyhow::Result<Self> {
        let (path, temporary) = match given {
            Some(given) => (std::path::absolute(given)?, false),
            None => (std::env::temp_dir().join(format!("tutti-demo-{}", std::process::id())), true),
        };
        if !temporary {
            clear(&path)?;
        }
        // A server that is started as root becomes another user, who must get through.
        let make = DirBuilder::new().recursive(!temporary).mode(0o755).create(&path);
        make.and_then(|()| fs::write(path.join(MARK), ""))
            .with_context(|| format!("the demo's folder {} cannot be made", path.display()))?;
        Ok(Self { path, temporary })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            eprintln!("{} could not be removed: {error}", self.path.display());
        }
    }
}

fn clear(folder: &Path) -> anyhow::Result<()> {
    let empty = fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
    if empty {
        return Ok(());
    }
    if !folder.join(MARK).exists() {
        bail!("{} is not empty, and no demo has made it; name another folder with --dir", folder.display());
    }
    let remove = || {
        fs::read_dir(folder)?.try_for_each(|entry| {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())
            } else {
                fs::remove_file(entry.path())
            }
        })
    };
    remove().with_context(|| format!("{} cannot be emptied", folder.display()))
}

/// The originals of the demo, `samples` unless given, and the pictures in them.
///
/// Errors: there is no such folder, or no picture in it.
pub(super) fn originals(given: Option<&Path>) -> anyhow::Result<(PathBuf, Vec<String>)> {
    let folder = std::path::absolute(given.unwrap_or(Path::new("samples")))?;
    let listed = fs::read_dir(&folder)
        .with_context(|| format!("no pictures in {}; name a folder with --originals", folder.display()))?;
    let names = listed.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut pictures: Vec<String> = names.filter(|name| is_plain_picture(name)).collect();
    pictures.sort_unstable();
    pictures.truncate(PICTURES_MAX);
    if pictures.is_empty() {
        bail!("{} has no .jpg, .png or .webp; name another folder with --originals", folder.display());
    }
    Ok((folder, pictures))
}

/// A picture whose name needs no escaping in a URL.
fn is_plain_picture(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    name.bytes().all(plain) && [".jpg", ".jpeg", ".png", ".webp"].iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_someone_elses_is_left_alone_and_one_of_a_demos_is_emptied() {
        let home = tempfile::tempdir().unwrap();
        let given = home.path().join("demo");
        drop(Folder::ready(Some(&given)).unwrap());
        fs::create_dir(given.join("one")).unwrap();
        fs::write(given.join("one/log"), "old").unwrap();
        let folder = Folder::ready(Some(&given)).unwrap();
        assert!(!folder.path().join("one").exists());
        fs::remove_file(given.join(MARK)).unwrap();
        fs::write(given.join("letter"), "mine").unwrap();
        let error = Folder::ready(Some(&given)).err().unwrap().to_string();
        assert!(error.contains("is not empty"), "{error}");
        assert!(given.join("letter").exists());
    }

    #[test]
    fn a_folder_that_nobody_asked_for_is_gone_at_the_end() {
        let folder = Folder::ready(None).unwrap();
        let path = folder.path().to_owned();
        assert!(path.exists());
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn pictures_are_those_that_a_url_can_name() {
        let home = tempfile::tempdir().unwrap();
        for name in ["b.jpg", "a.png", "c d.jpg", "README.md"] {
            fs::write(home.path().join(name), "").unwrap();
        }
        assert_eq!(originals(Some(home.path())).unwrap().1, ["a.png", "b.jpg"]);
        assert!(originals(Some(&home.path().join("none"))).is_err());
    }
}
