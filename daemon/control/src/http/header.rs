//! Header values that cannot end a header.

/// A value for one of our own response headers: visible ASCII, spaces and tabs only. tiny_http would let CR and LF
/// through, and with them a second header or a second response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderValue(String);

#[derive(Debug, thiserror::Error)]
#[error("a header value may hold printable ASCII only, this one has {0:?}")]
pub struct BadHeader(char);

impl HeaderValue {
    pub fn new(text: impl Into<String>) -> Result<Self, BadHeader> {
        let text = text.into();
        match text.chars().find(|c| !matches!(c, ' '..='~' | '\t')) {
            Some(bad) => Err(BadHeader(bad)),
            None => Ok(HeaderValue(text)),
        }
    }

    /// Whatever cannot stand in a header becomes `?`. For values that carry a name or a path that people chose.
    pub fn lossy(text: &str) -> Self {
        HeaderValue(text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&'static str> for HeaderValue {
    /// For literals; a bad one is a mistake of ours and becomes visible as `?`.
    fn from(text: &'static str) -> Self {
        HeaderValue::lossy(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_never_ends_its_header() {
        for bad in ["a\r\nSet-Cookie: x=1", "a\nb", "a\0b", "ü", "a\u{7f}"] {
            assert!(HeaderValue::new(bad).is_err(), "{bad:?} passed");
            assert!(!HeaderValue::lossy(bad).as_str().contains(['\r', '\n', '\0']));
        }
        assert_eq!(HeaderValue::new("text/html; charset=utf-8").unwrap().as_str(), "text/html; charset=utf-8");
    }
}
