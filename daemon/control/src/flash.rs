//! One message that the next page shows, carried over the redirect in a cookie.

use serde::{Deserialize, Serialize};

use crate::http::{Cookie, Response, Visit};
use crate::secret;

pub const COOKIE: &str = "__Host-portcullis-flash";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flash {
    pub tone: Tone,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tone {
    Ok,
    Info,
    Warn,
    Bad,
}

impl Response {
    pub fn flash(self, tone: Tone, text: impl Into<String>) -> Self {
        // Browsers drop cookies of more than 4096 bytes.
        let text: String = text.into().chars().take(600).collect();
        let value = serde_json::to_vec(&Flash { tone, text }).unwrap_or_default();
        self.cookie(&Cookie::new(COOKIE, secret::base64(&value)).for_seconds(60))
    }
}

impl Visit<'_> {
    /// What the page before left to be said. Whoever shows it also sends [`forget`].
    pub fn flash(&self) -> Option<Flash> {
        serde_json::from_slice(&secret::from_base64(self.request.cookie(COOKIE)?)?).ok()
    }
}

pub fn forget() -> Cookie {
    Cookie::gone(COOKIE)
}
