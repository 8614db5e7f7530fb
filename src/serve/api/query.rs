//! Paths and queries from outside → segments, flags, pages; and ids → one segment of a path.
//!
//! It must never take a parameter that it does not know for one that it does: a misspelt filter is an error.

use std::{borrow::Cow, collections::BTreeMap};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::Problem;

/// The longest page, and the one that is given to whoever does not say.
const LIMIT: usize = 1_000;

const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');

/// One segment of a path, whatever the text holds; dots too, so that no step of a path comes of it.
pub fn encode(segment: &str) -> String {
    utf8_percent_encode(segment, PLAIN).to_string()
}

/// Split first, decoded then: an encoded slash is part of a segment.
pub fn segments(path: &str) -> Result<Vec<Cow<'_, str>>, Problem> {
    path.trim_matches('/').split('/').map(decode).collect()
}

fn decode(text: &str) -> Result<Cow<'_, str>, Problem> {
    percent_decode_str(text).decode_utf8().map_err(|_| Problem::new(400, "the address is not UTF-8"))
}

/// Which part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    pub offset: usize,
    pub limit: usize,
}

#[derive(Debug)]
pub struct Query<'a>(BTreeMap<Cow<'a, str>, Cow<'a, str>>);

impl<'a> Query<'a> {
    pub fn parse(text: &'a str) -> Result<Self, Problem> {
        let mut found = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if found.insert(decode(key)?, decode(value)?).is_some() {
                return Err(Problem::new(400, "a parameter is given twice; give it once"));
            }
        }
        Ok(Self(found))
    }

    pub fn none(&self) -> Result<(), Problem> {
        self.only(&[])
    }

    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.0.get(name).map(|value| &**value) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Problem::new(400, format!("`{name}` is `true` or `false`"))),
        }
    }

    /// `further` are the parameters that the path knows besides.
    pub fn page(&self, further: &[&str]) -> Result<Slice, Problem> {
        self.only(&[further, &["limit", "offset"]].concat())?;
        let offset = self.number("offset", 0, 0..=usize::MAX, "a number")?;
        let limit = self.number("limit", LIMIT, 1..=LIMIT, "a number from 1 to 1000")?;
        Ok(Slice { offset, limit })
    }

    /// `None`: it is not given.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| &**value)
    }

    /// A list whose newest comes first goes on below a number, since its beginning grows: that number, and how many.
    pub fn backwards(&self, further: &[&str]) -> Result<(i64, u32), Problem> {
        self.only(&[further, &["limit", "before"]].concat())?;
        let before =
            self.number("before", usize::MAX, 1..=usize::MAX, "a number, as `next_before` says it")?;
        let limit = self.number("limit", LIMIT, 1..=LIMIT, "a number from 1 to 1000")?;
        Ok((i64::try_from(before).unwrap_or(i64::MAX), u32::try_from(limit).unwrap_or(u32::MAX)))
    }

    fn number(
        &self,
        name: &str,
        default: usize,
        range: std::ops::RangeInclusive<usize>,
        what: &str,
    ) -> Result<usize, Problem> {
        let Some(text) = self.0.get(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| Problem::new(400, format!("`{name}` is {what}")))
    }

    /// `known` are all that the path knows.
    pub fn only(&self, known: &[&str]) -> Result<(), Problem> {
        if self.0.keys().all(|key| known.contains(&&**key)) {
            return Ok(());
        }
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(Problem::new(
            400,
            format!("there is a parameter that this path does not know; it knows: {known}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_is_one_segment_whatever_it_holds() {
        for (id, path) in [
            ("..", "%2E%2E"),
            (".", "%2E"),
            ("/?#%2F", "%2F%3F%23%252F"),
            ("a b\r\n", "a%20b%0D%0A"),
            ("ü", "%C3%BC"),
        ] {
            assert_eq!(encode(id), path);
            assert_eq!(segments(&format!("/why/{path}")).unwrap(), ["why", id]);
        }
    }

    #[test]
    fn a_parameter_that_is_unknown_doubled_or_out_of_range_is_refused() {
        let page =
            |text: &str| Query::parse(text).and_then(|query| query.page(&["all"])).map_err(|p| p.detail);
        assert_eq!(page(""), Ok(Slice { offset: 0, limit: 1_000 }));
        assert_eq!(page("all=true&limit=7&offset=3"), Ok(Slice { offset: 3, limit: 7 }));
        for (text, says) in [
            ("al=true", "it knows: all, limit, offset"),
            ("limit=0", "`limit` is a number from 1 to 1000"),
            ("limit=1001", "`limit` is a number from 1 to 1000"),
            ("limit=", "`limit` is a number from 1 to 1000"),
            ("offset=-1", "`offset` is a number"),
            ("limit=1&limit=2", "given twice"),
            ("limit=%FF", "not UTF-8"),
        ] {
            let refused = page(text).unwrap_err();
            assert!(refused.contains(says), "{text}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn every_text_comes_back_from_its_segment(text in any::<String>()) {
            let encoded = encode(&text);
            prop_assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_~%".contains(&b)));
            prop_assert_eq!(decode(&encoded).unwrap(), text);
        }
    }
}
