//! Originals in named folders, as they are listed, written and removed. Values only.

use std::fmt;

use serde::{Deserialize, Serialize};
use tutti_base::Wall;

/// How paths of the API name the folder without a name.
pub const UNNAMED_FOLDER: &str = "-";
/// The longest path of an original, in bytes.
const PATH_MAX: usize = 4096;

/// Names an original: a folder (empty for the unnamed one) and a path in it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct AssetName {
    /// The folder.
    pub folder: String,
    /// The path, without a slash before it.
    pub path: String,
}

impl AssetName {
    /// Reads `local://NAME/path` or `local:///path`.
    pub fn parse(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("local://");
        let parts = rest.and_then(|rest| rest.split_once('/'));
        let Some((folder, path)) = parts else {
            return Err(format!("`{url}` names no original; write local://NAME/path, or local:///path"));
        };
        let name = Self { folder: folder.into(), path: path.into() };
        name.validate().map(|()| name)
    }

    /// Whether folder and path are such as folders hold.
    pub fn validate(&self) -> Result<(), String> {
        check_folder(&self.folder)?;
        let is_part = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
        if self.path.len() > PATH_MAX {
            return Err(format!("the path has {} bytes; it may have {PATH_MAX}", self.path.len()));
        }
        if !self.path.split('/').all(is_part) {
            return Err(format!("`{}` is no path of a file; parts are not empty, `.` or `..`", self.path));
        }
        Ok(())
    }
}

impl fmt::Display for AssetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "local://{}/{}", self.folder, self.path)
    }
}

/// Whether `folder` may name a folder; the empty name is the unnamed one's.
pub(crate) fn check_folder(folder: &str) -> Result<(), String> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if folder == UNNAMED_FOLDER || folder.len() > 128 || !folder.chars().all(fits) {
        return Err(format!("`{folder}` names no folder; names have letters, digits, `-`, `_` and `.`"));
    }
    Ok(())
}

/// Which originals are wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AssetQuery {
    /// The folder; empty for the unnamed one.
    pub folder: String,
    /// Only paths that begin with this.
    pub prefix: String,
    /// Only paths after this one: the last of the page before.
    pub after: String,
    /// At most this many, at least 1.
    pub limit: usize,
}

/// One original in a folder.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Asset {
    /// Its path in the folder.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was last written.
    pub modified: Wall,
    /// The nodes that hold it, by name.
    pub nodes: Vec<String>,
    /// Whether nodes hold different content under this path; the newest counts.
    #[serde(default)]
    pub conflict: bool,
}

/// A page of originals.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AssetPage {
    /// The folder.
    pub folder: String,
    /// In the order of their paths.
    pub assets: Vec<Asset>,
    /// Whether there are more after the last.
    pub more: bool,
    /// Nodes that should have been asked and did not answer, by name: what only they hold is missing here.
    #[serde(default)]
    pub absent: Vec<String>,
}

/// What was done to an original.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AssetDone {
    /// Which: `local://NAME/path`.
    pub url: String,
    /// Its length in bytes; 0 when it was removed.
    pub bytes: u64,
    /// The nodes where it was done, by name.
    pub nodes: Vec<String>,
    /// One sentence for people.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_people_write_them() {
        for (url, folder, path) in
            [("local:///a.jpg", "", "a.jpg"), ("local://x-1/deep/a b.jpg", "x-1", "deep/a b.jpg")]
        {
            let name = AssetName::parse(url).unwrap();
            assert_eq!((name.folder.as_str(), name.path.as_str()), (folder, path));
            assert_eq!(name.to_string(), url);
        }
        for url in [
            "",
            "a.jpg",
            "local://x",
            "local:///",
            "local:///../a",
            "local:///a//b",
            "local://-/a",
            "local://a b/c",
        ] {
            assert!(AssetName::parse(url).is_err(), "{url}");
        }
        assert!(AssetName::parse(&format!("local:///{}", "a".repeat(4096))).is_ok());
        assert!(AssetName::parse(&format!("local:///{}", "a".repeat(4097))).is_err());
    }
}
