//! One Rust file, split by a small scanner into code, comments, functions and test code. No parser: it knows only
//! comments, literals and brackets, and that is enough for the rules.

/// A scanned file. `code` and `comments` have the same lines and columns as the text.
#[derive(Debug)]
pub struct RustSource {
    /// From the root of the checkout.
    pub path: String,
    /// The text as it is.
    pub text: String,
    /// Comments and the insides of literals are blanks.
    pub code: Vec<char>,
    /// Everything but the insides of comments is blank.
    pub comments: String,
    lines: Vec<usize>,
    test_lines: Vec<bool>,
    test_modules: Vec<String>,
}

/// One function with a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of its `fn`, counted from 1.
    pub line: usize,
    /// From its `fn` to its closing brace.
    pub length: usize,
}

/// One identifier, or path of identifiers, and where it begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Word {
    /// Index into `code`.
    pub at: usize,
    /// The identifier.
    pub text: String,
}

impl RustSource {
    /// Scans `text`.
    pub fn scan(path: &str, text: &str) -> Self {
        let (code, comments) = split(text);
        let lines = line_starts(&code);
        let all_test = ["/tests/", "/benches/", "/examples/", "/fuzz/", "/fuzz_targets/"];
        let of_tests = all_test.iter().any(|p| path.contains(p)) || path.ends_with("_tests.rs");
        let test_lines = vec![of_tests; lines.len()];
        let (path, text) = (path.to_owned(), text.to_owned());
        let mut source = Self { path, text, code, comments, lines, test_lines, test_modules: Vec::new() };
        source.mark_tests();
        source
    }

    /// The line of an index into `code`, counted from 1.
    pub fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|&start| start <= at)
    }

    /// Whether a line, counted from 1, is test code.
    pub fn is_test(&self, line: usize) -> bool {
        self.test_lines.get(line - 1).copied().unwrap_or(false)
    }

    /// Takes the whole file for test code.
    pub fn mark_all_test(&mut self) {
        self.test_lines.fill(true);
    }

    /// The files that are included as `#[cfg(test)] mod name;`.
    pub fn test_module_files(&self) -> Vec<String> {
        let stem = self.path.trim_end_matches(".rs");
        let folder = match stem.rsplit_once('/') {
            Some((folder, "lib" | "main")) => folder,
            _ => stem,
        };
        self.test_modules.iter().map(|m| format!("{folder}/{m}.rs")).collect()
    }

    /// The code as text, for searches that need no position.
    pub fn code_text(&self) -> String {
        self.code.iter().collect()
    }

    /// All identifiers, in order.
    pub fn words(&self) -> Vec<Word> {
        let mut words = Vec::new();
        let mut at = 0;
        while at < self.code.len() {
            if !is_ident(self.code[at]) {
                at += 1;
                continue;
            }
            let end = (at..self.code.len()).find(|&i| !is_ident(self.code[i])).unwrap_or(self.code.len());
            words.push(Word { at, text: self.code[at..end].iter().collect() });
            at = end;
        }
        words
    }

    /// The functions that have a body, in order of their beginnings.
    pub fn functions(&self) -> Vec<Function> {
        let words = self.words();
        let pairs = words.windows(2).filter(|w| w[0].text == "fn" && follows(&self.code, &w[0], &w[1]));
        pairs
            .filter_map(|w| {
                let open = self.body_after(w[1].at)?;
                let close = self.matching(open)?;
                let line = self.line(w[0].at);
                let length = self.line(close) - line + 1;
                Some(Function { name: w[1].text.clone(), line, length })
            })
            .collect()
    }

    /// The index of the bracket that closes the one at `open`.
    pub fn matching(&self, open: usize) -> Option<usize> {
        let mut depth = 0usize;
        for (i, c) in self.code.iter().enumerate().skip(open) {
            match c {
                '{' | '(' | '[' => depth += 1,
                '}' | ')' | ']' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Some(i);
            }
        }
        None
    }

    /// The `{` that opens the body of an item; none where a `;` ends it before.
    fn body_after(&self, at: usize) -> Option<usize> {
        let mut depth = 0i32;
        for (i, c) in self.code.iter().enumerate().skip(at) {
            match c {
                '(' | '[' => depth += 1,
                ')' | ']' => depth -= 1,
                '{' if depth == 0 => return Some(i),
                ';' if depth == 0 => return None,
                _ => {}
            }
        }
        None
    }

    fn mark_tests(&mut self) {
        let code = self.code_text();
        for marker in ["#[cfg(test)]", "#[cfg(any(test", "#[cfg(all(test"] {
            for at in char_positions(&code, marker) {
                let Some(end_of_attribute) = self.matching(at + 1) else { continue };
                self.mark_item(at, end_of_attribute + 1);
            }
        }
    }

    fn mark_item(&mut self, from: usize, item: usize) {
        if let Some(end) = self.body_after(item).and_then(|open| self.matching(open)) {
            let (first, last) = (self.line(from), self.line(end));
            self.test_lines[first - 1..last].fill(true);
            return;
        }
        let rest: String = self.code[item..].iter().take_while(|c| **c != ';').collect();
        if let Some((_, name)) = rest.split_once("mod ") {
            self.test_modules.push(name.trim().to_owned());
        }
    }
}

/// Whether a character may stand in an identifier.
pub fn is_ident(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn follows(code: &[char], first: &Word, second: &Word) -> bool {
    code[first.at + first.text.len()..second.at].iter().all(|c| c.is_whitespace())
}

fn char_positions(code: &str, marker: &str) -> Vec<usize> {
    code.match_indices(marker).map(|(byte, _)| code[..byte].chars().count()).collect()
}

fn line_starts(code: &[char]) -> Vec<usize> {
    let after = code.iter().enumerate().filter(|(_, c)| **c == '\n').map(|(i, _)| i + 1);
    std::iter::once(0).chain(after).collect()
}

/// Splits text into code and comments, both as long as the text.
fn split(text: &str) -> (Vec<char>, String) {
    let chars: Vec<char> = text.chars().collect();
    let mut code = Vec::with_capacity(chars.len());
    let mut comments = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let (kind, end) = span(&chars, at);
        for (i, &c) in chars[at..end].iter().enumerate() {
            let edge = i == 0 || at + i + 1 == end;
            let shown = kind == Span::Code || (kind == Span::Literal && edge);
            code.push(if c == '\n' || shown { c } else { ' ' });
            comments.push(if c == '\n' || kind == Span::Comment { c } else { ' ' });
        }
        at = end;
    }
    (code, comments)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Span {
    Code,
    Comment,
    Literal,
}

/// What begins at `at`, and where it ends.
fn span(chars: &[char], at: usize) -> (Span, usize) {
    let next = |i: usize| chars.get(at + i).copied().unwrap_or('\0');
    let starts_word = at == 0 || !is_ident(chars[at - 1]);
    match chars[at] {
        '/' if next(1) == '/' => (Span::Comment, until(chars, at, |i| chars[i] == '\n')),
        '/' if next(1) == '*' => (Span::Comment, block_comment_end(chars, at)),
        '"' => (Span::Literal, string_end(chars, at)),
        '\'' => char_literal(chars, at),
        'r' if starts_word || matches!(chars[at - 1], 'b' | 'c') => raw_string(chars, at),
        _ => (Span::Code, at + 1),
    }
}

fn until(chars: &[char], from: usize, stop: impl Fn(usize) -> bool) -> usize {
    (from..chars.len()).find(|&i| stop(i)).unwrap_or(chars.len())
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0, at);
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// A character literal, or a lifetime, which is code.
fn char_literal(chars: &[char], at: usize) -> (Span, usize) {
    let next = |i: usize| chars.get(at + i).copied().unwrap_or('\0');
    if next(1) == '\\' {
        return (Span::Literal, until(chars, at + 3, |i| chars[i] == '\'') + 1);
    }
    if next(2) == '\'' { (Span::Literal, at + 3) } else { (Span::Code, at + 1) }
}

/// `r"…"` or `r#"…"#`; anything else that begins with `r` is code.
fn raw_string(chars: &[char], at: usize) -> (Span, usize) {
    let quote = until(chars, at + 1, |i| chars[i] != '#');
    if chars.get(quote) != Some(&'"') {
        return (Span::Code, at + 1);
    }
    let hashes = quote - at - 1;
    let closes = |i: usize| chars[i] == '"' && (1..=hashes).all(|h| chars.get(i + h) == Some(&'#'));
    let end = until(chars, quote + 1, closes);
    (Span::Literal, (end + hashes + 1).min(chars.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        RustSource::scan("a.rs", text).code_text()
    }

    #[test]
    fn comments_and_the_insides_of_literals_are_blank_and_lifetimes_are_not() {
        assert_eq!(code("a // b\nc"), "a     \nc");
        assert_eq!(code("a/* /* x */ y */b"), format!("a{}b", " ".repeat(15)));
        assert_eq!(code(r#"f("un\"safe")"#), format!("f(\"{}\")", " ".repeat(8)));
        assert_eq!(code("r#\"a\"b\"#;x"), "r      #;x");
        assert_eq!(code("'{' + '\\''"), "' ' + '  '");
        assert_eq!(code("fn f<'a>(x: &'a u8)"), "fn f<'a>(x: &'a u8)");
    }

    #[test]
    fn functions_have_their_length_and_declarations_none() {
        let source =
            RustSource::scan("a.rs", "fn a(x: [u8; 3]) -> u8 {\n  { 1 }\n}\ntrait T { fn b(); fn c() {} }\n");
        let lengths: Vec<_> = source.functions().into_iter().map(|f| (f.name, f.line, f.length)).collect();
        assert_eq!(lengths, [("a".to_owned(), 1, 3), ("c".to_owned(), 4, 1)]);
    }

    #[test]
    fn test_code_is_told_from_the_rest() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\nfn c() {}\n";
        let source = RustSource::scan("crates/x/src/lib.rs", text);
        let test: Vec<bool> = (1..=6).map(|l| source.is_test(l)).collect();
        assert_eq!(test, [false, true, true, true, true, false]);
        assert!(RustSource::scan("crates/x/tests/a.rs", text).is_test(1));
    }

    #[test]
    fn an_outlying_test_module_is_named() {
        let source = RustSource::scan("crates/x/src/a.rs", "#[cfg(test)]\nmod tests;\n");
        assert_eq!(source.test_module_files(), ["crates/x/src/a/tests.rs"]);
        let source = RustSource::scan("crates/x/src/lib.rs", "#[cfg(test)]\nmod tests;\n");
        assert_eq!(source.test_module_files(), ["crates/x/src/tests.rs"]);
    }
}
