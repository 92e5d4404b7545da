//! `inas space`

use std::path::PathBuf;

use inas_graph::cost;
use inas_space::{PRESETS, Space};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::archs;
use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Preset or space file (.toml); without it the presets are listed.
    space: Option<String>,
    /// Input side, px; default: the space's own.
    #[arg(long)]
    px: Option<u32>,
    /// Print the space file.
    #[arg(long)]
    toml: bool,
    /// Print one architecture as JSON.
    #[arg(long, value_enum)]
    draw: Option<Draw>,
    /// Seed of a random draw.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print the architecture in the release's JSON form.
    #[arg(long, requires = "draw")]
    release: bool,
    /// Print what differs between two architecture files.
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    diff: Option<Vec<PathBuf>>,
    /// Print MACs and parameters of an architecture file, block by block.
    #[arg(long, value_name = "ARCH")]
    cost: Option<PathBuf>,
    /// Print the key of every block.
    #[arg(long)]
    keys: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Draw {
    Min,
    Max,
    Random,
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let Some(name) = &args.space else {
        for (name, _) in PRESETS {
            summary(&Space::preset(name)?, None, printer)?;
        }
        return Ok(true);
    };
    let space = Space::load(name)?;
    let px = args.px.unwrap_or(space.input_px);
    if args.toml {
        printer.result(space.to_toml()?.trim_end())?;
    } else if let Some(draw) = args.draw {
        let arch = match draw {
            Draw::Min => space.min(),
            Draw::Max => space.max(),
            Draw::Random => space.uniform(&mut ChaCha8Rng::seed_from_u64(args.seed)),
        };
        printer.result(if args.release { arch.to_release_json(&space)? } else { arch.to_json() })?;
    } else if let Some(files) = &args.diff {
        let archs = files.iter().map(|path| archs::read_one(path)).collect::<anyhow::Result<Vec<_>>>()?;
        let diff = archs[0].diff(&archs[1]);
        printer.result(if diff.is_empty() { "equal" } else { diff.trim_end() })?;
    } else if let Some(path) = &args.cost {
        let cost = cost::of_network(&space, &archs::read_one(path)?, px)?;
        for (block, cost) in &cost.blocks {
            printer.result(format_args!(
                "{:<32} {:<40} {:>12} {:>10}",
                block.name,
                block.key.to_string(),
                cost.macs,
                cost.params
            ))?;
        }
        printer.result(format_args!(
            "{:<73} {:>12} {:>10}",
            "total MACs, parameters", cost.total.macs, cost.total.params
        ))?;
    } else if args.keys {
        for key in space.block_keys(px)? {
            printer.result(key)?;
        }
    } else {
        summary(&space, Some(px), printer)?;
    }
    Ok(true)
}

fn summary(space: &Space, px: Option<u32>, printer: Printer) -> anyhow::Result<()> {
    let px = px.unwrap_or(space.input_px);
    let (min, max) =
        (cost::of_network(space, &space.min(), px)?.total, cost::of_network(space, &space.max(), px)?.total);
    let mega = |n: u64| n as f64 / 1e6;
    printer.result(format_args!(
        "{:<8} {px} px  10^{:.1} architectures  {} blocks  {:.0}-{:.0} M MACs  {:.2}-{:.2} M parameters",
        space.name,
        space.log10_size(),
        space.block_keys(px)?.len(),
        mega(min.macs),
        mega(max.macs),
        mega(min.params),
        mega(max.params),
    ))
}
