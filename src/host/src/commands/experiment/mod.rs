//! `inas experiment`: the search experiments of the thesis, from files in `experiments/`.

mod branches;
mod config;
mod coverage;
mod grid;
mod page;
mod prediction;
mod searches;
mod tables;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use inas_space::toml_reason;

use self::config::{Config, What};
use self::page::Page;
use super::read_text;
use super::search::EvalArgs;
use crate::printer::{Hint, Printer};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of a file in --configs, or a file (.toml); without a name, lists them.
    name: Option<String>,
    /// Folder of the experiments' files.
    #[arg(long, value_name = "DIR", default_value = "experiments")]
    configs: PathBuf,
    /// Folder of the page, its plots and the raw data.
    #[arg(long, short, value_name = "DIR", default_value = "docs/experiments")]
    out: PathBuf,
    /// Trained supernet that judges networks; experiments on latency alone need no data.
    #[arg(long, value_name = "FILE", requires_all = ["train_data", "val_data"])]
    supernet: Option<PathBuf>,
    /// Training list, for BN recalibration.
    #[arg(long, value_name = "LIST")]
    train_data: Option<PathBuf>,
    /// Validation list.
    #[arg(long, value_name = "LIST")]
    val_data: Option<PathBuf>,
    /// Training images for the BN recalibration of each sub-network.
    #[arg(long, default_value_t = 100)]
    calibration: usize,
    /// Folder of evaluations that experiments share and continue from.
    #[arg(long, value_name = "DIR", default_value = "experiment-cache")]
    cache: PathBuf,
    /// Evaluations at the same time, one thread each; default: as many as there are cores.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// ONNX Runtime's shared library; default: ORT_DYLIB_PATH, then a pip-installed onnxruntime.
    #[arg(long, value_name = "FILE")]
    ort_lib: Option<PathBuf>,
}

impl Args {
    fn eval(&self) -> anyhow::Result<EvalArgs> {
        let (Some(supernet), Some(train_data), Some(val_data)) = (&self.supernet, &self.train_data, &self.val_data)
        else {
            return Err(anyhow::anyhow!("this experiment judges networks"))
                .context(Hint("name --supernet, --train-data and --val-data".into()));
        };
        Ok(EvalArgs {
            supernet: supernet.clone(),
            train_data: train_data.clone(),
            val_data: val_data.clone(),
            calibration: self.calibration,
        })
    }
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let Some(name) = &args.name else { return list(args, printer) };
    let path = if Path::new(name).extension().is_some_and(|e| e == "toml") {
        PathBuf::from(name)
    } else {
        args.configs.join(format!("{name}.toml"))
    };
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let text = read_text(&path).context(Hint("`inas experiment` lists the experiments".into()))?;
    let config = read_config(&path, &text)?;
    let mut page = Page::new(&name, &config);
    match &config.what {
        What::Searches(what) => searches::run(what, args, &mut page, printer)?,
        What::Coverage(what) => coverage::run(what, &mut page)?,
        What::Grid(what) => grid::run(what, args, &mut page, printer)?,
        What::Prediction(what) => prediction::run(what, args, &mut page, printer)?,
        What::Branches(what) => branches::run(what, args, &mut page, printer)?,
    }
    let written = page.write(&args.out)?;
    printer.result(written.display())?;
    Ok(true)
}

fn read_config(path: &Path, text: &str) -> anyhow::Result<Config> {
    toml::from_str(text).map_err(|e| anyhow::anyhow!("{} is no experiment: {}", path.display(), toml_reason(&e)))
}

fn list(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let entries =
        std::fs::read_dir(&args.configs).with_context(|| format!("cannot read {}", args.configs.display()))?;
    let mut files: Vec<PathBuf> = entries.map(|e| Ok(e?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|f| f.extension().is_some_and(|e| e == "toml"));
    files.sort();
    for file in files {
        let config = read_config(&file, &read_text(&file)?)?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        printer.result(format_args!("{name:<24} {}", config.title))?;
    }
    Ok(true)
}
