//! `inas dots derive`

use std::path::{Path, PathBuf};

use inas_dots::net::{Form, Network, Size};
use inas_dots::train::SearchResult;
use inas_dots::{CellKind, Genotype, derive};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::super::write_file;
use super::{genotype, search_result};
use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of a search, genotype file (.json) or name of a published one.
    source: String,
    /// How edges are chosen; all but `dots` need the folder of a search.
    #[arg(long, value_enum, default_value = "dots")]
    edges: Edges,
    /// Seed of random edges.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where to write the genotype (JSON), beside printing it.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where to draw the cells (SVG).
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print parameters and multiply-accumulates of the published networks with these cells.
    #[arg(long)]
    cost: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Edges {
    /// As searched.
    Dots,
    /// By the operation weights (DARTS).
    Darts,
    /// Two random ones for each node.
    Random,
}

fn other(result: &SearchResult, random: Option<u64>) -> Genotype {
    let Some(seed) = random else { return result.operations.darts.clone() };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut cell = |kind: CellKind| {
        let (retained, scores) = (&result.operations.retained[kind as usize], &result.operations.scores[kind as usize]);
        derive::random_edges(&derive::strongest_ops(retained, scores), &mut rng)
    };
    Genotype { normal: cell(CellKind::Normal), reduce: cell(CellKind::Reduce) }
}

pub(super) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let genotype = match args.edges {
        Edges::Dots => genotype(&args.source)?,
        Edges::Darts => other(&search_result(Path::new(&args.source))?, None),
        Edges::Random => other(&search_result(Path::new(&args.source))?, Some(args.seed)),
    };
    let json = genotype.to_json();
    if let Some(path) = &args.out {
        write_file(path, json.as_bytes())?;
    }
    if let Some(path) = &args.svg {
        write_file(path, genotype.to_svg().as_bytes())?;
    }
    printer.result(json.trim_end())?;
    if args.cost {
        let sizes =
            [(Form::Cifar, 36, 20, 10, 32), (Form::Cifar, 36, 20, 100, 32), (Form::ImageNet, 48, 14, 1000, 224)];
        for (form, channels, cells, classes, px) in sizes {
            let cost = Network::cost_of(Size { form, channels, cells, classes }, &genotype, px)?;
            printer.result(format_args!(
                "{px} px, {cells} cells of {channels} channels, {classes} classes: {:.3} M values, {:.1} M multiply-accumulates",
                cost.params as f64 / 1e6,
                cost.macs as f64 / 1e6
            ))?;
        }
    }
    Ok(true)
}
