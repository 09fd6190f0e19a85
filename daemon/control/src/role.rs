//! Who may do what: one table, asked in one place.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::actor::Actor;
use crate::trouble::Trouble;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything, users too.
    Admin,
    /// Changes the policy and puts it into effect.
    Operator,
    /// Sees the box, changes nothing.
    Viewer,
    /// Sees the box, the users and the audit log, changes nothing.
    Auditor,
}

/// Everything that can be done. A route names exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Status, counters, policies, plan, explain, revisions, schema.
    View,
    /// Own password, sessions, keys and tokens.
    UseOwnAccount,
    /// Write the candidate.
    Edit,
    /// Apply, confirm, go back, look for drift.
    Apply,
    /// Set secrets, end flows of clients, probe upstreams.
    Operate,
    ViewUsers,
    /// Create, change, disable and remove users; others' sessions and keys.
    ManageUsers,
    /// Read, verify and export the audit log.
    Audit,
    /// Rotate the keys that sign tokens.
    RotateKeys,
    /// Install another version, boot the other slot, reboot.
    Update,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Admin, Role::Operator, Role::Viewer, Role::Auditor];

    pub fn name(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Operator => "operator",
            Role::Viewer => "viewer",
            Role::Auditor => "auditor",
        }
    }

    /// The table. Listed by action, so that a new action cannot be forgotten for a role.
    pub fn may(self, action: Action) -> bool {
        use Role::{Admin, Auditor, Operator, Viewer};
        let who: &[Role] = match action {
            Action::View => &[Admin, Operator, Viewer, Auditor],
            Action::UseOwnAccount => &[Admin, Operator, Viewer, Auditor],
            Action::Edit => &[Admin, Operator],
            Action::Apply => &[Admin, Operator],
            Action::Operate => &[Admin, Operator],
            Action::ViewUsers => &[Admin, Auditor],
            Action::ManageUsers => &[Admin],
            Action::Audit => &[Admin, Auditor],
            Action::RotateKeys => &[Admin],
            Action::Update => &[Admin],
        };
        who.contains(&self)
    }
}

impl Action {
    pub const ALL: [Action; 10] = [
        Action::View,
        Action::UseOwnAccount,
        Action::Edit,
        Action::Apply,
        Action::Operate,
        Action::ViewUsers,
        Action::ManageUsers,
        Action::Audit,
        Action::RotateKeys,
        Action::Update,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Action::View => "view",
            Action::UseOwnAccount => "use-own-account",
            Action::Edit => "edit",
            Action::Apply => "apply",
            Action::Operate => "operate",
            Action::ViewUsers => "view-users",
            Action::ManageUsers => "manage-users",
            Action::Audit => "audit",
            Action::RotateKeys => "rotate-keys",
            Action::Update => "update",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Action::View => "look at the box",
            Action::UseOwnAccount => "use an account",
            Action::Edit => "change the policy",
            Action::Apply => "apply, confirm or take back a policy",
            Action::Operate => "set secrets, end flows or probe upstreams",
            Action::ViewUsers => "see the users",
            Action::ManageUsers => "manage users",
            Action::Audit => "read the audit log",
            Action::RotateKeys => "rotate signing keys",
            Action::Update => "update or restart the box",
        }
    }
}

/// The one place where it is decided. The router asks it before any handler runs; pages ask it to hide what would be refused.
pub fn authorize(actor: &Actor, action: Action) -> Result<(), Trouble> {
    if actor.role.may(action) {
        return Ok(());
    }
    Err(Trouble::Forbidden(format!("the role {} may not {}; ask an admin", actor.role, action.sentence())))
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = Trouble;
    fn from_str(text: &str) -> Result<Self, Trouble> {
        let known = Role::ALL.into_iter().find(|role| role.name() == text);
        known.ok_or_else(|| Trouble::field("role", format!("must be admin, operator, viewer or auditor, not {text:?}")))
    }
}
