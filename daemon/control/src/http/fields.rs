//! `application/x-www-form-urlencoded`: query strings and submitted forms (URL standard, section 5).

use crate::trouble::Trouble;

/// Names and values in the order in which they were sent. A form that sends a name twice keeps both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

/// More than any form of ours has; a body of a million `&` must not become a million strings.
pub(super) const MAX_FIELDS: usize = 500;

impl Fields {
    pub fn parse(text: &[u8]) -> Result<Self, Trouble> {
        let mut fields = Vec::new();
        for pair in text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            if fields.len() == MAX_FIELDS {
                return Err(Trouble::field("form", format!("has more than {MAX_FIELDS} fields")));
            }
            let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &pair[..0]),
            };
            fields.push((text_of(name)?, text_of(value)?));
        }
        Ok(Fields(fields))
    }

    /// The first value under this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Empty where it was not sent.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// The value, or a problem that names the field.
    pub fn required(&self, name: &str) -> Result<&str, Trouble> {
        match self.get(name) {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(Trouble::field(name, "is missing")),
        }
    }

    /// None where it was not sent or is empty.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Trouble> {
        match self.get(name).map(str::trim) {
            None | Some("") => Ok(None),
            Some(value) => value.parse().map(Some).map_err(|_| Trouble::field(name, format!("{value:?} is not a number that fits here"))),
        }
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

impl From<Vec<(String, String)>> for Fields {
    fn from(fields: Vec<(String, String)>) -> Self {
        Fields(fields)
    }
}

fn text_of(bytes: &[u8]) -> Result<String, Trouble> {
    let spaced: Vec<u8> = bytes.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    percent_decode(&spaced).ok_or_else(|| Trouble::field("form", "is not UTF-8 text with valid % escapes"))
}

/// None for a broken escape or for bytes that are not UTF-8.
pub fn percent_decode(bytes: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        if *first != b'%' {
            out.push(*first);
            rest = tail;
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        out.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &tail[2..];
    }
    String::from_utf8(out).ok()
}

/// For values in our own links.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_with_escapes_and_repeated_names() {
        let fields = Fields::parse(b"name=B%C3%A4r+1&zone=lan&zone=wan&empty=&flag").unwrap();
        assert_eq!(fields.get("name"), Some("Bär 1"));
        assert_eq!(fields.all("zone").collect::<Vec<_>>(), ["lan", "wan"]);
        assert_eq!(fields.get("flag"), Some(""));
        assert!(fields.required("empty").is_err());
    }

    #[test]
    fn broken_escapes_and_floods_of_fields_are_refused() {
        for bad in [&b"a=%"[..], b"a=%4", b"a=%zz", b"a=%+1", b"a=%ff"] {
            assert!(Fields::parse(bad).is_err(), "{bad:?} passed");
        }
        assert!(Fields::parse(&b"a&".repeat(1000)).is_err());
    }

    #[test]
    fn what_was_encoded_decodes_to_itself() {
        let text = "a/b?c=d&e ü%";
        assert_eq!(percent_decode(percent_encode(text).as_bytes()).unwrap(), text);
    }
}
