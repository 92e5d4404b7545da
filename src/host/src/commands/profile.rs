//! `inas profile`

use std::path::PathBuf;

use inas_profiler::backend::{self, RuntimeKind};
use inas_profiler::measure::Protocol;
use inas_profiler::profile::Profile;
use inas_profiler::run::{RunOptions, profile_space};
use inas_space::Space;

use super::cancel_flag;
use crate::printer::Printer;

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
    #[arg(long, short, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Continue the measurement in the folder.
    #[arg(long)]
    pub(super) resume: bool,
    /// Runs per block at most.
    #[arg(long, default_value_t = Protocol::default().max_runs)]
    pub(super) max_runs: usize,
    /// Seconds per block at most.
    #[arg(long, default_value_t = Protocol::default().max_seconds)]
    pub(super) max_seconds: f64,
    /// Seed of the measuring order and of the blocks' weights.
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
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
}

impl RuntimeArgs {
    pub(super) fn open(&self) -> anyhow::Result<Box<dyn backend::Backend>> {
        Ok(backend::open(self.runtime, self.threads, self.ort_lib.as_deref())?)
    }
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<Profile> {
    let space = Space::load(&args.space)?;
    let px = args.px.unwrap_or(space.input_px);
    let total = space.block_keys(px)?.len();
    let runtime = args.runtime.open()?;
    let info = runtime.info();
    printer.note(format_args!(
        "Profiling {total} blocks of `{}` at {px} px on {} {}, {} thread(s)",
        space.name, info.name, info.version, args.runtime.threads
    ));
    let protocol = Protocol { max_runs: args.max_runs, max_seconds: args.max_seconds, ..Protocol::default() };
    let options = RunOptions {
        protocol,
        seed: args.seed,
        dir: args.out.clone(),
        resume: args.resume,
        command: inas_profiler::command_line(std::env::args()),
    };
    let bar = printer.bar("profile", total as u64);
    let mut observer = |progress: &inas_profiler::run::Progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        bar.set_message(format!("{} {:.1} us", progress.key, progress.median.0));
    };
    let profile = profile_space(&space, px, runtime.as_ref(), &options, &mut observer, cancel_flag())?;
    bar.finish_and_clear();
    let (min, max) = (profile.predict(&space.min())?.total(), profile.predict(&space.max())?.total());
    printer.note(format_args!(
        "  Profiled {} (smallest network {:.2} ms, largest {:.2} ms)",
        args.out.display(),
        min.ms(),
        max.ms()
    ));
    Ok(profile)
}
