//! The files of the checkout that people write. Reads them once; follows no link, writes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use crate::RustSource;

/// Folders that hold nothing people wrote.
const SKIPPED: [&str; 6] = ["target", ".git", "node_modules", "bench/peers", ".tutti", "__pycache__"];

/// Larger files are not text that somebody wrote.
const TEXT_LIMIT: u64 = 1 << 20;

/// One text file.
#[derive(Debug)]
pub struct TextFile {
    /// From the root of the checkout, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// The checkout.
#[derive(Debug)]
pub struct Tree {
    /// Its root.
    pub root: PathBuf,
    /// Its text files, by path.
    pub texts: Vec<TextFile>,
    /// Its Rust files, scanned, by path.
    pub rust: Vec<RustSource>,
}

impl Tree {
    /// The checkout that this package lies in.
    ///
    /// # Panics
    /// When a file in it cannot be read.
    pub fn here() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root.canonicalize().expect("this package lies two folders below the root");
        let mut texts = Vec::new();
        collect(&root, &root, &mut texts);
        texts.sort_by(|a, b| a.path.cmp(&b.path));
        let rust = scan(&texts);
        Self { root, texts, rust }
    }

    /// The text files whose name ends with `ending`.
    pub fn ending<'a>(&'a self, ending: &'a str) -> impl Iterator<Item = &'a TextFile> {
        self.texts.iter().filter(move |t| t.path.ends_with(ending))
    }
}

fn collect(root: &Path, folder: &Path, into: &mut Vec<TextFile>) {
    let entries = fs::read_dir(folder).expect("a folder of the checkout can be read");
    for entry in entries.flatten() {
        let (path, kind) = (entry.path(), entry.file_type());
        let relative =
            path.strip_prefix(root).expect("it lies below the root").to_string_lossy().into_owned();
        let skipped = SKIPPED.iter().any(|s| relative == *s || relative.ends_with(&format!("/{s}")));
        match kind {
            Ok(k) if k.is_dir() && !skipped => collect(root, &path, into),
            Ok(k) if k.is_file() && !skipped => into.extend(read(&path, relative)),
            _ => {}
        }
    }
}

fn read(path: &Path, relative: String) -> Option<TextFile> {
    if fs::metadata(path).ok()?.len() > TEXT_LIMIT {
        return None;
    }
    let text = String::from_utf8(fs::read(path).ok()?).ok()?;
    (!text.contains('\0')).then_some(TextFile { path: relative, text })
}

/// Scans the Rust files; a file that is included as `#[cfg(test)] mod name;` is test code as a whole.
fn scan(texts: &[TextFile]) -> Vec<RustSource> {
    let mut rust: Vec<RustSource> = texts
        .iter()
        .filter(|t| t.path.ends_with(".rs"))
        .map(|t| RustSource::scan(&t.path, &t.text))
        .collect();
    let of_tests: Vec<String> = rust.iter().flat_map(RustSource::test_module_files).collect();
    for source in &mut rust {
        if of_tests.iter().any(|p| source.path == *p || source.path.starts_with(&p.replace(".rs", "/"))) {
            source.mark_all_test();
        }
    }
    rust
}
