//! `inas dots`: search of cells (thesis chapter 2).

mod derive;
mod export;
mod network;
mod parity;
mod profile;
mod rank;
mod search;
mod segment;
mod train;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use inas_dots::Genotype;
use inas_dots::data::Dataset;
use inas_dots::run::{DotsRun, RUN_PRESETS};
use inas_dots::train::{SearchResult, started};
use inas_host::train::run_from_toml;

use super::{hint, hold, read_text};
use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Search operations, then edges, of normal and reduction cells
    Search(search::Args),
    /// Print and draw the cells of a search, a file or a publication; or choose other edges for them
    Derive(derive::Args),
    /// Train the network of a genotype from scratch
    Train(train::Args),
    /// Train the ten topologies of the last node and compare their order with that of the weights (Kendall's tau)
    Rank(rank::Args),
    /// Write the network of a genotype as ONNX: its backbone with a tap at each stride, and the classifier
    Export(export::Args),
    /// Measure the blocks of the network of a genotype, cells or operations, and compare their sum with the whole
    Profile(profile::Args),
    /// Train a segmentation head and the backbone of a genotype (BiSeNet) and score it by mIoU
    Segment(segment::Args),
    /// Compare supernets and a derived network with reference tensors
    Parity(parity::Args),
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    match &args.command {
        Command::Search(args) => search::run(args, printer),
        Command::Derive(args) => derive::run(args, printer),
        Command::Train(args) => train::run(args, printer),
        Command::Rank(args) => rank::run(args, printer),
        Command::Export(args) => export::run(args, printer),
        Command::Profile(args) => profile::run(args, printer),
        Command::Segment(args) => segment::run(args, printer),
        Command::Parity(args) => parity::run(args, printer),
    }
}

/// Which run file, and what is different.
#[derive(Debug, Clone, clap::Args)]
struct RunArgs {
    /// Run file (TOML) or preset of one: cifar10, cifar100, imagenet, small, or a method on its own schedule (darts, gdas,
    /// snas, pc-darts).
    #[arg(long, value_name = "RUN", default_value = "cifar10")]
    run: String,
    /// Override a field of the run file, e.g. `search.channels=8`; can be repeated. `--show` prints all fields.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Training files: CIFAR's .bin files, idx pictures and labels, or a folder; default: the run file's.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    data: Vec<PathBuf>,
    /// Test files; default: the run file's.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    test_data: Vec<PathBuf>,
    /// Print the run file that results, and stop.
    #[arg(long)]
    show: bool,
}

impl RunArgs {
    fn load(&self) -> anyhow::Result<DotsRun> {
        let preset = RUN_PRESETS.iter().find(|(name, _)| *name == self.run);
        let text = match preset {
            Some((_, text)) => (*text).to_owned(),
            None => hint(
                read_text(Path::new(&self.run)),
                format!("presets are {}", RUN_PRESETS.map(|(name, _)| name).join(", ")),
            )?,
        };
        let mut run: DotsRun = hint(
            run_from_toml(&text, &self.run, &self.set),
            "`inas dots search --show` prints every field with its value",
        )?;
        if preset.is_none() {
            run.relative_to(Path::new(&self.run).parent().unwrap_or(Path::new("")));
        }
        for (field, given) in [(&mut run.data.train, &self.data), (&mut run.data.test, &self.test_data)] {
            if !given.is_empty() {
                field.clone_from(given);
            }
        }
        Ok(run)
    }
}

/// The result of a search in a folder.
fn search_result(dir: &Path) -> anyhow::Result<SearchResult> {
    let path = inas_dots::train::Search::result(dir);
    let text = hint(read_text(&path), "`inas dots search -o DIR` writes it when the search is through")?;
    let bad = || format!("{} is no search result", path.display());
    let result: SearchResult = serde_json::from_str(&text).with_context(bad)?;
    result.operations.check().and(result.genotype.check()).with_context(bad)?;
    Ok(result)
}

/// A published genotype by name, a JSON file, or a search's folder.
fn genotype(name: &str) -> anyhow::Result<Genotype> {
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(search_result(path)?.genotype);
    }
    if path.exists() {
        let read = Genotype::from_json(&read_text(path)?).with_context(|| format!("cannot use {name}"));
        return hint(read, "`inas dots derive dots-c10` prints one");
    }
    Genotype::published(name).with_context(|| format!("{name} is neither a file nor a folder"))
}

/// The pictures that an option names.
fn pictures(found: inas_dots::Result<Dataset>, option: &str) -> anyhow::Result<Dataset> {
    match found {
        Err(inas_dots::Error::NoFiles { .. }) => hint(found, format!("name them with {option}")),
        other => Ok(other?),
    }
}

/// Whether the run in a folder is to be gone on with; one that is there is not begun anew.
fn continues(dir: &Path, resume: bool) -> anyhow::Result<bool> {
    let started = started(dir);
    let refused = || Err(anyhow::anyhow!("{} holds a run already", dir.display()));
    if started && !resume {
        return hint(refused(), "continue it with --resume, or choose another folder");
    }
    Ok(started)
}

/// That a run was stopped; what was done is kept.
fn stopped() -> anyhow::Error {
    anyhow::Error::new(Stopped)
}

/// The user stopped a run.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; continue with --resume")]
pub(crate) struct Stopped;
