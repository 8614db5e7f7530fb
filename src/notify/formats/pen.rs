//! Writes texts as a service reads them: escaped, counted as it counts, and cut where it would refuse them.
//!
//! It must never cut through a character or an escape, nor write more than it was given room for.

use super::super::render::{KEEP_IT, Sheet};

const ELLIPSIS: char = '…';
/// A member says no more than this, however much room there is.
const MEMBER_MAX: usize = 900;

/// How a service counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unit {
    /// UTF-16 units: never fewer than characters, so that it is safe for services that count either.
    Utf16,
    /// Bytes within a JSON string: never fewer than bytes.
    JsonBytes,
}

impl Unit {
    fn of(self, c: char) -> usize {
        match (self, c) {
            (Self::Utf16, c) => c.len_utf16(),
            (Self::JsonBytes, '"' | '\\' | '\n') => 2,
            (Self::JsonBytes, c) if c.is_ascii_control() => 6,
            (Self::JsonBytes, c) => c.len_utf8(),
        }
    }

    pub(super) fn size(self, text: &str) -> usize {
        text.chars().map(|c| self.of(c)).sum()
    }
}

pub(super) type Escape = fn(char, Option<char>, &mut String);

/// How one service wants its texts.
#[derive(Clone, Copy)]
pub(super) struct Pen {
    pub(super) unit: Unit,
    /// Writes one character, with the one that follows it in sight, so that the service shows it and does nothing else.
    pub(super) escape: Escape,
}

/// For services that take a text as it stands.
pub(super) fn plain(c: char, _next: Option<char>, out: &mut String) {
    out.push(c);
}

impl Pen {
    /// What `text` looks like there, `max` units at most; what is cut off shows as `…`.
    pub(super) fn write(self, text: &str, max: usize) -> String {
        let tail = self.unit.of(ELLIPSIS);
        let (mut out, mut used) = (String::new(), 0);
        // Where to cut, should the rest turn out not to fit.
        let mut safe = 0;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let before = out.len();
            (self.escape)(c, chars.peek().copied(), &mut out);
            used += self.unit.size(out.get(before..).unwrap_or_default());
            if used > max {
                out.truncate(safe);
                if tail <= max {
                    out.push(ELLIPSIS);
                }
                return out;
            }
            if used + tail <= max {
                safe = out.len();
            }
        }
        out
    }

    /// `[CRITICAL] low balance: research has $8.20 left`
    pub(super) fn headline(self, sheet: &Sheet, max: usize) -> String {
        self.write(&format!("[{}] {}", sheet.badge, sheet.title), max)
    }

    /// The alerts of a group as (headline, the rest), each with an equal share of the room, so that none goes unnamed.
    pub(super) fn members(self, sheet: &Sheet, room: usize) -> Vec<(String, String)> {
        let share = (room / sheet.members.len().max(1)).min(MEMBER_MAX);
        let one = |member: &Sheet| {
            let title = self.headline(member, share / 2);
            let rest = [&member.reason, &member.advice, &member.when].map(String::as_str).map(str::trim);
            let rest = rest.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
            let left = share.saturating_sub(self.unit.size(&title));
            let rest = self.write(&rest, left);
            (title, rest)
        };
        sheet.members.iter().map(one).collect()
    }

    /// The figures as (name, value), as many as there is room for, neither ever empty.
    pub(super) fn rows(self, sheet: &Sheet, limits: RowLimits) -> Vec<(String, String)> {
        let mut room = limits.room;
        let mut rows = Vec::new();
        for (name, value) in sheet.rows.iter().take(limits.count) {
            if room <= limits.name + limits.between {
                break;
            }
            let row = (
                self.write(or_dash(name), limits.name),
                self.write(or_dash(value), limits.value.min(room - limits.name - limits.between)),
            );
            room -= self.unit.size(&row.0) + self.unit.size(&row.1) + limits.between;
            rows.push(row);
        }
        rows
    }

    /// When, of which rule, under which id.
    pub(super) fn footer(self, sheet: &Sheet, max: usize) -> String {
        self.write(&format!("{} {} {}", sheet.when, sheet.origin, sheet.id), max)
    }

    /// A whole notice as lines of text, `max` units at most: what must be there first, then as many figures and as much of
    /// each alert of a group as there is room for.
    pub(super) fn page(self, sheet: &Sheet, headline: &str, max: usize) -> String {
        let gap = self.unit.size("\n\n");
        let mut head: Vec<String> = Vec::new();
        if !headline.is_empty() {
            head.push(headline.to_owned());
        }
        head.extend(
            [self.write(&sheet.reason, max / 4), self.write(&sheet.advice, max / 6)]
                .into_iter()
                .filter(|part| !part.is_empty()),
        );
        head.extend(sheet.link.as_ref().map(|link| format!("{KEEP_IT}: {link}")));
        let mut tail: Vec<String> = sheet.more.iter().map(|more| self.write(more, 100)).collect();
        tail.push(self.footer(sheet, max / 8));
        let size = |parts: &[String]| parts.iter().map(|part| self.unit.size(part) + gap).sum::<usize>();
        let mut room = max.saturating_sub(size(&head) + size(&tail) + gap);
        let mut parts = head;
        // Of a group the alerts matter, of a digest and a single alert the figures.
        let rows_room = if sheet.members.is_empty() { room } else { room / 3 };
        let limits = RowLimits { count: usize::MAX, name: 80, value: 300, between: 4, room: rows_room };
        let rows = self.rows(sheet, limits).into_iter().map(|(name, value)| format!("{name}: {value}"));
        let rows = rows.collect::<Vec<_>>().join("\n");
        room = room.saturating_sub(self.unit.size(&rows) + (gap + 2) * (sheet.members.len() + 1));
        if !rows.is_empty() {
            parts.push(rows);
        }
        parts.extend(
            self.members(sheet, room)
                .into_iter()
                .map(|(title, rest)| if rest.is_empty() { title } else { format!("{title}\n{rest}") }),
        );
        parts.extend(tail);
        parts.join("\n\n")
    }
}

/// How much the figures may take.
#[derive(Clone, Copy)]
pub(super) struct RowLimits {
    pub(super) count: usize,
    pub(super) name: usize,
    pub(super) value: usize,
    /// What stands around a name and its value.
    pub(super) between: usize,
    pub(super) room: usize,
}

/// Services refuse a message with an empty field.
fn or_dash(text: &str) -> &str {
    if text.is_empty() { "–" } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn doubled(c: char, _next: Option<char>, out: &mut String) {
        if c == '&' { out.push_str("&amp;") } else { out.push(c) }
    }

    const PENS: [Pen; 3] = [
        Pen { unit: Unit::Utf16, escape: plain },
        Pen { unit: Unit::JsonBytes, escape: plain },
        Pen { unit: Unit::Utf16, escape: doubled },
    ];

    #[test]
    fn a_cut_shows_and_never_splits_an_escape_or_a_character() {
        let pen = Pen { unit: Unit::Utf16, escape: doubled };
        for (text, max, expected) in [
            ("a&b", 7, "a&amp;b"),
            ("a&b", 6, "a…"),
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("🎉🎉", 4, "🎉🎉"),
            ("🎉🎉", 3, "🎉…"),
            ("🎉", 1, "…"),
            ("abc", 0, ""),
        ] {
            assert_eq!(pen.write(text, max), expected, "{text} in {max}");
        }
        let bytes = Pen { unit: Unit::JsonBytes, escape: plain };
        assert_eq!(bytes.write("ééé", 5), "é…");
        assert_eq!(bytes.write("\"\"\"", 5), "\"…");
    }

    proptest! {
        #[test]
        fn nothing_written_is_larger_than_its_room(text in any::<String>(), max in 0_usize..60) {
            for pen in PENS {
                let out = pen.write(&text, max);
                prop_assert!(pen.unit.size(&out) <= max, "{out:?}");
            }
        }

        #[test]
        fn json_bytes_are_never_fewer_than_the_bytes_in_json(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert!(Unit::JsonBytes.size(&text) + 2 >= json.len());
        }
    }
}
