//! What a client sent, as far as the front let it through.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::cookie;
use super::fields::{Fields, percent_decode};
use super::multipart;
use super::upload::Upload;
use crate::trouble::Trouble;

#[derive(Debug, Clone)]
pub struct Request {
    pub method: Method,
    /// Decoded, without the query; begins with `/`.
    pub path: String,
    pub query: Fields,
    /// By lower-case name. A header that was sent twice is joined with `, `.
    pub headers: BTreeMap<String, String>,
    /// Empty until the client was admitted.
    pub body: Vec<u8>,
    /// For addresses that take a file: what was sent, on the disk.
    pub upload: Option<Arc<Upload>>,
    pub client: Client,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// Who is at the other end, as HAProxy tells in headers that it overwrites.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    pub address: Option<IpAddr>,
    /// When the client's TCP connection was accepted, milliseconds since the epoch.
    pub connected_at: Option<u64>,
}

impl Request {
    /// None when the target is nothing that we could ever serve: not decodable, or with a path that climbs.
    pub fn new(method: Method, target: &str, headers: BTreeMap<String, String>) -> Option<Self> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = percent_decode(path.as_bytes())?;
        let odd = !path.starts_with('/') || path.contains("//") || path.chars().any(char::is_control);
        if odd || path.split('/').any(|part| part == ".." || part == ".") {
            return None;
        }
        let client = Client {
            address: headers.get("x-portcullis-client").and_then(|text| text.parse().ok()),
            connected_at: headers.get("x-portcullis-connected-at").and_then(|text| text.parse().ok()),
        };
        Some(Request { method, path, query: Fields::parse(query.as_bytes()).ok()?, headers, body: Vec::new(), upload: None, client })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.header("cookie").and_then(|header| cookie::find(header, name))
    }

    /// The submitted form, with or without a file.
    pub fn form(&self) -> Result<Fields, Trouble> {
        let sent = self.header("content-type").unwrap_or("");
        if let Some(upload) = &self.upload {
            return Fields::parse(&upload.fields);
        }
        if sent.starts_with("multipart/form-data") {
            return multipart::parse(sent, &self.body).map(Fields::from);
        }
        self.expect_type("application/x-www-form-urlencoded")?;
        Fields::parse(&self.body)
    }

    /// The JSON body; what does not fit is told with serde's own words for the place.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Trouble> {
        self.expect_type("application/json")?;
        serde_json::from_slice(&self.body).map_err(|error| Trouble::field("body", error.to_string()))
    }

    /// The API speaks JSON, pages speak HTML; trouble is told in the same tongue.
    pub fn wants_json(&self) -> bool {
        self.path.starts_with("/api/")
    }

    fn expect_type(&self, wanted: &str) -> Result<(), Trouble> {
        let sent = self.header("content-type").unwrap_or("");
        if sent.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(wanted)) {
            return Ok(());
        }
        Err(Trouble::field("Content-Type", format!("must be {wanted}, this is {sent:?}")))
    }
}

impl Method {
    /// HEAD is answered as GET without its body.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "GET" | "HEAD" => Method::Get,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "PATCH" => Method::Patch,
            "DELETE" => Method::Delete,
            _ => return None,
        })
    }

    /// Whether a request with it may change something, and so must prove that our own page sent it.
    pub fn changes(self) -> bool {
        self != Method::Get
    }

    pub fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(target: &str) -> Option<Request> {
        Request::new(Method::Get, target, BTreeMap::new())
    }

    #[test]
    fn a_path_never_climbs_nor_hides_control_characters() {
        for bad in ["", "x", "/../etc", "/a/%2e%2e/b", "//x", "/a%00", "/a%0d%0ab", "/%zz", "/?a=%zz"] {
            assert!(get(bad).is_none(), "{bad:?} passed");
        }
        assert_eq!(get("/policies/lan%20out?x=1").unwrap().path, "/policies/lan out");
    }

    #[test]
    fn the_client_is_who_the_front_says() {
        let headers = BTreeMap::from([
            ("x-portcullis-client".to_owned(), "2001:db8::7".to_owned()),
            ("x-portcullis-connected-at".to_owned(), "1763719200123".to_owned()),
        ]);
        let request = Request::new(Method::Get, "/", headers).unwrap();
        assert_eq!(request.client, Client { address: Some("2001:db8::7".parse().unwrap()), connected_at: Some(1_763_719_200_123) });
    }
}
