//! One file a subcommand.

mod archs;
mod bench;
mod convert;
mod curves;
mod demo;
mod devices;
mod doctor;
mod dots;
mod eval;
mod experiment;
mod export;
mod latency;
mod lut;
mod metrics;
mod on_device;
mod parity;
mod profile;
mod report;
mod run;
mod schema;
mod search;
mod serve;
mod ship;
mod space;
mod train;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use inas_host::search::SearchError;
use inas_host::train::TrainError;
use inas_runtime::{Backend, Model};

use crate::printer::{Hint, Printer};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Run the whole path once on small data: profile, train, search, export, run, report
    Demo(demo::Args),
    /// Run a model on photos
    Run(run::Args),
    /// Serve a model over HTTP, with a page to drop photos on
    Serve(serve::Args),
    /// Score models on photos with ground truth
    Eval(eval::Args),
    /// Score saliency maps against ground truth
    Metrics(metrics::Args),
    /// Measure a model: percentiles, comparison with an earlier report
    Bench(bench::Args),
    /// List devices to measure on: this machine, phones, boards
    Devices(devices::Args),
    /// Find what stands between a device and a trustworthy profile, with remedies
    Doctor(doctor::Args),
    /// Measure every block of a space, here or on phones and boards; plan, calibrate, verify
    Profile(Box<profile::Cli>),
    /// Look into latency profiles; import and export the release's tables
    Lut(lut::Args),
    /// Show a search space, or draw and compare its architectures
    Space(space::Args),
    /// Train a supernet
    Train(train::Args),
    /// Plot the validations of a training run
    Curves(curves::Args),
    /// Predict the latency of architectures from a profile or a table
    Latency(latency::Args),
    /// Search a trained supernet for the Pareto front over a profile
    Search(Box<search::Cli>),
    /// Write sub-networks of a supernet as ONNX
    Export(export::Args),
    /// Write exported models once more in other number formats, without their supernet
    Convert(convert::Args),
    /// Search, export and measure until a network keeps a latency limit on a device
    Ship(ship::Args),
    /// Render the report of a finished run again
    Report(report::Args),
    /// Repeat a search experiment of the thesis: data, plot and page
    Experiment(experiment::Args),
    /// Compare the supernet with reference tensors
    Parity(parity::Args),
    /// Print the JSON Schema of what the programs write
    Schema(schema::Args),
    /// Search cells for image classifiers: operations first, then topology (DOTS)
    Dots(dots::Args),
}

impl Command {
    /// Runs the command; false when it worked but found something wrong.
    pub(crate) fn run(&self, printer: Printer) -> anyhow::Result<bool> {
        match self {
            Self::Demo(args) => demo::run(args, printer),
            Self::Space(args) => space::run(args, printer),
            Self::Profile(args) => profile::dispatch(args, printer),
            Self::Latency(args) => latency::run(args, printer),
            Self::Devices(args) => devices::run(args, printer),
            Self::Doctor(args) => doctor::run(args, printer),
            Self::Lut(args) => lut::run(args, printer),
            Self::Bench(args) => bench::run(args, printer),
            Self::Train(args) => train::run(args, printer).map(|_| true),
            Self::Curves(args) => curves::run(args, printer),
            Self::Schema(args) => schema::run(args, printer),
            Self::Search(args) => search::dispatch(args, printer),
            Self::Experiment(args) => experiment::run(args, printer),
            Self::Export(args) => export::run(args, printer).map(|_| true),
            Self::Convert(args) => convert::run(args, printer),
            Self::Dots(args) => dots::run(args, printer),
            Self::Run(args) => run::run(args, printer).map(|r| r.failed == 0),
            Self::Ship(args) => ship::run(args, printer),
            Self::Serve(args) => serve::run(args, printer),
            Self::Eval(args) => eval::run(args, printer),
            Self::Metrics(args) => metrics::run(args, printer),
            Self::Parity(args) => parity::run(args, printer),
            Self::Report(args) => report::run(args, printer),
        }
    }

    /// How to go on after an interruption, where the error does not tell it.
    pub(crate) fn going_on(&self) -> Option<&'static str> {
        match self {
            Self::Demo(_) | Self::Ship(_) | Self::Experiment(_) => Some("the same command goes on where it was"),
            Self::Search(_) => Some("the same command with --resume goes on where it was"),
            _ => None,
        }
    }
}

/// Raised by Ctrl-C.
static CANCEL: AtomicBool = AtomicBool::new(false);

/// A flag that the first Ctrl-C raises; a second one ends the program at once.
fn cancel_flag() -> &'static AtomicBool {
    static INSTALL: std::sync::Once = std::sync::Once::new();
    INSTALL.call_once(|| {
        let handler = || {
            if CANCEL.swap(true, Ordering::Relaxed) {
                std::process::exit(i32::from(crate::INTERRUPTED));
            }
        };
        // Without a handler Ctrl-C still ends the program, and every state file is written as it grows.
        let _ = ctrlc::set_handler(handler);
    });
    &CANCEL
}

/// Whether an error only says that the user stopped the run.
pub(crate) fn interrupted(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(TrainError::Interrupted { .. }))
            || matches!(cause.downcast_ref(), Some(SearchError::Interrupted { .. }))
            || matches!(cause.downcast_ref(), Some(inas_profiler::Error::Interrupted { .. }))
            || matches!(cause.downcast_ref(), Some(inas_device::Error::Interrupted { .. }))
            || cause.downcast_ref::<dots::Stopped>().is_some()
    })
}

/// Whether an error says that options make no sense.
pub(crate) fn wrong_usage(error: &anyhow::Error) -> bool {
    use inas_profiler::{Error, backend};
    error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(Error::Protocol { .. } | Error::Backend(backend::Error::Threads { .. })))
            || matches!(cause.downcast_ref(), Some(backend::Error::Threads { .. }))
    })
}

/// Attaches a hint to an error.
fn hint<T, E>(result: Result<T, E>, hint: impl Into<String>) -> anyhow::Result<T>
where
    Result<T, E>: anyhow::Context<T, E>,
{
    result.context(Hint(hint.into()))
}

/// Keeps other processes out of a folder while it lives.
struct Held {
    _lock: Option<File>,
    /// The folder, if it was made for this.
    made: Option<PathBuf>,
}

impl Drop for Held {
    fn drop(&mut self) {
        // A command that failed before it wrote anything leaves nothing; a folder with something in it stays.
        if let Some(folder) = &self.made {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// Makes a folder if need be and takes it for this process. Systems without locks on folders let all in.
fn hold(folder: &Path) -> anyhow::Result<Held> {
    let made = (!folder.exists()).then(|| folder.to_owned());
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let Ok(handle) = File::open(folder) else { return Ok(Held { _lock: None, made }) };
    match handle.try_lock() {
        Ok(()) => Ok(Held { _lock: Some(handle), made }),
        Err(TryLockError::WouldBlock) => {
            hint(Err(anyhow::anyhow!("{} is in use by another process", folder.display())), "choose another folder")
        }
        Err(TryLockError::Error(_)) => Ok(Held { _lock: None, made }),
    }
}

/// Loads a saliency network; `name` stands for it in errors.
fn load(name: &str, onnx: &[u8], runtime: &dyn Backend) -> anyhow::Result<Model> {
    let loaded = Model::from_bytes(onnx, runtime);
    let loaded = loaded.with_context(|| format!("cannot load {name}"));
    hint(loaded, "needed is a whole ONNX file of a saliency network of fixed size, as `inas export` writes it")
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    inas_host::files::replace(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
