//! The only file that knows tiny_http: a unix socket, a bounded number of workers, and streams of events.
//!
//! tiny_http alone trusts its clients with its memory and its threads (a body of 2^40 bytes ends the process). HAProxy
//! stands before it, is the only one that may open the socket, and lets through bounded, whole, well-formed requests.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, panic, thread};

use super::request::{Method, Request};
use super::response::{Body, Event, Events, Response};
use super::router::Router;
use super::upload;
use crate::site::Site;
use crate::trouble::Trouble;

/// Requests that are worked on at the same time. Logins block up to [`crate::password::WAITING`] of them.
const WORKERS: usize = 12;
/// Open event streams; each has a small thread of its own.
const MAX_STREAMS: usize = 48;
/// After this the browser connects again and proves again who it is.
const STREAM_LIFE: Duration = Duration::from_secs(300);

pub struct Server {
    inner: Arc<tiny_http::Server>,
    workers: Vec<thread::JoinHandle<()>>,
}

impl Server {
    pub fn start(socket: &Path, site: Arc<Site>, router: Arc<Router>) -> io::Result<Server> {
        let inner = tiny_http::Server::from_listener(listen(socket)?, None).map_err(io::Error::other)?;
        let inner = Arc::new(inner);
        let streams = Arc::new(AtomicUsize::new(0));
        let worker = |number: usize| {
            let (inner, site, router, streams) = (inner.clone(), site.clone(), router.clone(), streams.clone());
            thread::Builder::new().name(format!("http-{number}")).spawn(move || work(&inner, &site, &router, &streams))
        };
        let workers = (0..WORKERS).map(worker).collect::<io::Result<_>>()?;
        Ok(Server { inner, workers })
    }

    /// Returns when the server can serve no more; whoever started the process restarts it.
    pub fn wait(self) {
        for worker in self.workers {
            let _ = worker.join();
            // One worker that ends means that the accept thread is gone.
            for _ in 0..WORKERS {
                self.inner.unblock();
            }
        }
    }
}

/// Mode 0660: the front's group and nobody else.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

fn work(server: &tiny_http::Server, site: &Arc<Site>, router: &Router, streams: &Arc<AtomicUsize>) {
    while let Ok(mut incoming) = server.recv() {
        // A mistake of ours ends one request, never the pages.
        let response = panic::catch_unwind(panic::AssertUnwindSafe(|| answer(&mut incoming, site, router)));
        let response = response.unwrap_or_else(|_| Response::text(500, "Something went wrong in Portcullis; the log tells more."));
        drain(&mut incoming);
        respond(incoming, response, site, streams);
    }
}

fn answer(incoming: &mut tiny_http::Request, site: &Site, router: &Router) -> Response {
    let Some(method) = Method::from_name(incoming.method().as_str()) else {
        return Response::text(405, "this method is not known here");
    };
    let Some(mut request) = Request::new(method, incoming.url(), headers(incoming)) else {
        return Response::text(400, "this address cannot be read");
    };
    let admitted = match router.admit(site, &request) {
        Ok(admitted) => admitted,
        Err(response) => return response,
    };
    if admitted.takes_a_file() {
        // Each may be as large as all that is free: one after the other.
        let Ok(_one) = site.uploading.try_lock() else {
            return router.tell(
                site,
                &request,
                None,
                &Trouble::Conflict("another file is being uploaded: wait until it is there".to_owned()),
            );
        };
        let content_type = request.header("content-type").unwrap_or("").to_owned();
        return match upload::keep(&content_type, incoming.as_reader(), &site.settings.state_dir) {
            Ok(upload) => {
                request.upload = Some(Arc::new(upload));
                router.serve(site, &request, admitted)
            }
            Err(trouble) => router.tell(site, &request, None, &trouble),
        };
    }
    let limit = admitted.max_body();
    let read = incoming.as_reader().take(limit as u64 + 1).read_to_end(&mut request.body);
    match read {
        Ok(length) if length > limit => router.tell(site, &request, None, &Trouble::TooLarge(limit)),
        Ok(_) => router.serve(site, &request, admitted),
        Err(_) => Response::text(400, "the body ended early"),
    }
}

/// What is left of a body must not be read as the next request of this connection, nor be taken into memory at once, as tiny_http would.
fn drain(incoming: &mut tiny_http::Request) {
    // An error ends the connection, which is what is wanted then.
    let _ = io::copy(incoming.as_reader(), &mut io::sink());
}

fn headers(incoming: &tiny_http::Request) -> BTreeMap<String, String> {
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for header in incoming.headers() {
        let value = header.value.as_str();
        let joined = |earlier: &mut String| {
            earlier.push_str(", ");
            earlier.push_str(value);
        };
        headers.entry(header.field.as_str().as_str().to_ascii_lowercase()).and_modify(joined).or_insert_with(|| value.to_owned());
    }
    headers
}

fn respond(incoming: tiny_http::Request, response: Response, site: &Arc<Site>, streams: &Arc<AtomicUsize>) {
    let head: Vec<_> = response
        .headers
        .iter()
        .filter_map(|(name, value)| tiny_http::Header::from_bytes(for_the_front(name).as_bytes(), value.as_str().as_bytes()).ok())
        .collect();
    let status = tiny_http::StatusCode(response.status);
    let sent = match response.body {
        Body::Events(events) => return stream(incoming, events, &response.headers, site, streams),
        Body::Static(bytes) => incoming.respond(tiny_http::Response::new(status, head, bytes, Some(bytes.len()), None)),
        Body::Bytes(bytes) => {
            let length = bytes.len();
            incoming.respond(
                tiny_http::Response::new(status, head, io::Cursor::new(bytes), Some(length), None).with_chunked_threshold(usize::MAX),
            )
        }
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "an answer was not taken");
    }
}

/// tiny_http drops a `Connection` of ours, and HAProxy would keep it to itself: it closes the client's connection where this header asks.
fn for_the_front(name: &'static str) -> &'static str {
    if name == "Connection" { "X-Portcullis-Close" } else { name }
}

/// Events go out through a raw writer with our own head: tiny_http's `Response` would deliver all of them at the end.
fn stream(
    incoming: tiny_http::Request,
    events: Events,
    headers: &[(&'static str, super::HeaderValue)],
    site: &Arc<Site>,
    streams: &Arc<AtomicUsize>,
) {
    let open = Counted::new(streams);
    if open.number > MAX_STREAMS {
        let busy = tiny_http::Response::from_string("too many live pages are open").with_status_code(503);
        let _ = incoming.respond(busy);
        return;
    }
    let mut head = String::from("HTTP/1.1 200 OK\r\nConnection: close\r\nX-Accel-Buffering: no\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {}\r\n", value.as_str()));
    }
    head.push_str("\r\nretry: 3000\n\n");
    let (writer, site) = (incoming.into_writer(), site.clone());
    let run = move || {
        let _open = open;
        // An error means that nobody listens any more.
        let _ = pump(writer, &head, events, &site);
    };
    if let Err(error) = thread::Builder::new().name("events".to_owned()).stack_size(256 << 10).spawn(run) {
        tracing::warn!(%error, "a live page could not be served");
    }
}

fn pump(mut writer: Box<dyn Write + Send>, head: &str, mut events: Events, site: &Site) -> io::Result<()> {
    let until = Instant::now() + STREAM_LIFE;
    writer.write_all(head.as_bytes())?;
    let mut seen = 0;
    while Instant::now() < until && !site.ticks.stopped() {
        let due = events(site);
        let mut text: String = due.iter().map(|Event { name, data }| format!("event: {name}\ndata: {data}\n\n")).collect();
        if text.is_empty() {
            // Finds out whether anybody still listens.
            text.push_str(":\n\n");
        }
        writer.write_all(text.as_bytes())?;
        writer.flush()?;
        seen = site.ticks.wait(seen, Duration::from_secs(2));
    }
    Ok(())
}

/// One of the open streams, counted until it is dropped.
struct Counted {
    all: Arc<AtomicUsize>,
    number: usize,
}

impl Counted {
    fn new(all: &Arc<AtomicUsize>) -> Self {
        Counted { all: all.clone(), number: all.fetch_add(1, Ordering::SeqCst) + 1 }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::SeqCst);
    }
}
