//! `tests/faults.md`: which fault of the acceptance list is shown by which test. The list is made from the tree and held to it.

use std::collections::BTreeSet;

use crate::{
    Finding,
    source::{Source, Token, tokens},
};

pub const LIST: &str = "tests/faults.md";
const HEAD: &str = "| fault | test | file |\n|---|---|---|\n";
const FAULT_LAST: u32 = 88;

/// (number, test, file), in the order of the list.
type Row = (u32, String, String);

/// The list with its table made anew from the tree; what stands before the table stays.
pub fn rewritten(list: &str, sources: &[Source]) -> String {
    let intro = list.split(HEAD).next().unwrap_or_default().trim_end();
    let rows: String = tests_of(sources)
        .into_iter()
        .map(|((number, test, file), _)| format!("| {number} | `{test}` | `{file}` |\n"))
        .collect();
    format!("{intro}\n\n{HEAD}{rows}")
}

/// Rows without a test, tests without a row, tests of no known fault, and functions that are named as tests but are none.
pub fn check(list: &str, sources: &[Source]) -> Vec<Finding> {
    let rule = "faults";
    let mut findings = Vec::new();
    let (rows, bad) = rows_of(list);
    findings.extend(
        bad.into_iter().map(|line| Finding::new(LIST, line, rule, "not a row `| 3 | `test` | `file` |`")),
    );
    let tests = tests_of(sources);
    let in_tree: BTreeSet<&Row> = tests.iter().map(|(row, _)| row).collect();
    let in_list: BTreeSet<&Row> = rows.iter().map(|(row, _)| row).collect();
    for (row, line) in rows.iter().filter(|(row, _)| !in_tree.contains(row)) {
        let what = format!("{} has no `fn {}` for fault {}: run with UPDATE_FAULTS=1", row.2, row.1, row.0);
        findings.push(Finding::new(LIST, *line, rule, what));
    }
    for (row, place) in &tests {
        if !in_list.contains(row) {
            let what = format!("`{}` is not in {LIST}: run with UPDATE_FAULTS=1", row.1);
            findings.push(Finding::new(&row.2, place.line, rule, what));
        }
        if !(1..=FAULT_LAST).contains(&row.0) {
            let what = format!("`{}`: there is no fault {}", row.1, row.0);
            findings.push(Finding::new(&row.2, place.line, rule, what));
        }
        if !place.runs {
            let what = format!("`{}` has no `#[test]`: it proves nothing", row.1);
            findings.push(Finding::new(&row.2, place.line, rule, what));
        }
    }
    findings
}

struct Place {
    line: usize,
    runs: bool,
}

fn tests_of(sources: &[Source]) -> Vec<(Row, Place)> {
    let mut found = Vec::new();
    for source in sources {
        let tokens = tokens(&source.code);
        for (at, [word, name]) in tokens.array_windows().enumerate() {
            if word.text == "fn"
                && let Some(number) = number_of(name.text)
            {
                let place = Place { line: word.line, runs: is_test(&tokens[..at]) };
                found.push(((number, name.text.to_owned(), source.path.clone()), place));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// `fault_03_a_missing_price…` → 3.
fn number_of(name: &str) -> Option<u32> {
    let (digits, sentence) = name.strip_prefix("fault_")?.split_once('_')?;
    (digits.len() == 2 && !sentence.is_empty()).then(|| digits.parse().ok())?
}

/// Whether the attributes right before a `fn` hold `#[test]` or `#[tokio::test(…)]`.
fn is_test(before: &[Token<'_>]) -> bool {
    let start = before.iter().rposition(|t| matches!(t.text, "}" | ";" | "{")).map_or(0, |at| at + 1);
    before[start..].array_windows().any(|[word, next]| word.text == "test" && matches!(next.text, "]" | "("))
}

/// The rows of the table with their lines, and the lines that are no rows.
fn rows_of(list: &str) -> (Vec<(Row, usize)>, Vec<usize>) {
    let (mut rows, mut bad) = (Vec::new(), Vec::new());
    let before = list.find(HEAD).map_or(list.len(), |at| at + HEAD.len());
    let first = list[..before].lines().count() + 1;
    for (index, line) in list[before..].lines().enumerate() {
        match row(line) {
            Some(row) => rows.push((row, first + index)),
            None => bad.push(first + index),
        }
    }
    (rows, bad)
}

fn row(line: &str) -> Option<Row> {
    let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
    let [number, test, file] = cells.as_slice() else { return None };
    let code = |cell: &str| Some(cell.strip_prefix('`')?.strip_suffix('`')?.to_owned());
    Some((number.parse().ok()?, code(test)?, code(file)?))
}

mod tests {
    use super::*;
    use crate::source::read;

    const FILE: &str = "src/a.rs";

    fn findings(list_rows: &str, code: &str) -> Vec<String> {
        let sources = read(vec![(FILE.to_owned(), code.to_owned())]);
        let list = format!("# Faults\n\n{HEAD}{list_rows}");
        check(&list, &sources).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_row_without_a_test_and_a_test_without_a_row_are_found() {
        let test = "#[cfg(test)]\nmod tests {\n#[test]\nfn fault_03_a() {}\n}";
        assert_eq!(findings("| 3 | `fault_03_a` | `src/a.rs` |\n", test), Vec::<String>::new());
        assert_eq!(
            findings("", test),
            ["src/a.rs:4: faults: `fault_03_a` is not in tests/faults.md: run with UPDATE_FAULTS=1"]
        );
        assert_eq!(
            findings("| 3 | `fault_03_a` | `src/a.rs` |\n| 4 | `fault_04_b` | `src/a.rs` |\n", test),
            [
                "tests/faults.md:6: faults: src/a.rs has no `fn fault_04_b` for fault 4: run with UPDATE_FAULTS=1"
            ]
        );
        assert_eq!(
            findings("| 3 | `fault_03_a` | `src/a.rs` |\nsomething\n", test),
            ["tests/faults.md:6: faults: not a row `| 3 | `test` | `file` |`"]
        );
    }

    #[test]
    fn a_test_that_never_runs_and_a_fault_that_does_not_exist_are_found() {
        let code = "#[test]\nfn a() {}\nfn fault_03_b() {}\n// fn fault_05_c() {}\n#[tokio::test(flavor = \"x\")]\nasync fn fault_99_d() {}";
        let rows = "| 3 | `fault_03_b` | `src/a.rs` |\n| 99 | `fault_99_d` | `src/a.rs` |\n";
        assert_eq!(
            findings(rows, code),
            [
                "src/a.rs:3: faults: `fault_03_b` has no `#[test]`: it proves nothing",
                "src/a.rs:6: faults: `fault_99_d`: there is no fault 99"
            ]
        );
    }

    #[test]
    fn the_list_made_from_the_tree_is_true_and_keeps_its_introduction() {
        let code = "#[test]\nfn fault_12_b() {}\n#[test]\nfn fault_03_a() {}";
        let sources = read(vec![(FILE.to_owned(), code.to_owned())]);
        let list = rewritten(&format!("# Faults\n\nIntro.\n\n{HEAD}| 9 | `x` | `y` |\n"), &sources);
        assert_eq!(
            list,
            format!(
                "# Faults\n\nIntro.\n\n{HEAD}| 3 | `fault_03_a` | `src/a.rs` |\n| 12 | `fault_12_b` | `src/a.rs` |\n"
            )
        );
        assert_eq!(check(&list, &sources), []);
        assert_eq!(rewritten(&list, &sources), list, "writing it twice changes nothing");
    }
}
