//! `inas serve`

use std::borrow::Cow;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use inas_host::serve::{Limits, listen};

use super::profile::RuntimeArgs;
use super::{cancel_flag, hint, load, read_file, run::BALANCED};
use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Model file (ONNX); default: the balanced one of `models/`, built in.
    model: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one. Others than 127.0.0.1 open the server to the network.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Photos worked on at once; default: the machine's cores over the runtime's threads.
    #[arg(long, short)]
    jobs: Option<NonZero<usize>>,
    /// Requests that may wait beside those in work; more are refused with status 503.
    #[arg(long, default_value_t = Limits::default().queue)]
    queue: usize,
    /// Largest photo file, MiB.
    #[arg(long, value_name = "MIB", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1024))]
    max_upload: u32,
    /// Largest photo, megapixels.
    #[arg(long, value_name = "MP", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    max_pixels: u32,
    /// Longest time for a photo to come, and for its picture to go, s.
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    max_seconds: u64,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let name = args.model.as_ref().map_or_else(|| "balanced (built in)".into(), |path| path.display().to_string());
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let jobs = args.jobs.map_or(cores / args.runtime.threads.max(1), NonZero::get).max(1);
    let backend = args.runtime.open()?;
    let onnx = args.model.as_deref().map_or(Ok(Cow::Borrowed(BALANCED)), |path| read_file(path).map(Cow::Owned))?;
    let models = (0..jobs).map(|_| load(&name, &onnx, backend.as_ref()));
    let mut models = models.collect::<anyhow::Result<Vec<_>>>()?;
    models.iter_mut().try_for_each(|model| model.warm_up(2))?;
    let limits = Limits {
        queue: args.queue,
        max_bytes: args.max_upload as usize * (1 << 20),
        max_pixels: u64::from(args.max_pixels) * 1_000_000,
        transfer: Duration::from_secs(args.max_seconds),
    };
    let listening = listen(args.listen).with_context(|| format!("cannot listen on {}", args.listen));
    let listening = hint(listening, "another program may have the port: choose one with --listen 127.0.0.1:PORT")?;
    let stop = cancel_flag();
    printer.result(format_args!("listening on http://{}", listening.address()))?;
    printer.note(format_args!("{name}, {jobs} at once; Ctrl-C finishes what was begun and stops, twice stops at once"));
    listening.serve(models, name, limits, stop)?;
    Ok(true)
}
