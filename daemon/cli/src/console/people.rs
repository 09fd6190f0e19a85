//! Users, their database, and login shells: asked of the rescue program, which needs no other process.

use policy::messages::rescue::RescueRequest;

use super::Console;
use super::terminal::{Answer, Gone};

impl Console {
    pub fn reset_password(&mut self) -> Result<(), Gone> {
        match self.peers.users() {
            Ok(users) => {
                if let Some(why) = users.damaged {
                    return self.tell(Err(format!("the database cannot be used: {why}\nChoose 14 to begin a new one.")));
                }
                if users.admins.is_empty() {
                    return self.tell(Err("there is no admin yet; set the box up with the code that status shows".to_owned()));
                }
                self.terminal.say(&format!("Admins: {}", users.admins.join(", ")))?;
            }
            Err(why) => return self.tell(Err(why)),
        }
        let Answer::Text(user) = self.terminal.ask("Whose password? Enter for nobody's:")? else {
            return self.terminal.say("Nothing was changed.");
        };
        let Answer::Text(password) = self.terminal.ask_unseen("New password, 12 characters or more (it is not shown):")? else {
            return self.terminal.say("Nothing was changed.");
        };
        let again = self.terminal.ask_unseen("The same again:")?;
        if again != Answer::Text(password.clone()) {
            return self.terminal.say("NOT DONE: the two are not the same.");
        }
        let done = self.peers.rescued(&RescueRequest::ResetPassword { user, password });
        self.tell(done)
    }

    pub fn new_database(&mut self) -> Result<(), Gone> {
        match self.peers.users() {
            Ok(users) => match users.damaged {
                None => return self.terminal.say("The database can be used, so there is no need for a new one."),
                Some(why) => self.terminal.say(&why)?,
            },
            Err(why) => return self.tell(Err(why)),
        }
        self.terminal.say(
            "A new database has no users, no revisions and no audit log; the damaged one is kept beside it. The policy that runs stays.",
        )?;
        if !self.terminal.is_sure("The box has to be set up again with a new code.")? {
            return self.terminal.say("Nothing was changed.");
        }
        let done = self.peers.rescued(&RescueRequest::StartAnew);
        self.tell(done)
    }

    pub fn shell(&mut self) -> Result<(), Gone> {
        let allowed = match self.peers.users() {
            Ok(users) => users.shell_allowed,
            Err(why) => return self.tell(Err(why)),
        };
        if !allowed {
            self.terminal.say("No login shell is allowed on this box. An admin may allow it.")?;
            return self.as_admin(|name, password| RescueRequest::AllowShell { allow: true, name, password });
        }
        let Answer::Text(choice) = self.terminal.ask("A login shell is allowed. Type open, forbid, or Enter for neither:")? else {
            return self.terminal.say("Nothing was changed.");
        };
        match choice.as_str() {
            "forbid" => {
                let forbid = RescueRequest::AllowShell { allow: false, name: String::new(), password: String::new() };
                let done = self.peers.rescued(&forbid);
                self.tell(done)
            }
            "open" => match own_terminal() {
                Some(terminal) => self.as_admin(|name, password| RescueRequest::OpenShell { terminal, name, password }),
                None => self.terminal.say("NOT DONE: a shell opens on the box's own screen or serial line alone."),
            },
            other => self.terminal.say(&format!("\"{other}\" is neither open nor forbid. Nothing was changed.")),
        }
    }

    fn as_admin(&mut self, request: impl FnOnce(String, String) -> RescueRequest) -> Result<(), Gone> {
        let Answer::Text(name) = self.terminal.ask("Admin's name, or Enter for nothing:")? else {
            return self.terminal.say("Nothing was changed.");
        };
        let Answer::Text(password) = self.terminal.ask_unseen("Password (it is not shown):")? else {
            return self.terminal.say("Nothing was changed.");
        };
        let done = self.peers.rescued(&request(name, password));
        self.tell(done)
    }
}

/// `ttyS0`, `tty1`; None over ssh.
fn own_terminal() -> Option<String> {
    let path = nix::unistd::ttyname(std::io::stdin()).ok()?;
    let name = path.strip_prefix("/dev").ok()?.to_str()?.to_owned();
    (name.starts_with("tty") && name.chars().all(|c| c.is_ascii_alphanumeric())).then_some(name)
}
