//! The shape of files: how large, how they open, that each is used, and what may not be left in them.

use crate::{
    Finding,
    bans::functions,
    source::{Source, tokens},
};

const FILE_LINES_MAX: usize = 500;
const FILE_LINES_MEDIAN_MAX: usize = 200;
const MAIN_LINES_MAX: usize = 60;
const FUNCTION_LINES_MAX: usize = 70;

/// Lines without those of tests: per file, in the median, and per function.
pub fn sizes(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut lines_each = Vec::new();
    for source in sources.iter().filter(|source| !source.test) {
        let lines = source.text.lines().count().saturating_sub(source.test_lines);
        let most = if source.path == "src/main.rs" { MAIN_LINES_MAX } else { FILE_LINES_MAX };
        if lines > most {
            let what =
                format!("{lines} lines without tests, {most} at most: split it by what its parts are for");
            findings.push(Finding::new(&source.path, lines, "size", what));
        }
        lines_each.push((lines, source.path.as_str()));
        for (line, name, lines) in functions(&tokens(&source.live)) {
            if lines > FUNCTION_LINES_MAX {
                let what = format!("`{name}` has {lines} lines, {FUNCTION_LINES_MAX} at most");
                findings.push(Finding::new(&source.path, line, "size", what));
            }
        }
    }
    lines_each.sort_unstable();
    if let Some((median, path)) = lines_each.get(lines_each.len() / 2)
        && *median > FILE_LINES_MEDIAN_MAX
    {
        let what =
            format!("the median file has {median} lines, {FILE_LINES_MEDIAN_MAX} at most: files have grown");
        findings.push(Finding::new(path, 1, "size", what));
    }
    findings
}

/// A file that no `mod` declares is neither compiled nor tested.
pub fn dead_files(sources: &[Source]) -> Vec<Finding> {
    let dead = sources.iter().filter(|source| !source.reached);
    dead.map(|s| Finding::new(&s.path, 1, "dead file", "no `mod` leads to it: declare it or delete it"))
        .collect()
}

/// The first paragraph says what the module is for, and what it must never do.
pub fn headers(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| !source.test) {
        let header: Vec<&str> = source.text.lines().take_while(|line| line.starts_with("//!")).collect();
        let header = header.join(" ").to_lowercase().replace("//!", "");
        let says = header.split_whitespace().collect::<Vec<_>>().join(" ");
        if says.is_empty() {
            findings.push(Finding::new(
                &source.path,
                1,
                "header",
                "does not open with `//!`: say what it is for",
            ));
        } else if !says.contains("must never") {
            findings.push(Finding::new(&source.path, 1, "header", "does not say what it must never do"));
        }
    }
    findings
}

/// Tests count here too: an ignored one proves nothing, and a note to oneself is work undone.
pub fn leftovers(sources: &[Source]) -> Vec<Finding> {
    let later = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let mut findings = Vec::new();
    for source in sources {
        for [hash, open, word] in tokens(&source.code).array_windows() {
            if (hash.text, open.text, word.text) == ("#", "[", "ignore") {
                let what = "an ignored test proves nothing: make it run or delete it";
                findings.push(Finding::new(&source.path, word.line, "leftover", what));
            }
        }
        for (index, line) in source.text.lines().enumerate() {
            if let Some(word) = later.iter().find(|word| line.contains(**word)) {
                let what = format!("`{word}`: do it, or take it to the issues");
                findings.push(Finding::new(&source.path, index + 1, "leftover", what));
            }
        }
    }
    findings
}

/// Any file, comments and literals included: a path of the machine it was written on means nothing elsewhere.
pub fn machine_paths(files: &[(String, String)]) -> Vec<Finding> {
    let machine = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/fa", "rm/")];
    let mut findings = Vec::new();
    for (path, text) in files {
        for (index, line) in text.lines().enumerate() {
            if let Some(found) = machine.iter().find(|found| line.contains(**found)) {
                findings.push(Finding::new(
                    path,
                    index + 1,
                    "machine path",
                    format!("`{found}` exists on one machine"),
                ));
            }
        }
    }
    findings
}

mod tests {
    use super::*;
    use crate::found;

    #[test]
    fn a_large_file_a_large_median_and_a_large_function_are_found() {
        let fine = format!("{}fn a() {{\n{}}}\n", "//\n".repeat(130), "b();\n".repeat(68));
        let long = format!("fn x();\nfn a(b: [u8; 2]) {{\n{}}}\n", "b();\n".repeat(69));
        assert_eq!(
            found(sizes, &[("src/a.rs", &fine), ("src/b.rs", &long)]),
            ["src/b.rs:2: size: `a` has 71 lines, 70 at most"]
        );
        let tests =
            format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "//\n".repeat(150), "b();\n//\n\n".repeat(200));
        assert_eq!(found(sizes, &[("src/a.rs", &tests)]), Vec::<String>::new(), "tests don't count");
        let split = "501 lines without tests, 500 at most: split it by what its parts are for";
        assert_eq!(
            found(sizes, &[("src/a.rs", "//"), ("src/b.rs", ""), ("src/c.rs", &"//\n".repeat(501))]),
            [format!("src/c.rs:501: size: {split}")]
        );
        assert_eq!(
            found(
                sizes,
                &[("src/a.rs", ""), ("src/b.rs", &"//\n".repeat(201)), ("src/c.rs", &"//\n".repeat(300))]
            ),
            ["src/b.rs:1: size: the median file has 201 lines, 200 at most: files have grown"]
        );
        assert_eq!(
            found(sizes, &[("src/lib.rs", ""), ("src/m.rs", ""), ("src/main.rs", &"//\n".repeat(61))]),
            ["src/main.rs:61: size: 61 lines without tests, 60 at most: split it by what its parts are for"]
        );
    }

    #[test]
    fn a_dead_file_is_found() {
        let files = [("src/lib.rs", "// mod b;\nmod a;"), ("src/a.rs", ""), ("src/b.rs", "")];
        assert_eq!(
            found(dead_files, &files),
            ["src/b.rs:1: dead file: no `mod` leads to it: declare it or delete it"]
        );
    }

    #[test]
    fn a_module_without_its_limits_is_found() {
        let files = [
            ("src/a.rs", "use b;"),
            ("src/b.rs", "//! For b.\nfn c() {} // must never"),
            ("src/c.rs", "//! For c.\n//!\n//! It must\n//! never do d."),
        ];
        assert_eq!(
            found(headers, &files),
            [
                "src/a.rs:1: header: does not open with `//!`: say what it is for",
                "src/b.rs:1: header: does not say what it must never do"
            ]
        );
    }

    #[test]
    fn an_ignored_test_and_a_note_for_later_are_found_in_tests_too() {
        let text =
            format!("#[cfg(test)]\nmod tests {{\n#[ignore]\nfn a() {{}}\n// {}\n}}", concat!("TO", "DO"));
        let findings = found(leftovers, &[("src/a.rs", &text)]);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].starts_with("src/a.rs:3: leftover: an ignored test"), "{findings:?}");
        assert!(findings[1].starts_with("src/a.rs:5: leftover: "), "{findings:?}");
    }

    #[test]
    fn a_path_of_one_machine_is_found() {
        let path = concat!("/wo", "rk/");
        let files = [("README.md".to_owned(), format!("fine\n{path}x"))];
        let findings: Vec<String> = machine_paths(&files).iter().map(Finding::to_string).collect();
        assert_eq!(findings, [format!("README.md:2: machine path: `{path}` exists on one machine")]);
    }
}
