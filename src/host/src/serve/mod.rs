//! A model over HTTP.
//!
//! `POST /mask`, `/cutout` or `/blur` with a photo (PNG or JPEG) as the body gives a PNG; `GET /health` tells how it is;
//! `GET /` is a page to try it. Each request has a thread of its own, and there are never more than the limit: beyond it
//! they are refused at once, so that neither memory nor waiting grows without bound. A slow upload holds a place, but no
//! model.
//!
//! The work is arithmetic, so threads serve it as well as an asynchronous runtime would; `tiny_http` brings four small
//! crates.

mod picture;
mod places;

use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use inas_runtime::Model;
use serde_json::json;
use tiny_http::{Header, Method, Request, Response, Server};

use crate::picture::Picture;
use picture::{Refusal, make};
use places::{Models, Places};

/// The page; its script and style are inside, nothing is fetched from elsewhere.
const PAGE: &str = include_str!("page.html");

/// Whatever the page loads must come from this server.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob: data:; connect-src 'self'; frame-ancestors 'none'";

/// How often it is looked whether to stop.
const GLANCE: Duration = Duration::from_millis(100);

/// How long begun requests may take after it was told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// What a server allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests that wait beside those being worked on.
    pub queue: usize,
    /// Bytes of a photo's file.
    pub max_bytes: usize,
    /// Pixels of a photo.
    pub max_pixels: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { queue: 16, max_bytes: 20 << 20, max_pixels: 50_000_000 }
    }
}

/// A server that listens.
pub struct Listening {
    server: Server,
    address: SocketAddr,
}

/// What all requests share.
struct Shared {
    models: Models,
    places: Places,
    limits: Limits,
    name: String,
    done: AtomicU64,
    refused: AtomicU64,
}

/// Starts to listen.
pub fn listen(address: SocketAddr) -> io::Result<Listening> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    let server = Server::from_listener(listener, None).map_err(io::Error::other)?;
    Ok(Listening { server, address })
}

impl Listening {
    /// Where.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `models` (as many at once; `name` is what they are called) until `stop` is raised, then finishes what was
    /// begun.
    pub fn serve(self, models: Vec<Model>, name: String, limits: Limits, stop: &AtomicBool) -> io::Result<()> {
        let places = Places::new(limits.queue + models.len());
        let (done, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        let shared = Arc::new(Shared { models: Models::new(models), places, limits, name, done, refused });
        while !stop.load(Ordering::Relaxed) {
            if let Some(request) = self.server.recv_timeout(GLANCE)? {
                shared.route(request);
            }
        }
        drop(self.server);
        shared.places.wait_until_free(GRACE);
        Ok(())
    }
}

impl Shared {
    fn route(self: &Arc<Self>, request: Request) {
        let path = request.url().split('?').next().unwrap_or_default().to_owned();
        let picture = [Picture::Mask, Picture::Cutout, Picture::Blur].into_iter().find(|p| path[1..] == *p.name());
        match (request.method(), path.as_str(), picture) {
            (Method::Get | Method::Head, "/", _) => {
                let page = Response::from_string(PAGE).with_header(header("content-type", "text/html; charset=utf-8"));
                answer(request, page.with_header(header("content-security-policy", POLICY)));
            }
            (Method::Get | Method::Head, "/health", _) => {
                let health = Response::from_string(self.health());
                answer(request, health.with_header(header("content-type", "application/json")));
            }
            (Method::Post, _, Some(picture)) => self.post(request, picture),
            (_, "/" | "/health", _) | (_, _, Some(_)) => text(request, 405, "wrong method"),
            _ => text(request, 404, "there is /, /health, /mask, /cutout and /blur"),
        }
    }

    fn post(self: &Arc<Self>, request: Request, picture: Picture) {
        if request.body_length().is_some_and(|len| len > self.limits.max_bytes) {
            return text(request, 413, &format!("more than {} bytes", self.limits.max_bytes));
        }
        let Some(place) = self.places.take() else { return self.busy(request) };
        let shared = Arc::clone(self);
        let work = move || {
            shared.work(request, picture);
            drop(place);
        };
        // Without a thread the request is dropped, which closes its connection.
        let _ = std::thread::Builder::new().name("request".into()).spawn(work);
    }

    fn busy(&self, request: Request) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let busy = Response::from_string("too many requests wait; try again in a second\n").with_status_code(503);
        answer(request, busy.with_header(header("retry-after", "1")));
    }

    fn work(&self, mut request: Request, picture: Picture) {
        let mut photo = Vec::new();
        // A body without a length can be longer than allowed, too.
        let most = self.limits.max_bytes as u64 + 1;
        if let Err(error) = request.as_reader().take(most).read_to_end(&mut photo) {
            return text(request, 400, &format!("the upload broke off: {error}"));
        }
        if photo.len() as u64 == most {
            return text(request, 413, &format!("more than {} bytes", self.limits.max_bytes));
        }
        match make(&self.models, &photo, picture, self.limits.max_pixels) {
            Ok((png, inference)) => {
                self.done.fetch_add(1, Ordering::Relaxed);
                let timing = format!("inference;dur={:.2}", inference.as_secs_f64() * 1e3);
                let response = Response::from_data(png).with_header(header("content-type", "image/png"));
                answer(request, response.with_header(header("server-timing", &timing)));
            }
            Err(Refusal::Photo(reason)) => text(request, 400, &reason),
            Err(Refusal::Failed(reason)) => text(request, 500, &reason),
        }
    }

    fn health(&self) -> String {
        let health = json!({
            "status": "ok",
            "version": env!("CARGO_PKG_VERSION"),
            "model": self.name,
            "requests": self.places.taken(),
            "most_requests": self.places.all(),
            "done": self.done.load(Ordering::Relaxed),
            "refused": self.refused.load(Ordering::Relaxed),
            "max_bytes": self.limits.max_bytes,
        });
        health.to_string()
    }
}

fn text(request: Request, status: u16, text: &str) {
    answer(request, Response::from_string(format!("{text}\n")).with_status_code(status));
}

fn answer<R: io::Read>(request: Request, response: Response<R>) {
    let response = response.with_header(header("x-content-type-options", "nosniff")).with_chunked_threshold(usize::MAX);
    // Whoever asked may be gone.
    let _ = request.respond(response);
}

fn header(name: &str, value: &str) -> Header {
    #[expect(clippy::expect_used, reason = "names and values are this file's, all of them ASCII")]
    Header::from_bytes(name, value).expect("a header of ASCII")
}
