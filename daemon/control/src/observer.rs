//! The other end of the observer's socket: events and alerts. It is asked when somebody wants to know, never in the background.

use std::path::PathBuf;
use std::time::Duration;

use policy::messages::observer::{
    Alert, AlertFilter, Event, EventFilter, ObserverRequest, ObserverResponse, ObserverStatus, RawEvent, Suppression,
};

use crate::actor::Actor;
use crate::audit::Note;
use crate::peer;
use crate::site::Site;
use crate::trouble::Trouble;

pub struct Observer {
    socket: PathBuf,
}

/// A search is cut by the observer itself well before.
const PATIENCE: Duration = Duration::from_secs(3);

/// Events that match, and where older ones are, if there may be any.
#[derive(Debug, Default)]
pub struct Events {
    pub events: Vec<Event>,
    pub older: Option<u64>,
}

#[derive(Debug, Default)]
pub struct Alerts {
    pub alerts: Vec<Alert>,
    pub older: Option<u64>,
    /// How many nobody has acknowledged, whatever was asked for.
    pub open: u64,
}

impl Observer {
    pub fn new(socket: PathBuf) -> Self {
        Observer { socket }
    }

    pub fn status(&self) -> Result<ObserverStatus, Trouble> {
        match self.ask(&ObserverRequest::Status)? {
            ObserverResponse::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    pub fn events(&self, filter: EventFilter, before: Option<u64>, limit: u32) -> Result<Events, Trouble> {
        match self.ask(&ObserverRequest::Events { filter, before, limit })? {
            ObserverResponse::Events { events, more, resume } => {
                let older = resume.or_else(|| events.last().map(|event| event.id).filter(|_| more));
                Ok(Events { events, older })
            }
            other => Err(unexpected(&other)),
        }
    }

    pub fn event(&self, id: u64) -> Result<(Event, RawEvent), Trouble> {
        match self.ask(&ObserverRequest::Event { id })? {
            ObserverResponse::Event { event, raw } => Ok((*event, raw)),
            other => Err(unexpected(&other)),
        }
    }

    pub fn alerts(&self, filter: AlertFilter, before: Option<u64>, limit: u32) -> Result<Alerts, Trouble> {
        match self.ask(&ObserverRequest::Alerts { filter, before, limit })? {
            ObserverResponse::Alerts { alerts, more, open } => {
                let older = alerts.last().map(|alert| alert.id).filter(|_| more);
                Ok(Alerts { alerts, older, open })
            }
            other => Err(unexpected(&other)),
        }
    }

    pub fn alert(&self, id: u64) -> Result<Alert, Trouble> {
        match self.ask(&ObserverRequest::Alert { id })? {
            ObserverResponse::Alert { alert } => Ok(*alert),
            other => Err(unexpected(&other)),
        }
    }

    pub fn suppressions(&self) -> Result<Vec<Suppression>, Trouble> {
        match self.ask(&ObserverRequest::Suppressions)? {
            ObserverResponse::Suppressions { suppressions } => Ok(suppressions),
            other => Err(unexpected(&other)),
        }
    }

    fn changed(&self, request: &ObserverRequest) -> Result<u64, Trouble> {
        match self.ask(request)? {
            ObserverResponse::Done { changed } => Ok(changed),
            other => Err(unexpected(&other)),
        }
    }

    fn ask(&self, request: &ObserverRequest) -> Result<ObserverResponse, Trouble> {
        match peer::exchange(&self.socket, request, PATIENCE).map_err(|error| Trouble::ObserverAway(error.to_string()))? {
            ObserverResponse::Refused { reason } => Err(Trouble::NotFound(reason)),
            answer => Ok(answer),
        }
    }
}

/// Somebody has seen them; how many were open.
pub fn acknowledge(site: &Site, actor: &Actor, ids: Vec<u64>) -> Result<u64, Trouble> {
    if ids.is_empty() {
        return Err(Trouble::field("id", "no alert is named"));
    }
    let named: Vec<String> = ids.iter().take(20).map(u64::to_string).collect();
    let changed = site.observer.changed(&ObserverRequest::Acknowledge { ids, by: actor.user.clone() })?;
    let subject = format!("alert {}", named.join(", "));
    site.change(actor, |ledger| ledger.note(Note::new("alert.acknowledge", subject, format!("{changed} were open"))))?;
    Ok(changed)
}

/// No alerts of a rule for a time.
pub fn suppress(site: &Site, actor: &Actor, mut suppression: Suppression) -> Result<(), Trouble> {
    suppression.by.clone_from(&actor.user);
    let subject = suppression.rule.clone();
    let whom = suppression.source.map_or_else(|| "from anywhere".to_owned(), |source| format!("from {source}"));
    let detail = format!("{whom}: {}", suppression.reason);
    site.observer.changed(&ObserverRequest::Suppress { suppression })?;
    site.change(actor, |ledger| ledger.note(Note::new("alert.suppress", subject, detail)))
}

pub fn unsuppress(site: &Site, actor: &Actor, id: u64) -> Result<(), Trouble> {
    let removed = site.observer.changed(&ObserverRequest::Unsuppress { id })?;
    if removed == 0 {
        return Err(Trouble::NotFound(format!("there is no suppression {id}")));
    }
    site.change(actor, |ledger| ledger.note(Note::new("alert.unsuppress", format!("suppression {id}"), "alerts are raised again")))
}

fn unexpected(answer: &ObserverResponse) -> Trouble {
    let text: String = format!("{answer:?}").chars().take(200).collect();
    Trouble::Internal(format!("the observer gave an answer to another question: {text}"))
}
