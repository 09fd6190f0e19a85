//! Cookies that only this host, over TLS, from its own pages, can use.

use super::header::HeaderValue;

/// A cookie of ours: `Path=/; Secure; HttpOnly; SameSite=Strict`, and a `__Host-` name, which browsers accept only with the first two
/// and without a Domain (RFC 6265bis section 4.1.3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    name: &'static str,
    value: String,
    /// Seconds; None lives as long as the browser.
    max_age: Option<u64>,
}

impl Cookie {
    pub fn new(name: &'static str, value: impl Into<String>) -> Self {
        debug_assert!(name.starts_with("__Host-"));
        Cookie { name, value: value.into(), max_age: None }
    }

    pub fn for_seconds(mut self, seconds: u64) -> Self {
        self.max_age = Some(seconds);
        self
    }

    /// Makes the browser forget it.
    pub fn gone(name: &'static str) -> Self {
        Cookie::new(name, "").for_seconds(0)
    }

    pub fn header(&self) -> HeaderValue {
        let age = self.max_age.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
        // `;` would begin an attribute.
        let value = self.value.replace([';', ',', ' ', '"', '\\'], "_");
        HeaderValue::lossy(&format!("{}={value}; Path=/; Secure; HttpOnly; SameSite=Strict{age}", self.name))
    }
}

/// The value of a cookie in a `Cookie` header.
pub fn find<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    header.split(';').filter_map(|pair| pair.trim().split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_secure_and_strict_whatever_its_value_says() {
        let header = Cookie::new("__Host-x", "a; Domain=evil\r\n").for_seconds(5).header();
        assert_eq!(header.as_str(), "__Host-x=a__Domain=evil??; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=5");
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        assert_eq!(find("a=1; __Host-x=2;b=3", "__Host-x"), Some("2"));
        assert_eq!(find("a__Host-x=2", "__Host-x"), None);
    }
}
