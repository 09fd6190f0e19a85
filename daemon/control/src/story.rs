//! For tests: a site with a clock that is turned by hand, people of every role, and an applier that keeps the rules of the real one
//! without a kernel.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use policy::messages::forwarder::{Flow, ForwarderRequest, ForwarderResponse, ForwarderStatus};
use policy::messages::proxy::ProxyStatus;
use policy::messages::{ApplierRequest, ApplierResponse, Counters, Event, Generation, Inbox, Status, Trial, encode};
use policy::{Problems, Sources};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;

use crate::actor::{Actor, Via};
use crate::http::{Client, Method, Request, Response, Router};
use crate::pages::sample;
use crate::role::Role;
use crate::site::{Settings, Site};
use crate::{api_key, csrf, login, routes, session, user};

pub const PASSWORD: &str = "correct horse battery";
/// 2026-11-21 00:00 UTC
pub const START: u64 = 1_795_219_200_000;

pub struct Story {
    pub site: Site,
    pub router: Router,
    pub clock: Arc<AtomicU64>,
    pub box_: Arc<Mutex<FakeBox>>,
    pub forwarder: Arc<Mutex<FakeForwarder>>,
    pub folder: TempDir,
    keys: BTreeMap<Role, String>,
}

impl Default for Story {
    fn default() -> Self {
        Story::new()
    }
}

impl Story {
    /// A box that nobody has set up.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(START));
        let box_ = Arc::new(Mutex::new(FakeBox::new(clock.clone())));
        let socket = folder.path().join("applier.sock");
        let forwarder = Arc::new(Mutex::new(FakeForwarder::default()));
        listen(&socket, box_.clone(), |box_, request| (!box_.dead).then(|| box_.handle(request)));
        listen(&folder.path().join("forwarder.sock"), forwarder.clone(), FakeForwarder::handle);
        let settings = Settings {
            run_dir: folder.path().to_owned(),
            state_dir: folder.path().to_owned(),
            policy_dir: None,
            seed: folder.path().join("portcullis-seed.yaml"),
        };
        let (mut site, opened) = Site::open(settings, socket).unwrap();
        opened.unwrap();
        let hands = clock.clone();
        site.clock = Box::new(move || hands.load(Ordering::SeqCst));
        site.applier.poll(site.now());
        Story { site, router: routes::router(), clock, box_, forwarder, folder, keys: BTreeMap::new() }
    }

    /// With one user and one API key for each role, called as the role.
    pub fn with_people() -> Self {
        let mut story = Story::new();
        // One slow hash for all four.
        let hash = story.site.hasher.hash(PASSWORD).unwrap();
        for role in Role::ALL {
            let actor = story.actor(role);
            story.site.change(&actor, |ledger| user::insert(ledger, role.name(), role, &hash)).unwrap();
            let (_, key) = api_key::create(&story.site, &actor, "test", role, None).unwrap();
            story.keys.insert(role, key);
        }
        story
    }

    pub fn actor(&self, role: Role) -> Actor {
        Actor { user: role.name().to_owned(), role, via: Via::Box, client: self.client() }
    }

    /// An observer that watches, and has stored these lines: its own store and its own socket, in this process.
    pub fn watching(&self, lines: String) {
        use observer::{alerts::Alerts, keeper, queue::Queue, serve::Serve, sources, store};
        let folder = self.folder.path().join("observer");
        let mut store = store::Store::open(&folder, store::Limits::of(1 << 30)).unwrap();
        let shared = Arc::new(keeper::Shared::new(Alerts::open(&folder.join("alerts.db")).unwrap()));
        let queue = Arc::new(Queue::new(1 << 20));
        queue.push(sources::lines::Lines::default().push(lines.as_bytes(), 1).unwrap());
        queue.close();
        keeper::run(&queue, &mut store, &shared);
        let serve = Serve {
            queue,
            shelf: store.shelf.clone(),
            troubles: store.troubles.clone(),
            shared,
            gauges: vec![Arc::new(sources::Gauge::new("EVE socket"))],
            bytes_max: 1 << 30,
            allowed: vec![nix::unistd::getuid().as_raw()],
            open: std::sync::atomic::AtomicUsize::new(0),
        };
        Arc::new(serve).start(&self.folder.path().join("observer.sock")).unwrap();
    }

    /// Someone whose connection was accepted just now.
    pub fn client(&self) -> Client {
        Client { address: Some(IpAddr::from([192, 0, 2, 7])), connected_at: Some(self.clock.load(Ordering::SeqCst)) }
    }

    /// A box that carries clients: the policy, what applier and forwarder say of it, and two flows.
    pub fn carrying(&self) {
        {
            let mut box_ = self.box_.lock().unwrap();
            box_.install(sample::carried_policy(), "console");
            box_.proxy = Some(sample::proxy_status());
        }
        *self.forwarder.lock().unwrap() = FakeForwarder { status: Some(sample::forwarder_status()), flows: sample::flows() };
        self.poll();
        self.site.carried.forget();
    }

    pub fn later(&self, seconds: u64) {
        self.clock.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    pub fn poll(&self) {
        self.site.applier.poll(self.site.now());
        crate::revision::follow(&self.site, &self.site.applier.seen()).unwrap();
    }

    pub fn request(&self, method: Method, target: &str) -> Request {
        let mut request = Request::new(method, target, BTreeMap::from([("host".to_owned(), "box.example".to_owned())])).unwrap();
        request.client = self.client();
        // The story's requests are not what the rate limit is about.
        request.client.address = None;
        request
    }

    pub fn send(&self, request: &Request) -> Response {
        self.router.answer(&self.site, request)
    }

    /// As a program with a key of this role.
    pub fn api(&self, role: Role, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.request(method, &format!("/api/v1{path}"));
        request.headers.insert("authorization".to_owned(), format!("Bearer {}", self.keys[&role]));
        if let Some(body) = body {
            request.headers.insert("content-type".to_owned(), "application/json".to_owned());
            request.body = body.to_string().into_bytes();
        }
        answer(&self.send(&request))
    }

    pub fn key(&self, role: Role) -> &str {
        &self.keys[&role]
    }

    /// A signed-in browser: its cookie's secret.
    pub fn browser(&self, role: Role) -> String {
        let request = self.request(Method::Post, "/login");
        login::sign_in(&self.site, &request, role.name(), PASSWORD).unwrap()
    }

    pub fn with_cookie(&self, method: Method, target: &str, secret: &str) -> Request {
        let mut request = self.request(method, target);
        request.headers.insert("cookie".to_owned(), format!("{}={secret}", session::COOKIE));
        request
    }

    /// A form of our own page.
    pub fn form(&self, target: &str, secret: &str, fields: &str) -> Request {
        let mut request = self.with_cookie(Method::Post, target, secret);
        request.headers.insert("origin".to_owned(), "https://box.example".to_owned());
        request.headers.insert("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned());
        request.body = format!("csrf={}&{fields}", csrf::token(secret)).into_bytes();
        request
    }
}

pub fn answer(response: &Response) -> (u16, Value) {
    (response.status, serde_json::from_slice(response.bytes()).unwrap_or(Value::Null))
}

/// The smallest policy that passes, with this hostname.
pub fn policy(hostname: &str) -> Sources {
    let text = format!(
        "apiVersion: portcullis/v1\nkind: System\nmetadata: {{ name: system }}\nspec:\n  hostname: {hostname}\n  admin: {{ zones: [mgmt] }}\n---\n\
         apiVersion: portcullis/v1\nkind: Zone\nmetadata: {{ name: mgmt }}\nspec: {{}}\n---\n\
         apiVersion: portcullis/v1\nkind: Interface\nmetadata: {{ name: mgmt0 }}\nspec:\n  zone: mgmt\n  addresses: [192.168.77.1/24]\n"
    );
    let sources = Sources::single("box.yaml", text);
    if let Err(problems) = policy::judge(&sources) {
        panic!("the story's policy has problems:\n{problems}");
    }
    sources
}

/// The applier's rules about generations, trials and confirmations.
pub struct FakeBox {
    clock: Arc<AtomicU64>,
    generations: BTreeMap<u64, (Sources, Generation)>,
    running: Option<u64>,
    trial: Option<Trial>,
    last_event: Option<Event>,
    /// Answers nothing while set.
    pub dead: bool,
    /// Fails the next apply with this reason.
    pub fail_next: Option<String>,
    /// What it says of mapped clients; without one it carries none.
    pub proxy: Option<ProxyStatus>,
    /// By name, as somebody set them.
    pub secrets: BTreeMap<String, String>,
    pub ports: Vec<policy::messages::Port>,
}

impl FakeBox {
    fn new(clock: Arc<AtomicU64>) -> Self {
        FakeBox {
            clock,
            generations: BTreeMap::new(),
            running: None,
            trial: None,
            last_event: None,
            dead: false,
            fail_next: None,
            proxy: None,
            secrets: BTreeMap::new(),
            ports: Vec::new(),
        }
    }

    /// As someone at the console would.
    pub fn install(&mut self, sources: Sources, by: &str) -> u64 {
        let digest = policy::judge(&sources).unwrap().digest;
        let number = self.generations.len() as u64 + 1;
        let generation = Generation { number, digest, by: by.to_owned(), installed_at: self.now(), confirmed: true };
        self.generations.insert(number, (sources, generation));
        self.running = Some(number);
        number
    }

    fn now(&self) -> u64 {
        self.clock.load(Ordering::SeqCst)
    }

    fn last_confirmed(&self) -> Option<u64> {
        self.generations.iter().rev().find(|(_, (_, generation))| generation.confirmed).map(|(number, _)| *number)
    }

    fn expire(&mut self) {
        if self.trial.as_ref().is_some_and(|trial| trial.deadline <= self.now()) {
            self.end_trial("not confirmed in time");
        }
    }

    fn end_trial(&mut self, why: &str) -> u64 {
        self.trial = None;
        self.running = self.last_confirmed();
        self.last_event = Some(Event { at: self.now(), text: why.to_owned() });
        self.running.unwrap_or(0)
    }

    fn handle(&mut self, request: ApplierRequest) -> ApplierResponse {
        self.expire();
        let refused = |reason: &str| ApplierResponse::Refused { reason: reason.to_owned(), problems: Problems::default() };
        match request {
            ApplierRequest::Status => ApplierResponse::Status(Status {
                now: self.now(),
                running: self.running.map(|number| self.generations[&number].1.clone()),
                trial: self.trial.clone(),
                last_confirmed: self.last_confirmed(),
                last_event: self.last_event.clone(),
                drift: Vec::new(),
                kept: self.generations.values().map(|(_, generation)| generation.clone()).collect(),
                features: Vec::new(),
                safe_mode: None,
            }),
            ApplierRequest::Apply { sources, digest, confirm_within, by } => {
                if let Some(reason) = self.fail_next.take() {
                    return ApplierResponse::Failed { reason, generation: self.running.unwrap_or(0) };
                }
                match policy::judge(&sources) {
                    Err(problems) => return ApplierResponse::Refused { reason: "problems".to_owned(), problems },
                    Ok(judged) if judged.digest != digest => return refused("the digests differ"),
                    Ok(_) => {}
                }
                let back_to = self.last_confirmed();
                let generation = self.install(sources, &by.name);
                self.generations.get_mut(&generation).unwrap().1.confirmed = false;
                let deadline = self.now() + u64::from(confirm_within.unwrap_or(60)) * 1000;
                self.trial = Some(Trial { generation, by: by.name, installed_at: self.now(), deadline, back_to });
                ApplierResponse::OnTrial { generation, deadline, phases: BTreeMap::new() }
            }
            ApplierRequest::Confirm { generation, by } => match &self.trial {
                Some(trial)
                    if trial.generation == generation
                        && trial.by == by.name
                        && by.connected_at.is_none_or(|at| at > trial.installed_at) =>
                {
                    self.generations.get_mut(&generation).unwrap().1.confirmed = true;
                    self.trial = None;
                    ApplierResponse::Confirmed { generation }
                }
                Some(trial) if trial.by != by.name => refused("somebody else applied this"),
                _ => refused("not on trial, or over an old connection"),
            },
            ApplierRequest::GoBack { generation: None, .. } if self.trial.is_some() => {
                ApplierResponse::WentBack { generation: self.end_trial("taken back") }
            }
            ApplierRequest::GoBack { generation: Some(number), by } if self.generations.contains_key(&number) => {
                let sources = self.generations[&number].0.clone();
                let digest = self.generations[&number].1.digest.clone();
                self.handle(ApplierRequest::Apply { sources, digest, confirm_within: None, by })
            }
            ApplierRequest::GoBack { .. } => refused("there is nothing to go back from"),
            ApplierRequest::Sources { generation } => {
                match generation.or(self.running).and_then(|number| Some((number, self.generations.get(&number)?))) {
                    Some((generation, (sources, _))) => ApplierResponse::Sources { generation, sources: sources.clone() },
                    None => refused("no such generation"),
                }
            }
            ApplierRequest::Counters => ApplierResponse::Counters(Counters { at: self.now(), ..Counters::default() }),
            ApplierRequest::KernelRuleset => ApplierResponse::KernelRuleset { text: "table inet portcullis {\n}\n".to_owned() },
            ApplierRequest::CheckDrift => ApplierResponse::Drift { findings: Vec::new() },
            ApplierRequest::Proxy => {
                let known = self.proxy.clone().unwrap_or_default();
                let secrets = self.secrets.keys().cloned().collect();
                let missing = known.secrets_missing.iter().filter(|name| !self.secrets.contains_key(*name)).cloned().collect();
                ApplierResponse::Proxy(ProxyStatus { now: self.now(), secrets, secrets_missing: missing, ..known })
            }
            ApplierRequest::SetSecret { name, value, .. } => {
                if value.is_empty() {
                    self.secrets.remove(&name);
                } else {
                    self.secrets.insert(name, value);
                }
                ApplierResponse::Done
            }
            ApplierRequest::ProbeUpstreams { .. } => ApplierResponse::Done,
            ApplierRequest::SafeMode { .. } => refused("not in this story"),
            ApplierRequest::Ports => ApplierResponse::Ports { ports: self.ports.clone() },
        }
    }
}

/// A forwarder that carries nothing: the real one works on sockets that only a privileged applier can hand to it. It keeps what the
/// socket promises (filters, limits, refusals) over flows that a test made up.
#[derive(Debug, Default)]
pub struct FakeForwarder {
    /// None: nobody answers.
    pub status: Option<ForwarderStatus>,
    pub flows: Vec<Flow>,
}

impl FakeForwarder {
    fn handle(&mut self, request: ForwarderRequest) -> Option<ForwarderResponse> {
        let status = self.status.as_ref()?;
        let of = |flow: &Flow, wanted: Option<IpAddr>| wanted.is_none_or(|client| client == flow.client.ip());
        Some(match request {
            ForwarderRequest::Status => ForwarderResponse::Status(status.clone()),
            ForwarderRequest::Flows { mapping, client, limit } => {
                let wanted = |flow: &&Flow| mapping.as_ref().is_none_or(|mapping| *mapping == flow.mapping) && of(flow, client);
                let all: Vec<Flow> = self.flows.iter().filter(wanted).cloned().collect();
                let total = all.len() as u64;
                ForwarderResponse::Flows { flows: all.into_iter().take(limit as usize).collect(), total }
            }
            ForwarderRequest::Close { flow, client } => {
                let before = self.flows.len();
                self.flows.retain(|open| flow.is_some_and(|id| id != open.id) || (flow.is_none() && !of(open, client)));
                ForwarderResponse::Closed { flows: (before - self.flows.len()) as u64 }
            }
            ForwarderRequest::Probe { upstreams } => match upstreams.iter().find(|name| !status.upstreams.contains_key(*name)) {
                Some(stranger) => ForwarderResponse::Refused { reason: format!("there is no upstream {stranger}") },
                None => {
                    let wanted = status.upstreams.iter().filter(|(name, _)| upstreams.is_empty() || upstreams.contains(name));
                    ForwarderResponse::Probed { health: wanted.map(|(name, upstream)| (name.clone(), upstream.health.clone())).collect() }
                }
            },
        })
    }
}

/// `handle` answers; None hangs up without a word.
fn listen<S, Q, A>(socket: &Path, state: Arc<Mutex<S>>, handle: fn(&mut S, Q) -> Option<A>)
where
    S: Send + 'static,
    Q: DeserializeOwned + 'static,
    A: Serialize + 'static,
{
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, state) = (stream.unwrap(), state.clone());
            thread::spawn(move || converse(stream, &state, handle));
        }
    });
}

fn converse<S, Q: DeserializeOwned, A: Serialize>(mut stream: UnixStream, state: &Mutex<S>, handle: fn(&mut S, Q) -> Option<A>) {
    let (mut inbox, mut piece) = (Inbox::default(), [0; 4096]);
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        inbox.push(&piece[..length]);
        while let Ok(Some(request)) = inbox.take() {
            let Some(answer) = handle(&mut state.lock().unwrap(), request) else { return };
            stream.write_all(&encode(&answer).unwrap()).unwrap();
        }
    }
}
