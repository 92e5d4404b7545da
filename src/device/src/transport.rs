use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

use crate::command::{self, End, Limits, Stream, quote, telling};
use crate::facts::{self, Facts};
use crate::{Error, Result};

/// Whether a file had to travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It did.
    Sent,
    /// The same file was there.
    There,
}

/// A machine that runs commands and takes and gives files.
///
/// Commands are for a POSIX shell as small as a phone's. An error [`Error::Lost`] means that the connection went away
/// and that [`Device::connect`] may bring it back.
pub trait Device: Send {
    /// Name for people, as in `--target`.
    fn name(&self) -> &str;

    /// Folder on the device in which programs may be started; made by [`Device::push`].
    fn folder(&self) -> &str;

    /// One attempt to get the connection (back).
    fn connect(&mut self) -> Result<()>;

    /// Runs a command, with each line as it comes; returns its exit code.
    fn exec(&mut self, command: &str, limits: &Limits<'_>, on_line: &mut dyn FnMut(Stream, &str)) -> Result<i32>;

    /// Copies a file there.
    fn send(&mut self, file: &Path, to: &str) -> Result<()>;

    /// Copies a file here.
    fn fetch(&mut self, from: &str, file: &Path) -> Result<()>;

    /// Standard output of a command that answers at once and must succeed.
    fn shell(&mut self, command: &str) -> Result<String> {
        let (mut out, mut said) = (String::new(), String::new());
        let code = self.exec(command, &Limits::short(), &mut |stream, line| match stream {
            Stream::Out => out.extend([line, "\n"]),
            Stream::Err => said = format!(": {line}"),
        })?;
        if code == 0 {
            return Ok(out);
        }
        let command = command.lines().next().unwrap_or_default().chars().take(60).collect();
        Err(Error::Command { device: self.name().to_owned(), command, code, said })
    }

    /// Brings a file into the folder under a name, executable, unless a file with its checksum is there.
    fn push(&mut self, file: &Path, name: &str) -> Result<Pushed> {
        let bytes = std::fs::read(file).map_err(Error::io("read", file))?;
        let wanted = sha256(&bytes);
        let (folder, to) = (self.folder().to_owned(), format!("{}/{name}", self.folder()));
        // A device without sha256sum gets the file each time.
        let there = self.shell(&format!("mkdir -p {}; sha256sum {} 2>/dev/null; true", quote(&folder), quote(&to)))?;
        if there.split_whitespace().next() == Some(&wanted) {
            return Ok(Pushed::There);
        }
        // Not over the old file: it may be running, and a cut cable leaves no half file under the name.
        let part = format!("{to}.part");
        self.send(file, &part)?;
        self.shell(&format!("chmod 755 {0} && mv -f {0} {1}", quote(&part), quote(&to)))?;
        Ok(Pushed::Sent)
    }

    /// Removes files and folders of the work folder, there or not, and the work folder when nothing else is in it.
    fn remove(&mut self, names: &[&str]) -> Result<()> {
        let folder = self.folder().to_owned();
        let paths: Vec<String> = names.iter().map(|name| quote(&format!("{folder}/{name}"))).collect();
        self.shell(&format!("rm -rf {}; rmdir {} 2>/dev/null; true", paths.join(" "), quote(&folder))).map(drop)
    }

    /// What the device tells of itself; one short command.
    fn facts(&mut self) -> Result<Facts> {
        let script = facts::script(self.folder());
        Ok(Facts::parse(&self.shell(&script)?))
    }
}

/// SHA-256 as `sha256sum` writes it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// How a real device is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    Local,
    /// Serial number or `host:port`.
    Adb(String),
    /// Options and `user@host`.
    Ssh(Vec<String>),
}

/// This machine, a phone or a board.
#[derive(Debug, Clone)]
pub(crate) struct System {
    name: String,
    folder: String,
    way: Way,
}

/// A program and options from a variable, else a name.
fn words(variable: &str, usual: &str) -> Vec<String> {
    let set = std::env::var(variable).ok().filter(|v| !v.trim().is_empty());
    set.unwrap_or_else(|| usual.to_owned()).split_whitespace().map(str::to_owned).collect()
}

fn program(words: &[String]) -> Command {
    let mut command = Command::new(words.first().map_or("", String::as_str));
    command.args(words.get(1..).unwrap_or_default());
    command
}

/// The `adb` of this machine.
pub(crate) fn adb() -> Command {
    let mut command = program(&words("INAS_ADB", "adb"));
    command.env("ADB_MDNS", "0");
    command
}

pub(crate) fn cannot_start(child: &Command) -> impl FnOnce(std::io::Error) -> Error {
    let program = child.get_program().to_string_lossy().into_owned();
    let remedy = match program.rsplit('/').next().unwrap_or_default() {
        "adb" => "install Android's platform tools (Debian and Ubuntu: `apt install adb`)",
        "ssh" => "install an ssh client (Debian and Ubuntu: `apt install openssh-client`)",
        _ => "see INAS_ADB and INAS_SSH",
    };
    move |source| Error::Program { program, remedy, source }
}

impl System {
    pub(crate) fn local() -> Self {
        let user = std::env::var("USER").unwrap_or_else(|_| "user".into());
        let folder = std::env::temp_dir().join(format!("inas-device-{user}"));
        Self { name: "local".into(), folder: folder.display().to_string(), way: Way::Local }
    }

    pub(crate) fn adb(serial: String) -> Self {
        // The only folder of a phone whose files its shell may start.
        Self { name: format!("adb:{serial}"), folder: "/data/local/tmp/inas".into(), way: Way::Adb(serial) }
    }

    pub(crate) fn ssh(login: &str, port: Option<u16>) -> Self {
        let name = port.map_or_else(|| format!("ssh:{login}"), |port| format!("ssh:{login}:{port}"));
        let mut options: Vec<String> =
            ["BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3"]
                .iter()
                .flat_map(|o| ["-o".to_owned(), (*o).to_owned()])
                .collect();
        options.push("-T".into());
        options.extend(port.into_iter().flat_map(|p| ["-p".to_owned(), p.to_string()]));
        options.push(login.to_owned());
        Self { name, folder: ".cache/inas".into(), way: Way::Ssh(options) }
    }

    pub(crate) fn in_folder(self, folder: Option<String>) -> Self {
        Self { folder: folder.unwrap_or(self.folder), ..self }
    }

    fn child(&self, command: &str) -> Command {
        match &self.way {
            Way::Local => {
                let mut child = Command::new("sh");
                child.args(["-c", command]);
                child
            }
            Way::Adb(serial) => {
                let mut child = adb();
                child.args(["-s", serial, "shell", command]);
                child
            }
            Way::Ssh(options) => {
                let mut child = program(&words("INAS_SSH", "ssh"));
                child.args(options).arg(command);
                child
            }
        }
    }

    fn ended(&self, end: End) -> Result<i32> {
        let device = self.name.clone();
        match end {
            End::Exit(code) => Ok(code),
            End::Lost(reason) => Err(Error::Lost { device, reason }),
            End::Silent => Err(Error::Lost { device, reason: "it no longer answers".into() }),
            End::Cancelled => Err(Error::Interrupted { device }),
        }
    }

    /// Runs `adb` itself; an error with its last words when it fails.
    fn adb_does(&self, arguments: &[&std::ffi::OsStr]) -> Result<String> {
        let mut child = adb();
        if let Way::Adb(serial) = &self.way {
            child.args(["-s", serial]);
        }
        let output = child.args(arguments).output().map_err(cannot_start(&child))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        let said = [text(&output.stderr), text(&output.stdout)].join(" ");
        Err(Error::Lost { device: self.name.clone(), reason: said.trim().to_owned() })
    }
}

impl Device for System {
    fn name(&self) -> &str {
        &self.name
    }

    fn folder(&self) -> &str {
        &self.folder
    }

    fn connect(&mut self) -> Result<()> {
        if let Way::Adb(serial) = &self.way {
            // Over the network the server forgets a device that went away.
            if serial.contains(':') {
                let mut child = adb();
                child.args(["connect", serial]).output().map_err(cannot_start(&child))?;
            }
            self.adb_does(&["get-state".as_ref()])?;
        }
        self.exec("true", &Limits::short(), &mut |_, _| ()).map(drop)
    }

    fn exec(&mut self, command: &str, limits: &Limits<'_>, on_line: &mut dyn FnMut(Stream, &str)) -> Result<i32> {
        let mut child = self.child(&telling(command));
        let end = command::run(&mut child, None, limits, on_line).map_err(cannot_start(&child))?;
        self.ended(end)
    }

    fn send(&mut self, file: &Path, to: &str) -> Result<()> {
        if matches!(self.way, Way::Adb(_)) {
            return self.adb_does(&["push".as_ref(), file.as_os_str(), to.as_ref()]).map(drop);
        }
        let input = std::fs::File::open(file).map_err(Error::io("read", file))?;
        let command = format!("cat > {}", quote(to));
        let mut child = self.child(&telling(&command));
        let mut said = String::new();
        let limits = Limits { silence: std::time::Duration::from_mins(10), ..Limits::short() };
        let end = command::run(&mut child, Some(input), &limits, &mut |_, line| said = format!(": {line}"));
        match self.ended(end.map_err(cannot_start(&child))?)? {
            0 => Ok(()),
            code => Err(Error::Command { device: self.name.clone(), command, code, said }),
        }
    }

    fn fetch(&mut self, from: &str, file: &Path) -> Result<()> {
        if matches!(self.way, Way::Adb(_)) {
            return self.adb_does(&["pull".as_ref(), from.as_ref(), file.as_os_str()]).map(drop);
        }
        let mut child = self.child(&format!("cat {}", quote(from)));
        let output = child.output().map_err(cannot_start(&child))?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::Lost { device: self.name.clone(), reason });
        }
        std::fs::write(file, output.stdout).map_err(Error::io("write", PathBuf::from(file)))
    }
}
