//! Which sources a tenant allows, and what it puts in front of them or in their place. `*` stands for anything but `/`.

use tutti_base::{Problem, Source};
use tutti_service::Tenant;

use super::known::shorten;
use super::source::{refused, split_scheme};

/// Refuses `source` unless the tenant's list has it; without a list, unless it is local or URLs are signed.
pub(super) fn check(source: &Source, tenant: &Tenant) -> Result<(), Problem> {
    let allowed = &tenant.sources.allowed;
    if allowed.is_empty() {
        return match source {
            Source::Http { .. } if tenant.keys.is_empty() => {
                Err(refused("without a signing key, http sources have to be listed in `allowed_sources`"))
            }
            _ => Ok(()),
        };
    }
    let url = source.to_string();
    if allowed.iter().any(|pattern| Pattern::read(&whole_authority(pattern)).find(&url).is_some()) {
        return Ok(());
    }
    Err(refused(format!("the source `{}` is not in `allowed_sources`", shorten(&url))))
}

/// Replaces the front of `text` by every rule in turn that fits what the ones before it made, then puts the base URL
/// before what has no scheme.
pub(super) fn rewrite(text: String, tenant: &Tenant) -> String {
    let replace = |text: String, (from, to): &(String, String)| match Pattern::read(from).find(&text) {
        Some(found) => found.replaced_by(to, &text),
        None => text,
    };
    let text = tenant.url_replacements.iter().fold(text, replace);
    match split_scheme(&text) {
        None if !tenant.base_url.is_empty() => [tenant.base_url.as_str(), &text].concat(),
        _ => text,
    }
}

/// A pattern in the form of canonical sources: scheme and host in lower case, the host complete. So `http://a.example` does
/// not allow `http://a.example.evil/`.
fn whole_authority(pattern: &str) -> String {
    let Some((scheme, behind)) = pattern.split_once("://") else {
        return pattern.to_owned();
    };
    let scheme = scheme.to_ascii_lowercase();
    let (authority, path) = behind.split_at(behind.find('/').unwrap_or(behind.len()));
    match (scheme.as_str(), authority, path) {
        (_, "", _) => format!("{scheme}://{path}"),
        ("local", folder, "") => format!("local://{folder}/"),
        ("local", folder, path) => format!("local://{folder}{path}"),
        (_, host, "") => format!("{scheme}://{}/", host.to_ascii_lowercase()),
        (_, host, path) => format!("{scheme}://{}{path}", host.to_ascii_lowercase()),
    }
}

/// A prefix in which `*` stands for any number of bytes but `/`.
struct Pattern<'a> {
    /// What stands between the stars; never empty.
    pieces: Vec<&'a str>,
}

/// How a pattern fits.
#[derive(PartialEq, Debug)]
struct Found<'t> {
    /// What each star stands for: as much as possible, the first star first.
    stars: Vec<&'t str>,
    /// Where the prefix ends.
    end: usize,
}

impl<'a> Pattern<'a> {
    fn read(pattern: &'a str) -> Self {
        Self { pieces: pattern.split('*').collect() }
    }

    /// How it fits the front of `text`. Time is the number of pieces times the length.
    fn find<'t>(&self, text: &'t str) -> Option<Found<'t>> {
        let bytes = text.as_bytes();
        if !text.starts_with(self.pieces[0]) {
            return None;
        }
        let fits = self.fits(bytes);
        if !fits[0][0] {
            return None;
        }
        let mut end = self.pieces[0].len();
        let mut stars = Vec::new();
        for (piece, fits) in self.pieces.iter().zip(&fits).skip(1) {
            let limit = bytes[end..].iter().position(|byte| *byte == b'/').map_or(bytes.len(), |at| end + at);
            let at = (end..=limit).rev().find(|at| fits[*at])?;
            stars.push(text.get(end..at)?);
            end = at + piece.len();
        }
        Some(Found { stars, end })
    }

    /// For each piece and position, whether this piece stands there and all after it can follow.
    fn fits(&self, bytes: &[u8]) -> Vec<Vec<bool>> {
        let mut tables: Vec<Vec<bool>> = Vec::new();
        // Whether a star that begins at a position can reach the pieces after it; behind the last piece anything fits.
        let mut reach = vec![true; bytes.len() + 1];
        for piece in self.pieces.iter().rev() {
            let stands = |at: usize| bytes[at..].starts_with(piece.as_bytes()) && reach[at + piece.len()];
            let table: Vec<bool> = (0..=bytes.len()).map(stands).collect();
            let mut open = false;
            for at in (0..=bytes.len()).rev() {
                open = table[at] || (open && bytes[at] != b'/');
                reach[at] = open;
            }
            tables.push(table);
        }
        tables.reverse();
        tables
    }
}

impl Found<'_> {
    /// `text` with the fitting front replaced by `to`, in which `${1}` (or `$1`) is what the first star stands for.
    fn replaced_by(&self, to: &str, text: &str) -> String {
        let mut out = String::new();
        let mut rest = to;
        while let Some((before, behind)) = rest.split_once('$') {
            out.push_str(before);
            let braced = behind.strip_prefix('{').and_then(|behind| behind.split_once('}'));
            let digits = behind.len() - behind.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
            let (number, after) = braced.unwrap_or_else(|| behind.split_at(digits));
            match number.parse::<usize>() {
                Ok(number) => {
                    out.push_str(number.checked_sub(1).and_then(|at| self.stars.get(at)).unwrap_or(&""))
                }
                Err(_) => out.push('$'),
            }
            rest = if number.parse::<usize>().is_ok() { after } else { behind };
        }
        out.push_str(rest);
        out.push_str(&text[self.end..]);
        out
    }
}

#[cfg(test)]
mod tests {
    use tutti_service::{KeyPair, SourceRules};

    use super::super::source::canonical;
    use super::*;

    #[track_caller]
    fn check_allowed(pattern: &str, url: &str, allowed: bool) {
        let tenant = Tenant { sources: SourceRules { allowed: vec![pattern.into()] }, ..Tenant::main() };
        let source = canonical(url).unwrap();
        assert_eq!(check(&source, &tenant).is_ok(), allowed, "{pattern} for {url}");
    }

    #[test]
    fn without_a_list_unsigned_urls_reach_local_folders_only() {
        let (local, http) = (canonical("local:///a").unwrap(), canonical("http://x/a").unwrap());
        let unsigned = Tenant::main();
        let signed = Tenant { keys: vec![KeyPair { key: vec![1], salt: vec![2] }], ..Tenant::main() };
        assert!(
            check(&local, &unsigned).is_ok()
                && check(&local, &signed).is_ok()
                && check(&http, &signed).is_ok()
        );
        assert_eq!(check(&http, &unsigned).unwrap_err().kind, tutti_base::Kind::NotFound);
    }

    #[test]
    fn patterns_are_prefixes_with_stars_that_stop_at_slashes() {
        for (pattern, url, allowed) in [
            ("http://images.dev/", "http://images.dev/lorem/ipsum.jpg", true),
            ("http://images.dev/", "https://images.dev/lorem.jpg", false),
            ("http://images.dev", "http://images.dev/a", true),
            ("http://images.dev", "http://images.dev.evil/a", false),
            ("HTTP://Images.Dev", "http://images.dev/a", true),
            ("http://*.mycdn.dev/", "http://a-1.mycdn.dev/lorem.jpg", true),
            ("http://*.mycdn.dev/", "http://a-1.b-2.mycdn.dev/lorem.jpg", true),
            ("http://*.mycdn.dev", "http://a.mycdn.dev.evil/x", false),
            ("http://*.mycdn.dev/", "http://other.dev/.mycdn.dev/lorem.jpg", false),
            ("http://*.mycdn.dev/", "http://other.dev?.mycdn.dev/lorem.jpg", false),
            ("http://*.mycdn.dev/", "http://mycdn.dev/lorem.jpg", false),
            ("https://b.dev/*/public/", "https://b.dev/t/public/a", true),
            ("https://b.dev/*/public/", "https://b.dev/t/u/public/a", false),
            ("https://b.dev/*b*/c", "https://b.dev/abxb/c", true),
            ("https://*", "https://anything/a", true),
            ("local://", "local:///a", true),
            ("local://", "local://shop/a", true),
            ("local:///", "local:///a", true),
            ("local:///", "local://shop/a", false),
            ("local://shop", "local://shop/a", true),
            ("local://shop", "local://shop2/a", false),
            ("local://", "http://x/a", false),
            ("http://x:8080/", "http://x/a", false),
        ] {
            check_allowed(pattern, url, allowed);
        }
    }

    #[track_caller]
    fn check_rewrite(rules: &[(&str, &str)], base_url: &str, text: &str, wanted: &str) {
        let url_replacements = rules.iter().map(|(from, to)| ((*from).into(), (*to).into())).collect();
        let tenant = Tenant { url_replacements, base_url: base_url.into(), ..Tenant::main() };
        assert_eq!(rewrite(text.into(), &tenant), wanted, "{text}");
    }

    #[test]
    fn fronts_are_replaced_in_turn_and_stars_carried_over() {
        let rules = [("test://*/", "test2://images.dev/${1}/dolor/"), ("test2://", "http://")];
        check_rewrite(&rules, "", "test://lorem/ipsum.jpg", "http://images.dev/lorem/dolor/ipsum.jpg");
        check_rewrite(&rules, "", "http://x/test://a/", "http://x/test://a/");
        check_rewrite(&[("m://", "local:///m/")], "", "m://a.jpg", "local:///m/a.jpg");
        check_rewrite(&[("*://*/", "$2-${1}-$3$x$-")], "", "a://b/c", "b-a-$x$-c");
        check_rewrite(&[("a*b*c", "<$1|$2>")], "", "aXbYbZcW", "<XbY|Z>W");
    }

    #[test]
    fn the_base_url_stands_before_what_has_no_scheme() {
        check_rewrite(&[], "http://images.dev/", "lorem.jpg", "http://images.dev/lorem.jpg");
        check_rewrite(&[], "local:///", "a/b.jpg", "local:///a/b.jpg");
        check_rewrite(&[], "http://images.dev/", "local:///a", "local:///a");
        check_rewrite(&[], "", "lorem.jpg", "lorem.jpg");
    }
}
