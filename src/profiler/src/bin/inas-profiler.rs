//! Measures block latencies on a device.
//!
//! Results go to standard output, progress and errors to standard error. Exit codes: 0 ok, 1 the operation failed,
//! 2 wrong usage, 130 interrupted (what was measured is kept; `profile --resume` goes on).

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use inas_profiler::{
    Backend, DeviceFacts, Error, Progress, Protocol, Result, RunOptions, RuntimeKind, bench_model, command_line, open,
    profile_space,
};
use inas_space::Space;

/// Pause between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Measures how long the blocks of a search space, or whole ONNX models, take on this machine.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 ok, 1 the operation failed, 2 wrong usage, 130 interrupted (profile --resume goes on)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure every block of a search space into a latency profile (a folder).
    Profile(ProfileArgs),
    /// Measure one ONNX model.
    Bench(BenchArgs),
    /// Print what is known of this machine, as JSON.
    Device,
}

#[derive(Args)]
struct ProfileArgs {
    /// Search space: a preset's name or a .toml file.
    #[arg(long, value_name = "NAME|FILE")]
    space: String,
    /// Side of the square input image, px; default: the space's.
    #[arg(long, value_name = "N")]
    px: Option<u32>,
    /// Folder for the profile.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Go on with an interrupted profile in the folder.
    #[arg(long)]
    resume: bool,
    /// Seed of weights, inputs and order.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Progress for programs: a JSON line for every block on standard error.
    #[arg(long)]
    json_progress: bool,
    #[command(flatten)]
    measuring: MeasuringArgs,
}

#[derive(Args)]
struct BenchArgs {
    /// The model; inputs must be float32, a batch left open is 1.
    model: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    measuring: MeasuringArgs,
}

#[derive(Args)]
struct MeasuringArgs {
    /// Runtime.
    #[arg(long, value_enum, default_value = "tract")]
    runtime: RuntimeKind,
    /// Threads of one inference.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Library of ONNX Runtime; default: ORT_DYLIB_PATH, then that of the Python package onnxruntime.
    #[arg(long, value_name = "PATH")]
    ort_lib: Option<PathBuf>,
    /// Runs before timing starts.
    #[arg(long, value_name = "RUNS", default_value_t = Protocol::default().warmup_runs)]
    warmup: usize,
    /// Timed runs at least.
    #[arg(long, value_name = "RUNS", default_value_t = Protocol::default().min_runs)]
    min_runs: usize,
    /// Timed runs at most.
    #[arg(long, value_name = "RUNS", default_value_t = Protocol::default().max_runs)]
    max_runs: usize,
    /// Time limit for the timed runs of one block or model, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = Protocol::default().max_seconds)]
    max_seconds: f64,
}

impl MeasuringArgs {
    fn protocol(&self) -> Result<Protocol> {
        let protocol = Protocol {
            warmup_runs: self.warmup,
            min_runs: self.min_runs,
            max_runs: self.max_runs,
            max_seconds: self.max_seconds,
            ..Protocol::default()
        };
        protocol.check()?;
        Ok(protocol)
    }

    fn backend(&self) -> Result<Box<dyn Backend>> {
        open(self.runtime, self.threads, self.ort_lib.as_deref())
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Profile(args) => profile(&args),
        Command::Bench(args) => bench(&args),
        Command::Device => {
            device();
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(match error {
                Error::Interrupted { .. } => 130,
                Error::Protocol { .. } | Error::Threads { .. } => 2,
                _ => 1,
            })
        }
    }
}

fn profile(args: &ProfileArgs) -> Result<()> {
    let protocol = args.measuring.protocol()?;
    let space = Space::load(&args.space)?;
    let backend = args.measuring.backend()?;
    let cancel = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&cancel);
    let handler = ctrlc::set_handler(move || seen.store(true, Ordering::Relaxed));
    if let Err(error) = handler {
        eprintln!("warning: interrupts end the program at once: {error}");
    }
    let options = RunOptions {
        protocol,
        seed: args.seed,
        dir: args.out.clone(),
        resume: args.resume,
        command: command_line(std::env::args()),
    };
    let px = args.px.unwrap_or(space.input_px);
    let mut last: Option<Instant> = None;
    let mut observer = |p: &Progress| {
        if args.json_progress {
            eprintln!("{}", progress_json(p));
            return;
        }
        if p.done < p.total && last.is_some_and(|t| t.elapsed() < PROGRESS_EVERY) {
            return;
        }
        last = Some(Instant::now());
        let (elapsed, eta) = (p.elapsed.as_secs_f64(), p.eta.as_secs_f64());
        eprintln!("{}/{} blocks, {elapsed:.0} s, {eta:.0} s left: {} {:.3} ms", p.done, p.total, p.key, p.median.ms());
    };
    let profile = profile_space(&space, px, backend.as_ref(), &options, &mut observer, &cancel)?;
    let rows = profile.rows();
    let noisy = rows.values().filter(|r| r.measurement.noisy).count();
    println!("{}: {} blocks of `{}` at {px} px, {noisy} noisy", args.out.display(), rows.len(), space.name);
    Ok(())
}

/// One line of `--json-progress`; times in seconds and microseconds.
fn progress_json(p: &Progress) -> serde_json::Value {
    serde_json::json!({
        "done": p.done,
        "total": p.total,
        "key": p.key,
        "median_us": p.median.0,
        "elapsed_s": p.elapsed.as_secs_f64(),
        "eta_s": p.eta.as_secs_f64(),
    })
}

fn bench(args: &BenchArgs) -> Result<()> {
    let protocol = args.measuring.protocol()?;
    let onnx =
        std::fs::read(&args.model).map_err(|source| Error::Io { action: "read", path: args.model.clone(), source })?;
    let backend = args.measuring.backend()?;
    let m = bench_model(&onnx, backend.as_ref(), &protocol)?;
    let (info, threads) = (backend.info(), backend.threads());
    if args.json {
        println!("{}", serde_json::json!({ "runtime": info, "threads": threads, "latency": m }));
        return Ok(());
    }
    let [median, low, high, p90, first] =
        [m.median_us, m.ci_low_us, m.ci_high_us, m.p90_us, m.first_us].map(|us| us / 1e3);
    let noisy = if m.noisy { ", noisy" } else { "" };
    println!(
        "{median:.3} ms median (95 % interval {low:.3}..{high:.3}), p90 {p90:.3}, first {first:.3}; {} samples of {}, \
         {} {}, threads {threads}{noisy}",
        m.runs, m.batch, info.name, info.version
    );
    Ok(())
}

fn device() {
    let facts = DeviceFacts::read();
    println!("{:#}", serde_json::json!({ "fingerprint": facts.fingerprint(), "facts": facts }));
}
