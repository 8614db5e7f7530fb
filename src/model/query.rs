//! A PromQL query with `{id}`, `{name}` and `{ip}` in its string literals, filled in so that no value leaves its literal.
//!
//! It must never let a text from the API become part of the query's meaning: in a literal it is quoted, in a regular expression
//! it matches itself alone, and anywhere else a placeholder is refused.

/// What can be filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placeholder {
    Id,
    Name,
    Ip,
}

const PLACEHOLDERS: [(&str, Placeholder); 3] =
    [("{id}", Placeholder::Id), ("{name}", Placeholder::Name), ("{ip}", Placeholder::Ip)];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value { what: Placeholder, regex: bool },
}

/// Parsed once, filled in for each deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query(Vec<Piece>);

/// Where the parser stands.
#[derive(Clone, Copy)]
struct Literal {
    quote: char,
    regex: bool,
}

impl Query {
    /// The error says what is wrong with the query, without showing it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut pieces = vec![Piece::Text(String::new())];
        let mut literal: Option<Literal> = None;
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if let Some((word, what)) = PLACEHOLDERS.into_iter().find(|(word, _)| rest.starts_with(word)) {
                let Literal { quote, regex } = literal
                    .ok_or("has a placeholder outside quotes; write it as in {instance=\"{ip}:9400\"}")?;
                if quote == '`' {
                    return Err(
                        "has a placeholder in backticks, where nothing can be quoted; use double quotes",
                    );
                }
                pieces.extend([Piece::Value { what, regex }, Piece::Text(String::new())]);
                rest = rest.get(word.len()..).unwrap_or_default();
                continue;
            }
            let mut taken = c.len_utf8();
            match literal {
                Some(Literal { quote, .. }) if c == quote => literal = None,
                Some(Literal { quote, .. }) if c == '\\' && quote != '`' => {
                    taken +=
                        rest.get(taken..).and_then(|after| after.chars().next()).map_or(0, char::len_utf8);
                }
                Some(_) => {}
                None if matches!(c, '"' | '\'' | '`') => {
                    let before =
                        text.get(..text.len().saturating_sub(rest.len())).unwrap_or_default().trim_end();
                    literal =
                        Some(Literal { quote: c, regex: before.ends_with("=~") || before.ends_with("!~") });
                }
                None if c == '#' => return Err("has a comment; leave it out"),
                None => {}
            }
            if let Some(Piece::Text(out)) = pieces.last_mut() {
                out.push_str(rest.get(..taken).unwrap_or_default());
            }
            rest = rest.get(taken..).unwrap_or_default();
        }
        if literal.is_some() {
            return Err("has a quote that does not end");
        }
        if pieces.len() == 1 {
            return Err("asks the same of every deployment; name it by {id}, {name} or {ip}");
        }
        Ok(Self(pieces))
    }

    /// The query for one deployment. `value` may refuse.
    pub fn fill<E>(&self, value: impl Fn(Placeholder) -> Result<String, E>) -> Result<String, E> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Value { what, regex } => {
                    for c in value(*what)?.chars() {
                        push(&mut out, c, *regex);
                    }
                }
            }
        }
        Ok(out)
    }
}

/// One character, literally. Both kinds of quotes are escaped: either may end the literal.
fn push(out: &mut String, c: char, regex: bool) {
    if regex && "+*?.()|[]{}^$".contains(c) {
        // In the literal a backslash is written as two.
        out.push_str("\\\\");
        out.push(c);
    } else if c == '\\' {
        out.push_str(if regex { "\\\\\\\\" } else { "\\\\" });
    } else if matches!(c, '"' | '\'') || c.is_control() {
        out.push_str(&format!("\\u{:04x}", u32::from(c)));
    } else {
        out.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(query: &str, name: &str) -> String {
        let fill = |what| match what {
            Placeholder::Id => Ok::<_, ()>("65f0".to_owned()),
            Placeholder::Name => Ok(name.to_owned()),
            Placeholder::Ip => Ok("192.0.2.7".to_owned()),
        };
        Query::parse(query).unwrap().fill(fill).unwrap()
    }

    #[test]
    fn fault_77_a_name_never_leaves_its_literal() {
        for (query, name, expected) in [
            (r#"up{job="{name}"}"#, "train-1", r#"up{job="train-1"}"#),
            (r#"up{job="{name}"}"#, r#""} or vector(0) #"#, r#"up{job="\u0022} or vector(0) #"}"#),
            (r#"up{job='{name}'}"#, r"'} or up{job='", r"up{job='\u0027} or up{job=\u0027'}"),
            (r#"up{job="{name}"}"#, r"a\", r#"up{job="a\\"}"#),
            (r#"up{job="{name}"}"#, "a\nb\u{1b}", r#"up{job="a\u000ab\u001b"}"#),
            (r#"up{job="{name}"}"#, "{id}", r#"up{job="{id}"}"#),
            (r#"up{job=~"{name}"}"#, ".*", r#"up{job=~"\\.\\*"}"#),
            (r#"up{job=~"{name}"}"#, "a|b", r#"up{job=~"a\\|b"}"#),
            (r#"up{job !~ "{name}"}"#, r"\d", r#"up{job !~ "\\\\d"}"#),
            (r#"up{a="\"{name}"}"#, "x", r#"up{a="\"x"}"#),
            (r#"max(up{i=~"{ip}:.*", d="{id}"})"#, "", r#"max(up{i=~"192\\.0\\.2\\.7:.*", d="65f0"})"#),
        ] {
            assert_eq!(filled(query, name), expected, "{name:?} in {query}");
        }
    }

    #[test]
    fn a_placeholder_that_nothing_quotes_is_refused() {
        for (query, why) in [
            ("up{job={name}}", "outside quotes"),
            ("{name}", "outside quotes"),
            (r#"up{a="x"} + {id}"#, "outside quotes"),
            (r#"up{a="\\"{name}"}"#, "outside quotes"),
            ("up{job=`{name}`}", "backticks"),
            (r#"up{job="{name}"} # it's"#, "comment"),
            (r#"up{job="{name}}"#, "does not end"),
            ("up", "every deployment"),
            ("", "every deployment"),
        ] {
            let error = Query::parse(query).unwrap_err();
            assert!(error.contains(why), "{query}: {error}");
        }
    }
}
