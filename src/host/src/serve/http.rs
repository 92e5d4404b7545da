//! HTTP as far as the server needs it: one request a connection, and every wait has an end.
//!
//! The head is parsed by `httparse`, the parser of hyper. Frameworks for threads know no deadlines, so that a client that
//! stalls keeps a thread for good; those with deadlines bring an asynchronous runtime and some sixty crates.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// Longest head of a request, bytes.
const MAX_HEAD: usize = 16 << 10;

/// Header lines of a request at most.
const MAX_HEADERS: usize = 64;

/// Longest time for a head.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Longest time in which nothing comes or goes.
const PAUSE: Duration = Duration::from_secs(10);

/// How long a body that nobody wants is read, so that the answer is not lost with the connection.
const LINGER: Duration = Duration::from_secs(2);

/// A client; reading and writing fail with `TimedOut` once its time is over.
pub(super) struct Connection {
    stream: TcpStream,
    end: Instant,
    /// What came with the head behind it.
    rest: Vec<u8>,
}

/// What a request asks for.
pub(super) struct Head {
    pub(super) method: String,
    /// Without what follows a `?`.
    pub(super) path: String,
    /// Bytes of the body; `None` when they are not told.
    pub(super) length: Option<usize>,
    /// The client sends the body when it is told to go on.
    waits: bool,
}

/// What is sent back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// A line of text.
    pub(super) fn text(status: u16, text: &str) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", headers: vec![], body: format!("{text}\n").into_bytes() }
    }

    pub(super) fn new(kind: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, kind, headers: vec![], body: body.into() }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, end: Instant::now() + HEAD_TIME, rest: Vec::new() }
    }

    /// Gives what follows `time` from now on.
    pub(super) fn allow(&mut self, time: Duration) {
        self.end = Instant::now() + time;
    }

    /// Reads the head; `None` when the client left without a request or said nothing, an answer when it is none.
    pub(super) fn head(&mut self) -> Result<Head, Option<Answer>> {
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            match self.read(&mut chunk) {
                Ok(0) => return Err(None),
                Ok(n) => bytes.extend(&chunk[..n]),
                Err(e) if e.kind() == ErrorKind::TimedOut && !bytes.is_empty() => {
                    return Err(Some(Answer::text(408, "the request came too slowly")));
                }
                Err(_) => return Err(None),
            }
            if let Some((head, len)) = parse(&bytes).map_err(Some)? {
                self.rest = bytes.split_off(len);
                return Ok(head);
            }
            if bytes.len() >= MAX_HEAD {
                return Err(Some(Answer::text(431, "the request's head is too long")));
            }
        }
    }

    /// Reads a body of `length` bytes. Memory grows with what comes, not with what was announced.
    pub(super) fn body(&mut self, head: &Head, length: usize) -> io::Result<Vec<u8>> {
        let mut body = std::mem::take(&mut self.rest);
        if head.waits && body.is_empty() {
            self.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let missing = length.saturating_sub(body.len());
        let got = self.take(missing as u64).read_to_end(&mut body)?;
        if got < missing {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        body.truncate(length);
        Ok(body)
    }

    /// Sends an answer, the last of the connection.
    pub(super) fn send(&mut self, answer: &Answer, with_body: bool) -> io::Result<()> {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nconnection: close\r\nx-content-type-options: nosniff\r\ncontent-type: {}\r\ncontent-length: {}\r\n",
            answer.status,
            reason(answer.status),
            answer.kind,
            answer.body.len()
        );
        for (name, value) in &answer.headers {
            head.extend([*name, ": ", value.as_str(), "\r\n"]);
        }
        head.push_str("\r\n");
        self.write_all(head.as_bytes())?;
        if with_body {
            self.write_all(&answer.body)?;
        }
        Ok(())
    }

    /// Ends the connection. Closing it with bytes unread would tell the client that it broke, before it has read the answer.
    pub(super) fn close(mut self) {
        self.allow(LINGER);
        if self.stream.shutdown(Shutdown::Write).is_ok() {
            let _ = io::copy(&mut self, &mut io::sink());
        }
    }

    fn wait(&self) -> io::Result<Option<Duration>> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left.min(PAUSE))) }
    }
}

/// What systems call a timeout of a socket.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { error }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.wait()?)?;
        self.stream.read(buffer).map_err(timed_out)
    }
}

impl Write for Connection {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.wait()?)?;
        self.stream.write(buffer).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The head and its length, `None` while it is not whole.
fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Answer> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Answer::text(431, "the request has too many headers")),
        Err(error) => return Err(Answer::text(400, &format!("not a request of HTTP/1.1: {error}"))),
    };
    let values = |name: &'static str| {
        let named = request.headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name));
        named.map(|h| std::str::from_utf8(h.value).unwrap_or_default().trim())
    };
    let mut lengths = values("content-length").map(str::parse);
    let length = match (lengths.next(), lengths.next(), values("transfer-encoding").next()) {
        (Some(Ok(length)), None, None) => Some(length),
        (None, None, None) if request.method != Some("POST") => Some(0),
        // Not told, or coded otherwise, e.g. in chunks.
        (None, None, _) => None,
        _ => return Err(Answer::text(400, "the body's length is not told, or told twice")),
    };
    let path = request.path.unwrap_or_default();
    let head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        path: path.split('?').next().unwrap_or_default().to_owned(),
        length,
        waits: values("expect").any(|v| v.eq_ignore_ascii_case("100-continue")),
    };
    Ok(Some((head, len)))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Result<Option<(Head, usize)>, u16> {
        parse(text.as_bytes()).map_err(|answer| answer.status)
    }

    #[test]
    fn heads_are_read() {
        let text = "POST /mask?x=1 HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: 12\r\nExpect: 100-continue\r\n\r\nbody";
        let (head, len) = parsed(text).unwrap().unwrap();
        assert_eq!(
            (head.method.as_str(), head.path.as_str(), head.length, head.waits),
            ("POST", "/mask", Some(12), true)
        );
        assert_eq!(&text[len..], "body");
        assert_eq!(parsed("GET / HTTP/1.1\r\n\r\n").unwrap().unwrap().0.length, Some(0));
        assert_eq!(parsed("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap().unwrap().0.length, None);
        assert!(parsed(&text[..40]).unwrap().is_none());
    }

    #[test]
    fn what_is_no_head_is_refused() {
        let status = |text: &str| parsed(text).err();
        assert_eq!(status("\u{1}\u{2}\u{3} / HTTP/1.1\r\n\r\n"), Some(400));
        assert_eq!(status("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), Some(400));
        assert_eq!(status("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), Some(400));
        assert_eq!(status("POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), Some(400));
        assert_eq!(status(&format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1))), Some(431));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_head_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
