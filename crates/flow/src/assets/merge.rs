//! Pages of all holders of a folder as one. Pure.

use std::collections::BTreeMap;

use super::{Held, wall};
use crate::wire::{WireFile, WireStamp};

/// The holders' pages as one of at most `limit`, and whether there is more. Beyond the end of a page that has more after
/// it nothing is known of that holder, so the whole ends at the first such end.
pub(super) fn merge(pages: Vec<(String, Vec<WireFile>, bool)>, limit: usize) -> (Vec<Held>, bool) {
    let cut = pages.iter().filter(|(_, _, more)| *more);
    let end = cut.filter_map(|(_, files, _)| files.last().map(|file| file.path.clone())).min();
    let mut by_path: BTreeMap<String, Vec<(String, WireStamp)>> = BTreeMap::new();
    for (node, files, _) in pages {
        for file in files {
            by_path.entry(file.path).or_default().push((node.clone(), file.stamp));
        }
    }
    let all = by_path.len();
    let within = |path: &String| end.as_ref().is_none_or(|end| path <= end);
    let taken = by_path.into_iter().take_while(|(path, _)| within(path)).take(limit);
    let files: Vec<Held> = taken.map(|(path, copies)| held(path, copies)).collect();
    let more = end.is_some() || files.len() < all;
    (files, more)
}

fn held(path: String, copies: Vec<(String, WireStamp)>) -> Held {
    let newest = copies.iter().map(|(_, stamp)| *stamp).max_by_key(|stamp| (stamp.modified_ns, stamp.hash));
    let newest = newest.expect("a path is listed by whoever holds it");
    let differs = |stamp: &WireStamp| {
        let by_hash = matches!((stamp.hash, newest.hash), (Some(one), Some(other)) if one != other);
        stamp.len != newest.len || by_hash
    };
    let conflict = copies.iter().any(|(_, stamp)| differs(stamp));
    let mut nodes: Vec<String> = copies.into_iter().map(|(node, _)| node).collect();
    nodes.sort();
    Held { path, bytes: newest.len, modified: wall(newest.modified_ns), nodes, conflict }
}

#[cfg(test)]
mod tests {
    use tutti_base::Wall;

    use super::super::MS;
    use super::*;

    fn page(node: &str, files: &[(&str, i128, u64)], more: bool) -> (String, Vec<WireFile>, bool) {
        let file = |(path, modified_ms, len): &(&str, i128, u64)| WireFile {
            path: (*path).into(),
            stamp: WireStamp { modified_ns: modified_ms * MS, len: *len, hash: None },
        };
        (node.into(), files.iter().map(file).collect(), more)
    }

    fn paths(files: &[Held]) -> Vec<&str> {
        files.iter().map(|held| held.path.as_str()).collect()
    }

    #[test]
    fn what_all_hold_is_one_and_the_newest_counts() {
        let pages = vec![
            page("two", &[("a", 1, 5), ("b", 1, 5)], false),
            page("one", &[("a", 2, 5), ("b", 3, 6)], false),
        ];
        let (files, more) = merge(pages, 10);
        assert!(!more);
        assert_eq!(paths(&files), ["a", "b"]);
        assert_eq!(
            (files[0].nodes.join(","), files[0].modified, files[0].conflict),
            ("one,two".into(), Wall(2), false)
        );
        assert_eq!((files[1].bytes, files[1].conflict), (6, true));
    }

    #[test]
    fn a_list_ends_where_the_shortest_page_does() {
        let pages = || {
            vec![
                page("one", &[("a", 1, 1), ("c", 1, 1)], true),
                page("two", &[("b", 1, 1), ("d", 1, 1)], false),
            ]
        };
        let (files, more) = merge(pages(), 10);
        assert_eq!(
            (paths(&files), more),
            (vec!["a", "b", "c"], true),
            "one may hold something between c and d"
        );
        let (files, more) = merge(pages(), 2);
        assert_eq!((paths(&files), more), (vec!["a", "b"], true));
        let (files, more) = merge(vec![page("one", &[("a", 1, 1)], false)], 1);
        assert_eq!((paths(&files), more), (vec!["a"], false));
    }
}
