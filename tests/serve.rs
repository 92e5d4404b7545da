//! `inas serve` over plain HTTP and in a browser.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A program that is stopped when the test ends.
struct Running {
    child: Child,
    address: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn server(args: &[&str]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inas"));
    command.args(["serve", "--listen", "127.0.0.1:0"]).args(args).current_dir(root());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
    Running { child, address }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One request on a connection of its own.
fn request(address: &str, method: &str, path: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A server that refuses a body need not read it.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let mut chunk = [0; 8192];
    let end = |answer: &[u8]| answer.windows(4).position(|w| w == b"\r\n\r\n");
    let length = |head: &str| {
        let line = head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned));
        line.and_then(|l| l.trim().parse::<usize>().ok())
    };
    loop {
        if let Some(at) = end(&answer) {
            let head = String::from_utf8_lossy(&answer[..at]).into_owned();
            if length(&head).is_some_and(|len| answer.len() >= at + 4 + len) {
                break;
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(n) => answer.extend(&chunk[..n]),
        }
    }
    let at =
        end(&answer).unwrap_or_else(|| panic!("no answer to {method} {path}: {}", String::from_utf8_lossy(&answer)));
    let head = String::from_utf8_lossy(&answer[..at]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: answer[at + 4..].to_vec() }
}

fn health(address: &str) -> serde_json::Value {
    let answer = request(address, "GET", "/health", b"");
    assert_eq!(answer.status, 200);
    serde_json::from_slice(&answer.body).unwrap()
}

fn photo() -> PathBuf {
    let photos = root().join("data/photos");
    let mut found: Vec<PathBuf> = std::fs::read_dir(photos).unwrap().map(|e| e.unwrap().path()).collect();
    found.retain(|p| p.extension().is_some_and(|e| e == "jpg"));
    found.sort();
    found.remove(0)
}

/// A large photo that takes a while.
fn large(width: u32, height: u32) -> Vec<u8> {
    let picture = image::RgbImage::from_fn(width, height, |x, y| image::Rgb([(x % 251) as u8, (y % 241) as u8, 60]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

#[test]
fn photos_become_the_pictures_that_inas_run_makes() {
    let server = server(&[]);
    let folder = tempfile::tempdir().unwrap();
    let photo = photo();
    let mut run = Command::new(env!("CARGO_BIN_EXE_inas"));
    run.args(["run", "--write", "mask,cutout,blur", "-o"]).arg(folder.path()).arg(&photo).stdout(Stdio::null());
    assert!(run.status().unwrap().success());
    let stem = photo.file_stem().unwrap().to_str().unwrap().to_owned();
    for kind in ["mask", "cutout", "blur"] {
        let answer = request(&server.address, "POST", &format!("/{kind}"), &std::fs::read(&photo).unwrap());
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.head.contains("content-type: image/png") && answer.head.contains("inference;dur="));
        let wanted = image::open(folder.path().join(format!("{stem}_{kind}.png"))).unwrap();
        assert_eq!(image::load_from_memory(&answer.body).unwrap(), wanted, "{kind}");
    }
    let health = health(&server.address);
    assert_eq!((&health["status"], &health["done"], &health["requests"]), (&"ok".into(), &3.into(), &0.into()));
}

#[test]
fn what_is_wrong_is_told_with_its_status() {
    let server = server(&["--max-upload", "1", "--max-pixels", "1"]);
    let status = |method: &str, path: &str, body: &[u8]| {
        let answer = request(&server.address, method, path, body);
        (answer.status, answer.text())
    };
    let (code, text) = status("POST", "/mask", b"no photo");
    assert!(code == 400 && text.contains("PNG or JPEG"), "{code} {text}");
    assert_eq!(status("POST", "/mask", b"").0, 400);
    let whole = std::fs::read(photo()).unwrap();
    let mut png = std::io::Cursor::new(Vec::new());
    image::open(photo()).unwrap().thumbnail(200, 200).write_to(&mut png, image::ImageFormat::Png).unwrap();
    assert_eq!(status("POST", "/mask", &png.get_ref()[..png.get_ref().len() / 2]).0, 400, "a photo that is cut off");
    let (code, text) = status("POST", "/mask", &large(1200, 900));
    assert!(code == 400 && text.contains("1200 x 900 pixels"), "{code} {text}");
    assert_eq!(status("POST", "/mask", &vec![0; 3 << 20]).0, 413);
    assert_eq!(status("GET", "/mask", b"").0, 405);
    assert_eq!(status("GET", "/nothing", b"").0, 404);
    assert_eq!(status("POST", "/mask", &whole).0, 200, "the server goes on");
}

/// Everything that comes until the server closes the connection.
fn rest_of(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn clients_that_stall_lose_their_places() {
    let server = server(&["--queue", "1", "--jobs", "1", "--max-seconds", "3"]);
    let connect = || TcpStream::connect(&server.address).unwrap();
    let head = b"POST /mask HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n";
    // Both places: one upload stops, one trickles.
    let (mut stalled, mut trickling) = (connect(), connect());
    stalled.write_all(head).unwrap();
    stalled.write_all(b"ab").unwrap();
    trickling.write_all(head).unwrap();
    let start = Instant::now();
    while health(&server.address)["requests"] != 2 {
        assert!(start.elapsed() < Duration::from_secs(2), "uploads take places");
    }
    let whole = std::fs::read(photo()).unwrap();
    assert_eq!(request(&server.address, "POST", "/mask", &whole).status, 503);
    let mut writing = trickling.try_clone().unwrap();
    let trickle = std::thread::spawn(move || {
        while writing.write_all(b"x").is_ok() && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    assert!(rest_of(&mut stalled).starts_with("HTTP/1.1 408 "));
    let told = rest_of(&mut trickling);
    assert!(told.starts_with("HTTP/1.1 408 ") && told.contains("too slowly"), "{told}");
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    trickle.join().unwrap();
    assert_eq!(request(&server.address, "POST", "/mask", &whole).status, 200, "their places are free again");
    // What waits to be told to go on is told so; what never says how long it is, is refused.
    let mut polite = connect();
    let head =
        format!("POST /mask HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", whole.len());
    polite.write_all(head.as_bytes()).unwrap();
    let mut told = [0; 25];
    polite.read_exact(&mut told).unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    polite.write_all(&whole).unwrap();
    polite.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(rest_of(&mut polite).starts_with("HTTP/1.1 200 OK\r\n"));
    let mut chunked = connect();
    chunked.write_all(b"POST /mask HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    assert!(rest_of(&mut chunked).starts_with("HTTP/1.1 411 "));
}

#[test]
fn a_full_queue_refuses_at_once_and_an_interrupt_finishes_what_was_begun() {
    let mut server = server(&["--queue", "1", "--jobs", "1"]);
    let photo = large(4000, 3000);
    let codes: Vec<u16> = std::thread::scope(|scope| {
        let ask = || request(&server.address, "POST", "/cutout", &photo);
        let asked: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        asked
            .into_iter()
            .map(|a| a.join().unwrap())
            .map(|a| {
                assert!(a.status == 200 || a.head.contains("retry-after: 1"), "{}", a.head);
                a.status
            })
            .collect()
    });
    assert!(codes.iter().all(|c| [200, 503].contains(c)), "{codes:?}");
    assert!(codes.contains(&200) && codes.contains(&503), "{codes:?}");
    assert_eq!(health(&server.address)["refused"], codes.iter().filter(|c| **c == 503).count());

    let address = server.address.clone();
    let begun = std::thread::spawn(move || request(&address, "POST", "/mask", &photo));
    let start = Instant::now();
    while health(&server.address)["requests"] == 0 && start.elapsed() < Duration::from_millis(400) {}
    std::thread::sleep(Duration::from_millis(100));
    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(begun.join().unwrap().status, 200, "the photo in work is finished");
    assert!(server.child.wait().unwrap().success());
    assert!(TcpStream::connect(&server.address).is_err());
}

/// A browser behind its driver's interface (WebDriver: JSON over HTTP).
struct Browser {
    driver: Running,
    session: String,
}

impl Browser {
    fn open() -> Self {
        let missing = "chromedriver is missing; scripts/test installs it";
        let mut child = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).spawn().expect(missing);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            line.split_once("successfully on port ").map(|(_, port)| port.trim_end_matches('.').to_owned())
        });
        let driver = Running { child, address: format!("127.0.0.1:{}", port.expect("chromedriver tells its port")) };
        // It writes on, and must not block.
        std::thread::spawn(move || lines.for_each(drop));
        let arguments =
            ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1000,900"];
        let options = serde_json::json!({ "args": arguments });
        let wish = serde_json::json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let mut browser = Self { driver, session: String::new() };
        let session = browser.call("POST", "/session", &wish);
        session["sessionId"].as_str().unwrap().clone_into(&mut browser.session);
        browser
    }

    fn call(&self, method: &str, path: &str, body: &serde_json::Value) -> serde_json::Value {
        let answer = request(&self.driver.address, method, path, body.to_string().as_bytes());
        let value: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer.status, 200, "{path}: {value}");
        value["value"].clone()
    }

    fn post(&self, path: &str, body: &serde_json::Value) -> serde_json::Value {
        self.call("POST", &format!("/session/{}/{path}", self.session), body)
    }

    fn script(&self, script: &str, args: &serde_json::Value) -> serde_json::Value {
        self.post("execute/sync", &serde_json::json!({ "script": script, "args": args }))
    }

    /// Waits until a script gives true.
    fn wait(&self, script: &str) {
        let start = Instant::now();
        while self.script(script, &serde_json::json!([])) != true {
            let text = self.script("return document.getElementById('status').textContent", &serde_json::json!([]));
            assert!(start.elapsed() < Duration::from_secs(30), "{script}: {text}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let path = format!("/session/{}", self.session);
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            request(&self.driver.address, "DELETE", &path, b"")
        }));
    }
}

#[test]
fn a_person_drops_a_photo_and_sees_the_mask() {
    let server = server(&[]);
    let browser = Browser::open();
    browser.post("url", &serde_json::json!({ "url": format!("http://{}/", server.address) }));
    let photo = std::fs::read(photo()).unwrap();
    let size = image::load_from_memory(&photo).unwrap();
    // What a drop event carries cannot come from outside the page, so the page is handed the photo's bytes.
    let bytes: Vec<serde_json::Value> = photo.iter().map(|b| (*b).into()).collect();
    browser.script(
        "const files = new DataTransfer();
         files.items.add(new File([new Uint8Array(arguments[0])], 'photo.jpg', { type: 'image/jpeg' }));
         document.getElementById('drop').dispatchEvent(new DragEvent('drop', { dataTransfer: files, bubbles: true, cancelable: true }));",
        &serde_json::json!([bytes]),
    );
    browser.wait("return document.getElementById('status').textContent.startsWith('inference:')");
    // The picture on the screen: its size, and that it has dark and bright parts.
    let seen = browser.script(
        "const after = document.getElementById('after'), canvas = document.createElement('canvas');
         [canvas.width, canvas.height] = [after.naturalWidth, after.naturalHeight];
         const context = canvas.getContext('2d');
         context.drawImage(after, 0, 0);
         const grey = context.getImageData(0, 0, canvas.width, canvas.height).data.filter((_, i) => i % 4 == 0);
         const box = after.getBoundingClientRect();
         return [canvas.width, canvas.height, grey.reduce((a, b) => Math.min(a, b)), grey.reduce((a, b) => Math.max(a, b)), box.width > 100 && box.height > 50];",
        &serde_json::json!([]),
    );
    assert_eq!((&seen[0], &seen[1]), (&size.width().into(), &size.height().into()));
    assert!(seen[2].as_u64() < Some(60) && seen[3].as_u64() > Some(150) && seen[4] == true, "{seen}");
    if let Some(file) = std::env::var_os("INAS_SCREENSHOT") {
        let shot = browser.call("GET", &format!("/session/{}/screenshot", browser.session), &serde_json::json!({}));
        let script = "import base64,sys; open(sys.argv[1],'wb').write(base64.b64decode(sys.stdin.read()))";
        let mut python = Command::new("python3").args(["-c", script]).arg(file).stdin(Stdio::piped()).spawn().unwrap();
        python.stdin.take().unwrap().write_all(shot.as_str().unwrap().as_bytes()).unwrap();
        assert!(python.wait().unwrap().success());
    }

    // The other way: the file chooser, after the kind was changed by a click.
    let element = |css: &str| {
        let found = browser.post("element", &serde_json::json!({ "using": "css selector", "value": css }));
        found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned()
    };
    browser.post(&format!("element/{}/click", element("[value=cutout]")), &serde_json::json!({}));
    browser.wait("return document.getElementById('caption').textContent == 'cutout'");
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.png");
    std::fs::write(&text, "no picture").unwrap();
    browser
        .post(&format!("element/{}/value", element("#file")), &serde_json::json!({ "text": text.to_str().unwrap() }));
    browser.wait("return document.getElementById('status').textContent.includes('no picture') && document.getElementById('status').className == 'error'");
}
