//! A model over HTTP.
//!
//! `POST /mask`, `/cutout` or `/blur` with a photo (PNG or JPEG) as the body gives a PNG; `GET /health` tells how it is;
//! `GET /` is a page to try it. Each connection has a thread of its own and carries one request. There are never more than
//! the limit: beyond it requests are refused at once, so that neither memory nor waiting grows without bound. Whoever
//! stalls or trickles loses the connection when its time is over, and holds no model until then.

mod http;
mod picture;
mod places;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use inas_runtime::Model;
use serde_json::json;

use crate::picture::Picture;
use http::{Answer, Connection, Head};
use picture::{Refusal, make};
use places::{Models, Place, Places};

/// The page; its script and style are inside, nothing is fetched from elsewhere.
const PAGE: &str = include_str!("page.html");

/// Whatever the page loads must come from this server.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob: data:; connect-src 'self'; frame-ancestors 'none'";

/// How often it is looked whether to stop.
const GLANCE: Duration = Duration::from_millis(100);

/// How long the last connection, its own, may take.
const WAKE: Duration = Duration::from_secs(1);

/// Connections beside those of requests in work: being opened, refused or closed.
const SPARE: usize = 64;

/// What a server allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests that wait beside those being worked on.
    pub queue: usize,
    /// Bytes of a photo's file.
    pub max_bytes: usize,
    /// Pixels of a photo.
    pub max_pixels: u64,
    /// Longest time for a photo to come, and for its picture to go.
    pub transfer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { queue: 16, max_bytes: 20 << 20, max_pixels: 50_000_000, transfer: Duration::from_mins(1) }
    }
}

/// A server that listens.
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
}

/// What all requests share.
struct Shared {
    models: Models,
    connections: Places,
    places: Places,
    limits: Limits,
    name: String,
    done: AtomicU64,
    refused: AtomicU64,
    stopped: AtomicBool,
}

/// Starts to listen.
pub fn listen(address: SocketAddr) -> io::Result<Listening> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    Ok(Listening { listener, address })
}

impl Listening {
    /// Where.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `models` (as many at once; `name` is what they are called) until `stop` is raised, then finishes what was
    /// begun.
    pub fn serve(self, models: Vec<Model>, name: String, limits: Limits, stop: &AtomicBool) -> io::Result<()> {
        let places = limits.queue + models.len();
        let shared = Arc::new(Shared {
            models: Models::new(models),
            connections: Places::new(places + SPARE),
            places: Places::new(places),
            limits,
            name,
            done: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        });
        let accepting = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("accept".into()).spawn(move || shared.accept(&self.listener))?
        };
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(GLANCE);
        }
        shared.stopped.store(true, Ordering::Relaxed);
        // It waits for a connection: this is one.
        if TcpStream::connect_timeout(&reachable(self.address), WAKE).is_ok() {
            let _ = accepting.join();
        }
        shared.places.wait_until_free(limits.transfer);
        Ok(())
    }
}

/// Where a server on this machine is reached that listens on `address`.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while !self.stopped.load(Ordering::Relaxed) {
            let Ok((stream, _)) = listener.accept() else {
                // The client left at once, or there are too many open files: those close in time.
                std::thread::sleep(GLANCE);
                continue;
            };
            let Some(connection) = self.connections.take() else {
                self.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let shared = Arc::clone(self);
            let work = move || {
                shared.talk(Connection::new(stream));
                drop(connection);
            };
            // Without a thread the connection is dropped, which closes it.
            let _ = std::thread::Builder::new().name("request".into()).spawn(work);
        }
    }

    /// One connection from its head to its end.
    fn talk(&self, mut connection: Connection) {
        let mut place = None;
        let (answer, with_body) = match connection.head() {
            Ok(head) => (self.route(&mut connection, &head, &mut place), head.method != "HEAD"),
            Err(Some(answer)) => (answer, true),
            Err(None) => return,
        };
        connection.allow(self.limits.transfer);
        let sent = connection.send(&answer, with_body);
        drop(place);
        // Whoever asked may be gone.
        if sent.is_ok() {
            connection.close();
        }
    }

    /// The answer to a request; `place` is kept until it is sent.
    fn route(&self, connection: &mut Connection, head: &Head, place: &mut Option<Place>) -> Answer {
        let picture = [Picture::Mask, Picture::Cutout, Picture::Blur]
            .into_iter()
            .find(|p| head.path.strip_prefix('/') == Some(p.name()));
        match (head.method.as_str(), head.path.as_str(), picture) {
            ("GET" | "HEAD", "/", _) => {
                Answer::new("text/html; charset=utf-8", PAGE).with("content-security-policy", POLICY)
            }
            ("GET" | "HEAD", "/health", _) => Answer::new("application/json", self.health()),
            ("POST", _, Some(picture)) => {
                *place = self.places.take();
                if place.is_some() {
                    return self.work(connection, head, picture);
                }
                self.refused.fetch_add(1, Ordering::Relaxed);
                Answer::text(503, "too many requests wait; try again in a second").with("retry-after", "1")
            }
            (_, "/" | "/health", _) | (_, _, Some(_)) => Answer::text(405, "wrong method"),
            _ => Answer::text(404, "there is /, /health, /mask, /cutout and /blur"),
        }
    }

    fn work(&self, connection: &mut Connection, head: &Head, picture: Picture) -> Answer {
        let Limits { max_bytes, max_pixels, transfer, .. } = self.limits;
        let Some(length) = head.length else { return Answer::text(411, "tell the photo's length") };
        if length > max_bytes {
            return Answer::text(413, &format!("more than {max_bytes} bytes"));
        }
        connection.allow(transfer);
        let photo = match connection.body(head, length) {
            Ok(photo) => photo,
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                return Answer::text(408, "the photo came too slowly");
            }
            Err(error) => return Answer::text(400, &format!("the upload broke off: {error}")),
        };
        match make(&self.models, &photo, picture, max_pixels) {
            Ok((png, inference)) => {
                self.done.fetch_add(1, Ordering::Relaxed);
                let timing = format!("inference;dur={:.2}", inference.as_secs_f64() * 1e3);
                Answer::new("image/png", png).with("server-timing", timing)
            }
            Err(Refusal::Photo(reason)) => Answer::text(400, &reason),
            Err(Refusal::Failed(reason)) => Answer::text(500, &reason),
        }
    }

    fn health(&self) -> String {
        let health = json!({
            "status": "ok",
            "version": env!("CARGO_PKG_VERSION"),
            "model": self.name,
            "requests": self.places.taken(),
            "most_requests": self.places.all(),
            "connections": self.connections.taken(),
            "done": self.done.load(Ordering::Relaxed),
            "refused": self.refused.load(Ordering::Relaxed),
            "max_bytes": self.limits.max_bytes,
        });
        health.to_string()
    }
}
