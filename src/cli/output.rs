//! What goes to stdout and stderr, in one look: tables as wide as the terminal, JSON, CSV, messages.
//!
//! It must never let a text from outside steer the terminal or a spreadsheet (FAULTS 77), nor panic on a closed pipe:
//! `spheron-watch … | head` ends quietly.

use std::io::{IsTerminal, Write};

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Row, Table, presets::NOTHING};

use crate::notify::sanitize;

/// The longest cell, in characters.
const CELL_MAX: usize = 256;

/// How data are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Table,
    Json,
    Csv,
}

/// Whether colours may be used on stdout: a TTY, no NO_COLOR, no `--no-color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colors(pub bool);

impl Colors {
    pub fn detect(no_color: bool) -> Self {
        let asked_not = no_color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(!asked_not && std::io::stdout().is_terminal())
    }
}

impl Colors {
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub fn warn(self, text: &str) -> String {
        self.paint("33", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// The terminal behind stdout, in characters; `None` where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub columns: u16,
    pub rows: u16,
}

impl Size {
    pub fn detect() -> Option<Self> {
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
        (size.ws_col > 0 && size.ws_row > 0).then_some(Self { columns: size.ws_col, rows: size.ws_row })
    }
}

/// Data, to stdout. A closed pipe is the reader's decision, not an error; `false` says so to who writes on and on.
pub fn data(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()).is_ok()
}

/// A message, to stderr.
pub fn message(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.write_all(b"\n"));
}

/// Text from outside as one harmless line.
pub fn clean(text: &str) -> String {
    sanitize::line(text, CELL_MAX)
}

/// A JSON text, with what a terminal would obey spelled out: the same document.
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut units = [0; 2];
    for c in text.chars() {
        // JSON has only line feeds of ours outside strings, and none unescaped inside.
        if c == '\n' || !sanitize::is_dropped(c) {
            out.push(c);
        } else {
            out.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    out
}

/// How a column behaves when there is too little room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Gives way.
    Text,
    /// Stays whole.
    Whole,
    /// Stays whole, to the right: a figure that is cut is another figure.
    Figure,
    /// A figure that most have not: not shown where nobody has it.
    Spare,
}

/// One column: its heading, its name in CSV, and how it behaves.
#[derive(Debug, Clone, Copy)]
pub struct Column(pub &'static str, pub &'static str, pub Fit);

/// What a person reads, and what a program reads.
#[derive(Debug, Clone)]
pub struct Cell {
    shown: String,
    plain: String,
}

impl Cell {
    /// The same for both.
    pub fn text(text: impl AsRef<str>) -> Self {
        let text = clean(text.as_ref());
        Self { shown: text.clone(), plain: text }
    }

    pub fn both(shown: impl AsRef<str>, plain: impl AsRef<str>) -> Self {
        Self { shown: clean(shown.as_ref()), plain: clean(plain.as_ref()) }
    }

    pub fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    pub fn empty() -> Self {
        Self::text("")
    }
}

/// A table under construction.
#[derive(Debug)]
pub struct Sheet<const N: usize> {
    columns: [Column; N],
    rows: Vec<[Cell; N]>,
    /// A last line that only people read.
    total: Option<[Cell; N]>,
}

impl<const N: usize> Sheet<N> {
    pub fn new(columns: [Column; N], rows: impl IntoIterator<Item = [Cell; N]>) -> Self {
        Self { columns, rows: rows.into_iter().collect(), total: None }
    }

    pub fn total(mut self, cells: [Cell; N]) -> Self {
        self.total = Some(cells);
        self
    }

    /// As wide as its content, but not wider than `width`; one line for each row.
    pub fn table(&self, width: Option<u16>) -> String {
        self.lines(width).join("\n")
    }

    /// The same with more below each row.
    pub fn table_with(&self, width: Option<u16>, below: impl IntoIterator<Item = String>) -> String {
        let below = below.into_iter().map(|below| format!("\n{below}"));
        // The heading has nothing below it.
        let below = std::iter::once(String::new()).chain(below).chain(std::iter::repeat(String::new()));
        let lines = self.lines(width).into_iter().zip(below);
        lines.map(|(line, below)| line + &below).collect::<Vec<_>>().join("\n")
    }

    fn lines(&self, width: Option<u16>) -> Vec<String> {
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_truncation_indicator("…");
        if let Some(width) = width {
            table.set_width(width);
        }
        let mut header = Row::from(self.columns.map(|column| column.0).to_vec());
        header.max_height(1);
        table.set_header(header);
        for cells in self.rows.iter().chain(&self.total) {
            let mut row = Row::from(cells.iter().map(|cell| cell.shown.as_str()).collect::<Vec<_>>());
            row.max_height(1);
            table.add_row(row);
        }
        for (nth, (column, Column(_, _, fit))) in table.column_iter_mut().zip(self.columns).enumerate() {
            let empty = || self.rows.iter().all(|row| row.get(nth).is_none_or(Cell::is_empty));
            let (constraint, alignment) = match fit {
                Fit::Text => continue,
                Fit::Spare if empty() => (ColumnConstraint::Hidden, CellAlignment::Left),
                Fit::Whole => (ColumnConstraint::ContentWidth, CellAlignment::Left),
                Fit::Figure | Fit::Spare => (ColumnConstraint::ContentWidth, CellAlignment::Right),
            };
            column.set_constraint(constraint);
            column.set_cell_alignment(alignment);
        }
        table.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// RFC 4180, without the last line's end.
    pub fn csv(&self) -> String {
        let header = self.columns.iter().map(|column| column.1.to_owned()).collect::<Vec<_>>().join(",");
        let line =
            |cells: &[Cell; N]| cells.iter().map(|cell| csv_cell(&cell.plain)).collect::<Vec<_>>().join(",");
        std::iter::once(header).chain(self.rows.iter().map(line)).collect::<Vec<_>>().join("\r\n")
    }
}

/// A cell that a spreadsheet would take for a formula gets a `'`; a number is none.
fn csv_cell(text: &str) -> String {
    let number = text.strip_prefix('-').unwrap_or(text);
    let number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']) && !number;
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// A plain table of texts, as wide as its content.
pub fn table<const N: usize>(
    header: [&'static str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let columns = header.map(|name| Column(name, name, Fit::Text));
    Sheet::new(columns, rows.into_iter().map(|row| row.map(Cell::text))).table(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 2] =
        [Column("NAME", "name", Fit::Text), Column("$/H", "usd_per_hour", Fit::Figure)];

    fn sheet(names: &[&str]) -> Sheet<2> {
        Sheet::new(COLUMNS, names.iter().map(|name| [Cell::text(name), Cell::both("$1.46", "1.46")]))
    }

    const HOSTILE: [&str; 10] = [
        "=HYPERLINK(\"http://evil\",\"x\")",
        "+1+1",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        "a,\"b\"\r\nc",
        "\u{1b}]0;owned\u{7}\u{1b}[2Jred",
        "abc\u{202e}txt.exe",
        "\u{9b}31m\0x",
        "-5",
    ];

    #[test]
    fn fault_77_no_name_steers_the_terminal_through_a_table() {
        let table = sheet(&HOSTILE).table(Some(60));
        assert_eq!(table.lines().count(), 1 + HOSTILE.len(), "{table}");
        assert!(!table.chars().any(|c| c != '\n' && sanitize::is_dropped(c)), "{table:?}");
        assert!(table.contains("abctxt.exe"), "{table}");
    }

    #[test]
    fn fault_77_no_name_is_a_formula_or_a_second_row_in_csv() {
        let csv = sheet(&HOSTILE).csv();
        let lines: Vec<&str> = csv.split("\r\n").collect();
        assert_eq!(
            lines,
            [
                "name,usd_per_hour",
                "\"'=HYPERLINK(\"\"http://evil\"\",\"\"x\"\")\",1.46",
                "'+1+1,1.46",
                "'-2+3,1.46",
                "'@SUM(A1),1.46",
                "'=1,1.46",
                "\"a,\"\"b\"\" c\",1.46",
                "red,1.46",
                "abctxt.exe,1.46",
                "x,1.46",
                "-5,1.46",
            ]
        );
    }

    #[test]
    fn fault_77_json_on_a_terminal_is_the_same_document_without_what_it_would_obey() {
        let text =
            serde_json::to_string_pretty(&serde_json::json!({"name": HOSTILE.join("|"), "e": "\u{e0041}ü"}));
        let (text, shown) = (text.as_ref().unwrap(), json(text.as_ref().unwrap()));
        assert!(!shown.chars().any(|c| c != '\n' && sanitize::is_dropped(c)), "{shown:?}");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&shown), value(text));
    }

    #[test]
    fn names_give_way_and_figures_stay_whole() {
        let table = sheet(&["a-name-that-is-longer-than-there-is-room", "short"]).table(Some(24));
        assert!(table.lines().all(|line| line.chars().count() <= 24), "{table}");
        assert_eq!(table.matches("$1.46").count(), 2, "{table}");
        assert!(table.contains('…'), "{table}");
    }
}
