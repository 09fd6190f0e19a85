//! Trials and generations: confirm, end, go back; and safe mode.

use policy::messages::{ApplierRequest, ApplierResponse};

use super::Console;
use super::overview::generation;
use super::peers::{Said, console, unexpected};
use super::terminal::{Answer, Gone};

impl Console {
    pub fn confirm(&mut self) -> Result<(), Gone> {
        let done = self.peers.status().and_then(|status| {
            let trial = status.trial.ok_or("nothing is on trial, so there is nothing to confirm")?;
            match self.peers.change(&ApplierRequest::Confirm { generation: trial.generation, by: console() })? {
                ApplierResponse::Confirmed { generation } => {
                    Ok(format!("Generation {generation} is confirmed and stays, also after a restart."))
                }
                other => Err(unexpected("applier", &other)),
            }
        });
        self.tell(done)
    }

    pub fn end_trial(&mut self) -> Result<(), Gone> {
        let done = self.peers.status().and_then(|status| match status.trial {
            None => Err("nothing is on trial; for an earlier generation choose 4".to_owned()),
            Some(_) => self.go_back(None),
        });
        self.tell(done)
    }

    pub fn generations(&mut self) -> Result<(), Gone> {
        let status = match self.peers.status() {
            Ok(status) => status,
            Err(why) => return self.tell(Err(why)),
        };
        let kept: Vec<_> = status.kept.iter().filter(|kept| kept.confirmed).collect();
        if kept.is_empty() {
            return self.terminal.say("No generation was ever confirmed.");
        }
        for kept in &kept {
            self.terminal.say(&generation(kept, status.now))?;
        }
        let Answer::Text(choice) = self.terminal.ask("Which one should run on trial? Its number, or Enter for none:")? else {
            return self.terminal.say("Nothing was changed.");
        };
        match choice.parse::<u64>().ok().filter(|number| kept.iter().any(|kept| kept.number == *number)) {
            Some(number) => {
                let done = self.go_back(Some(number));
                self.tell(done)
            }
            None => self.terminal.say(&format!("\"{choice}\" is not the number of one of these. Nothing was changed.")),
        }
    }

    pub fn safe_mode(&mut self) -> Result<(), Gone> {
        let status = match self.peers.status() {
            Ok(status) => status,
            Err(why) => return self.tell(Err(why)),
        };
        if status.safe_mode.is_some() {
            if self.terminal.is_sure("Safe mode is on. Leaving it brings the confirmed generation back.")? {
                let done = self.go_back(None);
                return self.tell(done);
            }
            return self.terminal.say("Safe mode stays on.");
        }
        self.terminal.say("In safe mode nothing is forwarded, and only those who administer reach the box.")?;
        self.terminal.say("It stays on over restarts until it is left here.")?;
        if !self.terminal.is_sure("Everybody behind this box is cut off.")? {
            return self.terminal.say("Nothing was changed.");
        }
        let done = match self.peers.change(&ApplierRequest::SafeMode { by: console() }) {
            Ok(ApplierResponse::WentBack { generation: 0 }) => Ok("Safe mode is on.".to_owned()),
            Ok(other) => Err(unexpected("applier", &other)),
            Err(why) => Err(why),
        };
        self.tell(done)
    }

    fn go_back(&self, number: Option<u64>) -> Said<String> {
        match self.peers.change(&ApplierRequest::GoBack { generation: number, by: console() })? {
            ApplierResponse::WentBack { generation: 0 } => Ok("Done. The box is shut now: nothing is forwarded.".to_owned()),
            ApplierResponse::WentBack { generation } => Ok(format!("Generation {generation} runs again.")),
            ApplierResponse::OnTrial { generation, .. } => {
                Ok(format!("It runs on trial as generation {generation}. Confirm it with 2, or it goes back by itself."))
            }
            other => Err(unexpected("applier", &other)),
        }
    }
}
