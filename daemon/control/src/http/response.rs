//! What goes back to the client.

use serde::Serialize;

use super::cookie::Cookie;
use super::fields::percent_encode;
use super::header::HeaderValue;
use crate::site::Site;

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(&'static str, HeaderValue)>,
    pub body: Body,
}

pub enum Body {
    Bytes(Vec<u8>),
    /// Embedded in the binary.
    Static(&'static [u8]),
    /// Server-sent events: the connection stays open and the closure is asked every second, and at once when the state of the gate changed.
    Events(Events),
}

/// What is to be sent now; an empty list sends nothing (a comment keeps the connection alive).
pub type Events = Box<dyn FnMut(&Site) -> Vec<Event> + Send>;

/// One server-sent event; `data` is JSON and therefore one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub name: &'static str,
    pub data: String,
}

impl Event {
    pub fn new(name: &'static str, data: &impl Serialize) -> Self {
        Event { name, data: serde_json::to_string(data).unwrap_or_else(|_| "null".to_owned()) }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Body::Bytes(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            Body::Static(bytes) => write!(f, "{} embedded bytes", bytes.len()),
            Body::Events(_) => f.write_str("events"),
        }
    }
}

impl Response {
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Response { status, headers: vec![("Content-Type", content_type.into())], body: Body::Bytes(body.into()) }.never_stored()
    }

    pub fn html(text: impl Into<String>) -> Self {
        Response::new(200, "text/html; charset=utf-8", text.into())
    }

    pub fn json(value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Response::new(200, "application/json", body),
            Err(error) => {
                tracing::error!(%error, "an answer could not be written as JSON");
                Response::text(500, "the answer could not be written as JSON")
            }
        }
    }

    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Response::new(status, "text/plain; charset=utf-8", text.into())
    }

    pub fn no_content() -> Self {
        Response { status: 204, headers: Vec::new(), body: Body::Bytes(Vec::new()) }.never_stored()
    }

    /// After a form: the browser fetches `to` with GET, so that a reload does not send the form again.
    pub fn see_other(to: &str) -> Self {
        Response::text(303, "").with("Location", location(to))
    }

    /// The same request again, form and all, but over a new connection.
    pub fn same_again_on_a_new_connection(to: &str) -> Self {
        Response::text(307, "").with("Location", location(to)).with("Connection", "close")
    }

    /// A file that the browser saves.
    pub fn download(content_type: &'static str, file: &str, body: impl Into<Vec<u8>>) -> Self {
        let disposition = HeaderValue::lossy(&format!("attachment; filename=\"{}\"", file.replace(['"', '\\'], "_")));
        Response::new(200, content_type, body).with("Content-Disposition", disposition)
    }

    pub fn events(events: impl FnMut(&Site) -> Vec<Event> + Send + 'static) -> Self {
        let headers = vec![("Content-Type", "text/event-stream".into()), ("Cache-Control", "no-store".into())];
        Response { status: 200, headers, body: Body::Events(Box::new(events)) }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<HeaderValue>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn cookie(self, cookie: &Cookie) -> Self {
        self.with("Set-Cookie", cookie.header())
    }

    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn bytes(&self) -> &[u8] {
        match &self.body {
            Body::Bytes(bytes) => bytes,
            Body::Static(bytes) => bytes,
            Body::Events(_) => b"",
        }
    }

    fn never_stored(self) -> Self {
        self.with("Cache-Control", "no-store")
    }
}

/// Only paths of our own: an absolute address would let a form send people elsewhere.
fn location(to: &str) -> HeaderValue {
    let ours = to.starts_with('/') && !to.starts_with("//") && !to.contains('\\');
    let to = if ours { to } else { "/" };
    let encoded: String = to.chars().map(|c| if matches!(c, '!'..='~') { c.to_string() } else { percent_encode(&c.to_string()) }).collect();
    HeaderValue::lossy(&encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_never_leaves_the_box() {
        for bad in ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:1", ""] {
            assert_eq!(Response::see_other(bad).header("location"), Some("/"), "{bad:?}");
        }
        assert_eq!(Response::see_other("/a b\r\nX: 1").header("location"), Some("/a%20b%0D%0AX:%201"));
    }
}
