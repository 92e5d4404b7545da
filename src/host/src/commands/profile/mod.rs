//! `inas profile`

mod calibrate;
mod plan;
mod target;
mod verify;

pub(crate) use calibrate::DOUBTFUL_PERCENT;
pub(crate) use target::Args as TargetArgs;

use std::path::{Path, PathBuf};

use inas_profiler::DeviceFacts;
use inas_profiler::affinity::CoreChoice;
use inas_profiler::backend::{self, RuntimeKind};
use inas_profiler::measure::Protocol;
use inas_profiler::profile::Profile;
use inas_profiler::records::StreamLine;
use inas_profiler::run::{RunOptions, profile_space};
use inas_space::Space;

use super::cancel_flag;
use crate::printer::Printer;

/// `inas profile` itself, or one of its steps.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    step: Option<Step>,
    #[command(flatten)]
    args: Args,
}

#[derive(Debug, clap::Subcommand)]
enum Step {
    /// Say how long profiling will take, from a probe of a few blocks
    Plan(plan::Args),
    /// Measure whole networks and fit the profile's latency model on them
    Calibrate(calibrate::Args),
    /// Measure fresh random networks and compare them with the profile's predictions
    Verify(verify::Args),
}

/// Runs the step that was asked for; false when it worked but found something wrong.
pub(crate) fn dispatch(cli: &Cli, printer: Printer) -> anyhow::Result<bool> {
    match &cli.step {
        Some(Step::Plan(args)) => plan::run(args, printer),
        Some(Step::Calibrate(args)) => calibrate::run(args, printer),
        Some(Step::Verify(args)) => verify::run(args, printer),
        None if !cli.args.targets.is_empty() => target::run(&cli.args, printer),
        None => run(&cli.args, printer).map(|_| true),
    }
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Preset or space file (.toml).
    #[arg(long, default_value = "nano")]
    pub(super) space: String,
    /// Input side, px; default: the space's own.
    #[arg(long)]
    pub(super) px: Option<u32>,
    #[command(flatten)]
    pub(super) runtime: RuntimeArgs,
    /// Profile folder.
    // Optional only in the eyes of the parser: a step such as `plan` takes its place.
    #[arg(long, short, value_name = "DIR", required = true)]
    pub(super) out: Option<PathBuf>,
    /// Continue the measurement in the folder.
    #[arg(long)]
    pub(super) resume: bool,
    /// Runs per block at most.
    #[arg(long, default_value_t = Protocol::default().max_runs)]
    pub(super) max_runs: usize,
    /// Seconds per block at most.
    #[arg(long, default_value_t = Protocol::default().max_seconds)]
    pub(super) max_seconds: f64,
    #[command(flatten)]
    pub(super) care: CareArgs,
    /// Fit the profile on this many measured networks afterwards; 0 leaves the plain sum.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) calibrate: usize,
    /// Seed of the measuring order and of the blocks' weights.
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    #[command(flatten)]
    pub(super) targets: target::Args,
}

/// How carefully to measure.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CareArgs {
    /// Stop measuring a block once the 95 % interval of its median is within this, percent.
    #[arg(long, value_name = "PERCENT", default_value_t = Protocol::default().target_ci * 100.0)]
    pub(super) target_ci: f64,
    /// Runs with emptied caches, beside the warm ones; 0 leaves them out.
    #[arg(long, value_name = "RUNS", default_value_t = Protocol::default().cold_runs)]
    pub(super) cold_runs: usize,
    /// Wait until the hottest sensor is below this, degrees Celsius.
    #[arg(long, value_name = "CELSIUS", default_value_t = 80.0)]
    pub(super) max_celsius: f64,
    /// Passes at most: blocks beside a slow sentinel are measured again.
    #[arg(long, default_value_t = Protocol::default().max_passes)]
    pub(super) max_passes: usize,
    /// Stay on these cores: big, little, prime, or numbers such as 0,2-3.
    #[arg(long, value_name = "CORES")]
    pub(super) cores: Option<CoreChoice>,
}

impl Default for CareArgs {
    fn default() -> Self {
        let usual = Protocol::default();
        Self {
            target_ci: usual.target_ci * 100.0,
            cold_runs: usual.cold_runs,
            max_celsius: 80.0,
            max_passes: usual.max_passes,
            cores: None,
        }
    }
}

impl CareArgs {
    fn protocol(&self) -> Protocol {
        Protocol {
            target_ci: self.target_ci / 100.0,
            cold_runs: self.cold_runs,
            max_celsius: Some(self.max_celsius),
            max_passes: self.max_passes,
            ..Protocol::default()
        }
    }

    /// Pins the process if asked to; the cores that it may use then.
    fn pin(&self, printer: Printer) -> anyhow::Result<Vec<usize>> {
        match &self.cores {
            Some(choice) => pin(choice, printer),
            None => Ok(Vec::new()),
        }
    }
}

fn pin(choice: &CoreChoice, printer: Printer) -> anyhow::Result<Vec<usize>> {
    let facts = DeviceFacts::read();
    let pinning = choice.apply(&facts.cores, facts.logical_cores.unwrap_or(1))?;
    if !pinning.worked() {
        printer.note(format_args!(
            "warning: asked to stay on cores {:?}, but the system allows {:?}",
            pinning.asked, pinning.got
        ));
    }
    Ok(pinning.got)
}

/// Opens the runtime that a profile was measured with, and refuses another one or another machine.
pub(crate) fn open_as(
    profile: &Profile,
    ort_lib: Option<&Path>,
    printer: Printer,
) -> anyhow::Result<Box<dyn backend::Backend>> {
    let facts = profile.facts();
    let with = RuntimeArgs::of(profile, ort_lib, "this program")?;
    if !facts.cores.is_empty() {
        pin(&CoreChoice::List(facts.cores.iter().copied().collect()), printer)?;
    }
    let runtime = with.open()?;
    let here = DeviceFacts::read().fingerprint();
    let differing = [
        ("machine", facts.fingerprint == here, format!("{} there, {here} here", facts.fingerprint)),
        ("runtime", facts.runtime == runtime.info(), format!("{} there, {} here", facts.runtime, runtime.info())),
    ];
    if let Some((what, _, how)) = differing.iter().find(|d| !d.1) {
        return super::hint(
            Err(anyhow::anyhow!("the profile belongs to another {what}: {how}")),
            "measure networks where the profile was measured, or profile this machine first",
        );
    }
    Ok(runtime)
}

/// Load average over the last minute; 0 when the system does not tell.
pub(crate) fn load() -> f64 {
    inas_profiler::conditions::Conditions::read().load.unwrap_or(0.0)
}

/// Which runtime, with how many threads.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RuntimeArgs {
    /// Inference runtime.
    #[arg(long, value_enum, default_value_t = RuntimeKind::Tract)]
    pub(super) runtime: RuntimeKind,
    /// Threads of the runtime.
    #[arg(long, default_value_t = 1)]
    pub(super) threads: usize,
    /// ONNX Runtime's shared library; default: ORT_DYLIB_PATH, then a pip-installed onnxruntime.
    #[arg(long, value_name = "FILE")]
    pub(super) ort_lib: Option<PathBuf>,
    /// Execution provider of ONNX Runtime; several in order of preference, the CPU does the rest.
    #[arg(long = "ep", value_enum, value_name = "NAME", value_delimiter = ',')]
    pub(super) providers: Vec<backend::ExecutionProvider>,
}

impl RuntimeArgs {
    /// What a profile was measured with, for `program`, which must have that runtime.
    pub(super) fn of(profile: &Profile, ort_lib: Option<&Path>, program: &str) -> anyhow::Result<Self> {
        let facts = profile.facts();
        let runtime = match facts.runtime.name.as_str() {
            "tract" => RuntimeKind::Tract,
            "onnxruntime" => RuntimeKind::Ort,
            other => anyhow::bail!("the profile was measured with `{other}`, which {program} does not have"),
        };
        let providers = backend::ExecutionProvider::of(&facts.runtime);
        Ok(Self { runtime, threads: facts.threads, ort_lib: ort_lib.map(Path::to_owned), providers })
    }

    /// The same for `inas-profiler` on a device, whose library of ONNX Runtime is its own.
    pub(super) fn options(&self) -> Vec<String> {
        use clap::ValueEnum as _;
        let runtime = self.runtime.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
        let mut options: Vec<String> = vec!["--runtime".into(), runtime, "--threads".into(), self.threads.to_string()];
        options.extend(self.providers.iter().flat_map(|p| ["--ep".into(), p.name().to_owned()]));
        options
    }

    pub(super) fn open(&self) -> anyhow::Result<Box<dyn backend::Backend>> {
        Ok(backend::open_with(self.runtime, self.threads, self.ort_lib.as_deref(), &self.providers)?)
    }
}

/// What a progress bar says of a block.
fn block_message(line: &StreamLine) -> String {
    let again = if line.done == line.total && line.left > 0 { "again: " } else { "" };
    format!("{again}{} {:.1} us", line.key, line.median_us)
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<Profile> {
    let out = args.out.as_deref().ok_or_else(|| anyhow::anyhow!("no folder for the profile"))?;
    let space = Space::load(&args.space)?;
    let px = args.px.unwrap_or(space.input_px);
    let total = space.block_keys(px)?.iter().filter(|key| !key.is_identity()).count();
    let cores = args.care.pin(printer)?;
    let runtime = args.runtime.open()?;
    let info = runtime.info();
    printer.note(format_args!(
        "Profiling {total} blocks of `{}` at {px} px on {} {}, {} thread(s)",
        space.name, info.name, info.version, args.runtime.threads
    ));
    let protocol = Protocol { max_runs: args.max_runs, max_seconds: args.max_seconds, ..args.care.protocol() };
    let options = RunOptions {
        protocol,
        seed: args.seed,
        dir: out.to_owned(),
        resume: args.resume,
        command: inas_profiler::command_line(std::env::args()),
        cores,
    };
    let bar = printer.bar("profile", total as u64);
    let mut observer = |progress: &inas_profiler::run::Progress| {
        bar.set_length(progress.total as u64);
        bar.set_position((progress.total - progress.left) as u64);
        bar.set_message(block_message(&progress.line()));
    };
    let mut profile = profile_space(&space, px, runtime.as_ref(), &options, &mut observer, cancel_flag())?;
    bar.finish_and_clear();
    let (min, max) = (profile.predict(&space.min())?.total(), profile.predict(&space.max())?.total());
    printer.note(format_args!(
        "  Profiled {} (smallest network {:.2} ms, largest {:.2} ms)",
        out.display(),
        min.ms(),
        max.ms()
    ));
    if args.calibrate > 0 {
        calibrate::calibrate(&mut profile, out, runtime.as_ref(), args.calibrate, args.seed, printer)?;
    }
    Ok(profile)
}
