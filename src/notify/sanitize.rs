//! Makes hostile text harmless for every place where people read it (FAULTS 77).
//!
//! It must never let a control character, a line break or a direction override through, nor more text than was asked for.

use std::iter::Peekable;

/// How far the end of an ANSI string is looked for; bounds the work on a text of nothing but openings.
const STRING_MAX: usize = 512;

/// One clean line of at most `max` characters: whitespace of any kind becomes single spaces; ANSI sequences, controls,
/// NUL, bidirectional overrides and invisible characters go; what is cut off shows as `…`.
pub fn line(text: &str, max: usize) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    let (mut count, mut gap) = (0_usize, false);
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\u{9b}' => skip_csi(&mut chars),
            c if c.is_whitespace() => gap = count > 0,
            c if is_dropped(c) => {}
            c => {
                let width = if gap { 2 } else { 1 };
                if count + width > max {
                    return cut(out, count, max);
                }
                if gap {
                    out.push(' ');
                }
                out.push(c);
                count += width;
                gap = false;
            }
        }
    }
    out
}

/// Escapes for HTML text and for attributes in either quote.
pub fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// At most `max` characters, otherwise as it stands: for machines, whose encoding (JSON) does its own escaping.
pub fn clip(text: &str, max: usize) -> &str {
    match text.char_indices().nth(max) {
        Some((end, _)) => text.get(..end).unwrap_or(text),
        None => text,
    }
}

fn cut(mut out: String, count: usize, max: usize) -> String {
    if max == 0 {
        return String::new();
    }
    if count == max {
        out.pop();
    }
    out.push('…');
    out
}

/// Controls, direction overrides and marks, and characters that take no space and so hide others. The joiners U+200C and
/// U+200D stay: Persian, Hindi and emoji need them.
pub fn is_dropped(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

/// After ESC: `[` opens a control sequence, `]` and its kin a string up to BEL or ST; else one character belongs to it.
fn skip_escape(chars: &mut Peekable<std::str::Chars<'_>>) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            skip_csi(chars);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => skip_string(chars),
        Some(c) if c.is_ascii_graphic() => {
            chars.next();
        }
        Some(_) | None => {}
    }
}

/// Parameters and intermediates, then one final character. Anything else ends it, and stays.
fn skip_csi(chars: &mut Peekable<std::str::Chars<'_>>) {
    while chars.next_if(|c| matches!(c, ' '..='?')).is_some() {}
    chars.next_if(|c| matches!(c, '@'..='~'));
}

/// Only a string that really ends, and soon, is swallowed: an unclosed one would hide all text after it.
fn skip_string(chars: &mut Peekable<std::str::Chars<'_>>) {
    let mut ahead = chars.clone();
    for _ in 0..STRING_MAX {
        let Some(c) = ahead.next() else { break };
        match c {
            '\u{7}' | '\u{9c}' => {
                *chars = ahead;
                return;
            }
            '\u{1b}' if ahead.peek() == Some(&'\\') => {
                ahead.next();
                *chars = ahead;
                return;
            }
            '\r' | '\n' => break,
            _ => {}
        }
    }
    chars.next();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fault_77_a_line_keeps_what_is_readable_and_nothing_else() {
        for (name, text, expected) in [
            ("plain", "low balance: research", "low balance: research"),
            ("CRLF", "a\r\nBcc: x@y.z", "a Bcc: x@y.z"),
            ("NUL and DEL", "a\0b\u{7f}c", "abc"),
            ("colour", "\u{1b}[1;31mred\u{1b}[0m", "red"),
            ("C1 CSI", "\u{9b}31mred", "red"),
            ("window title", "\u{1b}]0;owned\u{7}x", "x"),
            ("hyperlink", "\u{1b}]8;;http://evil\u{1b}\\click\u{1b}]8;;\u{1b}\\", "click"),
            ("unclosed string", "\u{1b}]0;visible", "0;visible"),
            ("lone escape", "end\u{1b}", "end"),
            ("escape, then a line break", "a\u{1b}\nb", "a b"),
            ("direction override", "abc\u{202e}txt.exe\u{2066}", "abctxt.exe"),
            ("line separators", "a\u{2028}b\u{2029}c\u{85}d", "a b c d"),
            ("invisible", "a\u{200b}\u{feff}\u{2060}b\u{e0041}", "ab"),
            ("joiners stay", "a\u{200d}b", "a\u{200d}b"),
            ("spaces", "  a \t  b  ", "a b"),
        ] {
            assert_eq!(line(text, 100), expected, "{name}");
        }
    }

    #[test]
    fn ten_kilobytes_are_cut_and_the_cut_shows() {
        assert_eq!(line(&"x".repeat(10_000), 10), format!("{}…", "x".repeat(9)));
        assert_eq!(line("0123456789", 10), "0123456789");
        assert_eq!(line("12345678 90", 9), "12345678…");
        assert_eq!(line("x", 0), "");
        assert_eq!(clip("äöü", 2), "äö");
    }

    #[test]
    fn html_escapes_text_and_both_quotes() {
        assert_eq!(html(r#"<b a="1" c='2'>&"#), "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;");
    }

    proptest! {
        #[test]
        fn no_text_breaks_out_of_its_line_or_its_length(text in any::<String>(), max in 0_usize..40) {
            let clean = line(&text, max);
            prop_assert!(clean.chars().count() <= max);
            prop_assert!(!clean.chars().any(|c| is_dropped(c) || (c.is_whitespace() && c != ' ')));
            prop_assert_eq!(line(&clean, max), clean.clone(), "cleaning twice changes nothing");
        }
    }
}
