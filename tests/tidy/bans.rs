//! R3, R6, R7: what pure rooms may not touch, who says now, and that nothing is global.

use crate::{
    Finding,
    source::{Source, Token, closing, paths, tokens},
};

const PURE: [&str; 3] = ["model", "schedule", "engine"];

/// Crates and types that bring a runtime, I/O, a clock, chance or an order of iteration by chance.
const OUTSIDE_WORDS: [&str; 28] = [
    "tokio",
    "tokio_util",
    "reqwest",
    "rusqlite",
    "hyper",
    "hyper_util",
    "axum",
    "tower_http",
    "lettre",
    "rustls",
    "rustix",
    "sd_notify",
    "signal_hook",
    "fastrand",
    "rand",
    "getrandom",
    "RandomState",
    "DefaultHasher",
    "HashMap",
    "HashSet",
    "SystemTime",
    "Instant",
    "println",
    "eprintln",
    "print",
    "eprint",
    "include_str",
    "arc_swap",
];
const OUTSIDE_PATHS: [&str; 6] =
    ["std::fs", "std::env", "std::net", "std::thread", "std::process", "std::io"];
const FLOATS: [&str; 4] = ["f32", "f64", "to_f64", "from_dollars"];

/// R3. The engine, and what it stands on, are the same for live run, backtest and simulation only while they are pure.
pub fn purity(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| PURE.contains(&source.room())) {
        let room = source.room();
        let tokens = tokens(&source.live);
        let words =
            tokens.iter().filter(|t| OUTSIDE_WORDS.contains(&t.text)).map(|t| (t.line, t.text.to_owned()));
        let starts = |path: &str, ban: &str| path == ban || path.starts_with(&format!("{ban}::"));
        let paths =
            paths(&tokens).into_iter().filter(|(_, path)| OUTSIDE_PATHS.iter().any(|ban| starts(path, ban)));
        for (line, what) in words.chain(paths) {
            findings.push(Finding::new(
                &source.path,
                line,
                "purity",
                format!("`{room}` must not use `{what}`"),
            ));
        }
        let money = tokens.iter().filter(|t| room == "engine" && FLOATS.contains(&t.text));
        findings.extend(money.map(|t| {
            let what = format!("`{}`: the engine's money is integer nano-dollars", t.text);
            Finding::new(&source.path, t.line, "purity", what)
        }));
    }
    findings
}

/// R6. Everywhere else `now` is a method of a `Clock`, or an argument.
pub fn clock(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.room() != "clock") {
        let tokens = tokens(&source.live);
        let named = paths(&tokens)
            .into_iter()
            .filter(|(_, path)| path.ends_with("::now") && !path.ends_with("Clock::now"));
        let words = tokens.iter().filter(|t| matches!(t.text, "clock_gettime" | "elapsed" | "date_now"));
        let words = words.map(|t| (t.line, t.text.to_owned()));
        for (line, what) in named.chain(words) {
            let what = format!("`{what}`: only src/clock.rs says what time it is");
            findings.push(Finding::new(&source.path, line, "clock", what));
        }
    }
    findings
}

/// R7. A static may hold plain constant data; the process-wide settings of two crates are made in `main`.
pub fn globals(sources: &[Source]) -> Vec<Finding> {
    const PLAIN: [&str; 17] = [
        "str", "bool", "char", "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128",
        "isize", "f64", "f32",
    ];
    const IN_MAIN: [&str; 6] =
        ["set_global_default", "install_default", "try_init", "tracing_subscriber", "set_hook", "set_logger"];
    let mut findings = Vec::new();
    for source in sources {
        let tokens = tokens(&source.live);
        let mut find = |token: &Token<'_>, what: String| {
            findings.push(Finding::new(&source.path, token.line, "globals", what));
        };
        for (at, token) in tokens.iter().enumerate() {
            let next = tokens.get(at + 1).map_or("", |next| next.text);
            match token.text {
                "static" if next == "mut" => find(token, "a `static mut`: pass it".into()),
                "static" => {
                    let ty = tokens.iter().skip(at + 2).take_while(|t| t.text != "=");
                    let word = |t: &&Token<'_>| t.text.starts_with(|c: char| c.is_alphabetic());
                    if ty.clone().filter(word).any(|t| !PLAIN.contains(&t.text)) {
                        find(token, format!("`{next}` is a global: make it a const, or let `app` own it"));
                    }
                }
                "thread_local" | "lazy_static" | "default_registry" => {
                    find(token, format!("`{}` is a global: let `app` own it", token.text));
                }
                word if word.starts_with("register_") && next == "!" => {
                    find(token, format!("`{word}!` fills a global registry: register with our own"));
                }
                word if IN_MAIN.contains(&word) && source.path != "src/main.rs" => {
                    find(token, format!("`{word}` sets something process-wide: only src/main.rs may"));
                }
                _ => {}
            }
        }
    }
    findings
}

/// How many lines each function with a body takes: (line, name, lines).
pub fn functions<'a>(tokens: &[Token<'a>]) -> Vec<(usize, &'a str, usize)> {
    let mut found = Vec::new();
    for (at, [word, name]) in tokens.array_windows().enumerate() {
        if word.text != "fn" || !name.text.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            continue;
        }
        let mut i = at + 2;
        while let Some(token) = tokens.get(i) {
            match token.text {
                "(" | "[" => i = closing(tokens, i) + 1,
                "{" => {
                    found.push((word.line, name.text, tokens[closing(tokens, i)].line + 1 - word.line));
                    break;
                }
                ";" => break,
                _ => i += 1,
            }
        }
    }
    found
}

mod tests {
    use super::*;
    use crate::found;

    #[test]
    fn an_impure_engine_is_found() {
        for (text, what) in [
            ("\nuse tokio::sync::watch;", "2: purity: `engine` must not use `tokio`"),
            ("use std::{fmt, fs};", "1: purity: `engine` must not use `std::fs`"),
            ("fn a() { std::env::var(b) }", "1: purity: `engine` must not use `std::env::var`"),
            ("use std::net::IpAddr;", "1: purity: `engine` must not use `std::net::IpAddr`"),
            ("use std::thread;", "1: purity: `engine` must not use `std::thread`"),
            ("fn a() -> u64 { fastrand::u64(..) }", "1: purity: `engine` must not use `fastrand`"),
            ("use std::collections::HashMap;", "1: purity: `engine` must not use `HashMap`"),
            ("use std::time::Instant;", "1: purity: `engine` must not use `Instant`"),
            ("fn a(x: f64) {}", "1: purity: `f64`: the engine's money is integer nano-dollars"),
            (
                "fn a(x: Usd) { x.to_f64() }",
                "1: purity: `to_f64`: the engine's money is integer nano-dollars",
            ),
        ] {
            let findings = found(purity, &[("src/engine/a.rs", text)]);
            assert_eq!(findings, [format!("src/engine/a.rs:{what}")], "{text}");
        }
        let fine = "// tokio, f64\nconst A: &str = \"std::fs\";\n#[cfg(test)]\nmod tests { use std::fs; }";
        assert_eq!(found(purity, &[("src/engine/a.rs", fine)]), Vec::<String>::new());
        assert_eq!(found(purity, &[("src/store/a.rs", "use std::fs;")]), Vec::<String>::new());
    }

    #[test]
    fn a_second_clock_is_found() {
        for (text, what) in [
            ("fn a() { Instant::now() }", "`Instant::now`"),
            ("use std::time::Instant as I; fn a() { I::now() }", "`I::now`"),
            ("fn a() { jiff::Timestamp::now() }", "`jiff::Timestamp::now`"),
            ("fn a() { b.elapsed() }", "`elapsed`"),
            ("fn a() { clock_gettime(b) }", "`clock_gettime`"),
        ] {
            let expected = format!("src/serve/a.rs:1: clock: {what}: only src/clock.rs says what time it is");
            assert_eq!(found(clock, &[("src/serve/a.rs", text)]), [expected], "{text}");
        }
        let fine = [
            ("src/serve/a.rs", "fn a(c: &Clock) { c.now(); b.map(Clock::now) }"),
            ("src/clock.rs", "Instant::now()"),
        ];
        assert_eq!(found(clock, &fine), Vec::<String>::new());
    }

    #[test]
    fn a_global_is_found() {
        for (text, what) in [
            (
                "\nstatic A: OnceLock<u8> = OnceLock::new();",
                "2: globals: `A` is a global: make it a const, or let `app` own it",
            ),
            (
                "static A: Hidden = Hidden;",
                "1: globals: `A` is a global: make it a const, or let `app` own it",
            ),
            ("static mut A: u8 = 0;", "1: globals: a `static mut`: pass it"),
            ("thread_local! { }", "1: globals: `thread_local` is a global: let `app` own it"),
            (
                "fn a() { register_counter!(x) }",
                "1: globals: `register_counter!` fills a global registry: register with our own",
            ),
            (
                "fn a() { p.install_default() }",
                "1: globals: `install_default` sets something process-wide: only src/main.rs may",
            ),
            (
                "fn a() { set_global_default(s) }",
                "1: globals: `set_global_default` sets something process-wide: only src/main.rs may",
            ),
        ] {
            let findings = found(globals, &[("src/serve/a.rs", text)]);
            assert_eq!(findings, [format!("src/serve/a.rs:{what}")], "{text}");
        }
        for (path, text) in [
            ("src/a.rs", "static A: [&'static str; 2] = [\"a\", \"b\"]; fn a(x: &'static Mutex<u8>) {}"),
            ("src/main.rs", "fn main() { p.install_default(); tracing_subscriber::fmt().init(); }"),
            ("src/a.rs", "#[cfg(test)]\nmod tests { fn a() { p.install_default() } }"),
        ] {
            assert_eq!(found(globals, &[(path, text)]), Vec::<String>::new(), "{text}");
        }
    }
}
