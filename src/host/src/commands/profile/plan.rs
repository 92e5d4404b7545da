//! `inas profile plan`

use inas_profiler::plan::plan;
use inas_profiler::run::LEAST_PASSES;
use inas_space::Space;

use super::{CareArgs, RuntimeArgs};
use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Preset or space file (.toml).
    #[arg(long, default_value = "nano")]
    space: String,
    /// Input side, px; default: the space's own.
    #[arg(long)]
    px: Option<u32>,
    #[command(flatten)]
    runtime: RuntimeArgs,
    #[command(flatten)]
    care: CareArgs,
    /// Blocks to probe.
    #[arg(long, default_value_t = 24)]
    probe: usize,
    /// Seed of the probe.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let space = Space::load(&args.space)?;
    let px = args.px.unwrap_or(space.input_px);
    args.care.pin(printer)?;
    let runtime = args.runtime.open()?;
    let estimate = plan(&space, px, runtime.as_ref(), &args.care.protocol(), args.probe, args.seed)?;
    if args.json {
        printer.result(serde_json::to_string(&estimate)?)?;
        return Ok(true);
    }
    let usual = LEAST_PASSES.min(args.care.max_passes);
    printer.result(format_args!(
        "{} blocks of `{}` at {px} px: about {} for {usual} pass(es), at most {} when every block is measured {} times\n\
         probe: {} blocks, their medians known within +-{:.1} % (half of them better); records {} KB",
        estimate.blocks,
        space.name,
        minutes(estimate.one_pass_s * usual as f64),
        minutes(estimate.longest_s),
        args.care.max_passes,
        estimate.probed,
        estimate.median_ci_percent,
        estimate.records_kb
    ))?;
    Ok(true)
}

fn minutes(seconds: f64) -> String {
    if seconds < 120.0 { format!("{seconds:.0} s") } else { format!("{:.1} min", seconds / 60.0) }
}
