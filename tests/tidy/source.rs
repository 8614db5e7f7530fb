//! A Rust file as the rules see it: without comments and literals, cut into tokens, and with its tests set apart.

use std::collections::{BTreeMap, BTreeSet};

/// All texts have the lines of the file, so that a finding names the right one.
pub struct Source {
    pub path: String,
    pub text: String,
    /// The text with comments, literals and lifetimes blanked.
    pub code: String,
    /// `code` without what stands under `#[cfg(test)]`; blank for a file that is a test module.
    pub live: String,
    /// How many lines stand under `#[cfg(test)]`.
    pub test_lines: usize,
    /// Reached from `lib.rs` or `main.rs` through `mod` declarations.
    pub reached: bool,
    /// Reached through `#[cfg(test)]` only.
    pub test: bool,
}

impl Source {
    /// The folder or file under `src/` that it belongs to: `src/store/db.rs` and `src/store.rs` are of `store`.
    pub fn room(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
    }

    /// How many modules lie between the crate's root and this file's own items.
    pub fn depth(&self) -> usize {
        let inside = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        inside.split('/').filter(|part| !matches!(*part, "mod" | "lib" | "main")).count()
    }
}

/// Reads (path, text) pairs and follows their `mod` declarations.
pub fn read(files: Vec<(String, String)>) -> Vec<Source> {
    let mut sources: Vec<Source> = files
        .into_iter()
        .map(|(path, text)| {
            let code = without_literals(&text);
            let (live, test_lines) = without_tests(&code);
            Source { path, text, code, live, test_lines, reached: false, test: false }
        })
        .collect();
    let live = reach(&sources, |source| &source.live);
    let all = reach(&sources, |source| &source.code);
    for source in &mut sources {
        source.reached = all.contains(&source.path);
        source.test = source.reached && !live.contains(&source.path);
        if source.test {
            source.live = source.live.chars().filter(|c| *c == '\n').collect();
        }
    }
    sources
}

/// The files that `mod` declarations in `code` lead to.
fn reach(sources: &[Source], code: impl Fn(&Source) -> &str) -> BTreeSet<String> {
    let by_path: BTreeMap<&str, &Source> = sources.iter().map(|s| (s.path.as_str(), s)).collect();
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<String> = vec!["src/lib.rs".into(), "src/main.rs".into()];
    while let Some(path) = waiting.pop() {
        let Some(source) = by_path.get(path.as_str()) else { continue };
        if !reached.insert(path.clone()) {
            continue;
        }
        let folder = ["/lib.rs", "/main.rs", "/mod.rs", ".rs"]
            .iter()
            .find_map(|end| path.strip_suffix(end))
            .unwrap_or(&path);
        for [word, name, end] in tokens(code(source)).array_windows() {
            if (word.text, end.text) == ("mod", ";") {
                waiting.push(format!("{folder}/{}.rs", name.text));
                waiting.push(format!("{folder}/{}/mod.rs", name.text));
            }
        }
    }
    reached
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub text: &'a str,
    pub line: usize,
}

/// Words, `::`, and single signs.
pub fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            let (text, after) = rest.split_at(length);
            found.push(Token { text, line: index + 1 });
            rest = after.trim_start();
        }
    }
    found
}

/// Every path in the code, `use` groups spelled out: `use std::{fs, io::Read}` gives `std::fs` and `std::io::Read`.
pub fn paths(tokens: &[Token<'_>]) -> Vec<(usize, String)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        at =
            if tokens[at].text.starts_with(is_word) { path_tree(tokens, at, "", &mut found) } else { at + 1 };
    }
    found
}

/// Reads one path or group at `at` behind `prefix`; gives the place after it.
fn path_tree(tokens: &[Token<'_>], at: usize, prefix: &str, found: &mut Vec<(usize, String)>) -> usize {
    let Some(token) = tokens.get(at) else { return at };
    if token.text == "{" && !prefix.is_empty() {
        let mut at = at + 1;
        while let Some(token) = tokens.get(at) {
            match token.text {
                "}" => return at + 1,
                "as" => at += 2,
                text if text == "{" || text == "*" || text.starts_with(is_word) => {
                    at = path_tree(tokens, at, prefix, found);
                }
                _ => at += 1,
            }
        }
        return at;
    }
    let path = if prefix.is_empty() { token.text.to_owned() } else { format!("{prefix}::{}", token.text) };
    let continues = |text: &str| text == "{" || text == "*" || text.starts_with(is_word);
    let next = tokens.get(at + 2).is_some_and(|next| continues(next.text));
    if tokens.get(at + 1).is_some_and(|next| next.text == "::") && next {
        return path_tree(tokens, at + 2, &path, found);
    }
    found.push((token.line, path));
    at + 1
}

/// Where the bracket at `open` closes: the index of its partner, or the end.
pub fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len().saturating_sub(1)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Blanks comments, string and character literals, and lifetimes; keeps lines.
fn without_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    while at < chars.len() {
        let end = literal_end(&chars, at).unwrap_or(at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// If something to blank begins at `at`: where it ends.
fn literal_end(chars: &[char], at: usize) -> Option<usize> {
    let sign = |offset: usize| chars.get(at + offset).copied();
    let find = |from: usize, hit: &dyn Fn(usize) -> bool| (from..chars.len()).find(|i| hit(*i));
    match (sign(0)?, sign(1)) {
        ('/', Some('/')) => Some(find(at, &|i| chars[i] == '\n').unwrap_or(chars.len())),
        ('/', Some('*')) => Some(block_comment_end(chars, at)),
        ('"', _) => Some(string_end(chars, at)),
        ('\'', Some('\\')) => find(at + 3, &|i| chars[i] == '\'').map(|i| i + 1),
        ('\'', _) if sign(2) == Some('\'') => Some(at + 3),
        ('\'', _) => Some(find(at + 1, &|i| !is_word(chars[i])).unwrap_or(chars.len())),
        ('r', Some('"' | '#')) if raw_may_begin(chars, at) => {
            let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            (chars.get(at + 1 + hashes) == Some(&'"')).then(|| {
                let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                find(at + 2 + hashes, &|i| chars[i..].starts_with(&close))
                    .map_or(chars.len(), |i| i + close.len())
            })
        }
        _ => None,
    }
}

/// `r` begins a raw string only where no longer word ends in it, but for the prefixes `br` and `cr`.
fn raw_may_begin(chars: &[char], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map(|i| chars[i]);
    match before(1) {
        Some('b' | 'c') => !before(2).is_some_and(is_word),
        Some(c) => !is_word(c),
        None => true,
    }
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0, at);
    while i < chars.len() {
        if chars[i..].starts_with(&['/', '*']) {
            depth += 1;
            i += 2;
        } else if chars[i..].starts_with(&['*', '/']) {
            depth -= 1;
            i += 2;
            if depth == 0 {
                return i;
            }
        } else {
            i += 1;
        }
    }
    i
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

/// Blanks each item under `#[cfg(test)]`, to its `;` or through its braces, and counts the lines of it.
fn without_tests(code: &str) -> (String, usize) {
    const MARK: &str = "#[cfg(test)]";
    let (mut out, mut lines) = (code.to_owned(), 0);
    while let Some(start) = out.find(MARK) {
        let mut depth = 0_i32;
        let length = out[start..]
            .char_indices()
            .find_map(|(at, c)| {
                match c {
                    '{' | '(' | '[' => depth += 1,
                    '}' | ')' | ']' => depth -= 1,
                    _ => {}
                }
                let ends = depth < 0 || depth == 0 && (c == '}' || c == ';');
                ends.then_some(at + 1)
            })
            .unwrap_or(out.len() - start);
        let blank: String =
            out[start..start + length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        lines += blank.lines().count();
        out.replace_range(start..start + length, &blank);
    }
    (out, lines)
}

mod tests {
    use super::*;

    #[test]
    fn comments_literals_and_lifetimes_are_blanked_and_lines_stay() {
        let text = "a(\"x // {\\\"\"); // b\n/* c /* d */ e\n */ f('\"', '\\'', r#\"g\"h\"#, br\"i\");\nlet var\"\"; k: &'static str";
        let code = without_literals(text);
        let words: Vec<(usize, &str)> =
            tokens(&code).iter().filter(|t| t.text.starts_with(is_word)).map(|t| (t.line, t.text)).collect();
        assert_eq!(words, [(1, "a"), (3, "f"), (3, "b"), (4, "let"), (4, "var"), (4, "k"), (4, "str")]);
    }

    #[test]
    fn items_under_cfg_test_are_blanked_and_what_follows_them_is_not() {
        let (live, lines) =
            without_tests("a;\n#[cfg(test)]\nmod tests {\n fn b() { c }\n}\nd;\n#[cfg(test)]\nmod e;\nf;");
        let words: Vec<(usize, &str)> =
            tokens(&live).iter().filter(|t| t.text != ";").map(|t| (t.line, t.text)).collect();
        assert_eq!((words.as_slice(), lines), ([(1, "a"), (6, "d"), (9, "f")].as_slice(), 6));
    }

    #[test]
    fn groups_are_spelled_out() {
        let code =
            "use crate::{model::{Time, Usd as Money}, clock}; x(std::fs::read(super::super::a::b)); m::*;";
        let found: Vec<String> = paths(&tokens(code)).into_iter().map(|(_, path)| path).collect();
        for path in [
            "crate::model::Time",
            "crate::model::Usd",
            "crate::clock",
            "std::fs::read",
            "super::super::a::b",
            "m::*",
        ] {
            assert!(found.iter().any(|p| p == path), "{path} not in {found:?}");
        }
        assert!(!found.iter().any(|p| p.contains("Money")), "{found:?}");
    }

    #[test]
    fn a_file_declared_under_cfg_test_is_a_test_and_one_declared_nowhere_is_not_reached() {
        let files = [
            ("src/lib.rs", "mod a;"),
            ("src/a/mod.rs", "mod b; #[cfg(test)] mod tests;"),
            ("src/a/b.rs", "mod c;"),
            ("src/a/b/c.rs", ""),
            ("src/a/tests.rs", "fn t() {}"),
            ("src/a/c.rs", ""),
        ];
        let read = read(files.map(|(path, text)| (path.to_owned(), text.to_owned())).to_vec());
        let which = |want: &dyn Fn(&Source) -> bool| -> Vec<&str> {
            read.iter().filter(|s| want(s)).map(|s| s.path.as_str()).collect()
        };
        assert_eq!(which(&|s| s.test), ["src/a/tests.rs"]);
        assert_eq!(which(&|s| !s.reached), ["src/a/c.rs"]);
        assert_eq!(which(&|s| s.live.is_empty()), ["src/a/b/c.rs", "src/a/tests.rs", "src/a/c.rs"]);
    }
}
