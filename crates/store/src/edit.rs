//! Pure work on the document's tree: paths, merging, and the list of changes between two trees.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// The most segments of a path.
pub(crate) const PATH_DEPTH_MAX: usize = 16;

/// What happened to one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Happened {
    /// It is new.
    Added,
    /// It has another value.
    Changed,
    /// It is gone.
    Removed,
}

/// One key's difference. Arrays differ as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Difference {
    /// The key, dotted, with segments quoted where TOML needs it.
    pub path: String,
    /// What happened.
    pub what: Happened,
    /// The value before, as TOML.
    pub old: Option<String>,
    /// The value after, as TOML.
    pub new: Option<String>,
}

/// Splits a dotted path; segments with other letters than `A-Z a-z 0-9 _ -` stand in double quotes.
pub(crate) fn parse_path(path: &str) -> Result<Vec<String>, String> {
    let wrong = |why: &str| format!("`{path}` is not a path ({why}); write it like `image.quality`");
    let mut segments = Vec::new();
    let mut rest = path;
    loop {
        let (segment, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or_else(|| wrong("a quote is not closed"))?,
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        let is_bare = segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        if !rest.starts_with('"') && (segment.is_empty() || !is_bare) {
            return Err(wrong("a segment is empty or needs double quotes"));
        }
        if segment.contains(['\\', '\n']) {
            return Err(wrong("a segment has a backslash or a line break"));
        }
        segments.push(segment.to_owned());
        if segments.len() > PATH_DEPTH_MAX {
            return Err(wrong("it is too deep"));
        }
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(segments),
            None => return Err(wrong("a dot is missing after a quote")),
        }
    }
}

/// Reads a value as a person types it: TOML if it is TOML, otherwise text.
pub fn parse_value(text: &str) -> Value {
    let parsed = format!("v = {text}").parse::<Table>().ok();
    match parsed.map(|mut table| (table.remove("v"), table.is_empty())) {
        Some((Some(value), true)) => value,
        _ => Value::String(text.into()),
    }
}

/// The value at a path.
pub(crate) fn find<'a>(table: &'a Table, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = table.get(first)?;
    if rest.is_empty() { Some(value) } else { find(value.as_table()?, rest) }
}

/// Sets the value at a path; makes tables on the way, but never in place of another value.
pub(crate) fn put(table: &mut Table, path: &[String], value: Value) -> Result<(), String> {
    let Some((first, rest)) = path.split_first() else { return Ok(()) };
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return Ok(());
    }
    match table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new())) {
        Value::Table(next) => put(next, rest, value),
        _ => Err(format!("`{first}` is a value and not a table; nothing can be set beneath it")),
    }
}

/// Removes the value at a path, and the tables that become empty by it. False if nothing was there.
pub(crate) fn remove(table: &mut Table, path: &[String]) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    if rest.is_empty() {
        return table.remove(first).is_some();
    }
    let Some(Value::Table(next)) = table.get_mut(first) else { return false };
    let is_removed = remove(next, rest);
    if is_removed && next.is_empty() {
        table.remove(first);
    }
    is_removed
}

/// Lays `over` upon `table`: tables merge, everything else is replaced, nothing is removed.
pub(crate) fn merge(table: &mut Table, over: Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

/// All differences from `old` to `new`, in the order of the keys.
pub fn differences(old: &Table, new: &Table) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", old, new, &mut found);
    found
}

fn compare(prefix: &str, old: &Table, new: &Table, found: &mut Vec<Difference>) {
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let path = if prefix.is_empty() { quoted(key) } else { format!("{prefix}.{}", quoted(key)) };
        match (old.get(key), new.get(key)) {
            (Some(Value::Table(a)), Some(Value::Table(b))) => compare(&path, a, b, found),
            (Some(Value::Table(a)), None) if !a.is_empty() => compare(&path, a, &Table::new(), found),
            (None, Some(Value::Table(b))) if !b.is_empty() => compare(&path, &Table::new(), b, found),
            (a, b) if a == b => {}
            (a, b) => found.push(difference(path, a, b)),
        }
    }
}

fn difference(path: String, old: Option<&Value>, new: Option<&Value>) -> Difference {
    let what = match (old, new) {
        (None, _) => Happened::Added,
        (_, None) => Happened::Removed,
        _ => Happened::Changed,
    };
    Difference { path, what, old: old.map(Value::to_string), new: new.map(Value::to_string) }
}

fn quoted(key: &str) -> String {
    let is_bare =
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if is_bare { key.into() } else { format!("\"{key}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_or_refused_with_the_reason() {
        for (path, expected) in [
            ("a", Some(vec!["a"])),
            ("image.quality", Some(vec!["image", "quality"])),
            ("sources.\"img.example\".key", Some(vec!["sources", "img.example", "key"])),
            ("", None),
            ("a..b", None),
            ("a b", None),
            ("a.\"b", None),
            ("\"a\"b", None),
            ("a = 1\nb", None),
        ] {
            let read = parse_path(path);
            assert_eq!(
                read.clone().ok(),
                expected.map(|list| list.iter().map(ToString::to_string).collect())
            );
            assert!(read.is_ok() || read.clone().unwrap_err().contains("path"), "{read:?}");
        }
        assert!(parse_path(&["a"; PATH_DEPTH_MAX].join(".")).is_ok());
        assert!(parse_path(&["a"; PATH_DEPTH_MAX + 1].join(".")).is_err());
    }

    #[test]
    fn values_are_toml_where_they_can_be_and_text_otherwise() {
        for (text, expected) in [
            ("80", Value::Integer(80)),
            ("true", Value::Boolean(true)),
            ("[1, 2]", Value::Array(vec![1.into(), 2.into()])),
            ("\"80\"", Value::String("80".into())),
            ("secret:key", Value::String("secret:key".into())),
            ("1\nw = 2", Value::String("1\nw = 2".into())),
            ("", Value::String(String::new())),
        ] {
            assert_eq!(parse_value(text), expected, "{text:?}");
        }
    }
}
