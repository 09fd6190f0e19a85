//! Between the console and `rescue.sock`, behind which a program of control's own starts for each connection: it works on config.db
//! whether or not control itself runs.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "request", deny_unknown_fields)]
pub enum RescueRequest {
    Status,
    /// A new password for somebody who may sign in, who is signed out everywhere and enabled again.
    ResetPassword {
        user: String,
        password: String,
    },
    /// Puts a database that cannot be used aside and begins a new one, without users and with a set-up code.
    StartAnew,
    /// Whether a login shell may be opened at all. An admin says who they are to allow it; anybody at the console may forbid it.
    AllowShell {
        allow: bool,
        name: String,
        password: String,
    },
    /// Opens a login shell on a terminal (`ttyS0`, `tty1`) if it is allowed, for an admin.
    OpenShell {
        terminal: String,
        name: String,
        password: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "response")]
pub enum RescueResponse {
    Status(RescueStatus),
    /// Done, in words for the console.
    Done {
        text: String,
    },
    /// Nothing was changed.
    Refused {
        reason: String,
    },
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RescueStatus {
    /// Why config.db cannot be used.
    pub damaged: Option<String>,
    /// Who may sign in as admin.
    pub admins: Vec<String>,
    /// The one-time code, while there is no user.
    pub setup_code: Option<String>,
    pub shell_allowed: bool,
    /// What became of a seed file, line by line.
    pub seed: Vec<String>,
}
