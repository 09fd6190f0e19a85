//! Users, their sessions and their keys.

use serde_json::json;

use super::{Shapes, flag, integer, list, object, of, optional, shape, text};

pub fn people() -> Shapes {
    let key = object(
        &["id", "prefix", "user", "name", "role", "createdAt", "expiresAt", "usedAt"],
        json!({
            "id": integer(), "prefix": text(), "user": text(), "name": text(), "role": of("Role"),
            "createdAt": integer(), "expiresAt": optional(integer()), "usedAt": optional(integer()),
        }),
    );
    vec![
        shape("Setup", object(&["code", "user", "password"], json!({ "code": text(), "user": text(), "password": text() }))),
        shape("Credentials", object(&["user", "password"], json!({ "user": text(), "password": text() }))),
        shape("Token", object(&["token", "expiresIn"], json!({ "token": text(), "expiresIn": integer() }))),
        shape(
            "Account",
            object(&["user", "role", "via", "may"], json!({ "user": text(), "role": of("Role"), "via": text(), "may": list(text()) })),
        ),
        shape("PasswordChange", object(&["old", "password"], json!({ "old": text(), "password": text() }))),
        shape(
            "Sessions",
            list(object(
                &["id", "user", "address", "agent", "createdAt", "seenAt"],
                json!({ "id": integer(), "user": text(), "address": optional(text()), "agent": text(), "createdAt": integer(), "seenAt": integer() }),
            )),
        ),
        shape("Key", key),
        shape("Keys", list(of("Key"))),
        shape("NewKey", object(&["name", "role"], json!({ "name": text(), "role": of("Role"), "days": optional(integer()) }))),
        shape("CreatedKey", object(&["key", "secret"], json!({ "key": of("Key"), "secret": text() }))),
        shape(
            "User",
            object(
                &["name", "role", "disabled", "createdAt", "passwordChangedAt", "lastLoginAt"],
                json!({
                    "name": text(), "role": of("Role"), "disabled": flag(),
                    "createdAt": integer(), "passwordChangedAt": integer(), "lastLoginAt": optional(integer()),
                }),
            ),
        ),
        shape("Users", list(of("User"))),
        shape("NewUser", object(&["name", "role", "password"], json!({ "name": text(), "role": of("Role"), "password": text() }))),
        shape("UserChange", object(&[], json!({ "role": of("Role"), "disabled": flag(), "password": text() }))),
        shape(
            "SigningKey",
            object(&["kid", "createdAt", "retiredAt"], json!({ "kid": text(), "createdAt": integer(), "retiredAt": optional(integer()) })),
        ),
        shape("SigningKeys", list(of("SigningKey"))),
    ]
}
