//! The `inas` program: parse, call the library, print.

mod commands;
mod printer;

use std::process::ExitCode;

use clap::Parser;

use commands::Command;
use printer::Printer;

/// Find, measure and ship the fastest salient-object-detection network for your device.
///
/// Results go to standard output; progress, notes and hints to standard error.
///
/// Exit codes: 0 success, 1 the operation failed (or a check found a difference), 2 wrong usage, 130 interrupted
/// (what was done is kept; continue with --resume).
#[derive(Debug, Parser)]
#[command(name = "inas", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print results only, no progress and no notes.
    #[arg(long, short, global = true, display_order = 900)]
    quiet: bool,
}

/// Exit code of options that make no sense, as the parser's.
const WRONG_USAGE: u8 = 2;

/// Exit code of a run that was stopped with Ctrl-C.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    stop_idle_spinning();
    let cli = Cli::parse();
    let printer = Printer::new(cli.quiet);
    match cli.command.run(printer) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            Printer::error(&error);
            if commands::wrong_usage(&error) {
                return ExitCode::from(WRONG_USAGE);
            }
            if !commands::interrupted(&error) {
                return ExitCode::FAILURE;
            }
            if let Some(how) = cli.command.going_on() {
                printer.note(format_args!("hint: {how}"));
            }
            ExitCode::from(INTERRUPTED)
        }
    }
}

/// candle's helper threads spin for a while when idle, on the cores that the operators of `inas-nn` need.
fn stop_idle_spinning() {
    const LIMIT: &str = "CANDLE_BARRIER_POOL_SPIN_LIMIT";
    if std::env::var_os(LIMIT).is_none() {
        #[expect(unsafe_code, reason = "no other thread exists yet that could read the environment")]
        // SAFETY: called first thing in `main`.
        unsafe {
            std::env::set_var(LIMIT, "0");
        }
    }
}
