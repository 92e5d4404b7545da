//! The only place that writes to the terminal.

use std::fmt::{Display, Write};
use std::io::{ErrorKind, Write as _};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// A hint that travels with an error and is printed below it.
#[derive(Debug)]
pub(crate) struct Hint(pub(crate) String);

impl Display for Hint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Results to standard output, everything else to standard error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    quiet: bool,
    /// Results are dropped too: the caller shows them in its own way.
    silent: bool,
}

impl Printer {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet, silent: false }
    }

    /// A printer for a step of a larger command, which shows the results itself.
    pub(crate) fn silent() -> Self {
        Self { quiet: true, silent: true }
    }

    /// A line of the result. A reader that has gone away is no error.
    pub(crate) fn result(self, line: impl Display) -> anyhow::Result<()> {
        if self.silent {
            return Ok(());
        }
        match writeln!(std::io::stdout(), "{line}") {
            Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// A line about what is going on.
    pub(crate) fn note(self, line: impl Display) {
        if !self.quiet {
            tell(line);
        }
    }

    /// An error with its causes, and the hints that came with it.
    pub(crate) fn error(error: &anyhow::Error) {
        let (mut causes, mut hints) = (Vec::new(), Vec::new());
        if let Some(hint) = error.downcast_ref::<Hint>() {
            hints.push(hint.to_string());
        }
        for cause in error.chain() {
            let text = cause.to_string();
            if hints.contains(&text) {
                continue;
            }
            // candle's errors carry a backtrace below their first line; many errors tell their source themselves.
            let line = text.lines().next().unwrap_or_default();
            if !causes.iter().any(|told: &String| told.contains(line)) {
                causes.push(line.to_owned());
            }
        }
        tell(format_args!("error: {}", causes.join(": ")));
        for hint in hints {
            tell(format_args!("hint: {hint}"));
        }
    }

    /// A place for several progress bars; hidden as a single one is.
    pub(crate) fn bars(self) -> MultiProgress {
        let target = if self.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        MultiProgress::with_draw_target(target)
    }

    /// A progress bar over `total` steps; hidden when quiet or when standard error is no terminal.
    pub(crate) fn bar(self, label: &str, total: u64) -> ProgressBar {
        let target = if self.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        // What matters less is last, since a narrow terminal cuts it off.
        let style =
            ProgressStyle::with_template("{prefix:>10} [{bar:16}] {pos}/{len}  {spent}, {left} left  {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .with_key("spent", |state: &ProgressState, text: &mut dyn Write| clock(state.elapsed(), text))
                .with_key("left", |state: &ProgressState, text: &mut dyn Write| clock(state.eta(), text));
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(label.to_owned());
        bar.enable_steady_tick(Duration::from_millis(500));
        bar
    }
}

/// A line on standard error. A run does not end because nobody reads what it tells.
fn tell(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Minutes and seconds, and hours from one on.
fn clock(time: Duration, text: &mut dyn Write) {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    // Writing to a text in memory does not fail.
    let _ = match hours {
        0 => write!(text, "{minutes}:{seconds:02}"),
        _ => write!(text, "{hours}:{minutes:02}:{seconds:02}"),
    };
}

/// Shows steps done and to do on a bar.
pub(crate) fn follow(bar: &ProgressBar) -> impl FnMut(usize, usize) + use<'_> {
    |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_to_the_second() {
        let told = |seconds| {
            let mut text = String::new();
            clock(Duration::from_secs(seconds), &mut text);
            text
        };
        assert_eq!([told(0), told(89), told(3599), told(36_061)], ["0:00", "1:29", "59:59", "10:01:01"]);
    }
}
