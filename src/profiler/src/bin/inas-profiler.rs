//! Measures block latencies on a device.
//!
//! Results go to standard output, progress and errors to standard error. Exit codes: 0 ok, 1 the operation failed,
//! 2 wrong usage, 130 interrupted (what was measured is kept; `profile --resume` goes on).

use std::fmt::Display;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use inas_profiler::affinity::CoreChoice;
use inas_profiler::backend::{ExecutionProvider, open_with};
use inas_profiler::{
    Backend, DeviceFacts, Error, Profile, Progress, Protocol, Result, RunOptions, RuntimeKind, bench_model,
    command_line, profile_space,
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
    /// Measure every block, with a JSON line for each on standard output as it is measured.
    Run(RunArgs),
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
    #[arg(long, short, value_name = "DIR")]
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
struct RunArgs {
    /// Search space: a preset's name or a .toml file.
    #[arg(long, value_name = "NAME|FILE")]
    space: String,
    /// Side of the square input image, px; default: the space's.
    #[arg(long, value_name = "N")]
    px: Option<u32>,
    /// Folder for the records, and for the profile in the end.
    #[arg(long, value_name = "DIR")]
    record: PathBuf,
    /// Go on with the records in the folder.
    #[arg(long)]
    resume: bool,
    /// Seed of weights, inputs and order.
    #[arg(long, default_value_t = 0)]
    seed: u64,
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
    /// ONNX Runtime's shared library; default: ORT_DYLIB_PATH, then a pip-installed onnxruntime.
    #[arg(long, value_name = "FILE")]
    ort_lib: Option<PathBuf>,
    /// Execution provider of ONNX Runtime; several in order of preference, the CPU does the rest.
    #[arg(long = "ep", value_enum, value_name = "NAME", value_delimiter = ',')]
    providers: Vec<ExecutionProvider>,
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
    /// Stop timing a block once the 95 % interval of its median is within this, percent.
    #[arg(long, value_name = "PERCENT", default_value_t = Protocol::default().target_ci * 100.0)]
    target_ci: f64,
    /// Runs with emptied caches, beside the warm ones; 0 leaves them out.
    #[arg(long, value_name = "RUNS", default_value_t = Protocol::default().cold_runs)]
    cold_runs: usize,
    /// Wait before a segment until the hottest sensor is below this, degrees Celsius.
    #[arg(long, value_name = "CELSIUS", default_value_t = 80.0)]
    max_celsius: f64,
    /// Passes over the blocks at most; those beside a slow sentinel are measured again.
    #[arg(long, default_value_t = Protocol::default().max_passes)]
    max_passes: usize,
    /// Stay on these cores: big, little, prime, or numbers such as 0,2-3.
    #[arg(long, value_name = "CORES")]
    cores: Option<CoreChoice>,
}

impl MeasuringArgs {
    /// Pins the process if asked to; the cores that it may use then.
    fn pin(&self) -> Result<Vec<usize>> {
        let Some(choice) = &self.cores else { return Ok(Vec::new()) };
        let facts = DeviceFacts::read();
        let pinning = choice.apply(&facts.cores, facts.logical_cores.unwrap_or(1))?;
        if !pinning.worked() {
            tell(format_args!(
                "warning: asked to stay on cores {:?}, but the system allows {:?}",
                pinning.asked, pinning.got
            ));
        }
        Ok(pinning.got)
    }

    fn protocol(&self) -> Result<Protocol> {
        let protocol = Protocol {
            warmup_runs: self.warmup,
            min_runs: self.min_runs,
            max_runs: self.max_runs,
            max_seconds: self.max_seconds,
            target_ci: self.target_ci / 100.0,
            cold_runs: self.cold_runs,
            max_celsius: Some(self.max_celsius),
            max_passes: self.max_passes,
            ..Protocol::default()
        };
        protocol.check()?;
        Ok(protocol)
    }

    fn backend(&self) -> Result<Box<dyn Backend>> {
        Ok(open_with(self.runtime, self.threads, self.ort_lib.as_deref(), &self.providers)?)
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Profile(args) => profile(&args),
        Command::Run(args) => run(&args),
        Command::Bench(args) => bench(&args),
        Command::Device => {
            device();
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(format_args!("error: {error}"));
            ExitCode::from(match error {
                Error::Interrupted { .. } => 130,
                Error::Protocol { .. } | Error::Backend(inas_backend::Error::Threads { .. }) => 2,
                _ => 1,
            })
        }
    }
}

/// Measures a space into a folder; returns the profile and the side of its input.
fn measure_space(
    (space, px): (&str, Option<u32>),
    measuring: &MeasuringArgs,
    (dir, resume, seed): (&Path, bool, u64),
    observer: &mut dyn FnMut(&Progress),
) -> Result<Profile> {
    let protocol = measuring.protocol()?;
    let space = Space::load(space)?;
    let cores = measuring.pin()?;
    let backend = measuring.backend()?;
    let cancel = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&cancel);
    let handler = ctrlc::set_handler(move || seen.store(true, Ordering::Relaxed));
    if let Err(error) = handler {
        tell(format_args!("warning: interrupts end the program at once: {error}"));
    }
    let command = command_line(std::env::args());
    let options = RunOptions { protocol, seed, dir: dir.to_owned(), resume, command, cores };
    profile_space(&space, px.unwrap_or(space.input_px), backend.as_ref(), &options, observer, &cancel)
}

fn profile(args: &ProfileArgs) -> Result<()> {
    let mut last: Option<Instant> = None;
    let mut observer = |p: &Progress| {
        if args.json_progress {
            tell(json(&p.line()));
            return;
        }
        if p.left > 0 && last.is_some_and(|t| t.elapsed() < PROGRESS_EVERY) {
            return;
        }
        last = Some(Instant::now());
        let (elapsed, eta) = (p.elapsed.as_secs_f64(), p.eta.as_secs_f64());
        let again = if p.done == p.total && p.left > 0 { ", again" } else { "" };
        tell(format_args!(
            "{}/{} blocks{again}, {elapsed:.0} s, {eta:.0} s left: {} {:.3} ms",
            p.done,
            p.total,
            p.key,
            p.median.ms()
        ));
    };
    let place = (args.out.as_path(), args.resume, args.seed);
    let profile = measure_space((&args.space, args.px), &args.measuring, place, &mut observer)?;
    result(summary(&args.out, &profile));
    Ok(())
}

fn summary(folder: &Path, profile: &Profile) -> String {
    let (rows, px) = (profile.rows(), profile.input_px());
    let noisy = rows.values().filter(|r| r.measurement.noisy).count();
    let limit = profile.facts().protocol.drift;
    let drifted = rows.values().filter(|r| r.drift > Some(limit)).count();
    let (folder, name) = (folder.display(), &profile.space().name);
    format!("{folder}: {} blocks of `{name}` at {px} px, {noisy} noisy, {drifted} beside a slow sentinel", rows.len())
}

fn run(args: &RunArgs) -> Result<()> {
    let mut observer = |p: &Progress| result(json(&p.line()));
    let place = (args.record.as_path(), args.resume, args.seed);
    let profile = measure_space((&args.space, args.px), &args.measuring, place, &mut observer)?;
    tell(summary(&args.record, &profile));
    Ok(())
}

/// A line of the result. A reader that has gone away does not end a run: the records are on the disk.
fn result(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The same for standard error.
fn tell(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn json(line: &impl serde::Serialize) -> String {
    serde_json::to_string(line).unwrap_or_default()
}

fn bench(args: &BenchArgs) -> Result<()> {
    let protocol = args.measuring.protocol()?;
    let onnx =
        std::fs::read(&args.model).map_err(|source| Error::Io { action: "read", path: args.model.clone(), source })?;
    let backend = args.measuring.backend()?;
    let m = bench_model(&onnx, backend.as_ref(), &protocol)?;
    let (info, threads) = (backend.info(), backend.threads());
    if args.json {
        result(serde_json::json!({ "runtime": info, "threads": threads, "latency": m }));
        return Ok(());
    }
    let [median, low, high, p90, first] =
        [m.median_us, m.ci_low_us, m.ci_high_us, m.p90_us, m.first_us].map(|us| us / 1e3);
    let noisy = if m.noisy { ", noisy" } else { "" };
    result(format_args!(
        "{median:.3} ms median (95 % interval {low:.3}..{high:.3}), p90 {p90:.3}, first {first:.3}; {} samples of {}, \
         {} {}, threads {threads}{noisy}",
        m.runs, m.batch, info.name, info.version
    ));
    Ok(())
}

fn device() {
    let facts = DeviceFacts::read();
    result(format_args!("{:#}", serde_json::json!({ "fingerprint": facts.fingerprint(), "facts": facts })));
}
