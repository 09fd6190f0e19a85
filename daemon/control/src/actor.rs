//! Who asks.

use policy::messages::Principal;

use crate::http::Client;
use crate::role::Role;

/// A person or program that has proved who it is, with the role it has right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    pub user: String,
    pub role: Role,
    pub via: Via,
    pub client: Client,
}

/// How it was proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    /// A cookie: what it sends needs a CSRF token.
    Session { id: i64 },
    /// `Authorization: Bearer pck_…`
    ApiKey { id: i64 },
    /// `Authorization: Bearer` with a JWT, signed by this key.
    Token { kid: String },
    /// Control itself: hot reload, import, start.
    Box,
}

impl Actor {
    /// For what nobody asked for: `hot-reload`, `control`.
    pub fn the_box(name: &str) -> Self {
        Actor { user: name.to_owned(), role: Role::Operator, via: Via::Box, client: Client::default() }
    }

    pub fn principal(&self) -> Principal {
        Principal {
            name: self.user.clone(),
            address: self.client.address.map(|address| address.to_string()),
            connected_at: self.client.connected_at,
        }
    }
}
