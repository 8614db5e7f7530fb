//! Prometheus' text format 0.0.4: families, samples, and texts from outside made harmless.
//!
//! It must never let a text leave its label: whatever a name holds, it is one label value on one line, and short.

use std::{
    borrow::Cow,
    fmt::{Display, Write as _},
};

/// What `GET /metrics` says it sends; Prometheus 3 refuses an answer that does not say.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// No label value is longer, in characters: a 10 kB name would otherwise be kept in every scraper's memory.
pub const LABEL_CHARS_MAX: usize = 256;

/// A page of metric families under construction.
pub struct Page {
    out: String,
}

/// A family that was opened, for its samples.
pub struct Family<'page> {
    name: &'static str,
    out: &'page mut String,
}

impl Page {
    pub fn with_capacity(bytes: usize) -> Self {
        Self { out: String::with_capacity(bytes) }
    }

    /// Opens a family. `help` is ours, one line without a backslash, and gives the unit and where the value is from.
    pub fn gauge(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.open(name, help, " gauge\n")
    }

    /// A sum since the beginning of the record: it outlives the process.
    pub fn counter(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.open(name, help, " counter\n")
    }

    fn open(&mut self, name: &'static str, help: &'static str, kind: &str) -> Family<'_> {
        for part in ["# HELP ", name, " ", help, "\n# TYPE ", name, kind] {
            self.out.push_str(part);
        }
        Family { name, out: &mut self.out }
    }

    pub fn into_text(self) -> String {
        self.out
    }
}

impl Family<'_> {
    pub fn sample(&mut self, labels: &[(&'static str, &str)], value: impl Display) {
        self.out.push_str(self.name);
        let mut before = '{';
        for (name, text) in labels {
            self.out.push(before);
            self.out.push_str(name);
            self.out.push_str("=\"");
            push_label(self.out, text);
            self.out.push('"');
            before = ',';
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, " {value}");
    }
}

/// The text with everything that a terminal, a browser or a scraper would obey rather than show spelled out (`\u{1b}`), cut
/// to `chars_max` characters, the last being `…` then.
pub fn visible(text: &str, chars_max: usize) -> Cow<'_, str> {
    if text.len() <= chars_max && !text.chars().any(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    let mut chars = 0;
    // One character more than may stay, so that a text of just the allowed length is not cut.
    let mut fits = 0;
    for c in text.chars() {
        let start = shown.len();
        if is_obeyed(c) {
            shown.extend(c.escape_unicode());
            chars += shown.len() - start;
        } else {
            shown.push(c);
            chars += 1;
        }
        if chars > chars_max {
            shown.truncate(fits);
            shown.push('…');
            break;
        }
        if chars < chars_max {
            fits = shown.len();
        }
    }
    Cow::Owned(shown)
}

/// Control characters, and the marks that reverse what a reader sees.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn push_label(out: &mut String, text: &str) {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    if text.len() <= LABEL_CHARS_MAX && text.bytes().all(plain) {
        out.push_str(text);
        return;
    }
    // No line feed is left after `visible`, so only these two need the format's own escape.
    for c in visible(text, LABEL_CHARS_MAX).chars() {
        if c == '"' || c == '\\' {
            out.push('\\');
        }
        out.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_just_the_allowed_length_is_whole_and_a_longer_one_says_that_it_was_cut() {
        for (text, shown) in [
            ("abcd", "abcd"),
            ("abcde", "abc…"),
            ("äöüß", "äöüß"),
            ("äöüßa", "äöü…"),
            ("", ""),
            ("abc\u{1b}", "abc…"),
        ] {
            assert_eq!(visible(text, 4), shown, "{text:?}");
        }
        assert_eq!(visible("a\u{1b}[2J\u{202e}b", 40), "a\\u{1b}[2J\\u{202e}b");
    }

    #[test]
    fn only_the_two_that_end_a_label_are_escaped() {
        let mut out = String::new();
        push_label(&mut out, "C:\\ \"quoted\" {a=b} # ü\n");
        assert_eq!(out, r#"C:\\ \"quoted\" {a=b} # ü\\u{a}"#);
    }

    #[test]
    fn fault_81_a_label_is_cut_however_plain_its_text() {
        for c in ["x", "ü", "\u{1b}"] {
            let mut out = String::new();
            push_label(&mut out, &c.repeat(10_000));
            assert!(out.ends_with('…') && out.chars().count() <= LABEL_CHARS_MAX + 60, "{out}");
        }
    }

    #[test]
    fn a_sample_without_labels_has_no_braces() {
        let mut page = Page::with_capacity(0);
        page.gauge("x", "Help.").sample(&[], 1.5);
        assert_eq!(page.into_text(), "# HELP x Help.\n# TYPE x gauge\nx 1.5\n");
    }
}
