//! A child process whose lines are seen as they come, and that ends for sure.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long to look away before looking at the clock and the cancel flag.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Longest line kept, bytes; a device that sends garbage does not fill the memory.
const LONGEST_LINE: u64 = 1 << 20;

/// Words that follow a command, so that its exit code is known also over an `adb` that does not tell, and a cut
/// connection is told from a command that failed.
const EXIT: &str = "inas-exit ";

static NEVER: AtomicBool = AtomicBool::new(false);

/// When to give up on a command.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    /// Longest time without a line of output.
    pub silence: Duration,
    /// Raised to stop.
    pub cancel: &'a AtomicBool,
}

impl Limits<'static> {
    /// For commands that answer at once.
    pub fn short() -> Self {
        Self { silence: Duration::from_secs(30), cancel: &NEVER }
    }
}

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// How a child process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The command on the device ended with this exit code.
    Exit(i32),
    /// The connection ended first; the reason in its own words.
    Lost(String),
    /// No output for too long.
    Silent,
    /// Cancelled.
    Cancelled,
}

/// One word for a POSIX shell.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The command with its exit code told on standard output.
pub(crate) fn telling(command: &str) -> String {
    format!("( {command}\n); printf '\\n{EXIT}%s\\n' $?")
}

/// Runs a child whose command was made by [`telling`]; `input` becomes its standard input.
pub(crate) fn run(
    child: &mut Command,
    input: Option<File>,
    limits: &Limits<'_>,
    on_line: &mut dyn FnMut(Stream, &str),
) -> std::io::Result<End> {
    child.stdin(input.map_or_else(Stdio::null, Stdio::from)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn()?;
    let (sender, lines) = channel();
    // Not joined: a grandchild may keep a pipe open for long after the child has ended.
    for (stream, pipe) in [
        (Stream::Out, child.stdout.take().map(|p| Box::new(p) as Box<dyn Read + Send>)),
        (Stream::Err, child.stderr.take().map(|p| Box::new(p) as Box<dyn Read + Send>)),
    ] {
        let (Some(pipe), sender) = (pipe, sender.clone()) else { continue };
        std::thread::spawn(move || send_lines(pipe, stream, &sender));
    }
    drop(sender);
    // The connecting program speaks on standard error; old ones of adb on standard output.
    let (mut code, mut said, mut last, mut heard) = (None, String::new(), String::new(), Instant::now());
    let mut end = None;
    let mut ended = None;
    while end.is_none() {
        match lines.recv_timeout(LOOK_EVERY) {
            Ok((stream, line)) => {
                heard = Instant::now();
                let told = line.strip_prefix(EXIT).filter(|_| stream == Stream::Out);
                if let Some(told) = told.and_then(|t| t.trim().parse().ok()) {
                    code = Some(told);
                } else if !line.is_empty() {
                    on_line(stream, &line);
                    *(if stream == Stream::Err { &mut said } else { &mut last }) = line;
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if heard.elapsed() > limits.silence => end = Some(End::Silent),
            Err(RecvTimeoutError::Timeout) => {
                // What is still in the pipes after the child's end is read for one more moment.
                if ended.is_some() {
                    break;
                }
                ended = child.try_wait()?;
            }
        }
        if limits.cancel.load(Ordering::Relaxed) {
            end = Some(End::Cancelled);
        }
    }
    if end.is_some() {
        child.kill()?;
    }
    let status = child.wait()?;
    Ok(end.or(code.map(End::Exit)).unwrap_or_else(|| {
        let words = [said, last, status.to_string()].into_iter().find(|w| !w.is_empty());
        End::Lost(words.unwrap_or_default())
    }))
}

fn send_lines(pipe: Box<dyn Read + Send>, stream: Stream, sender: &Sender<(Stream, String)>) {
    let mut reader = BufReader::new(pipe);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let read = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes);
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim_end_matches(['\n', '\r']).to_owned();
        if !matches!(read, Ok(1..)) || sender.send((stream, line)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limits: &Limits<'_>) -> (End, Vec<String>) {
        let mut lines = Vec::new();
        let end = run(Command::new("sh").args(["-c", script]), None, limits, &mut |_, l| lines.push(l.to_owned()));
        (end.unwrap(), lines)
    }

    #[test]
    fn lines_and_exit_code_also_without_a_last_newline() {
        let (end, lines) = sh(&telling("echo a; printf b; exit 7"), &Limits::short());
        assert_eq!((end, lines), (End::Exit(7), vec!["a".into(), "b".into()]));
    }

    #[test]
    fn a_connection_that_ends_first_is_lost_with_its_last_words() {
        let (end, _) = sh("echo x; echo 'error: device offline' >&2; exit 1", &Limits::short());
        assert_eq!(end, End::Lost("error: device offline".into()));
        assert!(matches!(sh("exit 255", &Limits::short()).0, End::Lost(_)));
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let start = Instant::now();
        let limits = Limits { silence: Duration::from_millis(300), ..Limits::short() };
        assert_eq!(sh("sleep 60", &limits).0, End::Silent);
        let stop = AtomicBool::new(true);
        assert_eq!(sh("sleep 60", &Limits { cancel: &stop, ..Limits::short() }).0, End::Cancelled);
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn quoted_words_are_one_word() {
        for word in ["a b", "it's", "", "$HOME", "a/b-c"] {
            let (_, lines) = sh(&format!("printf '%s|' {}", quote(word)), &Limits::short());
            assert_eq!(lines, [format!("{word}|")]);
        }
    }

    #[test]
    fn binary_garbage_is_a_line() {
        let (end, lines) = sh(&telling(r"printf '\377\376\0x\n'"), &Limits::short());
        assert_eq!((end, lines.len()), (End::Exit(0), 1));
    }
}
