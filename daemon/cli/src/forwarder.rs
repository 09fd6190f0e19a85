//! The forwarder's socket: one connection, one request, one answer.

use std::path::PathBuf;

use policy::messages::forwarder::{ForwarderRequest, ForwarderResponse};

use crate::applier::exchange;
use crate::trouble::Trouble;

/// Where the forwarder listens.
pub struct Forwarder {
    pub socket: PathBuf,
}

impl Forwarder {
    pub fn ask(&self, request: &ForwarderRequest) -> Result<ForwarderResponse, Trouble> {
        match exchange("forwarder", &self.socket, request)? {
            ForwarderResponse::Refused { reason } => Err(Trouble::Refused(reason)),
            answer => Ok(answer),
        }
    }

    pub fn unexpected(answer: ForwarderResponse) -> Trouble {
        let text = format!("{answer:?}");
        Trouble::Garbled(text.chars().take(200).collect())
    }
}
