//! What goes to stdout and stderr, in one look.
//!
//! It must never panic on a closed pipe: `spheron-watch … | head` ends quietly.

use std::io::{IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets::NOTHING};

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

    fn paint(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Data, to stdout. A closed pipe is the reader's decision, not an error.
pub fn data(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
}

/// A message, to stderr.
pub fn message(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.write_all(b"\n"));
}

/// A plain table, as wide as its content or the terminal.
pub fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}
