//! What ends with a reboot: asked of the updater, which alone may do it.

use policy::messages::updater::{FACTORY_RESET_PHRASE, UpdaterRequest, UpdaterResponse};

use super::Console;
use super::overview::slots;
use super::peers::{console, unexpected};
use super::terminal::{Answer, Gone};

impl Console {
    pub fn boot_other(&mut self) -> Result<(), Gone> {
        match self.peers.image() {
            Ok(image) => self.say_all(&slots(&image))?,
            Err(why) => return self.tell(Err(why)),
        }
        if !self.terminal.is_sure("The other slot is booted now, and the box is away for a minute.")? {
            return self.terminal.say("Nothing was changed.");
        }
        self.leave(&UpdaterRequest::BootOther { by: console() }, "The box reboots into the other slot.")
    }

    pub fn reboot(&mut self) -> Result<(), Gone> {
        if !self.terminal.is_sure("The box is away for a minute.")? {
            return self.terminal.say("Nothing was changed.");
        }
        self.leave(&UpdaterRequest::Reboot { by: console() }, "The box reboots.")
    }

    pub fn power_off(&mut self) -> Result<(), Gone> {
        if !self.terminal.is_sure("Somebody has to press its button to switch it on again.")? {
            return self.terminal.say("Nothing was changed.");
        }
        self.leave(&UpdaterRequest::PowerOff { by: console() }, "The box switches itself off.")
    }

    pub fn factory_reset(&mut self) -> Result<(), Gone> {
        self.terminal
            .say("Everything that this box was told and has learned is forgotten: policy, users, keys, logs. It reboots as a new box.")?;
        self.terminal.forget_what_was_typed();
        let Answer::Text(phrase) = self.terminal.ask(&format!("To do it, type: {FACTORY_RESET_PHRASE}\n>"))? else {
            return self.terminal.say("Nothing was changed.");
        };
        if phrase != FACTORY_RESET_PHRASE {
            return self.terminal.say("That is not the phrase. Nothing was changed.");
        }
        self.leave(&UpdaterRequest::FactoryReset { phrase, by: console() }, "The box forgets everything and reboots.")
    }

    fn leave(&mut self, request: &UpdaterRequest, text: &str) -> Result<(), Gone> {
        let done = match self.peers.updated(request, None) {
            Ok(UpdaterResponse::Done) => Ok(text.to_owned()),
            Ok(other) => Err(unexpected("updater", &other)),
            Err(why) => Err(format!("{why}. Without the updater, the box's own button is left: its policy survives that.")),
        };
        self.tell(done)
    }
}
